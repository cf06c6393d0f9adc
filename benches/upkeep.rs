//! What upkeep costs beside a store at work: how fast a compaction goes, and what appends feel of it.
//!
//! `cargo bench --bench upkeep [-- --events 2000000] [-- --throttle BYTES_PER_SECOND] [-- --quick]`; docs/benchmarks.md
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
/// The pause between two of the appends that are timed.
const PACE: Duration = Duration::from_millis(1);

fn main() {
    let given = |name: &str| std::env::args().any(|word| word == name);
    let quick = given("--quick") || !given("--bench");
    let events = number_option("--events", if quick { 100_000 } else { 2_000_000 });
    let throttle = number_option("--throttle", 0);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("store");
    println!(
        "{} events of {PAYLOAD_BYTES} bytes in {} entities, 4 kinds, one tag; one durable append a millisecond beside it\n",
        grouped(events as f64),
        grouped(ENTITIES as f64),
    );
    build(&path, events);
    let store = Store::open(&path).expect("the store opens");
    println!("| work | result | unit |\n|---|--:|---|");
    let quiet = Duration::from_secs(if quick { 1 } else { 10 });
    let alone = appends_beside(&store, || thread::sleep(quiet)).0;
    percentiles("append, alone", &alone);
    for (name, config) in [
        ("small segments merged", CompactionConfig::new()),
        ("one kind of four removed", removing(&[KINDS[0]])),
        ("all removed", removing(&KINDS)),
    ] {
        let config = match throttle {
            0 => config,
            rate => config.bytes_per_second(rate as u64),
        };
        run(&store, &path, name, config, &alone);
    }
    store.close().expect("the store closes");
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

fn run(store: &Store, path: &Path, name: &str, config: CompactionConfig, alone: &[Duration]) {
    let (planning, plan) = timed(|| store.plan_compaction(&config).expect("a plan"));
    let before = disk_bytes(path);
    let (appends, (took, done)) = appends_beside(store, || compact(store, config));
    let freed = before as f64 - disk_bytes(path) as f64;
    line(
        &format!("{name}: plan"),
        planning.as_secs_f64() * 1_000.0,
        "ms",
    );
    line(
        &format!("{name}: compaction"),
        took.as_secs_f64() * 1_000.0,
        "ms",
    );
    let read = plan.rewritten_bytes as f64 / 1_000_000.0;
    line(
        &format!("{name}: log read and written anew"),
        read / took.as_secs_f64(),
        "MB/s",
    );
    line(
        &format!("{name}: freed, as planned"),
        plan.freed_bytes() as f64,
        "bytes",
    );
    line(&format!("{name}: freed, on the disk"), freed, "bytes");
    assert_eq!(done.events_removed, plan.events_removed);
    percentiles(&format!("{name}: append beside it"), &appends);
    let ratio = percentile(&appends, 999).as_secs_f64() / percentile(alone, 999).as_secs_f64();
    line(
        &format!("{name}: append p99.9 beside it over alone"),
        ratio,
        "x",
    );
}

fn compact(store: &Store, config: CompactionConfig) -> (Duration, CompactionPlan) {
    timed(|| {
        let job = store.compact(config).expect("it starts");
        job.wait().expect("it ends")
    })
}

/// Appends one event after the other at a pace while `work` runs; how long each took, and what the work gave.
fn appends_beside<R>(store: &Store, work: impl FnOnce() -> R) -> (Vec<Duration>, R) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let at = Coordinate::new("meter:1", "beside").expect("a coordinate");
            let kind = EventKind::literal("meter.read");
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                store.append(&at, &kind, &1).expect("it is durable");
                times.push(began.elapsed());
                thread::sleep(PACE);
            }
            times.sort_unstable();
            times
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (writer.join().expect("the writer ends"), result)
    })
}

fn percentiles(work: &str, times: &[Duration]) {
    for (name, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
        let time = percentile(times, per_mille);
        line(
            &format!("{work}, {name} of {}", times.len()),
            time.as_secs_f64() * 1e6,
            "µs",
        );
    }
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
