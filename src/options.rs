//! How a store is opened: every setting, its unit, its default and its bounds; and how long work tells how far it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::condition::Durability;
use crate::io::{Clock, Disk, MemoryDisk, RealDisk, SystemClock};
use crate::sync::Arc;

/// The smallest size a segment may be set to.
pub const MIN_SEGMENT_BYTES: u64 = 1024 * 1024;
/// The largest size a segment may be set to.
pub const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// The largest payload that a store can be set to accept.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024 * 1024;
/// The largest batch, in bytes as `max_batch_bytes` counts them, that a store can be set to accept.
pub const MAX_BATCH_BYTES: usize = 512 * 1024 * 1024;
/// The largest batch, in events, that a store can be set to accept.
pub const MAX_BATCH_EVENTS: usize = 1_048_576;
/// The longest queue, in submissions, that a store can be set to.
pub const MAX_QUEUE_CAPACITY: usize = 1_048_576;

/// Whether a writer that panicked may start again after re-reading the tail of the log.
///
/// A writer stopped by a failed disk never starts again: the store must be reopened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// A panic poisons the store until it is reopened.
    #[default]
    Never,
    /// The writer starts again, at most this many times in the life of the handle.
    Limited {
        /// How many times.
        attempts: u32,
    },
}

/// The settings of a store; [`StoreConfig::new`] has the defaults.
///
/// Builder methods never fail; opening a store with a setting out of bounds returns `Argument`.
///
/// ```
/// use quipu::{Store, StoreConfig};
///
/// let config = StoreConfig::in_memory().max_payload_bytes(64 * 1024).queue_capacity(10_000);
/// assert!(Store::open_with(config.clone()).is_ok());
/// assert!(Store::open_with(config.segment_bytes(1)).is_err());
/// ```
#[derive(Clone)]
pub struct StoreConfig {
    pub(crate) place: Place,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) durability: Durability,
    pub(crate) segment_bytes: u64,
    pub(crate) buffered_sync_interval: Duration,
    pub(crate) queue_capacity: usize,
    pub(crate) queue_wait: Duration,
    pub(crate) max_payload_bytes: usize,
    pub(crate) max_batch_events: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) restart_policy: RestartPolicy,
}

/// Where the bytes of a store live.
#[derive(Clone)]
pub(crate) enum Place {
    Directory(PathBuf),
    Disk(Arc<dyn Disk>),
}

impl StoreConfig {
    /// The defaults for a store in the directory `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Place::Directory(path.as_ref().to_path_buf()))
    }

    /// The defaults for a store in memory: gone when the last handle and view are dropped.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::on_disk(Arc::new(MemoryDisk::new()))
    }

    /// The defaults for a store on a disk of the caller's, such as one that injects faults.
    pub fn on_disk(disk: Arc<dyn Disk>) -> Self {
        Self::at(Place::Disk(disk))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            clock: Arc::new(SystemClock),
            durability: Durability::Sync,
            segment_bytes: 32 * 1024 * 1024,
            buffered_sync_interval: Duration::from_millis(10),
            queue_capacity: 1024,
            queue_wait: Duration::from_secs(5),
            max_payload_bytes: 16 * 1024 * 1024,
            max_batch_events: 65_536,
            max_batch_bytes: 32 * 1024 * 1024,
            restart_policy: RestartPolicy::Never,
        }
    }

    /// What an append promises unless it says otherwise; the default is [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The size at which a segment file is full, in bytes; 32 MiB by default, and what bounds the memory of the index.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How long a buffered append may stay unsynced; 10 ms by default.
    #[must_use]
    pub fn buffered_sync_interval(mut self, interval: Duration) -> Self {
        self.buffered_sync_interval = interval;
        self
    }

    /// How many submissions may wait for the writer; 1024 by default.
    #[must_use]
    pub fn queue_capacity(mut self, submissions: usize) -> Self {
        self.queue_capacity = submissions;
        self
    }

    /// How long an append or submit waits for room in the queue before it returns `Busy`; 5 s by default.
    #[must_use]
    pub fn queue_wait(mut self, wait: Duration) -> Self {
        self.queue_wait = wait;
        self
    }

    /// The largest payload of one event, in bytes; 16 MiB by default.
    #[must_use]
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// The most events in one batch; 65,536 by default.
    #[must_use]
    pub fn max_batch_events(mut self, events: usize) -> Self {
        self.max_batch_events = events;
        self
    }

    /// The most bytes that a batch may take in the log; 32 MiB by default.
    ///
    /// An event counts 256 and its payload, names and labels, 16 for each parent, 8 for each tag or metadata entry.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Whether a writer that panicked starts again; never by default.
    #[must_use]
    pub fn restart_policy(mut self, policy: RestartPolicy) -> Self {
        self.restart_policy = policy;
        self
    }

    /// The clock that recorded times come from; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        match &self.place {
            Place::Directory(path) => Arc::new(RealDisk::new(path)),
            Place::Disk(disk) => Arc::clone(disk),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        within(
            "segment_bytes",
            self.segment_bytes,
            MIN_SEGMENT_BYTES,
            MAX_SEGMENT_BYTES,
        )?;
        within("queue_capacity", self.queue_capacity, 1, MAX_QUEUE_CAPACITY)?;
        within(
            "max_payload_bytes",
            self.max_payload_bytes,
            1,
            MAX_PAYLOAD_BYTES,
        )?;
        within(
            "max_batch_events",
            self.max_batch_events,
            1,
            MAX_BATCH_EVENTS,
        )?;
        within("max_batch_bytes", self.max_batch_bytes, 1, MAX_BATCH_BYTES)?;
        if self.buffered_sync_interval.is_zero() {
            return Err(StoreError::argument(
                "buffered_sync_interval is zero; use Durability::Sync to sync at once",
            ));
        }
        Ok(())
    }
}

/// How far a long piece of work has come.
///
/// A snapshot or restore counts bytes as they are copied, and the events of a file once that is proven: while the last
/// file is proven, the bytes are at their end already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the log that it has been through.
    pub done_bytes: u64,
    /// How many there are to go through in all.
    pub total_bytes: u64,
    /// Events that it has been through.
    pub done_events: u64,
    /// How many there are to go through in all.
    pub total_events: u64,
}

/// What a progress callback answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// The work goes on.
    #[default]
    Continue,
    /// The work stops here, and its call returns `Cancelled`.
    Cancel,
}

/// Whom a long piece of work tells how far it has come: nobody, unless the caller asked.
#[derive(Default)]
pub(crate) struct Listening(Option<Box<dyn FnMut(Progress) -> Control + Send>>);

impl Listening {
    pub(crate) fn new(callback: impl FnMut(Progress) -> Control + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    /// Tells how far `what` has come.
    ///
    /// # Errors
    /// `Cancelled` when the caller wants no more of it.
    pub(crate) fn tell(&mut self, what: &str, progress: Progress) -> Result<()> {
        match self.0.as_mut().map(|callback| callback(progress)) {
            None | Some(Control::Continue) => Ok(()),
            Some(Control::Cancel) => Err(StoreError::new(
                StoreErrorKind::Cancelled,
                format!("the {what} was cancelled by its progress callback; start it again"),
            )),
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Listening",
            None => "Nobody",
        })
    }
}

/// Refuses a pace at which `work` would never end.
pub(crate) fn check_pace(bytes_per_second: Option<u64>, work: &str) -> Result<()> {
    match bytes_per_second {
        Some(0) => Err(StoreError::argument(format!(
            "a {work} of 0 bytes a second never ends; give it some, or set no pace"
        ))),
        _ => Ok(()),
    }
}

fn within<T: PartialOrd + fmt::Display>(name: &str, value: T, least: T, most: T) -> Result<()> {
    if value < least || value > most {
        return Err(StoreError::argument(format!(
            "{name} is {value}; it must be between {least} and {most}"
        )));
    }
    Ok(())
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Directory(path) => path.display().to_string(),
            Place::Disk(disk) => disk.describe(),
        };
        f.debug_struct("StoreConfig")
            .field("place", &place)
            .field("durability", &self.durability)
            .field("segment_bytes", &self.segment_bytes)
            .field("buffered_sync_interval", &self.buffered_sync_interval)
            .field("queue_capacity", &self.queue_capacity)
            .field("queue_wait", &self.queue_wait)
            .field("max_payload_bytes", &self.max_payload_bytes)
            .field("max_batch_events", &self.max_batch_events)
            .field("max_batch_bytes", &self.max_batch_bytes)
            .field("restart_policy", &self.restart_policy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_refused_one_past_its_bounds() {
        let fine = StoreConfig::in_memory;
        let bad = [
            fine().segment_bytes(MIN_SEGMENT_BYTES - 1),
            fine().segment_bytes(MAX_SEGMENT_BYTES + 1),
            fine().queue_capacity(0),
            fine().queue_capacity(MAX_QUEUE_CAPACITY + 1),
            fine().max_payload_bytes(0),
            fine().max_payload_bytes(MAX_PAYLOAD_BYTES + 1),
            fine().max_batch_events(0),
            fine().max_batch_events(MAX_BATCH_EVENTS + 1),
            fine().max_batch_bytes(0),
            fine().max_batch_bytes(MAX_BATCH_BYTES + 1),
            fine().buffered_sync_interval(Duration::ZERO),
        ];
        for config in bad {
            let kind = config.check().map_err(|e| e.kind());
            assert_eq!(kind, Err(StoreErrorKind::Argument), "{config:?}");
        }
    }

    #[test]
    fn every_setting_is_accepted_at_its_bounds() {
        let fine = StoreConfig::in_memory;
        for config in [
            fine().segment_bytes(MIN_SEGMENT_BYTES),
            fine().segment_bytes(MAX_SEGMENT_BYTES),
            fine().queue_capacity(1),
            fine().queue_capacity(MAX_QUEUE_CAPACITY),
            fine().max_payload_bytes(MAX_PAYLOAD_BYTES),
            fine().max_batch_events(MAX_BATCH_EVENTS),
            fine().max_batch_bytes(MAX_BATCH_BYTES),
        ] {
            assert!(config.check().is_ok(), "{config:?}");
        }
    }
}
