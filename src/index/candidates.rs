//! The rows of one layer that may match a region: bounds first, then the narrowest list inside them.
//!
//! A stream yields candidates in the walk's direction, page by page; whether a candidate matches is the walk's
//! business, and its thread is the one that asks.

use crate::error::Result;
use crate::event::id::{CorrelationId, EventId};
use crate::event::region::{Match, Region};
use crate::format::sidx::NameAxis;
use crate::index::layer::{Axis, Direction, Layer};
use crate::index::picture::Picture;
use crate::sync::Arc;

/// How many rows the first page of a list holds; each next one holds more, up to [`MOST_PAGE_ROWS`].
const FIRST_PAGE_ROWS: u32 = 8;
/// How many rows a page holds at the most.
const MOST_PAGE_ROWS: u32 = 256;
/// A list this many times shorter than the layer is taken without counting what share a prefix.
const NARROW_ENOUGH: u32 = 16;

/// The rows of one layer that a region may have: `low..high`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowBounds {
    low: u32,
    high: u32,
}

impl RowBounds {
    const NONE: Self = Self { low: 0, high: 0 };

    /// The rows `low..high`; none if the first is not the lesser.
    pub(crate) fn rows(self) -> (u32, u32) {
        (self.low, self.high)
    }

    pub(crate) fn of(
        layer: &Layer,
        region: &Region,
        (low, high): (u64, u64),
        picture: &Picture<'_>,
    ) -> Result<Self> {
        let (first, last) = region.position_range();
        let mut bounds = Self {
            low: row_before(layer, low.max(first)),
            high: layer.rows_upto(high.min(last).min(picture.upto)),
        };
        bounds.within_times(layer, region.recorded_range(), picture)?;
        if let Some(Match::Exact(entity)) = region.entity_match() {
            bounds.within_revisions(layer, entity, region.revision_range(), picture)?;
        }
        Ok(bounds)
    }

    fn within_times(
        &mut self,
        layer: &Layer,
        (oldest, newest): (u64, u64),
        picture: &Picture<'_>,
    ) -> Result<()> {
        if (oldest, newest) == (0, u64::MAX) || self.low >= self.high {
            return Ok(());
        }
        if layer
            .recorded_span()
            .is_some_and(|(begin, end)| end < oldest || begin > newest)
        {
            *self = Self::NONE;
            return Ok(());
        }
        let time = |row| Ok(layer.kept(row, picture.staged)?.recorded_at);
        self.low = first_where(self.rows(), |row| Ok(time(row)? >= oldest))?;
        self.high = first_where(self.rows(), |row| Ok(time(row)? > newest))?;
        Ok(())
    }

    /// In one layer the revisions of an entity ascend by one, but where retention took some, so that the first tells
    /// where every other stands or would stand.
    fn within_revisions(
        &mut self,
        layer: &Layer,
        entity: &Arc<str>,
        (lowest, highest): (u64, u64),
        picture: &Picture<'_>,
    ) -> Result<()> {
        if (lowest, highest) == (0, u64::MAX) || self.low >= self.high {
            return Ok(());
        }
        let axis = Axis::Name(NameAxis::Entity, Arc::clone(entity));
        // What stands behind the bounds may not be written yet.
        let len = layer.count_between(&axis, (0, self.high))?;
        if len == 0 {
            *self = Self::NONE;
            return Ok(());
        }
        let revision = |nth| -> Result<u64> {
            let row = layer.nth(&axis, nth)?;
            Ok(layer.kept(row, picture.staged)?.stream.revision)
        };
        let base = revision(0)?;
        let nth_from = |wanted: u64| {
            let most = u32::try_from(wanted.saturating_sub(base)).unwrap_or(u32::MAX);
            let most = most.min(len);
            match most.checked_sub(1) {
                Some(before) if revision(before)? >= wanted => {
                    first_where((0, before), |nth| Ok(revision(nth)? >= wanted))
                }
                _ => Ok(most),
            }
        };
        let from = nth_from(lowest)?;
        let to = highest.checked_add(1).map_or(Ok(len), nth_from)?;
        if from >= to {
            *self = Self::NONE;
            return Ok(());
        }
        self.low = self.low.max(layer.nth(&axis, from)?);
        if to < len {
            self.high = self.high.min(layer.nth(&axis, to)?);
        }
        Ok(())
    }
}

fn row_before(layer: &Layer, position: u64) -> u32 {
    let row = position.saturating_sub(layer.first_position());
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// The first number in `low..high` for which `holds` turns true, else `high`; it stays true from there on.
fn first_where(
    (mut low, mut high): (u32, u32),
    holds: impl Fn(u32) -> Result<bool>,
) -> Result<u32> {
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            high = middle
        } else {
            low = middle + 1
        }
    }
    Ok(low)
}

/// The candidates of one region in one layer.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Which region of the query it is of.
    pub(crate) region: usize,
    source: Candidates,
    bounds: RowBounds,
    /// A row beside the list: the event whose id is the correlation.
    extra: Option<u32>,
    /// The page, nearest row last.
    page: Vec<u32>,
    page_rows: u32,
}

#[derive(Clone, Debug)]
enum Candidates {
    List(Axis),
    Bits(Bits),
}

impl Stream {
    /// Picks the narrowest axis; `None` when the layer has nothing of the region.
    pub(crate) fn open(
        layer: &Layer,
        region: usize,
        wanted: &Region,
        bounds: RowBounds,
    ) -> Result<Option<Self>> {
        if bounds.low >= bounds.high {
            return Ok(None);
        }
        let mut stream = Self {
            region,
            source: Candidates::List(Axis::All),
            bounds,
            extra: None,
            page: Vec::new(),
            page_rows: FIRST_PAGE_ROWS,
        };
        let mut best = bounds.high - bounds.low;
        for axis in exact_axes(wanted) {
            let len = layer.axis_len(&axis)?;
            let extra = match &axis {
                Axis::Correlation(id) => layer.find_id(id)?,
                _ => None,
            };
            if len == 0 && extra.is_none() {
                return Ok(None);
            }
            if len <= best {
                best = len;
                stream.source = Candidates::List(axis);
                stream.extra = extra.filter(|row| bounds.low <= *row && *row < bounds.high);
            }
        }
        if best > layer.axis_len(&Axis::All)? / NARROW_ENOUGH
            && let Some(bits) = narrower_bits(layer, wanted, best)?
        {
            if bits.listed == 0 {
                return Ok(None);
            }
            stream.source = Candidates::Bits(bits);
            stream.extra = None;
        }
        Ok(Some(stream))
    }

    /// The term of its region that its candidates come from; no term where every row is one.
    pub(crate) fn axis(&self, region: &Region) -> Region {
        match &self.source {
            Candidates::List(axis) => match axis {
                Axis::All => Region::all(),
                Axis::Name(axis, name) => only(*axis, &[Match::Exact(Arc::clone(name))]),
                Axis::Correlation(id) => Region::all().correlation(CorrelationId::from_bytes(*id)),
                Axis::Effects(id) => Region::all().caused_by(EventId::from_bytes(*id)),
            },
            Candidates::Bits(bits) => {
                let mut axes = axes_of_several(region).into_iter();
                let names = axes.find(|(axis, _)| *axis == bits.axis);
                names.map_or_else(Region::all, |(axis, names)| only(axis, names))
            }
        }
    }

    /// How many rows were read out of lists before the first candidate was known.
    pub(crate) fn rows_listed(&self) -> u64 {
        match &self.source {
            Candidates::List(_) => 0,
            Candidates::Bits(bits) => bits.listed,
        }
    }

    /// Its nearest row.
    pub(crate) fn peek(&mut self, layer: &Layer, direction: Direction) -> Result<Option<u32>> {
        if self.page.is_empty() && self.bounds.low < self.bounds.high {
            self.turn_page(layer, direction)?;
        }
        let listed = self.page.last().copied();
        Ok(match (listed, self.extra) {
            (Some(a), Some(b)) if direction == Direction::Forward => Some(a.min(b)),
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        })
    }

    /// Gives up its nearest row if it is `row`.
    pub(crate) fn take_if(&mut self, row: u32) -> bool {
        let listed = self.page.last() == Some(&row);
        if listed {
            self.page.pop();
        }
        let beside = self.extra == Some(row);
        if beside {
            self.extra = None;
        }
        listed || beside
    }

    fn turn_page(&mut self, layer: &Layer, direction: Direction) -> Result<()> {
        let bounds = (self.bounds.low, self.bounds.high);
        match &self.source {
            Candidates::List(axis) => {
                layer.page(axis, bounds, direction, self.page_rows, &mut self.page)?
            }
            Candidates::Bits(bits) => bits.page(bounds, direction, self.page_rows, &mut self.page),
        }
        self.page_rows = (self.page_rows * 4).min(MOST_PAGE_ROWS);
        match (self.page.last().copied(), direction) {
            (None, _) => self.bounds = RowBounds::NONE,
            (Some(furthest), Direction::Forward) => self.bounds.low = furthest + 1,
            (Some(furthest), Direction::Backward) => self.bounds.high = furthest,
        }
        self.page.reverse();
        Ok(())
    }
}

/// The axes on which a region names exactly one list.
pub(crate) fn exact_axes(region: &Region) -> impl Iterator<Item = Axis> {
    let name = |axis: NameAxis, wanted: Option<&Match>| match wanted {
        Some(Match::Exact(name)) => Some(Axis::Name(axis, Arc::clone(name))),
        _ => None,
    };
    let kind = match region.kinds() {
        [only] => name(NameAxis::Kind, Some(only)),
        _ => None,
    };
    let correlation = region
        .correlation_id()
        .map(|id| Axis::Correlation(*id.as_bytes()));
    let cause = region.cause().map(|id| Axis::Effects(*id.as_bytes()));
    let tags: Vec<Axis> = region
        .tags()
        .iter()
        .map(|tag| Axis::Name(NameAxis::Tag, Arc::clone(tag)))
        .collect();
    name(NameAxis::Entity, region.entity_match())
        .into_iter()
        .chain(name(NameAxis::Scope, region.scope_match()))
        .chain(kind)
        .chain(tags)
        .chain(cause)
        .chain(correlation)
}

/// The rows of names that share a prefix, or of several kinds, if they are so few that it is cheaper to read them out
/// of their lists, and then to look at their events, than to look at `best` events.
fn narrower_bits(layer: &Layer, region: &Region, best: u32) -> Result<Option<Bits>> {
    let (mut most, mut narrowest) = (best / 2, None);
    let axes = axes_of_several(region).into_iter();
    for (axis, names) in axes.filter(|(_, names)| !names.is_empty()) {
        if let Some(rows) = rows_of(layer, axis, names, most)? {
            (most, narrowest) = (rows, Some((axis, names)));
        }
    }
    narrowest
        .map(|(axis, names)| Bits::of(layer, axis, names))
        .transpose()
}

/// The axes on which a region may name several lists, and what it says there; nothing where it names one or none.
fn axes_of_several(region: &Region) -> [(NameAxis, &[Match]); 3] {
    let kinds = match region.kinds() {
        [Match::Exact(_)] => &[],
        kinds => kinds,
    };
    [
        (NameAxis::Entity, prefix(region.entity_match())),
        (NameAxis::Scope, prefix(region.scope_match())),
        (NameAxis::Kind, kinds),
    ]
}

/// The region that only these names of an axis make.
fn only(axis: NameAxis, names: &[Match]) -> Region {
    let mut region = Region::all();
    for name in names {
        region = match (axis, name) {
            (NameAxis::Entity, Match::Exact(name)) => Region::entity(name),
            (NameAxis::Entity, Match::Prefix(prefix)) => Region::entity_prefix(prefix),
            (NameAxis::Scope, Match::Exact(name)) => region.scope(name),
            (NameAxis::Scope, Match::Prefix(prefix)) => region.scope_prefix(prefix),
            (NameAxis::Kind, Match::Exact(name)) => region.kind(name),
            (NameAxis::Kind, Match::Prefix(prefix)) => region.kind_prefix(prefix),
            // A tag is asked for as a whole.
            (NameAxis::Tag, Match::Exact(name) | Match::Prefix(name)) => region.tag(name),
        };
    }
    region
}

fn prefix(wanted: Option<&Match>) -> &[Match] {
    match wanted {
        Some(prefix @ Match::Prefix(_)) => core::slice::from_ref(prefix),
        _ => &[],
    }
}

/// How many rows names and prefixes have, each name's counted by itself, unless they are more than `most`.
fn rows_of(layer: &Layer, axis: NameAxis, names: &[Match], most: u32) -> Result<Option<u32>> {
    let mut rows = 0;
    for name in names {
        let len = match name {
            Match::Exact(name) => Some(layer.axis_len(&Axis::Name(axis, Arc::clone(name)))?),
            Match::Prefix(prefix) => layer.prefix_len(axis, prefix, most - rows)?,
        };
        match len.filter(|len| *len <= most - rows) {
            Some(len) => rows += len,
            None => return Ok(None),
        }
    }
    Ok(Some(rows))
}

/// A set of rows of one layer.
#[derive(Clone, Debug)]
struct Bits {
    axis: NameAxis,
    words: Vec<u64>,
    /// How many rows were read, those of several names once for each.
    listed: u64,
}

impl Bits {
    fn of(layer: &Layer, axis: NameAxis, names: &[Match]) -> Result<Self> {
        let rows = usize::try_from(layer.axis_len(&Axis::All)?).unwrap_or_default();
        let mut bits = Self {
            axis,
            words: vec![0; rows.div_ceil(64)],
            listed: 0,
        };
        let mut rows = Vec::new();
        for name in names {
            match name {
                Match::Prefix(prefix) => layer.rows_of_prefix(axis, prefix, |row| bits.set(row))?,
                Match::Exact(name) => {
                    let list = Axis::Name(axis, Arc::clone(name));
                    let all = (0, u32::MAX);
                    layer.page(&list, all, Direction::Forward, u32::MAX, &mut rows)?;
                    rows.iter().for_each(|row| bits.set(*row));
                }
            }
        }
        Ok(bits)
    }

    fn set(&mut self, row: u32) {
        self.listed += 1;
        let word = usize::try_from(row / 64).ok();
        if let Some(word) = word.and_then(|word| self.words.get_mut(word)) {
            *word |= 1 << (row % 64);
        }
    }

    fn has(&self, row: u32) -> bool {
        let word = usize::try_from(row / 64)
            .ok()
            .and_then(|w| self.words.get(w))
            .copied()
            .unwrap_or(0);
        word & (1 << (row % 64)) != 0
    }

    fn page(&self, (low, high): (u32, u32), direction: Direction, most: u32, page: &mut Vec<u32>) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let rows = u32::try_from(self.words.len() * 64).unwrap_or(u32::MAX);
        let range = low..high.min(rows);
        match direction {
            Direction::Forward => page.extend(range.filter(|row| self.has(*row)).take(most)),
            Direction::Backward => page.extend(range.rev().filter(|row| self.has(*row)).take(most)),
        }
    }
}
