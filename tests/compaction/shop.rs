//! A plain store of orders in a few segments, in memory or in files, whose events are easy to tell apart.

use quipu::io::Disk;
use quipu::prelude::*;
use quipu::{CompactionConfig, CompactionPlan, MIN_SEGMENT_BYTES, Retention};
use std::sync::Arc;

pub(crate) const PLACED: EventKind = EventKind::literal("order.placed");
pub(crate) const VIEWED: EventKind = EventKind::literal("page.viewed");

pub(crate) fn open(disk: &Arc<dyn Disk>) -> Store {
    let config = StoreConfig::on_disk(Arc::clone(disk)).segment_bytes(MIN_SEGMENT_BYTES);
    Store::open_with(config).unwrap()
}

/// Every third event is an order, the others are views of pages; about 650 of them fill a segment.
pub(crate) fn fill(store: &Store, events: usize) {
    let drafts = (0..events).map(|n| {
        let place = Coordinate::new(format!("order:{}", n % 50), "shop").unwrap();
        let kind = if n % 3 == 0 { PLACED } else { VIEWED };
        let letter = char::from(b'a' + u8::try_from(n % 26).unwrap());
        EventDraft::new(&place, kind, letter.to_string().repeat(1_200).as_str()).tag("t")
    });
    let drafts: Vec<_> = drafts.collect();
    for some in drafts.chunks(25) {
        store
            .append_batch(Batch::new().events(some.to_vec()))
            .unwrap();
    }
}

/// A store of some six segments, all but the newest sealed.
pub(crate) fn filled(disk: &Arc<dyn Disk>) -> Store {
    let store = open(disk);
    fill(&store, 4_000);
    store.close().unwrap();
    open(disk)
}

pub(crate) fn no_views() -> CompactionConfig {
    CompactionConfig::new().remove(Retention::kinds([VIEWED.as_str()]))
}

pub(crate) fn compact(store: &Store, config: CompactionConfig) -> CompactionPlan {
    store.compact(config).unwrap().wait().unwrap()
}

/// The positions that a query finds.
pub(crate) fn found(view: &View, query: impl Into<Query>) -> Vec<u64> {
    let events = view.query(query).unwrap();
    events
        .map(|event| event.unwrap().position().get())
        .collect()
}
