//! The names of an axis in byte order: those of all layers, merged as they are asked for.
//!
//! Footers hold their names sorted and are read in place, one name ahead of the merge; where a run has merged those of
//! its footers, it is read in their stead. The names of a live index are gathered in pages, so that the writer waits for
//! one page at the most, and sorted. Runs on the thread that asks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

use crate::error::Result;
use crate::event::name::{
    MAX_ENTITY_BYTES, MAX_KIND_BYTES, MAX_SCOPE_BYTES, MAX_TAG_BYTES, check_prefix,
};
use crate::event::position::Position;
use crate::format::sidx::NameAxis;
use crate::index::layer::Layer;
use crate::index::live::LiveIndex;
use crate::index::row_list::RowList;
use crate::index::run::Run;
use crate::index::sidx::Sidx;
use crate::index::view::View;
use crate::sync::{Arc, RwLock};

/// How many names of a live index are looked at under one lock.
const PAGE_NAMES: usize = 256;

impl View {
    /// The entities whose names begin with `prefix`, in byte order, with the number of their events; the empty prefix
    /// lists all.
    ///
    /// Names are found as they are asked for: the first ten of a million cost one search in each segment, or in each run
    /// that has merged those of sixteen, and ten steps.
    /// The list keeps one name and a few numbers for each segment, and, until they are taken, those names of the newest
    /// events, whose index is in memory, that begin so.
    ///
    /// ```
    /// use quipu::prelude::*;
    ///
    /// # fn main() -> quipu::Result<()> {
    /// let store = Store::in_memory()?;
    /// for name in ["lamp:2", "lamp:10", "door:1", "lamp:2"] {
    ///     let thing = Coordinate::new(name, "house")?;
    ///     store.append(&thing, EventKind::literal("thing.seen"), &())?;
    /// }
    /// let lamps: Vec<_> = store.entities("lamp:")?.collect::<quipu::Result<_>>()?;
    /// assert_eq!((lamps[0].name(), lamps[0].events()), ("lamp:10", 1));
    /// assert_eq!((lamps[1].name(), lamps[1].events()), ("lamp:2", 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Argument` for a prefix that no entity can have.
    pub fn entities(&self, prefix: impl AsRef<str>) -> Result<Names> {
        Names::new(self, NameAxis::Entity, prefix.as_ref())
    }

    /// The scopes whose names begin with `prefix`, as [`View::entities`].
    ///
    /// # Errors
    /// `Argument` for a prefix that no scope can have.
    pub fn scopes(&self, prefix: impl AsRef<str>) -> Result<Names> {
        Names::new(self, NameAxis::Scope, prefix.as_ref())
    }

    /// The kinds that begin with `prefix`, as [`View::entities`].
    ///
    /// # Errors
    /// `Argument` for a prefix that no kind can have.
    pub fn kinds(&self, prefix: impl AsRef<str>) -> Result<Names> {
        Names::new(self, NameAxis::Kind, prefix.as_ref())
    }

    /// The tags that begin with `prefix`, as [`View::entities`].
    ///
    /// # Errors
    /// `Argument` for a prefix that no tag can have.
    pub fn tags(&self, prefix: impl AsRef<str>) -> Result<Names> {
        Names::new(self, NameAxis::Tag, prefix.as_ref())
    }
}

/// A name and how often it was borne.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NameEntry {
    name: String,
    events: u64,
    last_position: Position,
}

impl NameEntry {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many events bear it; 1 or more.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The position of the last of them.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.last_position
    }
}

impl fmt::Display for NameEntry {
    /// One line: name, number of events, position of the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, events, last) = (&self.name, self.events, self.last_position);
        write!(f, "{name}  {events}  last at {last}")
    }
}

/// The names of an axis in byte order, read as they are asked for; ends for good after an error.
///
/// It comes from [`View::entities`], [`View::scopes`], [`View::kinds`] and [`View::tags`], and holds its view.
#[derive(Clone)]
pub struct Names {
    view: View,
    axis: NameAxis,
    prefix: Box<str>,
    /// The last name that was given out.
    last: Option<Arc<str>>,
    state: State,
}

#[derive(Clone)]
enum State {
    /// Nothing was asked for yet, and no segment is opened.
    Fresh,
    Merging(Merge),
    Ended,
}

/// What is left of each source's names, and the next name of each.
#[derive(Clone, Default)]
struct Merge {
    /// In order of position.
    sources: Vec<Source>,
    next: BinaryHeap<Reverse<Next>>,
    /// Whether a run turned out to be damaged, so that names may be missing from here on.
    lost: bool,
}

/// The names of one layer, or of the layers under one run, that were not taken yet.
#[derive(Clone)]
enum Source {
    /// Places in the merged table of a run, whose first event stands at this position.
    Merged(Arc<Run>, u64, Range<u32>),
    /// Places in the sorted dictionary of a layer's footer, of whose rows so many are seen.
    Sorted(Arc<Layer>, u32, Range<u32>),
    /// The names of a live index, the first one last.
    Gathered(Vec<Borne>),
}

/// A name in one source, and what its events that the view shows are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Borne {
    name: Arc<str>,
    events: u32,
    last_position: u64,
}

/// The next name of a source, in order of names, then of sources.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    name: Arc<str>,
    source: usize,
    events: u32,
    last_position: u64,
}

impl Names {
    fn new(view: &View, axis: NameAxis, prefix: &str) -> Result<Self> {
        let (what, most_bytes) = match axis {
            NameAxis::Entity => ("entity prefix", MAX_ENTITY_BYTES),
            NameAxis::Scope => ("scope prefix", MAX_SCOPE_BYTES),
            NameAxis::Kind => ("kind prefix", MAX_KIND_BYTES),
            NameAxis::Tag => ("tag prefix", MAX_TAG_BYTES),
        };
        check_prefix(what, prefix, most_bytes)?;
        Ok(Self {
            view: view.clone(),
            axis,
            prefix: prefix.into(),
            last: None,
            state: State::Fresh,
        })
    }

    /// The next name; behind the last one, and after an error, it has ended.
    fn advance(&mut self) -> Result<Option<NameEntry>> {
        let mut merge = match std::mem::replace(&mut self.state, State::Ended) {
            State::Fresh => self.begin()?,
            State::Merging(merge) => merge,
            State::Ended => return Ok(None),
        };
        while merge.lost {
            merge = self.begin()?;
            while merge
                .next
                .peek()
                .is_some_and(|next| Some(&next.0.name) <= self.last.as_ref())
            {
                merge.take(self.axis)?;
            }
        }
        let Some(first) = merge.take(self.axis)? else {
            return Ok(None);
        };
        let mut entry = NameEntry {
            name: (*first.name).into(),
            events: first.events.into(),
            last_position: Position::new(first.last_position),
        };
        while merge
            .next
            .peek()
            .is_some_and(|next| next.0.name == first.name)
            && let Some(same) = merge.take(self.axis)?
        {
            entry.events += u64::from(same.events);
            // Sources of one name come in order of position.
            entry.last_position = Position::new(same.last_position);
        }
        self.last = Some(first.name);
        self.state = State::Merging(merge);
        Ok(Some(entry))
    }

    /// Opens all sources: runs, where there are any to be used, and else layers.
    fn begin(&self) -> Result<Merge> {
        let picture = self.view.picture();
        let mut merge = Merge::default();
        let mut at = 0;
        while let Some(layer) = picture.layers.all.get(at) {
            let rows = layer.rows_upto(picture.upto.min(picture.end_of(at)));
            if rows == 0 {
                at += 1;
                continue;
            }
            let (behind, source) = match self.merged_from(at) {
                Some(merged) => merged,
                None => (at + 1, self.of_layer(layer, rows)?),
            };
            at = behind;
            merge.sources.push(source);
            merge.refill(merge.sources.len() - 1, self.axis)?;
        }
        Ok(merge)
    }

    fn of_layer(&self, layer: &Arc<Layer>, rows: u32) -> Result<Source> {
        if let Some(index) = layer.live_index() {
            return Ok(Source::Gathered(gathered(
                index,
                self.axis,
                &self.prefix,
                rows,
            )));
        }
        let places = |index: &Sidx| Ok(index.prefix(self.axis, &self.prefix)?.places());
        Ok(Source::Sorted(Arc::clone(layer), rows, layer.with(places)?))
    }

    /// The names that a run has merged of the layers from `at` on, if it has, and the place behind them. The view must
    /// show all of those, and the last one be its whole file: a segment that is not sealed may have another layer. Whoever
    /// found the run damaged begins again without it.
    fn merged_from(&self, at: usize) -> Option<(usize, Source)> {
        let picture = self.view.picture();
        let (under, run) = picture.layers.run_over(at)?;
        let behind = under.end;
        let mut layers = picture.layers.all.get(at..behind)?.iter();
        let (first, last) = (layers.next()?, layers.next_back()?);
        let shown = picture.upto.min(picture.end_of(behind - 1));
        if under.start != at
            || !last.is_sealed()
            || last.last_position() > shown
            || run.is_damaged()
        {
            return None;
        }
        let places = run.names(self.axis, &self.prefix)?;
        let source = Source::Merged(Arc::clone(run), first.first_position(), places);
        Some((behind, source))
    }
}

impl Merge {
    /// Takes the first of the next names and puts the one behind it in its place.
    fn take(&mut self, axis: NameAxis) -> Result<Option<Next>> {
        let Some(Reverse(first)) = self.next.pop() else {
            return Ok(None);
        };
        self.refill(first.source, axis)?;
        Ok(Some(first))
    }

    fn refill(&mut self, at: usize, axis: NameAxis) -> Result<()> {
        let borne = match self.sources.get_mut(at) {
            Some(Source::Merged(run, first_position, places)) => places.next().and_then(|place| {
                let merged = run.nth_name(axis, place);
                self.lost |= merged.is_none();
                merged.map(|(name, bearers)| Borne {
                    name: name.into(),
                    events: bearers.events,
                    last_position: *first_position + u64::from(bearers.last),
                })
            }),
            Some(Source::Sorted(layer, rows, places)) => next_sorted(layer, axis, places, *rows)?,
            Some(Source::Gathered(names)) => names.pop(),
            None => None,
        };
        if let Some(borne) = borne {
            self.next.push(Reverse(Next {
                name: borne.name,
                source: at,
                events: borne.events,
                last_position: borne.last_position,
            }));
        }
        Ok(())
    }
}

/// The next name of a footer that one of the first `rows` rows bears.
fn next_sorted(
    layer: &Layer,
    axis: NameAxis,
    places: &mut Range<u32>,
    rows: u32,
) -> Result<Option<Borne>> {
    for place in places {
        let borne = layer.with(|index| {
            let (name, list) = index.nth_name(axis, place)?;
            let list = RowList::Postings(list);
            let events = list.count_between(0, rows)?;
            let Some(last) = events.checked_sub(1) else {
                return Ok(None);
            };
            Ok(Some(Borne {
                name: name.into(),
                events,
                last_position: layer.position(list.nth(last)?),
            }))
        })?;
        if borne.is_some() {
            return Ok(borne);
        }
    }
    Ok(None)
}

/// The names of a live index that one of the first `rows` rows bears, the last in byte order first.
fn gathered(index: &RwLock<LiveIndex>, axis: NameAxis, prefix: &str, rows: u32) -> Vec<Borne> {
    let mut found = Vec::new();
    let mut seen = 0;
    loop {
        let page_end = seen + PAGE_NAMES;
        let index = index.read();
        let page = index.names_from(axis, seen).take(PAGE_NAMES);
        let page = page.map(|(name, list)| (name, list.partition_point(|row| *row < rows), list));
        // A name that only appears later is followed by such names only.
        for (name, events, list) in page.take_while(|(_, events, _)| *events > 0) {
            seen += 1;
            if name.starts_with(prefix) {
                found.push(Borne {
                    name: Arc::clone(name),
                    events: u32::try_from(events).unwrap_or(u32::MAX),
                    last_position: list
                        .get(events - 1)
                        .map_or(0, |row| index.first_position() + u64::from(*row)),
                });
            }
        }
        if seen < page_end {
            break;
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    found
}

impl Iterator for Names {
    type Item = Result<NameEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl FusedIterator for Names {}

impl fmt::Debug for Names {
    /// What it lists; the names themselves would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("axis", &self.axis)
            .field("prefix", &self.prefix)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::event::digest::Digest;
    use crate::event::timestamp::Timestamp;
    use crate::format::sidx::{BLOCK_BYTES, NAME_ENTRY_BYTES, Part};
    use crate::index::damage_tests::section_at;
    use crate::index::layer::{self, Span};
    use crate::index::layers::Layers;
    use crate::index::model::{Facet, Model, SEGMENT, STORE_ID, open_at};
    use crate::index::view::Head;
    use crate::io::MemoryDisk;
    use crate::log::files::SegmentFile;
    use crate::log::segment::Segment;

    const NAMES: usize = 5_000;

    /// A view of one footer with 5,000 entities, in which the block with the entry of one of them is damaged.
    fn view(damaged: Option<usize>) -> View {
        let event = |number| Facet {
            offset: u32::try_from(4096 + number).unwrap(),
            id: u128::try_from(number).unwrap().to_le_bytes(),
            entity: format!("e:{number:04}"),
            ..Facet::default()
        };
        let model = Model {
            events: (0..NAMES).map(event).collect(),
        };
        let mut bytes = model.build();
        if let Some(place) = damaged {
            let at = section_at(&bytes, Part::Entities) + place * NAME_ENTRY_BYTES;
            bytes[at / BLOCK_BYTES * BLOCK_BYTES] ^= 1;
        }
        let sidx = open_at(&bytes, 0).unwrap();
        let first = sidx.first_position();
        let last = first + NAMES as u64 - 1;
        let segment = Segment::sealed(
            Arc::new(MemoryDisk::new()),
            STORE_ID,
            SegmentFile::original(SEGMENT),
        );
        let span = Span {
            last_position: last,
            first_recorded: 0,
            last_recorded: 0,
        };
        let (segment, source) = (Arc::new(segment), layer::Source::Checkpoint);
        let layer = Layer::fixed(segment, first, [0; 32], span, source, Some(sidx));
        let layers = Layers::new(vec![Arc::new(layer)], Vec::new());
        let head = Head {
            position: last.into(),
            digest: Digest::ZERO,
            recorded_at: Timestamp::default(),
        };
        View::new(layers, head, last)
    }

    #[test]
    fn the_first_names_are_listed_without_a_look_at_the_others() {
        let mut names = view(None).entities("e:").unwrap();
        assert_eq!(names.by_ref().take(10).count(), 10);
        let State::Merging(merge) = &names.state else {
            panic!("there are more names");
        };
        let [Source::Sorted(_, _, left)] = &merge.sources[..] else {
            panic!("one footer is read");
        };
        assert_eq!((left.len(), merge.next.len()), (NAMES - 11, 1));
    }

    #[test]
    fn a_damaged_name_is_an_error_once_and_then_the_end() {
        let mut names = view(Some(3_100)).entities("e:").unwrap();
        let sound = names.by_ref().take_while(Result::is_ok).count();
        assert!((2_588..=3_100).contains(&sound), "{sound}");
        assert!(names.next().is_none(), "the error was the last");
        let mut names = view(Some(3_100)).entities("e:3100").unwrap();
        let error = names.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(names.next().is_none());
    }
}
