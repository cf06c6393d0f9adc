//! What the engine counts while it works, and the snapshots that users see.
//!
//! Counters are relaxed atomics: each is true by itself, none orders anything. Any thread counts and any asks.

use std::time::Duration;

use crate::engine::front::Front;
use crate::engine::shared::Engine;
use crate::index::view::Head;
use crate::sync::atomic::{AtomicU64, Ordering};

/// One bucket for each power of two of nanoseconds, each split in four.
const BUCKETS: usize = 64 * 4;

/// A count of durations in buckets of a quarter of a power of two: within 25 % of the truth.
#[derive(Debug)]
struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    fn add(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The upper bound of the bucket below which `percent` of all durations lie, zero if there are none.
    fn percentile(&self, percent: u64) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return Duration::from_nanos(upper_bound(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.max(4);
    let power = nanos.ilog2();
    let quarter = (nanos >> (power - 2)) & 3;
    usize::try_from(u64::from(power) * 4 + quarter).unwrap_or(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let (power, quarter) = (bucket / 4, bucket % 4);
    let step = 1_u64 << power.saturating_sub(2);
    step.saturating_mul(4 + quarter as u64 + 1)
}

/// The engine's counters, from the opening on.
#[derive(Debug)]
pub(crate) struct Meters {
    groups: AtomicU64,
    submissions: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    largest_group: AtomicU64,
    syncs: AtomicU64,
    sync_times: Histogram,
    hint_failures: AtomicU64,
    sealed: AtomicU64,
    clock_behind: AtomicU64,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            groups: AtomicU64::new(0),
            submissions: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            largest_group: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            sync_times: Histogram::new(),
            hint_failures: AtomicU64::new(0),
            sealed: AtomicU64::new(0),
            clock_behind: AtomicU64::new(0),
        }
    }

    pub(crate) fn committed(&self, submissions: usize, events: usize, bytes: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.submissions
            .fetch_add(submissions as u64, Ordering::Relaxed);
        self.events.fetch_add(events as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.largest_group
            .fetch_max(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_times.add(took);
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn hint_failed(&self) {
        self.hint_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sealed(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn clock_behind(&self, nanos: u64) {
        self.clock_behind.store(nanos, Ordering::Relaxed);
    }
}

/// How much a store holds; cheap to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The end of what readers see.
    pub head: Head,
    /// The last position known durable.
    pub durable_position: u64,
    /// How many segments there are.
    pub segments: u64,
    /// How many full segments wait to be sealed.
    pub unsealed_segments: u64,
    /// The length of the log in bytes as far as it is used, footers not counted.
    pub log_bytes: u64,
    /// The heap that the index of the newest events takes, in bytes, estimated.
    pub index_heap_bytes: u64,
}

/// What the store is doing and how well: a snapshot for logs and monitors.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Diagnostics {
    /// How much it holds.
    pub stats: Stats,
    /// Submissions waiting for the writer.
    pub queue_depth: u64,
    /// How many may wait.
    pub queue_capacity: u64,
    /// Groups written since it was opened.
    pub groups: u64,
    /// Submissions in them.
    pub submissions: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Events in the largest of them.
    pub largest_group_events: u64,
    /// Syncs since it was opened.
    pub syncs: u64,
    /// Half of the syncs took at most this long; within a quarter of the truth, as are the next two.
    pub sync_p50: Duration,
    /// Nine of ten syncs took at most this long.
    pub sync_p90: Duration,
    /// 99 of 100 syncs took at most this long.
    pub sync_p99: Duration,
    /// How often the durable hint could not be written.
    pub hint_failures: u64,
    /// Segments sealed since it was opened.
    pub segments_sealed: u64,
    /// How far the clock ran behind the last event when it was last read.
    pub clock_behind: Duration,
    /// Why the writer refuses, if it does.
    pub poisoned: Option<String>,
    /// Cursors and subscriptions that wait for new events.
    pub waiting: u64,
    /// Where the store lives: its directory, or what its disk calls itself.
    pub place: String,
}

impl Diagnostics {
    /// Of a store that is open only for reading, where nothing is written.
    pub(crate) fn of_reader(front: &Front) -> Self {
        Self::new(front, front.stats_of_reader(), &Meters::new())
    }

    fn new(front: &Front, stats: Stats, meters: &Meters) -> Self {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            stats,
            queue_depth: 0,
            queue_capacity: 0,
            groups: of(&meters.groups),
            submissions: of(&meters.submissions),
            events: of(&meters.events),
            bytes: of(&meters.bytes),
            largest_group_events: of(&meters.largest_group),
            syncs: of(&meters.syncs),
            sync_p50: meters.sync_times.percentile(50),
            sync_p90: meters.sync_times.percentile(90),
            sync_p99: meters.sync_times.percentile(99),
            hint_failures: of(&meters.hint_failures),
            segments_sealed: of(&meters.sealed),
            clock_behind: Duration::from_nanos(of(&meters.clock_behind)),
            poisoned: None,
            waiting: front.waiting() as u64,
            place: front.disk.describe(),
        }
    }
}

impl Engine {
    pub(crate) fn stats(&self) -> Stats {
        self.front.stats(self.backlog.len() as u64)
    }

    pub(crate) fn diagnostics(&self) -> Diagnostics {
        Diagnostics {
            queue_depth: self.queue.len() as u64,
            queue_capacity: self.config.queue_capacity as u64,
            poisoned: self.fault.get().cloned(),
            ..Diagnostics::new(&self.front, self.stats(), &self.meters)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_a_quarter_of_the_truth() {
        let times = Histogram::new();
        (1..=1000).for_each(|micros| times.add(Duration::from_micros(micros)));
        for (percent, truth) in [(50, 500.0), (90, 900.0), (99, 990.0)] {
            let micros = times.percentile(percent).as_nanos() as f64 / 1000.0;
            assert!(
                (truth..truth * 1.25).contains(&micros),
                "p{percent} is {micros}"
            );
        }
        assert_eq!(Histogram::new().percentile(99), Duration::ZERO);
    }
}
