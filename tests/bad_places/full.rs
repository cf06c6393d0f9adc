//! Upkeep on a full disk, at whichever call it fills: the store stays whole, the error names it, what was half written is
//! gone, and the same call works once there is space.

use super::ruled::{Call, Op, Ruled};
use super::{KIND, place};
use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{
    CompactionConfig, MIN_SEGMENT_BYTES, RestoreOptions, Result, Retention, SnapshotOptions,
    StoreErrorKind as Is, restore_on_disks,
};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const GOES: EventKind = EventKind::literal("thing.seen");
const ROOM: u64 = u64::MAX / 2;

/// A disk that is full once it was asked for space so often.
#[derive(Clone)]
struct Filling {
    inner: MemoryDisk,
    room: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Filling {
    fn new() -> Self {
        Self {
            inner: MemoryDisk::new(),
            room: Arc::new(AtomicU64::new(ROOM)),
            refused: Arc::default(),
        }
    }

    fn disk(&self) -> Arc<dyn Disk> {
        let (room, refused) = (Arc::clone(&self.room), Arc::clone(&self.refused));
        Arc::new(Ruled::new(self.inner.clone(), move |call: Call<'_>| {
            // The lock's file holds a number, and the hint's is there in full length.
            let takes_space = matches!(call.op, Op::Create | Op::CreateDir | Op::Write)
                && !["lock", "hint"].contains(&call.name);
            if !takes_space {
                return Ok(());
            }
            match room.fetch_update(SeqCst, SeqCst, |room| room.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => {
                    refused.fetch_add(1, SeqCst);
                    Err(ErrorKind::StorageFull.into())
                }
            }
        }))
    }

    /// Room for so many calls more.
    fn fills_after(&self, calls: u64) {
        self.room.store(calls, SeqCst);
    }

    /// Makes room again; whether it was missing.
    fn is_freed(&self) -> bool {
        self.room.store(ROOM, SeqCst);
        self.refused.swap(0, SeqCst) > 0
    }

    /// No file is there that nobody goes on from.
    fn holds_nothing_half_written(&self, what: &str) {
        let files = [self.inner.list(""), self.inner.list("segments")];
        // Of what a copy is to be made is known before it is whole.
        let half = |name: &str| {
            name.ends_with(".tmp") || (name.ends_with(".part") && name != "manifest.part")
        };
        let files = files.into_iter().flatten().flatten();
        let left: Vec<_> = files.filter(|file| half(&file.name)).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
    }
}

fn open(disk: Arc<dyn Disk>) -> Result<Store> {
    Store::open_with(StoreConfig::on_disk(disk).segment_bytes(MIN_SEGMENT_BYTES))
}

fn append(store: &Store, kind: EventKind, bytes: usize) -> Result<Receipt> {
    store.append(&place(), kind, &"x".repeat(bytes))
}

/// A store of a few sealed segments, of which every other event may go.
fn filled(disk: Arc<dyn Disk>) -> Store {
    let store = open(disk).unwrap();
    while store.stats().segments < 4 {
        append(&store, GOES, 200_000).unwrap();
        append(&store, KIND, 200_000).unwrap();
    }
    while store.stats().unsealed_segments > 0 {
        std::thread::yield_now();
    }
    store
}

fn compact(store: &Store) -> Result<u64> {
    let config = CompactionConfig::new().remove(Retention::kinds([GOES.as_str()]));
    let done = store.compact(config.merge_below(0))?.wait()?;
    Ok(done.events_removed)
}

fn hashes(store: &Store) -> Vec<EventHash> {
    let events = store.query(Query::kind(KIND.as_str())).unwrap();
    events.map(|event| event.unwrap().hash()).collect()
}

fn is_whole(store: &Store, kept: &[EventHash], what: &str) {
    assert_eq!(hashes(store), kept, "{what}");
    assert!(store.verify().unwrap().is_sound(), "{what}");
}

fn names_the_disk(error: &StoreError, what: &str) {
    assert_eq!(error.kind(), Is::Io, "{what}: {error}");
    let words = "disk full: free space, then go on";
    assert!(error.to_string().contains(words), "{what}: {error}");
}

#[test]
fn a_compaction_on_a_full_disk_leaves_the_store_whole_and_can_be_repeated() {
    let mut failed = 0;
    for room in 0.. {
        let what = format!("room for {room} calls");
        let disk = Filling::new();
        let store = filled(disk.disk());
        let mut kept = hashes(&store);
        disk.fills_after(room);
        // What is not needed for it, as the runs are not, may be missing without an error.
        let outcome = compact(&store);
        failed += u64::from(outcome.is_err());
        outcome.inspect_err(|e| names_the_disk(e, &what)).ok();
        disk.holds_nothing_half_written(&what);
        is_whole(&store, &kept, &what);
        match append(&store, KIND, 50) {
            Ok(receipt) => kept.push(receipt.hash()),
            Err(error) => names_the_disk(&error, &what),
        }
        let was_full = disk.is_freed();
        kept.push(append(&store, KIND, 50).unwrap().hash());
        compact(&store).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(compact(&store).unwrap(), 0, "{what}");
        is_whole(&store, &kept, &what);
        store.close().unwrap();
        is_whole(&open(disk.disk()).unwrap(), &kept, &what);
        if !was_full {
            assert!(failed > 8, "{failed} compactions failed");
            break;
        }
    }
}

/// Copies a store to a disk that fills, after `earlier` was copied there, at each call in turn.
fn copies(earlier: bool, copy: impl Fn(&Store, &Arc<dyn Disk>, Arc<dyn Disk>) -> Result<()>) {
    let source: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let store = filled(Arc::clone(&source));
    for room in 0.. {
        let what = format!("room for {room} calls");
        let dest = Filling::new();
        let before = earlier.then(|| {
            copy(&store, &source, dest.disk()).unwrap();
            let head = store.head();
            append(&store, KIND, 100_000).unwrap();
            head
        });
        dest.fills_after(room);
        let outcome = copy(&store, &source, dest.disk());
        if !dest.is_freed() {
            assert!(outcome.is_ok() && room > 2, "{what}: {outcome:?}");
            break;
        }
        names_the_disk(&outcome.unwrap_err(), &what);
        dest.holds_nothing_half_written(&what);
        let read = || Store::open_read_only_with(StoreConfig::on_disk(dest.disk()));
        match before {
            Some(head) => {
                let copied = read().unwrap();
                assert_eq!(copied.head(), head, "{what}");
                assert!(copied.verify().unwrap().is_sound(), "{what}");
            }
            None => assert!(read().is_err(), "{what}: a half copy opened"),
        }
        copy(&store, &source, dest.disk()).unwrap_or_else(|e| panic!("{what}: {e}"));
        is_whole(&read().unwrap(), &hashes(&store), &what);
    }
}

#[test]
fn a_snapshot_onto_a_full_disk_leaves_nothing_half_written_and_can_be_repeated() {
    for earlier in [false, true] {
        copies(earlier, |store, _, dest| {
            let taken = store.snapshot_on_disk(dest, SnapshotOptions::new());
            taken.map(drop)
        });
    }
}

#[test]
fn a_restore_onto_a_full_disk_leaves_nothing_half_written_and_can_be_repeated() {
    copies(false, |_, source, dest| {
        restore_on_disks(Arc::clone(source), dest, RestoreOptions::new()).map(drop)
    });
}
