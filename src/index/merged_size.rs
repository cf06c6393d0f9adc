//! How long the index over several segments would be if they were one file, without the events that go.
//!
//! Told from their own indexes, whose sections say what the new ones will hold; the log is not read. Exact but for what
//! [`WHOLE_NAMES`] and [`Going::shrinks_before`] say, and but for a prefix that keys share only because others go. Runs
//! on a thread that plans a compaction.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{Result, StoreErrorKind};
use crate::event::hash::entity_digest;
use crate::format::sidx::{
    CHUNK_ITEMS, NAME_ENTRY_BYTES, NameAxis, Part, filter_bytes, index_bytes, list_bytes, width_of,
};
use crate::index::going::Going;
use crate::index::layer::Layer;
use crate::index::postings::Postings;
use crate::index::sidx::{RunShare, Sidx};
use crate::log::scan::GROUPS_START;
use crate::sync::Arc;

/// Where nothing goes, and an axis has more names than this, one in each index counted, only some of them are looked at.
const WHOLE_NAMES: u64 = 4096;
/// So many stretches of so many names, spread evenly: a merge saves what a name takes in each index but one, and what
/// all save follows from what those do. Events that go are told by the names of few, which stretches may miss.
const STRETCHES: u64 = 16;
const STRETCH_NAMES: u64 = 128;
/// After how many names the caller is asked whether to go on.
const NAMES_BETWEEN_STOPS: u64 = 1024;

/// A sealed segment that becomes part of a file, and what of it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merged<'a> {
    pub(crate) layer: &'a Layer,
    pub(crate) going: &'a Going,
}

/// What an index would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexSize {
    pub(crate) bytes: u64,
    pub(crate) run_share: RunShare,
}

/// The size of the index over these segments, which follow one another; `go_on` is asked now and then and may stop it.
pub(crate) fn index_size(
    segments: &[Merged<'_>],
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<IndexSize> {
    match measure(segments, go_on) {
        Err(error)
            if matches!(
                error.kind(),
                StoreErrorKind::Corrupt | StoreErrorKind::Unsupported
            ) =>
        {
            // Asked like this a damaged footer is made again.
            for segment in segments {
                segment.layer.with(Sidx::check)?;
            }
            measure(segments, go_on)
        }
        answer => answer,
    }
}

fn measure(segments: &[Merged<'_>], go_on: &mut dyn FnMut() -> Result<()>) -> Result<IndexSize> {
    let sources = sources_of(segments)?;
    let mut rows = List::default();
    for source in &sources {
        source.add_offsets(&mut rows)?;
    }
    let gone = |of: fn(&Going) -> u64| sources.iter().map(|s| of(s.going)).sum::<u64>();
    let table = |part, gone| Table::of(&sources, part, gone);
    let (ids, keys) = (table(Part::Ids, 0)?, table(Part::Keys, 0)?);
    let correlations = table(Part::Correlations, gone(|going| going.correlated))?;
    let children = table(Part::Children, gone(|going| going.parents))?;
    let mut removed = table(Part::Removed, 0)?;
    removed.pairs += gone(|going| going.events);
    let mut axis = |axis, went: &mut dyn FnMut(&str)| {
        let names = Names {
            sources: &sources,
            axis,
        };
        names.size(went, go_on)
    };
    let entities = axis(NameAxis::Entity, &mut |name| {
        removed.share(|| entity_digest(name))
    })?;
    let mut others = |other| axis(other, &mut |_| ());
    let (scopes, kinds) = (others(NameAxis::Scope)?, others(NameAxis::Kind)?);
    let tags = others(NameAxis::Tag)?;
    let dictionaries = [&entities, &scopes, &kinds, &tags];
    let tables = [ids, keys, correlations, children, removed];
    let keys = tables.iter().map(|table| table.pairs).sum::<u64>() + entities.names;
    let width = width_of(rows.count.saturating_sub(1)).max(1);
    let [ids, own, correlations, children, removed] = tables.map(|table| table.bytes(width));
    let bytes = index_bytes([
        rows.bytes(),
        filter_bytes(keys),
        ids,
        own,
        correlations,
        children,
        removed,
        entities.bytes,
        scopes.bytes,
        kinds.bytes,
        tags.bytes,
    ]);
    let run_share = RunShare {
        keys: keys + scopes.names + kinds.names + tags.names,
        names_bytes: dictionaries.iter().map(|names| names.bytes).sum(),
    };
    Ok(IndexSize { bytes, run_share })
}

/// The index of one segment, and where its rows and frames would come to stand.
struct Source<'a> {
    sidx: Arc<Sidx>,
    going: &'a Going,
    first_row: u32,
    moved_by: i64,
}

fn sources_of<'a>(segments: &[Merged<'a>]) -> Result<Vec<Source<'a>>> {
    let (mut first_row, mut moved_by) = (0_u32, 0);
    let mut sources = Vec::with_capacity(segments.len());
    for segment in segments {
        let (sidx, going) = (segment.layer.footer()?, segment.going);
        let log_bytes = sidx.facts().log_end.saturating_sub(GROUPS_START);
        let (rows, shrinks_by) = (sidx.rows(), going.shrinks_by());
        sources.push(Source {
            sidx,
            going,
            first_row,
            moved_by,
        });
        first_row = first_row.saturating_add(rows);
        moved_by += i64::try_from(log_bytes).unwrap_or(i64::MAX) - shrinks_by;
    }
    Ok(sources)
}

impl Source<'_> {
    fn add_offsets(&self, list: &mut List) -> Result<()> {
        list.extend(self.sidx.rows(), |row| {
            let before = self.going.shrinks_before(row.into());
            let offset = self.moved_by + i64::from(self.sidx.offset(row)?) - before;
            Ok(u32::try_from(offset).unwrap_or(0))
        })
    }

    /// Adds the rows of a name that stay; says whether some go.
    fn add_rows(&self, rows: &Postings<'_>, list: &mut List) -> Result<bool> {
        let row = |nth| Ok(self.first_row.saturating_add(rows.nth(nth)?));
        if self.going.is_empty() {
            return list.extend(rows.len(), row).map(|()| false);
        }
        let mut some_go = false;
        for nth in 0..rows.len() {
            match self.going.goes(rows.nth(nth)?.into()) {
                true => some_go = true,
                false => list.push(row(nth)?),
            }
        }
        Ok(some_go)
    }
}

/// A list as it would be written: how many items, and how far they are from the first of their chunks.
#[derive(Debug, Default)]
struct List {
    count: u32,
    chunk_first: u32,
    widest: u32,
}

impl List {
    fn push(&mut self, item: u32) {
        if self.count.is_multiple_of(CHUNK_ITEMS) {
            self.chunk_first = item;
        }
        self.widest = self.widest.max(item.saturating_sub(self.chunk_first));
        self.count += 1;
    }

    /// Adds `count` ascending items, of which only those at the ends of chunks are asked for.
    fn extend(&mut self, count: u32, item: impl Fn(u32) -> Result<u32>) -> Result<()> {
        let mut nth = 0;
        while nth < count {
            self.push(item(nth)?);
            let behind = self.count % CHUNK_ITEMS;
            let left = (count - nth - 1).min((CHUNK_ITEMS - behind) % CHUNK_ITEMS);
            if left > 0 {
                self.count += left - 1;
                self.push(item(nth + left)?);
            }
            nth += 1 + left;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        list_bytes(self.count, width_of(self.widest))
    }
}

/// A key table as it would be written.
#[derive(Debug, Clone, Copy, Default)]
struct Table {
    pairs: u64,
    /// A key, and how many bytes of it all others begin with.
    shared: Option<([u8; 16], u8)>,
}

impl Table {
    /// The pairs of all sources but for those that go.
    fn of(sources: &[Source<'_>], part: Part, gone: u64) -> Result<Self> {
        let mut table = Self::default();
        for source in sources {
            table.pairs += u64::from(source.sidx.section(part).count);
            for key in source.sidx.key_ends(part)?.into_iter().flatten() {
                table.share(|| key);
            }
        }
        table.pairs = table.pairs.saturating_sub(gone);
        Ok(table)
    }

    /// Takes in a key, if that can make a difference.
    fn share(&mut self, key: impl FnOnce() -> [u8; 16]) {
        self.shared = match self.shared {
            Some((_, 0)) => return,
            Some((first, most)) => {
                let alike = first.iter().zip(key()).take_while(|(a, b)| **a == *b);
                let alike = u8::try_from(alike.count()).unwrap_or(16);
                Some((first, most.min(alike)))
            }
            None => Some((key(), 16)),
        };
    }

    fn bytes(&self, width: u8) -> u64 {
        let shared = match (self.pairs, self.shared) {
            (2.., Some((_, shared))) => shared,
            _ => 16,
        };
        self.pairs * u64::from(16 - shared + width)
    }
}

/// The names of one axis in all sources.
struct Names<'a> {
    sources: &'a [Source<'a>],
    axis: NameAxis,
}

/// What a dictionary would be.
struct NamesSize {
    names: u64,
    bytes: u64,
}

/// What was found of the names looked at.
#[derive(Debug, Default)]
struct Looked {
    /// Names in the sources, each counted, and their bytes.
    names_before: u64,
    bytes_before: u64,
    names_after: u64,
    bytes_after: u64,
}

/// The next name of each source, first the one that comes first.
type Heads<'a> = BinaryHeap<Reverse<(&'a str, usize, u32)>>;

impl Names<'_> {
    /// Calls `went` with the names of events that go.
    fn size(
        &self,
        went: &mut dyn FnMut(&str),
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<NamesSize> {
        let all: u64 = self.sources.iter().map(|s| u64::from(self.count(s))).sum();
        let mut looked = Looked::default();
        if all <= WHOLE_NAMES || self.sources.iter().any(|s| !s.going.is_empty()) {
            let mut heads = self.from(|_| Ok(0))?;
            let mut names = 0_u64;
            while self.look_at_next(&mut heads, &mut looked, went)? {
                names += 1;
                if names.is_multiple_of(NAMES_BETWEEN_STOPS) {
                    go_on()?;
                }
            }
        } else {
            for stretch in 0..STRETCHES {
                self.look_at_stretch(all * stretch / STRETCHES, &mut looked)?;
                go_on()?;
            }
        }
        let lengths = self.sources.iter().map(|source| {
            let length = source.sidx.section(self.axis.part()).length;
            length.saturating_sub(NAME_ENTRY_BYTES as u64)
        });
        Ok(looked.scaled(all, lengths.sum()))
    }

    fn count(&self, source: &Source<'_>) -> u32 {
        source.sidx.section(self.axis.part()).count
    }

    /// Begins in each source at a place.
    fn from(&self, place: impl Fn(&Source<'_>) -> Result<u32>) -> Result<Heads<'_>> {
        let mut heads = Heads::with_capacity(self.sources.len());
        for (at, source) in self.sources.iter().enumerate() {
            self.put(&mut heads, at, place(source)?)?;
        }
        Ok(heads)
    }

    fn put<'s>(&'s self, heads: &mut Heads<'s>, at: usize, place: u32) -> Result<()> {
        if let Some(source) = self.sources.get(at).filter(|s| place < self.count(s)) {
            let (name, _) = source.sidx.nth_name(self.axis, place)?;
            heads.push(Reverse((name, at, place)));
        }
        Ok(())
    }

    /// Looks at the names behind the one that is at `nth` of all: that one was met because many bear it.
    fn look_at_stretch(&self, nth: u64, looked: &mut Looked) -> Result<()> {
        let mut before = 0;
        for source in self.sources {
            let count = u64::from(self.count(source));
            if let Some(place) = u32::try_from(nth - before)
                .ok()
                .filter(|_| nth < before + count)
            {
                let (name, _) = source.sidx.nth_name(self.axis, place)?;
                let mut heads =
                    self.from(|s| Ok(s.sidx.prefix(self.axis, name)?.places().start))?;
                self.look_at_next(&mut heads, &mut Looked::default(), &mut |_| ())?;
                let enough = looked.names_before + STRETCH_NAMES;
                while looked.names_before < enough
                    && self.look_at_next(&mut heads, looked, &mut |_| ())?
                {}
                return Ok(());
            }
            before += count;
        }
        Ok(())
    }

    /// Takes the next name from the sources that have it; says whether there was one.
    fn look_at_next<'s>(
        &'s self,
        heads: &mut Heads<'s>,
        looked: &mut Looked,
        went: &mut dyn FnMut(&str),
    ) -> Result<bool> {
        let Some(&Reverse((name, ..))) = heads.peek() else {
            return Ok(false);
        };
        let entry = (NAME_ENTRY_BYTES + name.len()) as u64;
        let (mut list, mut some_go) = (List::default(), false);
        while let Some(&Reverse((same, at, place))) = heads.peek()
            && same == name
            && let Some(source) = self.sources.get(at)
        {
            heads.pop();
            let (_, rows) = source.sidx.nth_name(self.axis, place)?;
            looked.names_before += 1;
            looked.bytes_before += entry + rows.bytes();
            some_go |= source.add_rows(&rows, &mut list)?;
            self.put(heads, at, place + 1)?;
        }
        if list.count > 0 {
            looked.names_after += 1;
            looked.bytes_after += entry + 1 + list.bytes();
        }
        if some_go {
            went(name);
        }
        Ok(true)
    }
}

impl Looked {
    /// What follows for all names, that are so many and take so many bytes in the sources.
    fn scaled(&self, names: u64, bytes: u64) -> NamesSize {
        let share = |saved: i128| saved * i128::from(names) / i128::from(self.names_before.max(1));
        let saved = |before: u64, after: u64| i128::from(before) - i128::from(after);
        let left =
            |all: u64, saved: i128| u64::try_from(i128::from(all) - share(saved)).unwrap_or(0);
        let names_saved = saved(self.names_before, self.names_after);
        let bytes_saved = saved(self.bytes_before, self.bytes_after);
        NamesSize {
            names: left(names, names_saved),
            bytes: NAME_ENTRY_BYTES as u64 + left(bytes, bytes_saved),
        }
    }
}
