//! A restore that is stopped at any call to its disk leaves nothing that opens, or all; the next attempt goes on.

use crate::support::dice::Dice;
use crate::support::files;
use crate::support::power::{Image, PowerDisk};
use crate::support::ruled::{Op, Ruled};
use crate::support::script;
use crate::support::stopped::{cut_everywhere, fail_everywhere, on_purpose, without_manifest};
use crate::{assert_same, grow, opened, restore_into, restored, upto};
use quipu::Identity;
use quipu::io::MemoryDisk;
use quipu::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub(super) const PLACE: u64 = 140;

pub(super) fn original() -> (MemoryDisk, Store) {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    grow(&store, &mut Dice::new(21), 60);
    assert!(store.head().position.get() > PLACE && store.stats().segments > 1);
    (disk, store)
}

/// Checks what is there: no store, or the whole one; and that a restore to the same place goes on.
pub(super) fn check(
    found: &Image,
    (disk, store): &(MemoryDisk, Store),
    identity: Identity,
    what: &str,
) {
    let expected = store.view_at(PLACE).unwrap();
    match Store::open_read_only_with(StoreConfig::on_disk(Arc::new(found.disk()))) {
        Ok(copy) => {
            assert_same(&copy.view(), &expected);
            let whole = found.disk();
            let writer = Store::open_with(script::config(whole.clone())).unwrap();
            assert_same(&writer.view(), &expected);
            writer.close().unwrap();
            files::assert_all_named(&whole);
        }
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::NotFound, "{what}: {error}");
            let dest = found.disk();
            let report = restore_into(disk, &dest, upto(PLACE), identity);
            let report = report.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(report.position, expected.position());
            let writer = Store::open_with(script::config(dest.clone())).unwrap();
            assert_same(&writer.view(), &expected);
            assert!(writer.verify().unwrap().is_sound());
            writer.close().unwrap();
            files::assert_all_named(&dest);
        }
    }
}

#[test]
fn a_power_cut_at_any_call_of_a_restore_leaves_nothing_or_all() {
    for identity in [Identity::SameStore, Identity::Fork] {
        let from = Arc::new(original());
        let held = Arc::clone(&from);
        let cut = cut_everywhere(PowerDisk::new(true), 33, move |image, what| {
            check(image, &held, identity, what);
        });
        restore_into(&from.0, &cut, upto(PLACE), identity).unwrap();
    }
}

#[test]
fn any_call_of_a_restore_may_fail() {
    let from = original();
    let work = |disk: &Ruled| restore_into(&from.0, disk, upto(PLACE), Identity::Fork);
    fail_everywhere(&Image::default(), work, |left, what| {
        check(left, &from, Identity::Fork, what);
    });
}

#[test]
fn what_was_interrupted_is_gone_on_with_only_by_the_same_restore() {
    let from = original();
    let dest = MemoryDisk::new();
    let count = Arc::new(AtomicU64::new(0));
    let ruled = Ruled::new(dest.clone(), move |call| {
        match call.op == Op::Rename && count.fetch_add(1, SeqCst) == 2 {
            true => Err(on_purpose()),
            false => Ok(()),
        }
    });
    restore_into(&from.0, &ruled, upto(PLACE), Identity::Fork).unwrap_err();
    for (place, identity) in [(PLACE, Identity::SameStore), (10, Identity::Fork)] {
        let error = restore_into(&from.0, &dest, upto(place), identity).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
        assert!(
            error.to_string().contains("ask for the same restore again"),
            "{error}"
        );
    }
    let report = restore_into(&from.0, &dest, upto(PLACE), Identity::Fork).unwrap();
    assert!(report.kept_bytes > 0, "{report:?}");
    assert_same(&opened(&dest).view(), &from.1.view_at(PLACE).unwrap());
}

/// A restore of a branch to a place before its fork has the same lineage as a fork there.
#[test]
fn a_fork_does_not_go_on_with_a_restore_that_keeps_the_id() {
    let (disk, _store) = original();
    let (branch, _) = restored(&disk, upto(PLACE), Identity::Fork);
    for (begun, other) in [
        (Identity::SameStore, Identity::Fork),
        (Identity::Fork, Identity::SameStore),
    ] {
        let dest = MemoryDisk::new();
        let stopped = without_manifest(dest.clone());
        restore_into(&branch, &stopped, upto(30), begun).unwrap_err();
        let error = restore_into(&branch, &dest, upto(30), other).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
        restore_into(&branch, &dest, upto(30), begun).unwrap();
    }
}
