//! Builds SIDX bytes from the events and stubs of one segment (`docs/format.md`, section 8).
//!
//! The same events give the same bytes: everything is sorted, nothing depends on a hasher's order.

use std::collections::HashMap;

use super::codec::put_u32;
use super::sidx::{
    Axis16, BLOCK_BYTES, CHUNK_ITEMS, FILTER_BLOCK_BYTES, HEADER_BYTES, NameAxis, Part, Probe,
    Section, SidxFacts, SidxHeader, SidxRow, Trailer, filter_bytes, place, width_of,
};
use crate::event::hash::entity_digest;

/// A 16-byte key and the row that it leads to.
type Pair = ([u8; 16], u32);

/// How many pairs are sorted before other threads are let by.
const PAIRS_BETWEEN_YIELDS: usize = 4096;

/// Collects the events of one segment in position order.
#[derive(Debug)]
pub(crate) struct SidxBuilder {
    first_position: u64,
    first_recorded: u64,
    last_recorded: u64,
    offsets: Vec<u32>,
    ids: Vec<Pair>,
    keys: Vec<Pair>,
    correlations: Vec<Pair>,
    children: Vec<Pair>,
    removed: Vec<Pair>,
    names: [Names; 4],
}

impl SidxBuilder {
    /// Starts an index whose first event has `first_position`.
    pub(crate) fn new(first_position: u64) -> Self {
        Self {
            first_position,
            first_recorded: 0,
            last_recorded: 0,
            offsets: Vec::new(),
            ids: Vec::new(),
            keys: Vec::new(),
            correlations: Vec::new(),
            children: Vec::new(),
            removed: Vec::new(),
            names: Default::default(),
        }
    }

    /// Adds the next event or stub.
    pub(crate) fn push<'a, T, P>(&mut self, row: SidxRow<'a, T, P>)
    where
        T: IntoIterator<Item = &'a str>,
        P: IntoIterator<Item = [u8; 16]>,
    {
        let number = fits(self.offsets.len());
        if number == 0 {
            self.first_recorded = row.recorded_at;
        }
        self.last_recorded = row.recorded_at;
        self.offsets.push(row.offset);
        self.ids.push((row.id, number));
        self.keys.extend(row.key.map(|key| (key, number)));
        let correlation = row.correlation.filter(|other| *other != row.id);
        self.correlations
            .extend(correlation.map(|key| (key, number)));
        self.children
            .extend(row.parents.into_iter().map(|parent| (parent, number)));
        self.removed
            .extend(row.removed.map(|entity| (entity, number)));
        let [entities, scopes, kinds, tags] = &mut self.names;
        for (names, name) in [
            (entities, row.entity),
            (scopes, row.scope),
            (kinds, row.kind),
        ] {
            if !name.is_empty() {
                names.push(name, number);
            }
        }
        for tag in row.tags {
            tags.push(tag, number);
        }
    }

    /// Writes the index: body, checksum table, trailer.
    pub(crate) fn finish(self, facts: SidxFacts) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        let mut header = SidxHeader {
            facts,
            first_position: self.first_position,
            rows: fits(self.offsets.len()),
            first_recorded: self.first_recorded,
            last_recorded: self.last_recorded,
            sections: Default::default(),
        };
        let sorted = self.names.each_ref().map(Names::sorted);
        let [entities, ..] = &sorted;
        let tables = [
            (Axis16::Id, &self.ids),
            (Axis16::Key, &self.keys),
            (Axis16::Correlation, &self.correlations),
            (Axis16::Parent, &self.children),
            (Axis16::Entity, &self.removed),
        ];
        let filter = filter(tables, entities);
        let mut add = |part: Part, write: &mut dyn FnMut(&mut Vec<u8>) -> Section| {
            out.resize(out.len().next_multiple_of(8), 0);
            std::thread::yield_now();
            let start = out.len();
            let mut section = write(&mut out);
            section.offset = start as u64;
            section.length = (out.len() - start) as u64;
            header.sections[part.line()] = section;
        };
        add(Part::Rows, &mut |out| write_rows(out, &self.offsets));
        add(Part::Filter, &mut |out| write_filter(out, &filter));
        for (part, mut pairs) in [
            (Part::Ids, self.ids),
            (Part::Keys, self.keys),
            (Part::Correlations, self.correlations),
            (Part::Children, self.children),
            (Part::Removed, self.removed),
        ] {
            sort(&mut pairs);
            add(part, &mut |out| write_pairs(out, &pairs, header.rows));
        }
        for axis in NameAxis::ALL {
            let (names, sorted) = (&self.names[axis.place()], &sorted[axis.place()]);
            add(axis.part(), &mut |out| write_names(out, names, sorted));
        }
        out[..HEADER_BYTES].copy_from_slice(&header.encode());
        seal(out, &facts)
    }
}

/// The names of one axis, numbered as they come, and who bears them.
#[derive(Debug, Default)]
struct Names {
    ordinals: HashMap<Box<str>, u32>,
    /// How many rows bear each name.
    counts: Vec<u32>,
    /// Name's ordinal and row, in the order of rows.
    bearers: Vec<(u32, u32)>,
}

impl Names {
    fn push(&mut self, name: &str, row: u32) {
        let ordinal = match self.ordinals.get(name) {
            Some(&ordinal) => ordinal,
            None => {
                let ordinal = fits(self.counts.len());
                self.ordinals.insert(name.into(), ordinal);
                self.counts.push(0);
                ordinal
            }
        };
        self.counts[place(ordinal)] += 1;
        self.bearers.push((ordinal, row));
    }

    fn sorted(&self) -> Vec<(&str, u32)> {
        let mut names: Vec<_> = self
            .ordinals
            .iter()
            .map(|(name, n)| (&**name, *n))
            .collect();
        names.sort_unstable();
        names
    }

    /// All rows, those of one name together, and where each name's begin.
    fn by_name(&self) -> (Vec<u32>, Vec<usize>) {
        let mut next = Vec::with_capacity(self.counts.len());
        let mut total = 0;
        for &count in &self.counts {
            next.push(total);
            total += place(count);
        }
        let starts = next.clone();
        let mut rows = vec![0; total];
        for &(ordinal, row) in &self.bearers {
            let next = &mut next[place(ordinal)];
            rows[*next] = row;
            *next += 1;
        }
        (rows, starts)
    }
}

/// Sorts, and lets other threads by now and then: on a busy processor an append would wait for all of it.
fn sort(pairs: &mut [Pair]) {
    // The order of the bytes is that of the number, which is compared at once.
    let order = |pair: &Pair| (u128::from_be_bytes(pair.0), pair.1);
    // Ids mostly come in order.
    if pairs.is_sorted_by_key(order) {
        return;
    }
    if pairs.len() <= PAIRS_BETWEEN_YIELDS {
        pairs.sort_unstable_by_key(order);
        std::thread::yield_now();
        return;
    }
    let (lower, _, upper) = pairs.select_nth_unstable_by_key(pairs.len() / 2, order);
    sort(lower);
    sort(upper);
}

fn filter(
    tables: [(Axis16, &Vec<Pair>); 5],
    entities: &[(&str, u32)],
) -> Vec<[u8; FILTER_BLOCK_BYTES]> {
    let pairs: usize = tables.iter().map(|(_, pairs)| pairs.len()).sum();
    let bytes = filter_bytes((pairs + entities.len()) as u64);
    let count = fits(usize::try_from(bytes).expect("it fits memory") / FILTER_BLOCK_BYTES);
    let mut blocks = vec![[0; FILTER_BLOCK_BYTES]; place(count)];
    let mut add = |axis, key: &[u8; 16]| {
        let probe = Probe::new(axis, key, count);
        probe.set(&mut blocks[probe.offset() / FILTER_BLOCK_BYTES]);
    };
    for (axis, pairs) in tables {
        std::thread::yield_now();
        pairs.iter().for_each(|(key, _)| add(axis, key));
    }
    for (entity, _) in entities {
        add(Axis16::Entity, &entity_digest(entity));
    }
    blocks
}

fn write_rows(out: &mut Vec<u8>, offsets: &[u32]) -> Section {
    let width = width_of(widest(offsets));
    write_list(out, offsets, width);
    Section {
        count: fits(offsets.len()),
        width,
        ..Section::default()
    }
}

fn write_filter(out: &mut Vec<u8>, blocks: &[[u8; FILTER_BLOCK_BYTES]]) -> Section {
    out.extend_from_slice(blocks.as_flattened());
    Section {
        count: fits(blocks.len()),
        ..Section::default()
    }
}

/// Writes sorted pairs without the bytes that all keys begin with.
fn write_pairs(out: &mut Vec<u8>, pairs: &[Pair], rows: u32) -> Section {
    let mut section = Section {
        count: fits(pairs.len()),
        width: width_of(rows.saturating_sub(1)).max(1),
        ..Section::default()
    };
    // In sorted order what the first and the last key share, all share.
    if let (Some((first, _)), Some((last, _))) = (pairs.first(), pairs.last()) {
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        section.prefix[..shared].copy_from_slice(&first[..shared]);
        section.prefix_bytes = u8::try_from(shared).expect("a key has 16 bytes");
    }
    let (skip, width) = (
        usize::from(section.prefix_bytes),
        usize::from(section.width),
    );
    out.reserve(pairs.len() * section.pair_bytes());
    for (key, row) in pairs {
        out.extend_from_slice(&key[skip..]);
        out.extend_from_slice(&row.to_le_bytes()[..width]);
    }
    section
}

fn write_names(out: &mut Vec<u8>, names: &Names, sorted: &[(&str, u32)]) -> Section {
    let (rows, starts) = names.by_name();
    let (mut heap, mut lists) = (String::new(), Vec::new());
    for &(name, ordinal) in sorted {
        put_u32(out, fits(heap.len()));
        put_u32(out, fits(lists.len()));
        let start = starts[place(ordinal)];
        let rows = &rows[start..start + place(names.counts[place(ordinal)])];
        let width = width_of(widest(rows));
        heap.push_str(name);
        lists.push(width);
        write_list(&mut lists, rows, width);
    }
    put_u32(out, fits(heap.len()));
    put_u32(out, fits(lists.len()));
    out.extend_from_slice(heap.as_bytes());
    out.extend_from_slice(&lists);
    Section {
        count: fits(sorted.len()),
        heap_bytes: fits(heap.len()),
        ..Section::default()
    }
}

fn chunks(items: &[u32]) -> impl Iterator<Item = (u32, &[u32])> {
    items.chunks(place(CHUNK_ITEMS)).filter_map(|chunk| {
        let (base, others) = chunk.split_first()?;
        Some((*base, others))
    })
}

/// The largest distance of an item from the first of its chunk.
fn widest(items: &[u32]) -> u32 {
    chunks(items)
        .filter_map(|(base, others)| others.last().map(|last| last - base))
        .max()
        .unwrap_or(0)
}

fn write_list(out: &mut Vec<u8>, items: &[u32], width: u8) {
    for (base, others) in chunks(items) {
        put_u32(out, base);
        for item in others {
            out.extend_from_slice(&(item - base).to_le_bytes()[..usize::from(width)]);
        }
    }
}

/// Pads the body to whole blocks and adds checksum table and trailer.
pub(crate) fn seal(mut out: Vec<u8>, facts: &SidxFacts) -> Vec<u8> {
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    let body = out.len();
    for start in (0..body).step_by(BLOCK_BYTES) {
        let checksum = crc32fast::hash(&out[start..start + BLOCK_BYTES]);
        put_u32(&mut out, checksum);
    }
    let trailer = Trailer::new(&facts.store_id, facts.segment, &out[body..]);
    out.extend_from_slice(&trailer.encode());
    out
}

/// A count or an offset in an index as its 32 bits.
fn fits(count: usize) -> u32 {
    // A frame offset has 32 bits; a log of at most 2 GiB, in which a tag takes two bytes or more, gives
    // less than 4 GiB of lists.
    u32::try_from(count).expect("what a segment of at most 2 GiB leads to fits 32 bits")
}
