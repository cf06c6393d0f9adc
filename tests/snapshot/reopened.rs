//! Snapshots that were opened for writing: one to which nothing was appended gets what is new as before, others nothing.

use crate::support::power::Image;
use crate::support::ruled::Ruled;
use crate::support::stopped::on_purpose;
use crate::{append, assert_prefix, fill_segment, opened, read_only, snapshot, taken};
use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{CompactionConfig, Identity, RestoreOptions, Retention};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

fn open_and_close(dest: &(impl Disk + Clone + 'static)) {
    opened(dest.clone()).unwrap().close().unwrap();
}

/// The store with its full segments sealed.
fn settled(store: Store, disk: &MemoryDisk) -> Store {
    store.close().unwrap();
    opened(disk.clone()).unwrap()
}

/// Whether the next snapshot is refused with these words, and touches nothing.
fn assert_refused(store: &Store, dest: &(impl Disk + Clone + 'static), words: &str) {
    let before = Image::of(dest).files;
    let error = taken(store, dest).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    let mut after = Image::of(dest).files;
    after.retain(|name, _| before.contains_key(name));
    assert!(after == before, "something was changed");
}

fn removing(rule: Retention) -> CompactionConfig {
    CompactionConfig::new().remove(rule).merge_below(0)
}

fn compact(store: &Store, rule: Retention) {
    let done = store.compact(removing(rule)).unwrap().wait().unwrap();
    assert!(done.events_removed > 0, "{done:?}");
}

#[test]
fn one_that_was_only_opened_gets_what_is_new() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    for grown in [0, 1, 2, 0] {
        let store = opened(disk.clone()).unwrap();
        (0..grown).for_each(|_| fill_segment(&store));
        append(&store, 5, 1000);
        let store = settled(store, &disk);
        let report = snapshot(&store, &dest);
        assert!(grown > 0 || report.copied_bytes < 20_000, "{report:?}");
        open_and_close(&dest);
        open_and_close(&dest);
        let report = snapshot(&store, &dest);
        assert_eq!(report.copied_bytes, 0, "{report:?}");
        assert_prefix(&read_only(dest.clone()).unwrap(), &store);
        open_and_close(&dest);
        assert_prefix(&read_only(dest.clone()).unwrap(), &store);
        store.close().unwrap();
    }
}

#[test]
fn whoever_reads_one_meanwhile_sees_what_is_new() {
    let dest = MemoryDisk::new();
    let store = opened(MemoryDisk::new()).unwrap();
    append(&store, 5, 1000);
    snapshot(&store, &dest);
    open_and_close(&dest);
    let reader = read_only(dest.clone()).unwrap();
    assert_eq!(reader.head(), store.head());
    fill_segment(&store);
    snapshot(&store, &dest);
    assert_prefix(&reader, &store);
    assert_eq!(reader.head(), store.head());
}

#[test]
fn one_that_was_appended_to_is_refused() {
    let dest = MemoryDisk::new();
    let store = opened(MemoryDisk::new()).unwrap();
    append(&store, 5, 1000);
    snapshot(&store, &dest);
    let copy = opened(dest.clone()).unwrap();
    append(&copy, 1, 10);
    copy.close().unwrap();
    assert_refused(&store, &dest, "holds events that this store does not have");
    append(&store, 9, 10);
    assert_refused(&store, &dest, "holds another history");
    assert_eq!(read_only(dest).unwrap().head().position, 6);
}

/// What was appended to it without a sync is behind what its hint says; only a close says that nothing is.
#[test]
fn one_that_was_not_closed_is_refused() {
    // A file that is as long as it was to become gets nothing more: the next event is in another.
    [1000, 2_000_000]
        .into_iter()
        .for_each(is_refused_until_it_is_closed);
}

fn is_refused_until_it_is_closed(bytes: usize) {
    let dest = MemoryDisk::new();
    let store = opened(MemoryDisk::new()).unwrap();
    append(&store, 4, 1000);
    append(&store, 1, bytes);
    snapshot(&store, &dest);
    open_and_close(&dest);
    let copy = opened(dest.clone()).unwrap();
    append(&copy, 1, 10);
    let busy = Image::of(&dest).disk();
    append(&store, 9, 10);
    assert_refused(&store, &busy, "not closed: open and close it");
    open_and_close(&busy);
    assert_refused(&store, &busy, "holds another history");
    drop(copy);
    assert_refused(&store, &dest, "holds another history");
}

/// The copy's own segment, in which nothing is, has the number that the next of the store's has.
#[test]
fn a_fork_gets_what_is_new_behind_the_segment_that_its_opening_began() {
    let (base, fork, dest) = (MemoryDisk::new(), MemoryDisk::new(), MemoryDisk::new());
    let store = opened(base.clone()).unwrap();
    append(&store, 5, 1000);
    store.close().unwrap();
    let identity = RestoreOptions::new().identity(Identity::Fork);
    quipu::restore_on_disks(Arc::new(base), Arc::new(fork.clone()), identity).unwrap();
    snapshot(&read_only(fork.clone()).unwrap(), &dest);
    open_and_close(&dest);
    assert!(
        Image::of(&dest)
            .files
            .contains_key("segments/0000000002.seg")
    );
    let fork = opened(fork).unwrap();
    append(&fork, 5, 1000);
    snapshot(&fork, &dest);
    assert_prefix(&read_only(dest.clone()).unwrap(), &fork);
    assert_prefix(&opened(dest).unwrap(), &fork);
}

/// Two compactions that remove as many bytes make files of the same names and lengths.
#[test]
fn one_that_was_compacted_for_itself_gets_the_files_of_the_store() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    let store = opened(disk.clone()).unwrap();
    fill_segment(&store);
    store.close().unwrap();
    let fails = AtomicBool::new(true);
    let store = opened(Ruled::new(disk.clone(), move |call| {
        match call.name.ends_with(".seg.tmp") && fails.swap(false, SeqCst) {
            true => Err(on_purpose()),
            false => Ok(()),
        }
    }));
    let store = store.unwrap();
    snapshot(&store, &dest);
    let copy = opened(dest.clone()).unwrap();
    compact(&copy, Retention::query(Region::all().positions(..=2)));
    copy.close().unwrap();
    // The copy's manifest was written once more when it was opened: here a number is lost.
    let lost = store.compact(removing(Retention::query(Region::all())));
    lost.unwrap().wait().unwrap_err();
    compact(&store, Retention::query(Region::all().positions(2..=3)));
    let sealed = |disk: &MemoryDisk| {
        let files = Image::of(disk).files.into_iter();
        let sealed = files.filter(|(name, _)| name.contains("segments/0000000001-"));
        sealed
            .map(|(name, bytes)| (name, bytes.len()))
            .next()
            .unwrap()
    };
    assert_eq!(
        sealed(&disk),
        sealed(&dest),
        "names and lengths would not tell"
    );
    append(&store, 5, 1000);
    snapshot(&store, &dest);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    assert_prefix(&opened(dest).unwrap(), &store);
}
