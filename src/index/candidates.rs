//! The rows of one layer that may match a region: bounds first, then the narrowest list inside them.
//!
//! A stream yields candidates in the walk's direction, page by page; whether a candidate matches is the walk's
//! business, and its thread is the one that asks.

use crate::error::Result;
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
        let time = |row| layer.recorded_at(row, picture.staged);
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
            Ok(layer.event(row, picture.staged)?.revision().get())
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
            if let Axis::Correlation(id) = &axis {
                stream.extra = layer
                    .find_id(id)?
                    .filter(|row| bounds.low <= *row && *row < bounds.high);
                if len == 0 && stream.extra.is_none() {
                    return Ok(None);
                }
                best = 0;
                stream.source = Candidates::List(axis);
                break;
            }
            if len == 0 {
                return Ok(None);
            }
            if len <= best {
                best = len;
                stream.source = Candidates::List(axis);
            }
        }
        if best > layer.axis_len(&Axis::All)? / NARROW_ENOUGH
            && let Some(bits) = narrower_bits(layer, wanted, best)?
        {
            stream.source = Candidates::Bits(bits);
        }
        Ok(Some(stream))
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

/// The rows of names that share a prefix, or of several kinds, if they are fewer than `best`.
fn narrower_bits(layer: &Layer, region: &Region, best: u32) -> Result<Option<Bits>> {
    let mut narrowest: Option<Bits> = None;
    let prefixes = [
        (NameAxis::Entity, region.entity_match()),
        (NameAxis::Scope, region.scope_match()),
    ];
    for (axis, wanted) in prefixes {
        if let Some(Match::Prefix(prefix)) = wanted {
            let mut bits = Bits::new(layer.axis_len(&Axis::All)?);
            if layer.rows_of_prefix(axis, prefix, |row| bits.set(row))? {
                narrowest = Bits::narrower(narrowest, bits);
            }
        }
    }
    let kinds = region.kinds();
    if (kinds.len() > 1 || matches!(kinds, [Match::Prefix(_)]))
        && let Some(bits) = bits_of_kinds(layer, kinds)?
    {
        narrowest = Bits::narrower(narrowest, bits);
    }
    Ok(narrowest.filter(|bits| bits.count < best))
}

fn bits_of_kinds(layer: &Layer, kinds: &[Match]) -> Result<Option<Bits>> {
    let mut bits = Bits::new(layer.axis_len(&Axis::All)?);
    let mut rows = Vec::new();
    for kind in kinds {
        match kind {
            Match::Prefix(prefix) => {
                if !layer.rows_of_prefix(NameAxis::Kind, prefix, |row| bits.set(row))? {
                    return Ok(None);
                }
            }
            Match::Exact(name) => {
                let axis = Axis::Name(NameAxis::Kind, Arc::clone(name));
                rows.clear();
                layer.page(
                    &axis,
                    (0, u32::MAX),
                    Direction::Forward,
                    u32::MAX,
                    &mut rows,
                )?;
                rows.iter().for_each(|row| bits.set(*row));
            }
        }
    }
    Ok(Some(bits))
}

/// A set of rows of one layer.
#[derive(Clone, Debug)]
struct Bits {
    words: Vec<u64>,
    count: u32,
}

impl Bits {
    fn new(rows: u32) -> Self {
        Self {
            words: vec![0; usize::try_from(rows).unwrap_or_default().div_ceil(64)],
            count: 0,
        }
    }

    fn set(&mut self, row: u32) {
        let Some(word) = usize::try_from(row / 64)
            .ok()
            .and_then(|w| self.words.get_mut(w))
        else {
            return;
        };
        let bit = 1 << (row % 64);
        self.count += u32::from(*word & bit == 0);
        *word |= bit;
    }

    fn narrower(one: Option<Self>, other: Self) -> Option<Self> {
        match one {
            Some(one) if one.count <= other.count => Some(one),
            _ => Some(other),
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
