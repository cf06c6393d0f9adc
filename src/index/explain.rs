//! What a query took, counted while it ran: axes, segments, rows, time.
//!
//! The numbers are the walk's own. Runs on the thread that asks.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::event::query::Query;
use crate::index::layer::Direction;
use crate::index::view::View;
use crate::index::walk::{Use, Walk};

impl View {
    /// Runs a query to its end, as [`View::query`] would, and tells what that took.
    ///
    /// ```
    /// use quipu::prelude::*;
    ///
    /// # fn main() -> quipu::Result<()> {
    /// let store = Store::in_memory()?;
    /// for meter in 1..=100 {
    ///     let place = Coordinate::new(format!("meter:{meter}"), "plant:north")?;
    ///     store.append(&place, EventKind::literal("meter.read"), &meter)?;
    /// }
    /// let explanation = store.explain(Region::entity("meter:7").scope("plant:north"))?;
    /// assert_eq!((explanation.matched(), explanation.rows_touched()), (1, 1));
    /// assert_eq!(explanation.regions()[0].axes()[0].axis(), "entity:meter:7");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`View::count`].
    pub fn explain(&self, query: impl Into<Query>) -> Result<Explanation> {
        let query = query.into();
        query.check()?;
        let regions: Vec<String> = query.regions().iter().map(ToString::to_string).collect();
        let (began, picture) = (Instant::now(), self.picture());
        let all = (1, u64::MAX);
        let mut walk = Walk::new(query, Direction::Forward, all, usize::MAX).with_notes();
        let mut matched = 0;
        while let Some(hit) = walk.next(&picture) {
            hit?;
            matched += 1;
        }
        let took = began.elapsed();
        let (rows_touched, notes) = walk.into_notes();
        Ok(Explanation {
            regions: (0..)
                .zip(regions)
                .map(|(number, region)| RegionExplanation::of(number, region, &notes.uses))
                .collect(),
            segments: self.segments(),
            segments_read: notes.segments_read,
            rows_touched,
            matched,
            took,
        })
    }

    /// How many segments the events of this view stand in.
    fn segments(&self) -> u64 {
        let picture = self.picture();
        let layers = picture.layers.all.iter();
        let mut numbers: Vec<u64> = layers
            .take_while(|layer| layer.first_position() <= picture.upto)
            .map(|layer| layer.segment().number())
            .collect();
        numbers.dedup();
        numbers.len() as u64
    }
}

/// What a query took, counted while it ran; printed as a small table.
///
/// It comes from [`View::explain`] and `Store::explain`. Of a query for two regions over three segments, one of which
/// holds neither, it prints:
///
/// ```text
/// matched       60 in 300.6µs
/// rows touched  68
/// segments      2 read, 1 skipped
/// region        kind:order.* tag:urgent
///   by          tag:urgent (segments: 2)
/// region        entity:order:3
///   by          entity:order:3 (segments: 1)
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    regions: Vec<RegionExplanation>,
    segments: u64,
    segments_read: u64,
    rows_touched: u64,
    matched: u64,
    took: Duration,
}

impl Explanation {
    /// How each region was answered, in the order of the query.
    #[must_use]
    pub fn regions(&self) -> &[RegionExplanation] {
        &self.regions
    }

    /// How many segments the events of the view stand in.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// How many of them had candidates, by their index and the ranges of the query.
    #[must_use]
    pub fn segments_read(&self) -> u64 {
        self.segments_read
    }

    /// How many of them were passed over, no event in them being looked at.
    #[must_use]
    pub fn segments_skipped(&self) -> u64 {
        self.segments - self.segments_read
    }

    /// How many rows were touched: a row counts when its event is looked at, whether or not it matches, and when it is
    /// read out of the lists of several names to know the candidates.
    #[must_use]
    pub fn rows_touched(&self) -> u64 {
        self.rows_touched
    }

    /// How many events matched.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.matched
    }

    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }
}

/// How one region of a query was answered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RegionExplanation {
    region: String,
    axes: Vec<AxisUse>,
}

impl RegionExplanation {
    fn of(number: usize, region: String, uses: &[Use]) -> Self {
        let uses = uses.iter().filter(|known| known.region == number);
        let axes = uses.map(|known| AxisUse {
            axis: known.axis.to_string(),
            segments: known.segments,
        });
        Self {
            region,
            axes: axes.collect(),
        }
    }

    /// The region as query text.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The axes that gave the candidates, in order of first use; a segment without candidates chose none.
    #[must_use]
    pub fn axes(&self) -> &[AxisUse] {
        &self.axes
    }
}

/// An axis that gave a region its candidates, and in how many segments it was the narrowest.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AxisUse {
    axis: String,
    segments: u64,
}

impl AxisUse {
    /// The term of the region whose rows were the candidates, as in `tag:customer:42`; `*` if all were.
    #[must_use]
    pub fn axis(&self) -> &str {
        &self.axis
    }

    /// In how many segments it gave the candidates.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "matched       {} in {:.1?}", self.matched, self.took)?;
        writeln!(f, "rows touched  {}", self.rows_touched)?;
        let (read, skipped) = (self.segments_read, self.segments_skipped());
        write!(f, "segments      {read} read, {skipped} skipped")?;
        for region in &self.regions {
            write!(f, "\nregion        {}", region.region)?;
            for by in &region.axes {
                write!(f, "\n  by          {} (segments: {})", by.axis, by.segments)?;
            }
        }
        Ok(())
    }
}
