//! The facade is told the same numbers as `diagnostics`, whatever thread counts them.
#![cfg(feature = "metrics")]

#[path = "support/mod.rs"]
mod support;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use quipu::prelude::*;
use quipu::{CompactionConfig, MIN_SEGMENT_BYTES, Retention};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use support::disk::TestDisk;
use support::ruled::{Op, Ruled};

const KIND: EventKind = EventKind::literal("it.happened");

/// One number as it was told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<f64>>);

impl Told {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut told = self.0.lock().unwrap();
        let last = told.last().copied().unwrap_or_default();
        told.push(change(last));
    }

    fn last(&self) -> f64 {
        self.0.lock().unwrap().last().copied().unwrap_or_default()
    }

    fn all(&self) -> Vec<f64> {
        self.0.lock().unwrap().clone()
    }
}

impl CounterFn for Told {
    fn increment(&self, value: u64) {
        self.change(|last| last + value as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|_| value as f64);
    }
}

impl GaugeFn for Told {
    fn increment(&self, value: f64) {
        self.change(|last| last + value);
    }
    fn decrement(&self, value: f64) {
        self.change(|last| last - value);
    }
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Told {
    fn record(&self, value: f64) {
        self.change(|_| value);
    }
}

/// All numbers by name; of one store, whose label is kept.
#[derive(Clone, Debug, Default)]
struct Book(
    Arc<Mutex<BTreeMap<String, Arc<Told>>>>,
    Arc<Mutex<Vec<String>>>,
);

impl Book {
    fn page(&self, key: &Key) -> Arc<Told> {
        let labels = key.labels().map(|l| format!("{}={}", l.key(), l.value()));
        self.1.lock().unwrap().extend(labels);
        let mut book = self.0.lock().unwrap();
        Arc::clone(book.entry(key.name().to_owned()).or_default())
    }

    fn told(&self, name: &str) -> Arc<Told> {
        let book = self.0.lock().unwrap();
        Arc::clone(
            book.get(name)
                .unwrap_or_else(|| panic!("{name} is not told")),
        )
    }

    fn last(&self, name: &str) -> f64 {
        self.told(name).last()
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.page(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.page(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.page(key))
    }
}

/// The handles are had at the opening, on this thread, and reach the others from there.
fn open(config: StoreConfig) -> (Store, Book) {
    let book = Book::default();
    let store = metrics::with_local_recorder(&book, || Store::open_with(config)).unwrap();
    (store, book)
}

fn assert_same(book: &Book, seen: &Diagnostics) {
    let stats = seen.stats;
    for (name, number) in [
        ("quipu_submissions_total", seen.submissions),
        ("quipu_groups_total", seen.groups),
        ("quipu_events_total", seen.events),
        ("quipu_bytes_total", seen.bytes),
        ("quipu_hint_failures_total", seen.hint_failures),
        ("quipu_segments_sealed_total", seen.segments_sealed),
        ("quipu_queue_depth", seen.queue_depth),
        ("quipu_waiting", seen.waiting),
        ("quipu_position", stats.head.position.get()),
        ("quipu_durable_position", stats.durable_position.get()),
        ("quipu_segments", stats.segments),
        ("quipu_unsealed_segments", stats.unsealed_segments),
        ("quipu_log_bytes", stats.log_bytes),
        ("quipu_poisoned", u64::from(seen.poisoned.is_some())),
        ("quipu_last_snapshot_seconds", 0),
    ] {
        assert_eq!(book.last(name), number as f64, "{name}");
    }
    let groups = book.told("quipu_group_events").all();
    assert_eq!(groups.len() as u64, seen.groups);
    assert_eq!(groups.iter().sum::<f64>(), seen.events as f64);
    let largest = groups.iter().copied().fold(0.0, f64::max);
    assert_eq!(largest, seen.largest_group_events as f64);
    assert!(seen.group_events_p50 <= seen.group_events_p99);
    assert!(seen.group_events_p99 as f64 >= largest / 2.0 || groups.len() > 50);
    let syncs = book.told("quipu_sync_seconds").all();
    assert_eq!(syncs.len() as u64, seen.syncs);
    let behind = book.last("quipu_clock_behind_seconds");
    assert!((behind - seen.clock_behind.as_secs_f64()).abs() < 1e-9);
}

#[test]
fn the_facade_is_told_what_diagnostics_say() {
    let config = StoreConfig::in_memory().segment_bytes(quipu::MIN_SEGMENT_BYTES);
    let (store, book) = open(config);
    assert_same(&book, &store.diagnostics());
    let payload = "x".repeat(20_000);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (store, payload) = (&store, &payload);
            scope.spawn(move || {
                let place = Coordinate::new(format!("worker:{worker}"), "here").unwrap();
                for _ in 0..60 {
                    store.append(&place, KIND, payload).unwrap();
                }
            });
        }
    });
    let place = Coordinate::new("last", "here").unwrap();
    let batch = (0..300).fold(Batch::new(), |batch, n| {
        batch.event(EventDraft::new(&place, KIND, &n))
    });
    store.append_batch(batch).unwrap();
    while store.stats().unsealed_segments > 0 || book.last("quipu_unsealed_segments") > 0.0 {
        std::thread::yield_now();
    }
    let seen = store.diagnostics();
    assert_eq!((seen.events, seen.largest_group_events), (540, 300));
    assert!(seen.segments_sealed > 2);
    assert_same(&book, &seen);
    let label = format!("store={}", seen.place);
    assert!(book.1.lock().unwrap().iter().all(|told| *told == label));
}

#[test]
fn buffered_appends_show_in_the_distance_of_the_positions() {
    let config = StoreConfig::in_memory()
        .durability(Durability::Buffered)
        .buffered_sync_interval(std::time::Duration::from_secs(3600));
    let (store, book) = open(config);
    let place = Coordinate::new("e", "s").unwrap();
    store.append(&place, KIND, &1).unwrap();
    let positions = |book: &Book| {
        (
            book.last("quipu_position"),
            book.last("quipu_durable_position"),
        )
    };
    assert_eq!(positions(&book), (1.0, 0.0));
    store.sync().unwrap();
    assert_eq!(positions(&book), (1.0, 1.0));
    assert_same(&book, &store.diagnostics());
}

#[test]
fn a_poisoned_store_shows() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let rule = Arc::clone(&broken);
    let disk = Ruled::new(TestDisk::new(), move |call| {
        let fails = call.op == Op::Sync && rule.load(std::sync::atomic::Ordering::Relaxed);
        match fails {
            true => Err(std::io::Error::other("a bad disk")),
            false => Ok(()),
        }
    });
    let (store, book) = open(StoreConfig::on_disk(Arc::new(disk)));
    let place = Coordinate::new("e", "s").unwrap();
    store.append(&place, KIND, &1).unwrap();
    assert_eq!(book.last("quipu_poisoned"), 0.0);
    broken.store(true, std::sync::atomic::Ordering::Relaxed);
    store.append(&place, KIND, &2).unwrap_err();
    assert_eq!(book.last("quipu_poisoned"), 1.0);
    assert_same(&book, &store.diagnostics());
}

/// It once was told with the next group: of a store to which nothing was appended the nightly snapshots seemed to stop.
#[test]
fn the_time_of_the_last_snapshot_is_told_when_it_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (store, book) = open(StoreConfig::new(folder.path().join("store")));
    let place = Coordinate::new("e", "s").unwrap();
    store.append(&place, KIND, &1).unwrap();
    let before = std::time::SystemTime::now();
    store.snapshot(folder.path().join("copy")).unwrap();
    assert!(store.diagnostics().since_last_snapshot.is_some());
    let told = std::time::Duration::from_secs_f64(book.last("quipu_last_snapshot_seconds"));
    let before = before.duration_since(std::time::UNIX_EPOCH).unwrap();
    let second = std::time::Duration::from_secs(1);
    assert!(
        told + second > before && told < before + 60 * second,
        "{told:?}"
    );
}

/// They once were told with the next group, so that a store to which nothing is appended seemed to keep what it gave back.
#[test]
fn segments_and_bytes_are_told_when_compaction_gave_some_back() {
    let (store, book) = open(StoreConfig::in_memory().segment_bytes(MIN_SEGMENT_BYTES));
    let place = Coordinate::new("e", "s").unwrap();
    let payload = "x".repeat(60_000);
    while store.stats().segments < 4 {
        store.append(&place, KIND, &payload).unwrap();
    }
    while store.stats().unsealed_segments > 0 {
        std::thread::yield_now();
    }
    let before = store.stats();
    let config = CompactionConfig::new().remove(Retention::all_but_newest(1));
    store.compact(config).unwrap().wait().unwrap();
    let after = store.stats();
    assert!(after.segments < before.segments && after.log_bytes < before.log_bytes);
    assert_eq!(book.last("quipu_segments"), after.segments as f64);
    assert_eq!(book.last("quipu_log_bytes"), after.log_bytes as f64);
}

#[test]
fn a_store_opened_without_a_recorder_says_the_same_in_its_diagnostics() {
    let store = Store::in_memory().unwrap();
    let place = Coordinate::new("e", "s").unwrap();
    for _ in 0..3 {
        store.append(&place, KIND, &1).unwrap();
    }
    let seen = store.diagnostics();
    assert_eq!((seen.group_events_p50, seen.group_events_p99), (1, 1));
    assert_eq!(seen.since_last_snapshot, None);
}
