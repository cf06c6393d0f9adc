//! Snapshots: each opens, and is a prefix of the store that it was taken of, whatever happened while it was taken.

mod support;

#[path = "snapshot/compacted.rs"]
mod compacted;
#[path = "snapshot/interrupted.rs"]
mod interrupted;
#[path = "snapshot/killed.rs"]
mod killed;
#[path = "snapshot/load.rs"]
mod load;
#[path = "snapshot/reopened.rs"]
mod reopened;
#[path = "snapshot/whole.rs"]
mod whole;

use quipu::io::Disk;
use quipu::prelude::*;
use quipu::{SnapshotOptions, SnapshotReport};
use std::sync::Arc;
use support::script::{self, KIND};

/// Appends so many events of so many bytes.
fn append(store: &Store, events: usize, bytes: usize) {
    for _ in 0..events {
        let count = store.head().position.get();
        let place = Coordinate::new(format!("e:{}", count % 5), "here").unwrap();
        let buffered = AppendOptions::new().durability(Durability::Buffered);
        let receipt = store.append_with_options(&place, KIND, &"x".repeat(bytes), buffered);
        receipt.unwrap();
    }
}

/// Appends until the store has one more segment.
fn fill_segment(store: &Store) {
    let segments = store.stats().segments;
    while store.stats().segments == segments {
        append(store, 1, 300_000);
    }
    append(store, 3, 10);
}

fn snapshot(store: &Store, dest: &(impl Disk + Clone + 'static)) -> SnapshotReport {
    taken(store, dest).unwrap()
}

fn taken(store: &Store, dest: &(impl Disk + Clone + 'static)) -> quipu::Result<SnapshotReport> {
    store.snapshot_on_disk(Arc::new(dest.clone()), SnapshotOptions::new())
}

fn hashes(view: &View) -> Vec<EventHash> {
    let events = view.query(Query::all()).unwrap();
    events.map(|event| event.unwrap().hash()).collect()
}

fn opened(disk: impl Disk + 'static) -> quipu::Result<Store> {
    Store::open_with(script::config(disk))
}

fn read_only(disk: impl Disk + 'static) -> quipu::Result<Store> {
    Store::open_read_only_with(StoreConfig::on_disk(Arc::new(disk)))
}

/// Whether a copy holds what the original holds up to the copy's end, and proves it.
fn assert_prefix(copy: &Store, original: &Store) {
    let (copied, head) = (copy.view(), copy.head());
    let view = original.view_at(head.position).unwrap();
    assert_eq!(view.head().unwrap(), head);
    assert_eq!(hashes(&copied), hashes(&view));
    let verification = copy.verify().unwrap();
    assert!(verification.is_sound(), "{verification}");
}
