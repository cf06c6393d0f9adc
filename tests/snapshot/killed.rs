//! A process that is killed at any call of a snapshot, on real files: the directory holds the earlier one or the new one.

use crate::interrupted::{Before, store_with_earlier};
use crate::support::dying::{Dying, die_everywhere, step};
use crate::support::power::{Image, PowerDisk};
use crate::{compacted, read_only, snapshot};
use quipu::SnapshotOptions;
use quipu::io::{MemoryDisk, RealDisk};
use quipu::prelude::*;
use std::path::Path;
use std::sync::Arc;

const ROLE: &str = "copier";
const STORE: &str = "store";
const DEST: &str = "snapshot";

/// Not a test by itself: run again by the ones below, in a process of its own.
#[test]
fn takes_a_snapshot_and_dies() {
    let Some(child) = Dying::in_role(ROLE) else {
        return;
    };
    let store = read_only(RealDisk::new(child.place().join(STORE))).unwrap();
    let dest = Arc::new(child.disk(DEST));
    child.begin();
    store
        .snapshot_on_disk(dest, SnapshotOptions::new())
        .unwrap();
    child.done();
}

/// Has the child die everywhere where `base` was before; `check` gets what is left and how it came to that.
fn killed_everywhere(
    folder: &Path,
    store: &Store,
    base: &Image,
    check: impl Fn(&Image, &Store, &str),
) {
    store.sync().unwrap();
    let dest = folder.join(DEST);
    let child = ("killed::takes_a_snapshot_and_dies", ROLE, folder);
    let prepare = || {
        let _ = std::fs::remove_dir_all(&dest);
        base.write_to(&dest);
    };
    let deaths = die_everywhere(child, step(3), prepare, |death| {
        let found = Image::of(&RealDisk::new(&dest));
        check(&found, store, &format!("{death:?}"));
        if death.is_done {
            let copy = read_only(found.disk()).unwrap();
            assert_eq!(copy.head(), store.head());
        }
    });
    assert!(deaths > 5, "only {deaths} deaths");
}

fn killed_after(before: Before) {
    let folder = tempfile::tempdir().unwrap();
    let earlier = PowerDisk::new(true);
    let disk = RealDisk::new(folder.path().join(STORE));
    let may = store_with_earlier(disk, before, &earlier);
    let base = Image::of(&earlier);
    killed_everywhere(folder.path(), &may.store, &base, |found, _, what| {
        may.check(found, what);
    });
}

#[test]
fn a_process_killed_at_any_call_of_a_first_snapshot_leaves_nothing_or_all() {
    killed_after(Before::Nothing);
}

#[test]
fn a_process_killed_at_any_call_of_a_later_snapshot_leaves_the_earlier_one_or_the_new() {
    killed_after(Before::Snapshot);
    killed_after(Before::Opened);
}

#[test]
fn a_process_killed_while_replaced_files_come_leaves_the_earlier_snapshot_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let store = compacted::store_on(&RealDisk::new(folder.path().join(STORE)));
    let earlier = MemoryDisk::new();
    snapshot(&store, &earlier);
    compacted::compact(&store);
    killed_everywhere(
        folder.path(),
        &store,
        &Image::of(&earlier),
        compacted::check,
    );
}
