//! Snapshots one after the other while several threads append as fast as they can.

use crate::support::ends::Ends;
use crate::support::script::KIND;
use crate::{assert_prefix, read_only, snapshot};
use quipu::io::RealDisk;
use quipu::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn append_until(store: &Store, worker: u32, ends: &AtomicBool) {
    let place = Coordinate::new(format!("worker:{worker}"), "load").unwrap();
    let mut options = AppendOptions::new();
    if worker.is_multiple_of(2) {
        options = options.durability(Durability::Buffered);
    }
    while !ends.load(SeqCst) {
        let append = store.append_with_options(&place, KIND, &"x".repeat(300), options.clone());
        append.unwrap();
        if worker.is_multiple_of(2) {
            // Else it would only fill the disk.
            store.sync().unwrap();
        }
    }
}

/// Takes snapshots, each this long after the one before began, and checks every one of them.
fn take_under_load(folder: &Path, count: u32, interval: Duration) {
    let config = StoreConfig::new(folder.join("store")).segment_bytes(quipu::MIN_SEGMENT_BYTES * 4);
    let store = Store::open_with(config).unwrap();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&ends);
        for worker in 0..4 {
            let (store, ends) = (&store, &ends);
            scope.spawn(move || append_until(store, worker, ends));
        }
        let mut last = Position::ZERO;
        for number in 0..count {
            let begun = Instant::now();
            // Now and then into an empty directory.
            let into = folder.join(format!("snapshot-{}", number / 100));
            let report = snapshot(&store, &RealDisk::new(&into));
            let copy = read_only(RealDisk::new(&into)).unwrap();
            assert_eq!(copy.head().position, report.position);
            let there = store.view_at(report.position).unwrap().head().unwrap();
            assert_eq!(copy.head(), there, "snapshot {number}");
            assert!(report.position >= last, "snapshot {number}");
            last = report.position;
            if number % 100 == 99 {
                drop(copy);
                assert_prefix(&Store::open(&into).unwrap(), &store);
                std::fs::remove_dir_all(&into).unwrap();
            }
            std::thread::sleep(interval.saturating_sub(begun.elapsed()));
        }
        let copy = folder.join(format!("snapshot-{}", (count - 1) / 100));
        if copy.exists() {
            assert_prefix(&Store::open(copy).unwrap(), &store);
        }
    });
    println!("{count} snapshots, up to {:?}", store.head().position);
    store.close().unwrap();
}

#[test]
fn snapshots_under_load_are_prefixes() {
    let folder = tempfile::tempdir().unwrap();
    take_under_load(folder.path(), 20, Duration::from_millis(20));
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_snapshots_under_load_are_prefixes() {
    let folder = tempfile::tempdir().unwrap();
    take_under_load(folder.path(), 1000, Duration::from_millis(100));
}
