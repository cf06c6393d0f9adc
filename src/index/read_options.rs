//! How a read goes through the events that match: direction, where it begins, how many.

use crate::error::Result;
use crate::event::position::{Position, Revision};
use crate::event::query::Query;
use crate::event::timestamp::Timestamp;
use crate::index::layer::Direction;
use crate::index::walk::Walk;

/// Direction, beginning and length of a read; the default is everything, first to last.
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
/// let last_two = store.stream_with("meter:7", ReadOptions::new().backward().limit(2))?;
/// let readings: Vec<i32> = last_two.map(|event| event?.payload()).collect::<quipu::Result<_>>()?;
/// assert_eq!(readings, [5, 4]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ReadOptions {
    direction: Direction,
    from_revision: u64,
    after: u64,
    before: u64,
    since: u64,
    limit: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            direction: Direction::Forward,
            from_revision: 0,
            after: 0,
            before: u64::MAX,
            since: 0,
            limit: usize::MAX,
        }
    }
}

impl ReadOptions {
    /// Everything, first to last.
    pub fn new() -> Self {
        Self::default()
    }

    /// First to last.
    pub fn forward(mut self) -> Self {
        self.direction = Direction::Forward;
        self
    }

    /// Last to first.
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// Only events of this revision and above.
    pub fn from_revision(mut self, revision: impl Into<Revision>) -> Self {
        self.from_revision = revision.into().get();
        self
    }

    /// Only events after this position.
    pub fn after(mut self, position: impl Into<Position>) -> Self {
        self.after = position.into().get();
        self
    }

    /// Only events before this position.
    pub fn before(mut self, position: impl Into<Position>) -> Self {
        self.before = position.into().get();
        self
    }

    /// Only events recorded at this time or later; found through the index, without a scan.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = time.as_nanos();
        self
    }

    /// At most this many.
    pub fn limit(mut self, events: usize) -> Self {
        self.limit = events;
        self
    }

    pub(crate) fn walk(self, query: Query) -> Result<Walk> {
        query.check()?;
        let bounds = (self.after.saturating_add(1), self.before.saturating_sub(1));
        let query = query.narrowed(self.from_revision, self.since);
        Ok(Walk::new(query, self.direction, bounds, self.limit))
    }
}
