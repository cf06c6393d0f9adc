//! What a compaction is asked to do.
//!
//! A value that says nothing of a store; it is checked when a plan or a compaction begins, on the caller's thread.

use crate::error::{Result, StoreError};
use crate::index::retention::RetentionPredicate;
use crate::options::check_pace;
use crate::sync::Arc;

/// What a compaction does; [`CompactionConfig::new`] only merges small segments.
///
/// ```
/// use quipu::{CompactionConfig, Retention, Store};
/// use std::time::Duration;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let year = Duration::from_secs(365 * 86_400);
/// let config = CompactionConfig::new().remove(Retention::older_than(year));
/// println!("{}", store.plan_compaction(&config)?);
/// let done = store.compact(config)?.wait()?;
/// assert_eq!(done.events_removed, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CompactionConfig {
    pub(super) removed: Option<Arc<dyn RetentionPredicate>>,
    pub(super) merge_below: Option<u64>,
    pub(super) min_freed_percent: u8,
    pub(super) bytes_per_second: Option<u64>,
}

impl CompactionConfig {
    /// Removes nothing and merges neighbouring segments that are shorter than half of `segment_bytes`, as fast as it goes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes the content of the events that may go; a stub of each stays. Said again, it counts instead.
    #[must_use]
    pub fn remove(mut self, predicate: impl RetentionPredicate + 'static) -> Self {
        self.removed = Some(Arc::new(predicate));
        self
    }

    /// Merges neighbouring segments whose logs are shorter than this, in bytes, into files of up to `segment_bytes`; 0
    /// merges none.
    #[must_use]
    pub fn merge_below(mut self, bytes: u64) -> Self {
        self.merge_below = Some(bytes);
        self
    }

    /// Leaves a segment as it is unless removing frees at least this share of its log; 0 by default: all that may go, goes.
    #[must_use]
    pub fn min_freed_percent(mut self, percent: u8) -> Self {
        self.min_freed_percent = percent;
        self
    }

    /// Goes through at most so many bytes of the log a second, at least 1, to leave the disk to others; as fast as it goes
    /// by default.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(bytes);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_pace(self.bytes_per_second, "compaction")?;
        if self.min_freed_percent > 100 {
            return Err(StoreError::argument(format!(
                "min_freed_percent is {}; it must be between 0 and 100",
                self.min_freed_percent
            )));
        }
        self.removed
            .as_ref()
            .map_or(Ok(()), |removed| removed.check())
    }
}
