//! What upkeep costs beside a store at work: how fast a compaction goes, and what appends feel of it.
//!
//! `cargo bench --bench upkeep [-- --events 2000000] [-- --throttle BYTES_PER_SECOND] [-- --rounds 10] [-- --quick]`; docs/benchmarks.md
//! says what each line means.

#[expect(dead_code, reason = "shared with the other benchmarks")]
#[path = "support/facts.rs"]
mod facts;
#[expect(dead_code, reason = "shared with the other benchmarks")]
#[path = "support/measure.rs"]
mod measure;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facts::{ENTITIES, Facts, KINDS, PAYLOAD_BYTES};
use measure::{grouped, number_option, timed};
use quipu::prelude::*;
use quipu::{CompactionConfig, CompactionPlan, Retention};

const BUILD_BATCH: usize = 1_000;
const SMALL_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// The time between two of the appends that are timed, from when one is due to when the next is.
const PACE: Duration = Duration::from_millis(1);
/// How long the store rests before it is measured.
const REST: Duration = Duration::from_secs(2);

fn main() {
    let given = |name: &str| std::env::args().any(|word| word == name);
    let quick = given("--quick") || !given("--bench");
    let events = number_option("--events", if quick { 100_000 } else { 2_000_000 });
    let rounds = number_option("--rounds", if quick { 1 } else { 10 });
    let throttle = number_option("--throttle", 0);
    println!(
        "{} events of {PAYLOAD_BYTES} bytes in {} entities, 4 kinds, one tag; one durable append a millisecond beside it; rounds: {rounds}\n",
        grouped(events as f64),
        grouped(ENTITIES as f64),
    );
    let mut works = [
        Work::new("small segments merged", CompactionConfig::new()),
        Work::new("one kind of four removed", removing(&KINDS[..1])),
        Work::new("all removed", removing(&KINDS)),
    ];
    let mut alone = Appends::default();
    let quiet = Duration::from_secs(if quick { 1 } else { 10 });
    for _ in 0..rounds {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let path = directory.path().join("store");
        build(&path, events);
        let store = Store::open(&path).expect("the store opens");
        thread::sleep(REST);
        // Before anything was compacted: the disk has nothing of it to do. In each round again: a slow minute meets all.
        appends_beside(&store, &mut alone, || thread::sleep(quiet));
        for work in &mut works {
            thread::sleep(REST);
            work.run(&store, &path, throttle);
        }
        store.close().expect("the store closes");
    }
    alone.sort();
    println!("| work | result | unit |\n|---|--:|---|");
    alone.print("append, alone");
    for work in &mut works {
        work.print(&alone);
    }
}

/// How long appends took, each due a pace after the one before.
#[derive(Default)]
struct Appends {
    /// From the call to its return.
    calls: Vec<Duration>,
    /// The same; but of one that was due while the one before was not yet durable, from when it was due. A stall counts here
    /// for every append that it delays.
    due: Vec<Duration>,
}

impl Appends {
    fn sort(&mut self) {
        self.calls.sort_unstable();
        self.due.sort_unstable();
    }

    fn print(&self, work: &str) {
        let per = [("p50", 500), ("p99", 990), ("p99.9", 999)];
        let count = self.calls.len();
        for (times, suffix) in [(&self.calls, ""), (&self.due, ", since due")] {
            for (name, per_mille) in per {
                let micros = seconds(times, per_mille) * 1e6;
                line(&format!("{work}, {name} of {count}{suffix}"), micros, "µs");
            }
        }
    }
}

fn removing(kinds: &[&str]) -> CompactionConfig {
    CompactionConfig::new().remove(Retention::kinds(kinds))
}

/// Makes the store, in segments that a compaction finds small.
fn build(path: &Path, events: usize) {
    let config = StoreConfig::new(path).segment_bytes(SMALL_SEGMENT_BYTES);
    let store = Store::open_with(config).expect("the store opens");
    let facts = Facts::new();
    for from in (0..events).step_by(BUILD_BATCH) {
        let batch = (from..(from + BUILD_BATCH).min(events)).fold(Batch::new(), |batch, index| {
            let fact = facts.fact(index);
            let at = Coordinate::new(fact.entity, fact.scope).expect("a coordinate");
            let kind = EventKind::new(fact.kind).expect("a kind");
            batch.event(EventDraft::new(&at, kind, &RawPayload::new(fact.payload)).tag(fact.tag))
        });
        store.append_batch(batch).expect("it is durable");
    }
    store.close().expect("the store closes");
}

/// One compaction, and what each round of it gave.
struct Work {
    name: &'static str,
    config: CompactionConfig,
    plans: Vec<Duration>,
    took: Vec<Duration>,
    log_bytes: u64,
    freed_as_planned: i128,
    freed: f64,
    appends: Appends,
}

impl Work {
    fn new(name: &'static str, config: CompactionConfig) -> Self {
        Self {
            name,
            config,
            plans: Vec::new(),
            took: Vec::new(),
            log_bytes: 0,
            freed_as_planned: 0,
            freed: 0.0,
            appends: Appends::default(),
        }
    }

    fn run(&mut self, store: &Store, path: &Path, throttle: usize) {
        let config = match throttle {
            0 => self.config.clone(),
            rate => self.config.clone().bytes_per_second(rate as u64),
        };
        let (planning, plan) = timed(|| store.plan_compaction(&config).expect("a plan"));
        let before = disk_bytes(path);
        let (took, done) = appends_beside(store, &mut self.appends, || compact(store, config));
        assert_eq!(done.events_removed, plan.events_removed);
        self.freed = before as f64 - disk_bytes(path) as f64;
        self.freed_as_planned = plan.freed_bytes();
        self.log_bytes = plan.rewritten_bytes;
        self.plans.push(planning);
        self.took.push(took);
    }

    fn print(&mut self, alone: &Appends) {
        let tell = |what: &str, result: f64, unit: &str| {
            line(&format!("{}: {what}", self.name), result, unit);
        };
        self.plans.sort_unstable();
        self.took.sort_unstable();
        self.appends.sort();
        let mega = self.log_bytes as f64 / 1e6;
        let rate = |per_mille| mega / percentile(&self.took, per_mille).as_secs_f64();
        tell("plan", seconds(&self.plans, 500) * 1e3, "ms");
        tell("compaction", seconds(&self.took, 500) * 1e3, "ms");
        tell("log read and written anew", rate(500), "MB/s");
        tell("the same, slowest round", rate(1_000), "MB/s");
        tell("freed, as planned", self.freed_as_planned as f64, "bytes");
        tell("freed, on the disk", self.freed, "bytes");
        self.appends
            .print(&format!("{}: append beside it", self.name));
        let ratio = |of: fn(&Appends) -> &[Duration]| {
            seconds(of(&self.appends), 999) / seconds(of(alone), 999)
        };
        tell(
            "append p99.9 beside it over alone",
            ratio(|appends| &appends.calls),
            "x",
        );
        tell("the same, since due", ratio(|appends| &appends.due), "x");
    }
}

fn compact(store: &Store, config: CompactionConfig) -> (Duration, CompactionPlan) {
    timed(|| {
        let job = store.compact(config).expect("it starts");
        job.wait().expect("it ends")
    })
}

/// Appends one event after the other while `work` runs; returns what the work gave.
fn appends_beside<R>(store: &Store, times: &mut Appends, work: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let at = Coordinate::new("meter:1", "beside").expect("a coordinate");
            let kind = EventKind::literal("meter.read");
            let mut due = Instant::now();
            while !done.load(Ordering::Relaxed) {
                let late = due.elapsed();
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let (took, _) = timed(|| store.append(&at, &kind, &1).expect("it is durable"));
                times.calls.push(took);
                times.due.push(late + took);
                due += PACE;
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

fn seconds(sorted: &[Duration], per_mille: usize) -> f64 {
    percentile(sorted, per_mille).as_secs_f64()
}

fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    let at = (sorted.len() * per_mille).div_ceil(1_000).max(1) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

fn line(work: &str, result: f64, unit: &str) {
    let result = match result.abs() < 100.0 {
        true => format!("{result:.2}"),
        false => grouped(result.abs()),
    };
    println!("| {work} | {result} | {unit} |");
}

fn disk_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path.join("segments")).expect("the segments");
    let bytes = entries.map(|entry| entry.expect("an entry").metadata().expect("its size").len());
    bytes.sum()
}
