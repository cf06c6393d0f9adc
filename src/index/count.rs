//! How many events match a query, without reading a payload, and where one list tells, without reading events.
//!
//! The count equals the length of the walk over the same events. Runs on the thread that asks.

use crate::error::Result;
use crate::event::query::Query;
use crate::event::region::{Match, Region};
use crate::index::candidates::{RowBounds, exact_axes};
use crate::index::clues::Skips;
use crate::index::layer::{Axis, Direction, Layer};
use crate::index::picture::Picture;
use crate::index::view::View;
use crate::index::walk::Walk;

impl View {
    /// How many events match; an event that several regions mean counts once. No payload is read.
    ///
    /// A single region with at most one exact term (entity, scope, kind, tag, cause or correlation), and with any ranges
    /// of positions and recorded times, is counted from the index alone: each segment costs a few binary searches,
    /// however many events there are. The same holds for an entity with a range of revisions. Every other query is
    /// walked: the head of each event that its narrowest axis leads to is looked at.
    ///
    /// ```
    /// use quipu::prelude::*;
    ///
    /// # fn main() -> quipu::Result<()> {
    /// let store = Store::in_memory()?;
    /// let meter = Coordinate::new("meter:7", "plant:north")?;
    /// for reading in 1..=5 {
    ///     store.append(&meter, EventKind::literal("meter.read"), &reading)?;
    /// }
    /// assert_eq!(store.count(Region::entity("meter:7").revisions(2..))?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Argument` for a query with an invalid term; `Corrupt` when an event or index on the way is damaged.
    pub fn count(&self, query: impl Into<Query>) -> Result<u64> {
        let query = query.into();
        query.check()?;
        self.count_within(&query, (1, u64::MAX))
    }

    /// How many events at the positions `low..=high` match a query that was checked.
    pub(crate) fn count_within(&self, query: &Query, positions: (u64, u64)) -> Result<u64> {
        let picture = self.picture();
        if let [region] = query.regions()
            && let Some(axis) = only_axis(region)
        {
            return count_listed(&picture, region, &axis, positions);
        }
        let mut walk = Walk::new(query.clone(), Direction::Forward, positions, usize::MAX);
        let mut count = 0;
        while let Some(hit) = walk.next(&picture) {
            hit?;
            count += 1;
        }
        Ok(count)
    }
}

/// The list whose rows inside the row bounds are a region's events, no more and no fewer; `None` if there is none.
fn only_axis(region: &Region) -> Option<Axis> {
    let exact = |wanted: Option<&Match>| matches!(wanted, None | Some(Match::Exact(_)));
    let named = exact(region.entity_match())
        && exact(region.scope_match())
        && matches!(region.kinds(), [] | [Match::Exact(_)]);
    // Only in an entity's own list do revisions become row bounds.
    let bounded = region.revision_range() == (0, u64::MAX) || region.entity_match().is_some();
    let mut axes = exact_axes(region);
    let axis = axes.next().unwrap_or(Axis::All);
    (named && bounded && axes.next().is_none()).then_some(axis)
}

fn count_listed(
    picture: &Picture<'_>,
    region: &Region,
    axis: &Axis,
    (low, high): (u64, u64),
) -> Result<u64> {
    let high = high.min(picture.upto);
    let first = picture.layer_of(low.max(1)).unwrap_or(0);
    let (mut count, mut skips) = (0, Skips::default());
    for (at, layer) in picture.layers.all.iter().enumerate().skip(first) {
        if layer.first_position() > high {
            break;
        }
        if skips.passes_over(at, picture.layers, std::slice::from_ref(region)) {
            continue;
        }
        let positions = (low, high.min(picture.end_of(at)));
        let bounds = RowBounds::of(layer, region, positions, picture)?;
        count += u64::from(count_in(picture, layer, axis, bounds)?);
    }
    Ok(count)
}

fn count_in(picture: &Picture<'_>, layer: &Layer, axis: &Axis, bounds: RowBounds) -> Result<u32> {
    let (low, high) = bounds.rows();
    if low >= high {
        return Ok(0);
    }
    match axis {
        Axis::All => layer.kept_between((low, high)),
        Axis::Correlation(id) => {
            let listed = layer.count_between(axis, (low, high))?;
            let first = layer.find_id(id)?.filter(|row| low <= *row && *row < high);
            // The event with that id belongs to the story unless it was appended into another.
            let counts = match first {
                Some(row) => layer
                    .kept_event(row, picture.staged)?
                    .is_some_and(|event| event.correlation().as_bytes() == id),
                None => false,
            };
            Ok(listed + u32::from(counts))
        }
        _ => layer.count_between(axis, (low, high)),
    }
}
