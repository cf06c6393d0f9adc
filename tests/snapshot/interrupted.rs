//! A snapshot that is stopped at any call to its disk: the directory holds the earlier one or the new one, whole, and the
//! next attempt goes on.

use crate::support::files;
use crate::support::power::{Image, PowerDisk};
use crate::support::ruled::Ruled;
use crate::support::stopped::{cut_everywhere, fail_everywhere, without_manifest};
use crate::{append, assert_prefix, fill_segment, opened, read_only, snapshot, taken};
use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use std::sync::Arc;

/// What a directory may hold: the head of an earlier snapshot, if there is one, or that of the new one.
pub(super) struct May {
    pub(super) store: Store,
    earlier: Option<Head>,
}

impl May {
    /// Checks what is there, for a reader, for a writer and for the next snapshot.
    pub(super) fn check(&self, found: &Image, what: &str) {
        let is_whole = |opened: quipu::Result<Store>| match opened {
            Ok(copy) => {
                let head = copy.head();
                assert_prefix(&copy, &self.store);
                if let Some(earlier) = self.earlier {
                    assert!(head.position >= earlier.position, "{what}: {head:?}");
                }
                Some(head)
            }
            Err(error) => {
                assert_eq!(self.earlier, None, "{what}: {error}");
                // To one that only reads it is not there, to one that writes it is no empty directory.
                let kinds = [StoreErrorKind::NotFound, StoreErrorKind::Argument];
                assert!(kinds.contains(&error.kind()), "{what}: {error}");
                None
            }
        };
        let read = is_whole(read_only(found.disk()));
        // Where nothing is yet, whoever opens it for writing makes a store of their own.
        let is_begun = |name: &String| ["manifest", "manifest.part"].contains(&name.as_str());
        if found.files.keys().any(is_begun) {
            assert_eq!(is_whole(opened(found.disk())), read, "{what}");
        }
        let next = found.disk();
        let report = taken(&self.store, &next).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(report.position, self.store.head().position, "{what}");
        assert_prefix(&read_only(next.clone()).unwrap(), &self.store);
        let copy = opened(next.clone()).unwrap();
        assert_prefix(&copy, &self.store);
        copy.close().unwrap();
        files::assert_all_named(&next);
    }
}

/// What is in the directory before.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Before {
    Nothing,
    Snapshot,
    /// A snapshot that was opened for writing and closed.
    Opened,
}

/// A store whose snapshot `earlier` ends in a segment that is full and sealed since.
pub(super) fn store_with_earlier(
    disk: impl Disk + 'static,
    before: Before,
    dest: &PowerDisk,
) -> May {
    let store = opened(disk).unwrap();
    append(&store, 20, 1000);
    let earlier = (before != Before::Nothing).then(|| {
        snapshot(&store, dest);
        store.head()
    });
    if before == Before::Opened {
        opened(dest.clone()).unwrap().close().unwrap();
    }
    fill_segment(&store);
    append(&store, 20, 1000);
    May { store, earlier }
}

fn cut_in(before: Before, seed: u64) {
    let power = PowerDisk::new(true);
    let may = Arc::new(store_with_earlier(MemoryDisk::new(), before, &power));
    let held = Arc::clone(&may);
    let cut = cut_everywhere(power, seed, move |image, what| held.check(image, what));
    snapshot(&may.store, &cut);
}

#[test]
fn a_half_copy_says_what_it_is_and_what_to_do() {
    let store = opened(MemoryDisk::new()).unwrap();
    append(&store, 20, 1000);
    let dest = MemoryDisk::new();
    taken(&store, &without_manifest(dest.clone())).unwrap_err();
    let asked = [
        (read_only(dest.clone()), StoreErrorKind::NotFound),
        (opened(dest.clone()), StoreErrorKind::Argument),
    ];
    for (opened, kind) in asked {
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let words = [
            "a copy that is not finished",
            "take the snapshot again",
            "the restore again",
        ];
        for words in words {
            assert!(error.to_string().contains(words), "{words:?} in {error}");
        }
    }
    snapshot(&store, &dest);
    assert_prefix(&opened(dest).unwrap(), &store);
}

#[test]
fn a_power_cut_at_any_call_of_a_first_snapshot_leaves_nothing_or_all() {
    cut_in(Before::Nothing, 1);
}

#[test]
fn a_power_cut_at_any_call_of_a_later_snapshot_leaves_the_earlier_one_or_the_new() {
    cut_in(Before::Snapshot, 2);
    cut_in(Before::Opened, 3);
}

fn fail_in(before: Before) {
    let power = PowerDisk::new(true);
    let may = store_with_earlier(MemoryDisk::new(), before, &power);
    let work = |disk: &Ruled| taken(&may.store, disk);
    fail_everywhere(&Image::of(&power), work, |left, what| may.check(left, what));
}

#[test]
fn any_call_of_a_first_snapshot_may_fail() {
    fail_in(Before::Nothing);
}

#[test]
fn any_call_of_a_later_snapshot_may_fail() {
    fail_in(Before::Snapshot);
    fail_in(Before::Opened);
}

/// Two branches of one store, whose later segments have the same lengths: an interrupted snapshot of one of them must not
/// be taken for the beginning of one of the other.
#[test]
fn what_another_branch_left_is_taken_away() {
    let (disk, twin, dest) = (MemoryDisk::new(), MemoryDisk::new(), MemoryDisk::new());
    let store = opened(disk.clone()).unwrap();
    append(&store, 20, 1000);
    for copy in [&twin, &dest] {
        snapshot(&store, copy);
    }
    let earlier = store.head();
    store.close().unwrap();
    let grown = |disk: &MemoryDisk, letter: &str| {
        let place = Coordinate::new("branch", "here").unwrap();
        for _ in 0..2 {
            let store = opened(disk.clone()).unwrap();
            for _ in 0..20 {
                let payload = letter.repeat(100_000);
                store.append(&place, crate::KIND, &payload).unwrap();
            }
            store.close().unwrap();
        }
        opened(disk.clone()).unwrap()
    };
    let (store, twin) = (grown(&disk, "a"), grown(&twin, "b"));
    let lengths = |disk: &MemoryDisk| -> Vec<(String, usize)> {
        let files = Image::of(disk).files.into_iter();
        files.map(|(name, bytes)| (name, bytes.len())).collect()
    };
    taken(&twin, &without_manifest(dest.clone())).unwrap_err();
    let left = lengths(&dest);
    assert!(
        left.iter()
            .any(|(name, _)| name.ends_with("0000000002.seg")),
        "{left:?}"
    );
    assert_eq!(read_only(dest.clone()).unwrap().head(), earlier);
    let report = snapshot(&store, &dest);
    assert_eq!(report.position, store.head().position);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    // The names and lengths alone would not have told.
    let ours = lengths(&dest);
    let same = left
        .iter()
        .filter(|file| file.0.ends_with("2.seg") && ours.contains(file));
    assert_eq!(same.count(), 1, "{left:?} {ours:?}");
}
