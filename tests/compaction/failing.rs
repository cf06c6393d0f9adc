//! A compaction whose disk fails or panics under one of its threads: the store goes on, and nothing is left behind.

use crate::shop::{self, compact, filled, found, no_views};
use crate::support::disk::TestDisk;
use crate::support::power::Image;
use crate::support::ruled::{Call, Op, Ruled};
use crate::support::stopped::on_purpose;
use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

fn image() -> Image {
    let memory = MemoryDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    filled(&disk).close().unwrap();
    Image::of(&memory)
}

/// A store that was filled, on a disk on which the rule rules.
fn ruled(
    image: &Image,
    rule: impl Fn(Call<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> (TestDisk, Store) {
    let memory = image.disk();
    let disk: Arc<dyn Disk> = Arc::new(Ruled::new(memory.clone(), rule));
    (memory, shop::open(&disk))
}

fn files(disk: &TestDisk) -> Vec<String> {
    let entries = disk.list("segments").unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// The files that there are to be: one for each of the segments, and the one that is kept ready.
fn assert_nothing_is_left(disk: &TestDisk, store: &Store) {
    let left = files(disk);
    let segments = left.iter().filter(|name| name.ends_with(".seg")).count() as u64;
    assert!(segments <= store.stats().segments + 1, "{left:?}");
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
}

fn assert_goes_on(disk: TestDisk, store: Store, kind: StoreErrorKind) {
    let apart = || no_views().merge_below(0);
    let before = found(&store.view(), Query::kind(shop::PLACED));
    let error = store.compact(apart()).unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_nothing_is_left(&disk, &store);
    compact(&store, apart());
    assert_nothing_is_left(&disk, &store);
    assert_eq!(found(&store.view(), Query::kind(shop::PLACED)), before);
    assert!(store.verify().unwrap().is_sound());
    store.close().unwrap();
    let store = shop::open(&(Arc::new(disk) as Arc<dyn Disk>));
    assert_eq!(found(&store.view(), Query::kind(shop::PLACED)), before);
}

/// The nth write to a file that is written anew.
fn nth_write(nth: u64) -> impl Fn(Call<'_>) -> bool + Send + Sync {
    let writes = AtomicU64::new(0);
    move |call| {
        call.op == Op::Write
            && call.name.ends_with(".seg.tmp")
            && writes.fetch_add(1, SeqCst) + 1 == nth
    }
}

#[test]
fn a_disk_that_fails_under_one_thread_ends_all_of_them() {
    let image = image();
    for nth in [1, 3, 8, 12] {
        let fails = nth_write(nth);
        let (disk, store) = ruled(&image, move |call| match fails(call) {
            true => Err(on_purpose()),
            false => Ok(()),
        });
        assert_goes_on(disk, store, StoreErrorKind::Io);
    }
}

/// The thread ended without a word: what the others had replaced stayed on the disk until the store was opened again.
#[test]
fn a_disk_that_panics_under_one_thread_ends_all_of_them() {
    let image = image();
    for nth in [1, 3, 8, 12] {
        let panics = nth_write(nth);
        let (disk, store) = ruled(&image, move |call| {
            assert!(!panics(call), "it panics on purpose");
            Ok(())
        });
        assert_goes_on(disk, store, StoreErrorKind::OutcomeUnknown);
    }
}

/// Whatever call fails, once, in whichever way: nothing is lost, the next compaction does the rest, and an opening clears up.
#[test]
fn a_call_that_fails_or_panics_at_any_step_costs_no_more_than_that_compaction() {
    let calls = [
        (Op::Rename, ".seg.tmp"),
        (Op::SyncDir, "segments"),
        (Op::Write, "manifest.tmp"),
        (Op::Rename, "manifest.tmp"),
        (Op::SyncDir, ""),
        (Op::Write, "hint"),
        (Op::Remove, ".seg"),
        (Op::Open, ".seg"),
        (Op::Sync, ".seg.tmp"),
    ];
    let image = image();
    for (op, name) in calls {
        for panics in [false, true] {
            let what = format!("{op:?} of {name:?}, panics: {panics}");
            let count = AtomicU64::new(0);
            let (disk, store) = ruled(&image, move |call| {
                let is_compacting = || {
                    let thread = std::thread::current();
                    thread
                        .name()
                        .is_some_and(|n| n.starts_with("quipu-compact"))
                };
                let is_named = match name {
                    "" => call.name.is_empty(),
                    end => call.name.ends_with(end),
                };
                let is_it = call.op == op && is_named && is_compacting();
                if !is_it || count.fetch_add(1, SeqCst) != 1 {
                    return Ok(());
                }
                assert!(!panics, "it panics on purpose");
                Err(on_purpose())
            });
            let before = found(&store.view(), Query::kind(shop::PLACED));
            let reader = StoreConfig::on_disk(Arc::new(disk.clone()));
            let reader = Store::open_read_only_with(reader).unwrap();
            let apart = || no_views().merge_below(0);
            let first = store.compact(apart()).unwrap().wait();
            println!("{what}: {:?}", first.map(|done| done.events_removed));
            assert_eq!(found(&reader.view(), Query::kind(shop::PLACED)), before);
            compact(&store, apart());
            assert!(
                store.plan_compaction(&apart()).unwrap().is_empty(),
                "{what}"
            );
            for store in [&store, &reader] {
                assert_eq!(found(&store.view(), Query::kind(shop::PLACED)), before);
                let verified = store.verify().unwrap();
                assert!(verified.is_sound(), "{what}: {verified}");
            }
            let head = store.head();
            drop(reader);
            store.close().unwrap();
            let store = shop::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>));
            assert_eq!(found(&store.view(), Query::kind(shop::PLACED)), before);
            assert_eq!(store.head(), head);
            assert_nothing_is_left(&disk, &store);
        }
    }
}
