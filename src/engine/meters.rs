//! What the engine counts while it works, and the snapshots that users see.
//!
//! Counters are relaxed atomics: each is true by itself, none orders anything. Any thread counts and any asks. With the
//! feature `metrics` the same lines that count also tell the facade, so that both say the same.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "metrics")]
use crate::engine::facade::Facade;
use crate::engine::front::Front;
use crate::engine::shared::Engine;
use crate::event::position::Position;
use crate::index::view::Head;
use crate::sync::atomic::{AtomicU64, Ordering};

/// One bucket for each power of two, each split in four; the numbers below 4 have one each.
const BUCKETS: usize = 64 * 4;

/// A count of numbers in buckets of a quarter of a power of two: within 25 % of the truth, and exact below 8.
#[derive(Debug)]
struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    fn add(&self, number: u64) {
        if let Some(bucket) = self.0.get(bucket_of(number)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The greatest number of the bucket up to which `percent` of all numbers lie, zero if there are none.
    fn percentile(&self, percent: u64) -> u64 {
        let counts: Vec<u64> = self.0.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return greatest_of(bucket);
            }
        }
        0
    }
}

fn bucket_of(number: u64) -> usize {
    let bucket = match number {
        0..4 => number,
        _ => {
            let power = number.ilog2();
            u64::from(power) * 4 + ((number >> (power - 2)) & 3)
        }
    };
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

fn greatest_of(bucket: usize) -> u64 {
    let (power, quarter) = (bucket / 4, bucket % 4);
    if power == 0 {
        return quarter as u64;
    }
    let step = 1_u64 << power.saturating_sub(2);
    // The last bucket ends with the last number.
    step.saturating_mul(4 + quarter as u64) + (step - 1)
}

/// The engine's counters, from the opening on.
#[derive(Debug)]
pub(crate) struct Meters {
    groups: AtomicU64,
    submissions: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    largest_group: AtomicU64,
    group_sizes: Histogram,
    syncs: AtomicU64,
    sync_times: Histogram,
    hint_failures: AtomicU64,
    sealed: AtomicU64,
    clock_behind: AtomicU64,
    #[cfg(feature = "metrics")]
    facade: Facade,
}

impl Meters {
    /// Nothing was counted yet in the store at `place`.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables))]
    pub(crate) fn new(place: &str) -> Self {
        Self {
            groups: AtomicU64::new(0),
            submissions: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            largest_group: AtomicU64::new(0),
            group_sizes: Histogram::new(),
            syncs: AtomicU64::new(0),
            sync_times: Histogram::new(),
            hint_failures: AtomicU64::new(0),
            sealed: AtomicU64::new(0),
            clock_behind: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            facade: Facade::of(place),
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
        self.group_sizes.add(events as u64);
        #[cfg(feature = "metrics")]
        {
            self.facade.groups.increment(1);
            self.facade.submissions.increment(submissions as u64);
            self.facade.events.increment(events as u64);
            self.facade.bytes.increment(bytes as u64);
            self.facade.group_events.record(events as f64);
        }
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_times
            .add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        #[cfg(feature = "metrics")]
        self.facade.sync_seconds.record(took.as_secs_f64());
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn hint_failed(&self) {
        self.hint_failures.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.facade.hint_failures.increment(1);
    }

    pub(crate) fn sealed(&self) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.facade.segments_sealed.increment(1);
    }

    /// A full segment waits to be sealed.
    pub(crate) fn awaits_sealing(&self) {
        #[cfg(feature = "metrics")]
        self.facade.unsealed_segments.increment(1);
    }

    /// A full segment no longer waits, whatever came of it.
    pub(crate) fn sealing_ended(&self) {
        #[cfg(feature = "metrics")]
        self.facade.unsealed_segments.decrement(1);
    }

    /// The writer refuses from now on.
    pub(crate) fn poisoned(&self) {
        #[cfg(feature = "metrics")]
        self.facade.poisoned.set(1);
    }

    pub(crate) fn clock_behind(&self, nanos: u64) {
        self.clock_behind.store(nanos, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.facade
            .clock_behind_seconds
            .set(Duration::from_nanos(nanos).as_secs_f64());
    }
}

/// How much a store holds; cheap to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The end of what readers see.
    pub head: Head,
    /// The last position known durable.
    pub durable_position: Position,
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
    /// Half of the groups have at most this many events; within a quarter of the truth, as is the next.
    pub group_events_p50: u64,
    /// 99 of 100 groups have at most this many events.
    pub group_events_p99: u64,
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
    /// How long ago the last snapshot was finished, if one was since the store was opened.
    pub since_last_snapshot: Option<Duration>,
    /// Where the store lives: its directory, or what its disk calls itself.
    pub place: String,
}

impl fmt::Display for Diagnostics {
    /// A small table for logs; fields tell more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats {
            head,
            durable_position: durable,
            segments,
            unsealed_segments: unsealed,
            log_bytes,
            ..
        } = self.stats;
        let (position, recorded_at) = (head.position, head.recorded_at);
        writeln!(f, "store     {}", self.place)?;
        writeln!(
            f,
            "head      {position}, recorded at {recorded_at}, durable up to {durable}"
        )?;
        writeln!(
            f,
            "log       {log_bytes} bytes in {segments} segments, {unsealed} of them to be sealed"
        )?;
        writeln!(
            f,
            "written   {} events in {} groups, {} bytes; groups of {} (half), {} (99 %)",
            self.events, self.groups, self.bytes, self.group_events_p50, self.group_events_p99
        )?;
        writeln!(
            f,
            "syncs     {} in {:.1?} (half), {:.1?} (99 %)",
            self.syncs, self.sync_p50, self.sync_p99
        )?;
        writeln!(
            f,
            "waiting   {} of {} submissions, {} readers",
            self.queue_depth, self.queue_capacity, self.waiting
        )?;
        match self.since_last_snapshot {
            Some(age) => write!(f, "snapshot  {age:.1?} ago")?,
            None => f.write_str("snapshot  none since it was opened")?,
        }
        match &self.poisoned {
            Some(why) => write!(f, "\npoisoned  {why}"),
            None => Ok(()),
        }
    }
}

impl Diagnostics {
    /// Of a store that is open only for reading, where nothing is written.
    pub(crate) fn of_reader(front: &Front) -> Self {
        Self::new(front, front.stats_of_reader(), None)
    }

    fn new(front: &Front, stats: Stats, meters: Option<&Meters>) -> Self {
        let of = |count: fn(&Meters) -> &AtomicU64| {
            meters.map_or(0, |meters| count(meters).load(Ordering::Relaxed))
        };
        let percentile = |of: fn(&Meters) -> &Histogram, percent| {
            meters.map_or(0, |meters| of(meters).percentile(percent))
        };
        let sync = |percent| Duration::from_nanos(percentile(|m| &m.sync_times, percent));
        let group = |percent| percentile(|m| &m.group_sizes, percent);
        Self {
            stats,
            queue_depth: 0,
            queue_capacity: 0,
            groups: of(|m| &m.groups),
            submissions: of(|m| &m.submissions),
            events: of(|m| &m.events),
            bytes: of(|m| &m.bytes),
            largest_group_events: of(|m| &m.largest_group),
            group_events_p50: group(50),
            group_events_p99: group(99),
            syncs: of(|m| &m.syncs),
            sync_p50: sync(50),
            sync_p90: sync(90),
            sync_p99: sync(99),
            hint_failures: of(|m| &m.hint_failures),
            segments_sealed: of(|m| &m.sealed),
            clock_behind: Duration::from_nanos(of(|m| &m.clock_behind)),
            poisoned: None,
            waiting: front.waiting() as u64,
            since_last_snapshot: front.since_last_snapshot(),
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
            ..Diagnostics::new(&self.front, self.stats(), Some(&self.meters))
        }
    }

    /// Tells the facade how the store stands after a group, a sync or an exchange of files; called in the turn, so that the
    /// last one counts.
    pub(crate) fn tell_standing(&self) {
        #[cfg(feature = "metrics")]
        {
            let facade = &self.meters.facade;
            let published = self.front.published.read();
            let (position, durable) = (published.head.position.get(), published.durable);
            let (segments, log_bytes) = (published.segments(), published.log_bytes());
            drop(published);
            facade.position.set(position as f64);
            facade.durable_position.set(durable as f64);
            facade.segments.set(segments as f64);
            facade.log_bytes.set(log_bytes as f64);
            facade.queue_depth.set(self.queue.len() as f64);
            facade.waiting.set(self.front.waiting() as f64);
        }
    }

    /// Tells the facade that a snapshot was finished just now; on the thread that took it.
    pub(crate) fn tell_snapshot(&self) {
        #[cfg(feature = "metrics")]
        {
            let now = Duration::from_nanos(self.front.now());
            self.meters
                .facade
                .last_snapshot_seconds
                .set(now.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_a_quarter_of_the_truth() {
        let times = Histogram::new();
        (1..=1000).for_each(|micros| times.add(micros * 1000));
        for (percent, truth) in [(50, 500.0), (90, 900.0), (99, 990.0)] {
            let micros = times.percentile(percent) as f64 / 1000.0;
            assert!(
                (truth..truth * 1.25).contains(&micros),
                "p{percent} is {micros}"
            );
        }
        assert_eq!(Histogram::new().percentile(99), 0);
    }

    #[test]
    fn every_number_lies_in_its_bucket_and_small_ones_alone() {
        for number in (0..100_000).chain([u64::MAX - 1, u64::MAX]) {
            let bucket = bucket_of(number);
            assert!(number <= greatest_of(bucket), "{number}");
            assert!(number == 0 || bucket_of(number / 2) < bucket, "{number}");
            let below = bucket.checked_sub(1).map_or(0, greatest_of);
            assert!(number == 0 || number == 4 || number > below, "{number}");
        }
        (0..8).for_each(|number| assert_eq!(greatest_of(bucket_of(number)), number));
        assert_eq!(greatest_of(BUCKETS - 1), u64::MAX);
    }
}
