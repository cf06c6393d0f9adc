//! Snapshots of stores that compaction wrote anew: before, between and meanwhile.

use crate::support::files;
use crate::support::power::{Image, PowerDisk};
use crate::support::ruled::{Op, Ruled};
use crate::support::stopped::{cut_everywhere, without_manifest};
use crate::{KIND, append, assert_prefix, fill_segment, opened, read_only, snapshot, taken};
use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{CompactionConfig, Identity, RestoreOptions, Retention, Upto};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const PASSING: EventKind = EventKind::literal("thing.passed");

/// A store of five segments, all but the last of them sealed, every third event of which may go.
pub(super) fn store_on(disk: &(impl Disk + Clone + 'static)) -> Store {
    for _ in 0..4 {
        let store = opened(disk.clone()).unwrap();
        let place = Coordinate::new("e:7", "here").unwrap();
        for nth in 0..9 {
            let kind = if nth % 3 == 0 { PASSING } else { KIND };
            store.append(&place, kind, &"x".repeat(1000 * nth)).unwrap();
        }
        fill_segment(&store);
        store.close().unwrap();
    }
    opened(disk.clone()).unwrap()
}

pub(super) fn compact(store: &Store) {
    let config = CompactionConfig::new().remove(Retention::kinds([PASSING]));
    let done = store
        .compact(config.merge_below(u64::MAX))
        .unwrap()
        .wait()
        .unwrap();
    assert!(done.events_removed > 0, "{done:?}");
}

/// The names of the segment files.
fn segments(disk: &dyn Disk) -> BTreeSet<String> {
    let entries = disk.list("segments").unwrap().into_iter();
    let names = entries.map(|entry| entry.name);
    names
        .filter(|name| name.ends_with(".seg") || name.ends_with(".part"))
        .collect()
}

fn replacements(disk: &dyn Disk) -> BTreeSet<String> {
    let names = segments(disk).into_iter();
    names.filter(|name| name.contains('-')).collect()
}

#[test]
fn what_compaction_replaced_is_replaced_in_the_snapshot_too() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    let store = store_on(&disk);
    snapshot(&store, &dest);
    compact(&store);
    assert!(!replacements(&disk).is_empty());
    let report = snapshot(&store, &dest);
    assert!(report.copied_bytes > 0, "{report:?}");
    assert_eq!(replacements(&dest), replacements(&disk));
    assert_eq!(segments(&dest).len(), 5, "{:?}", segments(&dest));
    assert_eq!(replacements(&dest).len(), 4);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    // And what comes after it only adds.
    fill_segment(&store);
    let report = snapshot(&store, &dest);
    assert!(report.kept_bytes > 1_000_000, "{report:?}");
    assert_prefix(&opened(dest).unwrap(), &store);
    let full = MemoryDisk::new();
    snapshot(&store, &full);
    assert_prefix(&opened(full).unwrap(), &store);
}

#[test]
fn a_snapshot_goes_on_when_its_files_are_replaced_meanwhile() {
    for from_reader in [false, true] {
        for at in [1, 4, 8, 12] {
            let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
            let store = store_on(&disk);
            let original = match from_reader {
                true => read_only(disk.clone()).unwrap(),
                false => store.clone(),
            };
            let (compacted, calls) = (store.clone(), AtomicU64::new(0));
            let ruled = Ruled::new(dest.clone(), move |call| {
                if matches!(call.op, Op::Create | Op::Rename) && calls.fetch_add(1, SeqCst) == at {
                    compact(&compacted);
                }
                Ok(())
            });
            let report = taken(&original, &ruled).unwrap();
            assert_eq!(report.position, store.head().position, "call {at}");
            let copy = read_only(dest.clone()).unwrap();
            assert_eq!(copy.head(), store.head());
            assert!(copy.verify().unwrap().is_sound());
            assert!(opened(dest).unwrap().verify().unwrap().is_sound());
        }
    }
}

/// Checks what is there: the earlier snapshot with the old files, or the new one, and that the next one goes on.
pub(super) fn check(image: &Image, store: &Store, what: &str) {
    for copy in [read_only(image.disk()), opened(image.disk())] {
        let copy = copy.unwrap_or_else(|e| panic!("{what}: {e}"));
        let there = store.view_at(copy.head().position).unwrap();
        assert_eq!(copy.head(), there.head().unwrap(), "{what}");
        assert!(copy.verify().unwrap().is_sound(), "{what}");
    }
    let next = image.disk();
    taken(store, &next).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_prefix(&read_only(next.clone()).unwrap(), store);
    opened(next.clone()).unwrap().close().unwrap();
    files::assert_all_named(&next);
}

#[test]
fn a_power_cut_while_replaced_files_come_leaves_the_earlier_snapshot_or_the_new() {
    let power = PowerDisk::new(true);
    let store = store_on(&MemoryDisk::new());
    snapshot(&store, &power);
    compact(&store);
    fill_segment(&store);
    let held = store.clone();
    let cut = cut_everywhere(power, 4, move |image, what| check(image, &held, what));
    snapshot(&store, &cut);
}

#[test]
fn a_compacted_store_is_restored_to_any_position() {
    let disk = MemoryDisk::new();
    let store = store_on(&disk);
    compact(&store);
    for place in 0..=store.head().position.get() {
        let identity = [Identity::SameStore, Identity::Fork][usize::from(place % 2 == 0)];
        let options = || {
            let upto = Upto::Position(Position::new(place));
            RestoreOptions::new().upto(upto).identity(identity)
        };
        let dest = MemoryDisk::new();
        let (from, to) = (Arc::new(disk.clone()), Arc::new(dest.clone()));
        quipu::restore_on_disks(from, to, options()).unwrap();
        assert_prefix(&read_only(dest.clone()).unwrap(), &store);
        let copy = opened(dest.clone()).unwrap();
        assert_eq!(copy.head().position, place);
        crate::append(&copy, 3, 100);
        copy.close().unwrap();
        let copy = opened(dest).unwrap();
        assert_eq!(copy.head().position, place + 3);
        assert!(copy.verify().unwrap().is_sound());
    }
}

/// A snapshot's manifest begins to count anew, so that its next replacement could get the name of the one that it stands
/// for: its file was written over, and then removed as replaced.
#[test]
fn what_is_compacted_after_a_snapshot_again_has_another_name() {
    let store = store_on(&MemoryDisk::new());
    let (first, second) = (MemoryDisk::new(), MemoryDisk::new());
    snapshot(&store, &first);
    for (disk, dest, position) in [(&first, &second, 2), (&second, &MemoryDisk::new(), 3)] {
        let copy = opened(disk.clone()).unwrap();
        let gone = Region::all().positions(position..=position);
        let config = CompactionConfig::new().remove(Retention::query(gone));
        let done = copy.compact(config.merge_below(0)).unwrap().wait();
        assert_eq!(done.unwrap().events_removed, 1);
        assert_eq!(replacements(disk).len(), 1);
        snapshot(&copy, dest);
        copy.close().unwrap();
        assert_prefix(
            &opened(disk.clone()).unwrap(),
            &read_only(dest.clone()).unwrap(),
        );
    }
}

/// Two copies of a store that each removed as much from a segment have files of the same name and length for it.
#[test]
fn a_snapshot_of_a_copy_that_was_compacted_for_itself_gets_its_files() {
    let store = store_on(&MemoryDisk::new());
    let dest = MemoryDisk::new();
    for position in [10, 11] {
        let disk = MemoryDisk::new();
        snapshot(&store, &disk);
        let copy = opened(disk.clone()).unwrap();
        let gone = Region::all().positions(position..=position);
        let config = CompactionConfig::new().remove(Retention::query(gone));
        copy.compact(config.merge_below(0)).unwrap().wait().unwrap();
        snapshot(&copy, &dest);
        assert_eq!(replacements(&dest), replacements(&disk));
        assert_prefix(&read_only(dest.clone()).unwrap(), &copy);
    }
}

/// The segment in which an earlier snapshot ends became part of a replacement, whose file an interrupted attempt had
/// brought: it was taken for the one that grows, and the snapshot was refused for good.
#[test]
fn an_interrupted_attempt_goes_on_where_the_earlier_end_was_replaced() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    let store = opened(disk.clone()).unwrap();
    append(&store, 9, 1_000);
    snapshot(&store, &dest);
    fill_segment(&store);
    store.close().unwrap();
    let store = opened(disk).unwrap();
    let gone = Retention::query(Region::all().positions(..=2));
    let config = CompactionConfig::new().remove(gone).merge_below(0);
    store.compact(config).unwrap().wait().unwrap();
    taken(&store, &without_manifest(dest.clone())).unwrap_err();
    assert_eq!(replacements(&dest).len(), 1);
    let report = snapshot(&store, &dest);
    assert!(report.kept_bytes > 0, "{report:?}");
    assert_prefix(&read_only(dest).unwrap(), &store);
}
