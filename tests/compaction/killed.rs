//! A process that is killed at any call of a compaction, on real files: each range is the old one or the new one, whole.

use crate::history::{History, compaction};
use crate::shop::{self, PLACED};
use crate::support::child::tell;
use crate::support::dying::{APPENDER, Dying, die_everywhere, step};
use crate::support::ends::Ends;
use quipu::io::{Disk, RealDisk};
use quipu::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::Builder;

const ALONE: &str = "compactor";
const BESIDE_APPENDS: &str = "compactor-beside-appends";
const STORE: &str = "store";
/// Some twenty of what is appended fill what is left of the newest segment.
const APPENDED_BYTES: usize = 25_000;
const MOST_APPENDED: usize = 500;

/// Not a test by itself: run again by the ones below, in a process of its own.
#[test]
fn compacts_and_dies() {
    let in_role = |role| Dying::in_role(role).map(|child| (child, role));
    let Some((child, role)) = [ALONE, BESIDE_APPENDS].into_iter().find_map(in_role) else {
        return;
    };
    let disk: Arc<dyn Disk> = Arc::new(child.disk(STORE));
    let store = shop::open(&disk);
    let stop = AtomicBool::new(role == ALONE);
    std::thread::scope(|scope| {
        let appender = Builder::new().name(APPENDER.to_owned());
        let append = || append_until(&store, &stop);
        appender.spawn_scoped(scope, append).unwrap();
        let _stop = Ends(&stop);
        child.begin();
        shop::compact(&store, compaction());
    });
    store.close().unwrap();
    child.done();
}

/// Tells the parent of each event that was acknowledged.
fn append_until(store: &Store, stop: &AtomicBool) {
    let place = Coordinate::new("order:new", "shop").unwrap();
    let payload = "n".repeat(APPENDED_BYTES);
    for _ in 0..MOST_APPENDED {
        if stop.load(SeqCst) {
            return;
        }
        let receipt = store.append(&place, PLACED, payload.as_str()).unwrap();
        tell(format_args!("{} {}", receipt.position(), receipt.hash()));
    }
}

/// Asserts that what was acknowledged to the child is there.
fn assert_acknowledged(store: &Store, told: &[String]) {
    for line in told {
        let (position, hash) = line.split_once(' ').unwrap();
        let event = store.at(position.parse::<u64>().unwrap()).unwrap();
        assert_eq!(event.expect(line).hash().to_string(), hash);
    }
}

fn reader(disk: &Arc<dyn Disk>) -> Store {
    Store::open_read_only_with(StoreConfig::on_disk(Arc::clone(disk))).unwrap()
}

fn killed_everywhere(role: &str, step: usize) {
    let history = History::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STORE);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&path));
    let child = ("killed::compacts_and_dies", role, folder.path());
    // It was there before, and stays until all is over.
    let beside = RefCell::new(None);
    let prepare = || {
        let _ = std::fs::remove_dir_all(&path);
        history.image.write_to(&path);
        beside.replace(Some(reader(&disk)));
    };
    let mut found: Vec<usize> = Vec::new();
    let mut appended = 0;
    let deaths = die_everywhere(child, step, prepare, |death| {
        let beside = beside.take().unwrap();
        history.found_in(&beside);
        assert_acknowledged(&beside, &death.told);
        appended += death.told.len();
        let new = history.recover(&disk);
        assert_acknowledged(&beside, &death.told);
        assert_eq!(history.found_in(&beside), [true; 3], "what was done since");
        assert_acknowledged(&reader(&disk), &death.told);
        found.push(new.iter().filter(|new| **new).count());
        assert!(!death.is_done || new.iter().all(|new| *new), "{new:?}");
    });
    println!("{deaths} deaths, ranges found new: {found:?}, {appended} events acknowledged");
    assert!(deaths > 5, "only {deaths} deaths");
    assert_eq!(appended > 0, role == BESIDE_APPENDS);
    let seen: BTreeSet<usize> = found.into_iter().collect();
    assert!(seen.into_iter().eq(0..=3), "not every state was met");
}

#[test]
fn a_process_killed_at_any_call_of_a_compaction_leaves_old_or_new() {
    killed_everywhere(ALONE, step(3));
}

#[test]
fn a_process_killed_while_it_compacts_and_appends_loses_nothing_acknowledged() {
    killed_everywhere(BESIDE_APPENDS, step(5));
}
