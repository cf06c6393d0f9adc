//! The places a store can live in, so that a promise is tested on each, and again after the store was opened anew.

use super::script;
use quipu::io::{MemoryDisk, RealDisk};
use quipu::prelude::*;

/// Runs `test` with a function that opens the same store: in memory, then in files.
pub(crate) fn on_each(test: impl Fn(&dyn Fn() -> Store)) {
    let memory = MemoryDisk::new();
    test(&|| Store::open_with(script::config(memory.clone())).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    test(&|| Store::open_with(script::config(RealDisk::new(&path))).unwrap());
}

/// Appends until the segment that was active is full, opens the store again, and so has it sealed.
pub(crate) fn rotated(store: Store, open: &dyn Fn() -> Store) -> Store {
    let segments = store.stats().segments;
    let filler = Coordinate::new("filler", "there").unwrap();
    let large = "x".repeat(600_000);
    while store.stats().segments == segments {
        let buffered = AppendOptions::new().durability(Durability::Buffered);
        let receipt = store.append_with_options(&filler, script::KIND, &large, buffered);
        receipt.unwrap();
    }
    store.close().unwrap();
    let store = open();
    let stats = store.stats();
    assert!(
        stats.segments > segments && stats.unsealed_segments == 0,
        "{stats:?}"
    );
    store
}
