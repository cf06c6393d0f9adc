//! Forks: another store from a place on, which shares the history up to there and takes nothing of what came after it.

use crate::support::dice::Dice;
use crate::support::power::Image;
use crate::{assert_same, grow, opened, read_only, restore_into, restored, upto};
use quipu::io::MemoryDisk;
use quipu::prelude::*;
use quipu::{CompactionConfig, Difference, Identity, Retention, SnapshotOptions, Upto};
use std::sync::Arc;

/// The store id in the manifest, and how many histories it shares.
fn identity(disk: &MemoryDisk) -> ([u8; 16], u32) {
    let image = Image::of(disk);
    let manifest = &image.files["manifest"];
    let id = manifest[24..40].try_into().unwrap();
    (id, u32::from_le_bytes(manifest[60..64].try_into().unwrap()))
}

/// How far the store of a disk says that it shares the histories of others.
fn shared(disk: &MemoryDisk) -> Vec<u64> {
    let image = Image::of(disk);
    let manifest = &image.files["manifest"];
    let replaced = u32::from_le_bytes(manifest[56..60].try_into().unwrap());
    let entries = manifest[64 + 24 * replaced as usize..].chunks(56);
    let positions = entries.map(|entry| u64::from_le_bytes(entry[16..24].try_into().unwrap()));
    positions.take(identity(disk).1 as usize).collect()
}

#[test]
fn a_fork_has_an_id_of_its_own_and_a_restored_store_keeps_it() {
    let disk = MemoryDisk::new();
    grow(&opened(&disk), &mut Dice::new(1), 30);
    let (same, _) = restored(&disk, upto(10), Identity::SameStore);
    assert_eq!(identity(&same), identity(&disk));
    let (fork, _) = restored(&disk, upto(10), Identity::Fork);
    let (again, _) = restored(&disk, upto(10), Identity::Fork);
    assert_ne!(identity(&fork).0, identity(&disk).0);
    assert_ne!(identity(&fork).0, identity(&again).0);
    assert_eq!(identity(&fork).1, 1);
}

#[test]
fn a_cursor_of_another_branch_is_refused_and_one_of_the_shared_history_goes_on() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    grow(&store, &mut Dice::new(2), 30);
    let saved = |upto: u64| -> CursorPosition {
        let mut cursor = store.cursor(Query::all()).unwrap();
        while cursor.next_batch(1).unwrap()[0].position().get() < upto {}
        cursor.position().unwrap()
    };
    let head = store.head().position.get();
    let (fork, report) = restored(&disk, upto(20), Identity::Fork);
    let place = report.position.get();
    let fork = opened(&fork);
    grow(&fork, &mut Dice::new(9), 30);
    assert!(fork.head().position.get() > head);
    for shared in [1, place - 1, place] {
        let mut cursor = fork.cursor_from(Query::all(), saved(shared)).unwrap();
        assert_eq!(cursor.next_batch(1).unwrap()[0].position(), shared + 1);
    }
    for beyond in [place + 1, head] {
        let cursor = fork.cursor_from(Query::all(), saved(beyond));
        let error = match cursor {
            Ok(mut cursor) => cursor.next_batch(1).unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    }
}

#[test]
fn forks_of_forks_share_what_they_came_from_and_no_more() {
    let mut dice = Dice::new(5);
    let mut disk = MemoryDisk::new();
    let mut store = opened(&disk);
    grow(&store, &mut dice, 60);
    let mut known = vec![identity(&disk).0];
    for generation in 1..=5 {
        let last = store.head().position.get();
        let place = last / 2 + dice.next() % (last / 2);
        let (fork, report) = restored(&disk, upto(place), Identity::Fork);
        let expected = store.view_at(report.position).unwrap();
        assert_same(&read_only(&fork).unwrap().view(), &expected);
        let forked = opened(&fork);
        assert_same(&forked.view(), &expected);
        grow(&forked, &mut dice, 40);
        assert_same(&forked.view_at(report.position).unwrap(), &expected);
        assert!(forked.verify().unwrap().is_sound());
        let difference = store.view().difference(&forked.view()).unwrap();
        let parted = Position::new(report.position.get() + 1);
        let parts = report.position < store.head().position;
        let expected = if parts {
            Difference::At(parted)
        } else {
            Difference::Behind(report.position)
        };
        assert_eq!(difference, expected);
        assert!(
            !known.contains(&identity(&fork).0),
            "generation {generation}"
        );
        known.push(identity(&fork).0);
        forked.close().unwrap();
        (store, disk) = (opened(&fork), fork);
        // A snapshot of a fork is one, too, and so is what is restored of it.
        let copy = MemoryDisk::new();
        store
            .snapshot_on_disk(Arc::new(copy.clone()), SnapshotOptions::new())
            .unwrap();
        assert_same(&read_only(&copy).unwrap().view(), &store.view());
        let (back, _) = restored(&copy, Upto::End, Identity::SameStore);
        assert_same(&opened(&back).view(), &store.view());
    }
}

#[test]
fn a_fork_of_what_was_before_the_fork_takes_nothing_of_the_branch() {
    let disk = MemoryDisk::new();
    grow(&opened(&disk), &mut Dice::new(6), 40);
    let (branch, report) = restored(&disk, upto(30), Identity::Fork);
    grow(&opened(&branch), &mut Dice::new(7), 40);
    for place in [0, 1, 15, report.position.get()] {
        for identity_of in [Identity::Fork, Identity::SameStore] {
            let (early, report) = restored(&branch, upto(place), identity_of);
            let earlier = if identity_of == Identity::Fork { 2 } else { 1 };
            assert_eq!(shared(&early), vec![report.position.get(); earlier]);
            let original = read_only(&disk).unwrap();
            let expected = original.view_at(report.position).unwrap();
            let store = opened(&early);
            assert_same(&store.view(), &expected);
            grow(&store, &mut Dice::new(8), 10);
            store.close().unwrap();
            assert!(opened(&early).verify().unwrap().is_sound());
        }
    }
}

/// What a compaction writes of the shared history names the store that compacts. A fork of a place before that was
/// left its id out, and was a store that nobody could open.
#[test]
fn a_compacted_fork_is_forked_and_restored_at_places_of_what_was_before_it() {
    let disk = MemoryDisk::new();
    grow(&opened(&disk), &mut Dice::new(11), 150);
    let (branch, report) = restored(&disk, Upto::End, Identity::Fork);
    let store = opened(&branch);
    grow(&store, &mut Dice::new(12), 40);
    let first = store.plan_compaction(&without_some()).unwrap().rewrites[0];
    assert!(first.files == 1 && first.events_removed > 0, "{first}");
    store.compact(without_some()).unwrap().wait().unwrap();
    store.close().unwrap();
    let (later, _) = restored(&branch, Upto::End, Identity::Fork);
    for from in [branch, later] {
        let original = read_only(&from).unwrap();
        for place in [0, report.position.get() - 1, report.position.get()] {
            for identity_of in [Identity::Fork, Identity::SameStore] {
                let (early, report) = restored(&from, upto(place), identity_of);
                let expected = original.view_at(report.position).unwrap();
                assert_same(&read_only(&early).unwrap().view(), &expected);
                let store = opened(&early);
                assert_same(&store.view(), &expected);
                grow(&store, &mut Dice::new(13), 4);
                store.close().unwrap();
                assert!(opened(&early).verify().unwrap().is_sound());
            }
        }
    }
}

/// Writes each sealed segment anew, without some of its events.
fn without_some() -> CompactionConfig {
    let gone = Retention::query(Query::entity("e:1")).or(Retention::query(Query::entity("e:2")));
    CompactionConfig::new().merge_below(0).remove(gone)
}

#[test]
fn a_file_of_the_ancestor_behind_the_fork_is_refused() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    while store.stats().segments < 3 {
        grow(&store, &mut Dice::new(10), 20);
    }
    store.close().unwrap();
    let place = 5;
    let (fork, _) = restored(&disk, upto(place), Identity::Fork);
    grow(&opened(&fork), &mut Dice::new(11), 10);
    let mut image = Image::of(&fork);
    for name in ["segments/0000000001.seg", "segments/0000000002.seg"] {
        image
            .files
            .insert(name.to_owned(), Image::of(&disk).files[name].clone());
    }
    let error = Store::open_with(crate::script::config(image.disk())).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
}

/// A restored store ends like a snapshot, perhaps inside what is one group in the original: that cannot be grown.
#[test]
fn a_snapshot_into_a_restored_store_grows_it_or_is_refused() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    grow(&store, &mut Dice::new(13), 30);
    let mut refused = 0;
    for place in 0..=store.head().position.get() {
        let (dest, report) = restored(&disk, upto(place), Identity::SameStore);
        let taken = store.snapshot_on_disk(Arc::new(dest.clone()), SnapshotOptions::new());
        let position = match taken {
            Ok(_) => store.head().position,
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
                refused += 1;
                report.position
            }
        };
        let expected = store.view_at(position).unwrap();
        assert_same(&read_only(&dest).unwrap().view(), &expected);
        assert_same(&opened(&dest).view(), &expected);
    }
    assert!(refused > 0, "no group was cut");
}

#[test]
fn a_restore_into_what_is_there_is_refused() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    grow(&store, &mut Dice::new(12), 10);
    let other = MemoryDisk::new();
    let held = opened(&other);
    let refused =
        |dest: &MemoryDisk| restore_into(&disk, dest, Upto::End, Identity::Fork).unwrap_err();
    assert_eq!(refused(&other).kind(), StoreErrorKind::Locked);
    held.close().unwrap();
    assert_eq!(refused(&other).kind(), StoreErrorKind::Argument);
    let (done, _) = restored(&disk, Upto::End, Identity::Fork);
    assert_eq!(refused(&done).kind(), StoreErrorKind::Argument);
    let nothing = MemoryDisk::new();
    let error = restore_into(&nothing, &MemoryDisk::new(), Upto::End, Identity::Fork).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
}
