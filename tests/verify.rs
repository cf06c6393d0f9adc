//! `Store::verify`: sound stores of many shapes are found sound, progress is told, and nobody is held up.

#[path = "support/mod.rs"]
mod support;

use quipu::io::{Access, Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{CompactionConfig, Control, MIN_SEGMENT_BYTES, Retention, Verification, VerifyOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::dice::Dice;
use support::golden;

const KIND: EventKind = EventKind::literal("it.happened");

fn small_segments(disk: &Arc<MemoryDisk>) -> StoreConfig {
    let disk: Arc<MemoryDisk> = Arc::clone(disk);
    StoreConfig::on_disk(disk)
        .segment_bytes(MIN_SEGMENT_BYTES)
        .durability(Durability::Buffered)
}

fn assert_sound(store: &Store, what: &str) -> Verification {
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{what}: {found}");
    assert_eq!(found.repairable, [], "{what}");
    assert_eq!(found.events, store.head().position.get(), "{what}");
    assert_eq!(found.position, store.head().position, "{what}");
    assert_eq!(found.digest, store.head().digest, "{what}");
    assert_eq!(found.stubs, 0, "{what}");
    found
}

fn dice(seed: u64) -> Dice {
    println!("seed {seed}");
    Dice::new(seed)
}

/// Batches, keys, parents near and far, metadata, tags, times, payloads of many sizes and as many entities as the dice say.
fn append_something(store: &Store, dice: &mut Dice, ids: &mut Vec<EventId>) {
    let mut batch = Batch::new();
    for _ in 0..=dice.below(4) {
        let entity = format!("entity:{}", dice.below(300));
        let place = Coordinate::new(entity, format!("scope:{}", dice.below(3))).unwrap();
        let payload = "x".repeat(dice.below(2000));
        let mut draft = EventDraft::new(&place, KIND, &payload);
        if dice.below(2) == 0 && !ids.is_empty() {
            draft = draft.caused_by(ids[dice.below(ids.len())]);
        }
        if dice.below(3) == 0 {
            draft = draft.tag("odd").metadata("by", "dice").schema_version(3);
        }
        batch = batch.event(draft);
    }
    if dice.below(2) == 0 {
        batch = batch.idempotency_key(format!("key {}", ids.len()));
    }
    let receipts = store.append_batch(batch).unwrap();
    ids.extend(receipts.iter().map(Receipt::id));
}

#[test]
fn sound_stores_of_many_shapes_are_found_sound() {
    let dice = &mut dice(7);
    let disk = Arc::new(MemoryDisk::new());
    let mut ids = Vec::new();
    for life in 0..4 {
        let store = Store::open_with(small_segments(&disk)).unwrap();
        assert_sound(&store, &format!("life {life}, just opened"));
        for _ in 0..400 {
            append_something(&store, dice, &mut ids);
        }
        let found = assert_sound(&store, &format!("life {life}, full"));
        assert_eq!(found.segments, store.stats().segments);
        assert_eq!(found.bytes, store.stats().log_bytes);
        store.close().unwrap();
        let reader = Store::open_read_only_with(small_segments(&disk)).unwrap();
        assert_sound(&reader, &format!("life {life}, open only for reading"));
    }
    assert!(ids.len() > 2000);
}

#[test]
fn an_empty_store_is_sound() {
    let found = assert_sound(&Store::in_memory().unwrap(), "empty");
    assert_eq!((found.segments, found.bytes), (1, 4096));
    assert_eq!(found.digest, Digest::ZERO);
}

#[test]
fn golden_stores_are_sound() {
    for (what, golden) in [
        ("closed", golden::closed(0)),
        ("closed, large", golden::closed(7)),
        ("killed", golden::killed(0)),
        ("killed, large", golden::killed(7)),
    ] {
        let store = Store::open_with(golden::config(&golden.image.disk())).unwrap();
        assert_sound(&store, what);
    }
}

#[test]
fn a_runs_worth_of_segments_is_sound() {
    let disk = Arc::new(MemoryDisk::new());
    let store = Store::open_with(small_segments(&disk)).unwrap();
    let payload = "y".repeat(500_000);
    for number in 0..80 {
        let place = Coordinate::new(format!("big:{}", number % 7), "here").unwrap();
        store.append(&place, KIND, &payload).unwrap();
    }
    assert!(store.stats().segments > 33);
    store.close().unwrap();
    let store = Store::open_with(small_segments(&disk)).unwrap();
    assert_sound(&store, "many segments");
}

/// A run that a compaction left behind, and that upkeep had not made again yet, was told as damage that mends itself.
#[test]
fn a_run_of_files_that_were_replaced_is_sound() {
    const RUN: &str = "segments/0000000001-0000000016.run";
    let disk = Arc::new(MemoryDisk::new());
    let store = Store::open_with(small_segments(&disk)).unwrap();
    let place = Coordinate::new("big", "here").unwrap();
    let payload = "y".repeat(500_000);
    while store.stats().segments < 18 {
        store.append(&place, KIND, &payload).unwrap();
    }
    let file = loop {
        match disk.open(RUN, Access::Read) {
            Ok(file) => break file,
            Err(_) => std::thread::yield_now(),
        }
    };
    let mut before = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut before, 0).unwrap(), before.len());
    let early = Region::all().positions(..=3);
    let config = CompactionConfig::new().remove(Retention::query(early));
    store.compact(config).unwrap().wait().unwrap();
    store.close().unwrap();
    disk.remove(RUN).unwrap();
    let file = disk.open(RUN, Access::CreateNew).unwrap();
    assert_eq!(file.write_at(&before, 0).unwrap(), before.len());
    let reader = Store::open_read_only_with(small_segments(&disk)).unwrap();
    let found = reader.verify().unwrap();
    assert_eq!((found.stubs, found.is_sound()), (3, true), "{found}");
    assert_eq!(found.repairable, []);
}

#[test]
fn progress_rises_and_ends_at_the_total() {
    let golden = golden::closed(7);
    let store = Store::open_with(golden::config(&golden.image.disk())).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let options = VerifyOptions::new().progress(move |progress| {
        listener.lock().unwrap().push(progress);
        Control::Continue
    });
    store.verify_with(options).unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.is_sorted_by_key(|progress| progress.done_bytes));
    assert!(told.is_sorted_by_key(|progress| progress.done_events));
    let (first, last) = (told[0], told[told.len() - 1]);
    assert_eq!((first.done_bytes, first.done_events), (0, 0));
    assert_eq!(last.total_bytes, store.stats().log_bytes);
    assert_eq!(last.total_events, store.head().position.get());
    assert_eq!(
        (last.done_bytes, last.done_events),
        (last.total_bytes, last.total_events)
    );
    let before_last = told[told.len() - 2];
    assert!(before_last.done_bytes * 2 > last.total_bytes);
}

#[test]
fn a_callback_can_cancel() {
    let golden = golden::closed(7);
    let store = Store::open_with(golden::config(&golden.image.disk())).unwrap();
    for calls in [1, 2] {
        let left = Mutex::new(calls);
        let options = VerifyOptions::new().progress(move |_| {
            let mut left = left.lock().unwrap();
            *left -= 1;
            match *left {
                0 => Control::Cancel,
                _ => Control::Continue,
            }
        });
        let error = store.verify_with(options).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Cancelled, "{error}");
    }
    assert_sound(&store, "after that");
}

#[test]
fn it_goes_on_beside_a_writer_and_holds_nobody_up() {
    let disk = Arc::new(MemoryDisk::new());
    let store = Store::open_with(small_segments(&disk)).unwrap();
    let reader = Store::open_read_only_with(small_segments(&disk)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dice, mut ids) = (&mut dice(3), Vec::new());
            while !done.load(Ordering::Relaxed) && ids.len() < 20_000 {
                append_something(&store, dice, &mut ids);
            }
        });
        for round in 0..8 {
            for (what, store) in [("writer's", &store), ("reader's", &reader)] {
                let found = store.verify().unwrap();
                assert!(found.is_sound(), "{what}, round {round}: {found}");
                assert_eq!(found.repairable, [], "{what}, round {round}");
                assert_eq!(found.events, found.position.get());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    // While the callback waits for an append, the append is not held up.
    let (appender, place) = (store.clone(), Coordinate::new("e", "s").unwrap());
    let options = VerifyOptions::new().progress(move |_| {
        appender.append(&place, KIND, &()).unwrap();
        Control::Continue
    });
    assert!(store.verify_with(options).unwrap().is_sound());
}

#[test]
fn a_closed_store_says_so() {
    let store = Store::in_memory().unwrap();
    let other = store.clone();
    store.close().unwrap();
    assert_eq!(other.verify().unwrap_err().kind(), StoreErrorKind::Closed);
}

#[test]
fn a_verification_can_be_kept_as_json() {
    let store = Store::in_memory().unwrap();
    let json = serde_json::to_value(store.verify().unwrap()).unwrap();
    assert_eq!(json["position"], 0);
    assert_eq!(json["damages"], serde_json::json!([]));
}

/// Prints what a verification takes: `cargo test --release --test verify rate -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn rate() {
    for (entities, parents, payload) in [
        (10_000, 0, 250),
        (10_000, 1, 250),
        (1_000_000, 0, 250),
        (10_000, 0, 10_000),
    ] {
        let store = Store::open_with(StoreConfig::in_memory()).unwrap();
        let mut before: Option<EventId> = None;
        let events = if payload > 1000 { 40_000 } else { 400_000 };
        for first in (0..events).step_by(1000) {
            let drafts = (first..first + 1000).map(|number: u64| {
                let entity = (number * 7919) % entities;
                let place = Coordinate::new(format!("entity:{entity}"), "scope").unwrap();
                let draft = EventDraft::new(&place, KIND, &"x".repeat(payload)).tag("odd");
                match before.filter(|_| parents > 0) {
                    Some(cause) => draft.caused_by(cause),
                    None => draft,
                }
            });
            let batch = drafts.fold(Batch::new(), Batch::event);
            before = Some(store.append_batch(batch).unwrap()[500].id());
        }
        while store.stats().unsealed_segments > 0 {
            std::thread::yield_now();
        }
        let started = std::time::Instant::now();
        let found = store.verify().unwrap();
        let seconds = started.elapsed().as_secs_f64();
        assert!(found.is_sound(), "{found}");
        println!(
            "{entities} entities, {parents} parents, {payload} bytes: {:.0} MB/s, {:.0} events/s, {} segments",
            found.bytes as f64 / 1e6 / seconds,
            found.events as f64 / seconds,
            found.segments
        );
    }
}
