//! A process that is killed at any call of a restore, on real files: there is no store yet, or the whole one.

use crate::interrupted::{PLACE, check, original};
use crate::support::dying::{Dying, die_everywhere, step};
use crate::support::power::Image;
use crate::{assert_same, upto};
use quipu::io::RealDisk;
use quipu::prelude::*;
use quipu::{Identity, RestoreOptions};
use std::sync::Arc;

const ROLES: [(&str, Identity); 2] = [
    ("restorer", Identity::SameStore),
    ("forker", Identity::Fork),
];
const FROM: &str = "store";
const DEST: &str = "restored";

/// Not a test by itself: run again by the ones below, in a process of its own.
#[test]
fn restores_and_dies() {
    let of_role = |(role, identity)| Dying::in_role(role).map(|child| (child, identity));
    let Some((child, identity)) = ROLES.into_iter().find_map(of_role) else {
        return;
    };
    let from = Arc::new(RealDisk::new(child.place().join(FROM)));
    let dest = Arc::new(child.disk(DEST));
    let options = RestoreOptions::new().upto(upto(PLACE)).identity(identity);
    child.begin();
    quipu::restore_on_disks(from, dest, options).unwrap();
    child.done();
}

fn killed_everywhere((role, identity): (&str, Identity)) {
    let folder = tempfile::tempdir().unwrap();
    let dest = folder.path().join(DEST);
    let from = original();
    Image::of(&from.0).write_to(&folder.path().join(FROM));
    let expected = from.1.view_at(PLACE).unwrap();
    let child = ("killed::restores_and_dies", role, folder.path());
    let prepare = || drop(std::fs::remove_dir_all(&dest));
    let deaths = die_everywhere(child, step(2), prepare, |death| {
        let disk = RealDisk::new(&dest);
        match dest.exists() {
            true => check(&Image::of(&disk), &from, identity, &format!("{death:?}")),
            false => assert!(!death.is_done),
        }
        if death.is_done {
            let config = StoreConfig::on_disk(Arc::new(disk));
            let copy = Store::open_read_only_with(config).unwrap();
            assert_same(&copy.view(), &expected);
            assert!(copy.stats().segments > 1);
        }
    });
    assert!(deaths > 5, "only {deaths} deaths");
}

#[test]
fn a_process_killed_at_any_call_of_a_restore_leaves_nothing_or_all() {
    killed_everywhere(ROLES[0]);
}

#[test]
fn a_process_killed_at_any_call_of_a_fork_leaves_nothing_or_all() {
    killed_everywhere(ROLES[1]);
}
