//! Bugs that were found once: each test begins with the story of its bug.

#[path = "support/ruled.rs"]
mod ruled;

use quipu::MIN_SEGMENT_BYTES;
use quipu::io::{Access, Disk, MemoryDisk};
use quipu::prelude::*;
use ruled::{Gate, Op, Ruled};
use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

const KIND: EventKind = EventKind::literal("thing.done");

/// A store of small segments whose full ones are never sealed, as upkeep may not write.
fn never_sealed() -> Store {
    let disk = Ruled::new(MemoryDisk::new(), |call| {
        let upkeep = std::thread::current().name() == Some("quipu-upkeep");
        match upkeep && call.op == Op::Write {
            true => Err(ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    });
    let config = StoreConfig::on_disk(Arc::new(disk)).segment_bytes(MIN_SEGMENT_BYTES);
    Store::open_with(config).unwrap()
}

/// Appends an event of 150 KiB so often.
fn fill(store: &Store, events: usize) -> Vec<Receipt> {
    let large = vec![0x5a_u8; 150 * 1024];
    let thing = Coordinate::new("thing:1", "here").unwrap();
    (0..events)
        .map(|_| store.append(&thing, KIND, &large).unwrap())
        .collect()
}

/// `log_bytes` left out the segments that were full and not yet sealed, so that it fell at each rotation and rose
/// again when upkeep was done.
#[test]
fn log_bytes_never_falls_while_the_log_grows() {
    let store = never_sealed();
    let mut last = store.stats().log_bytes;
    for _ in 0..20 {
        fill(&store, 1);
        let now = store.stats().log_bytes;
        assert!(now >= last + 150 * 1024, "{last} and then {now}");
        last = now;
    }
    assert!(store.stats().segments > 2);
}

/// A full segment that waits to be sealed has its index in memory like the newest, and was taken to reach as far as
/// the newest does: a range of times was searched in rows that it does not have, and the read failed as `Corrupt`.
#[test]
fn a_range_of_times_ends_where_an_unsealed_segment_ends() {
    let store = never_sealed();
    let receipts = fill(&store, 20);
    assert!(store.stats().segments > 2);
    for (index, receipt) in receipts.iter().enumerate() {
        let since = ReadOptions::new().since(receipt.recorded_at());
        for (options, first) in [(since, index + 1), (since.backward(), receipts.len())] {
            let events = store.query_with(Query::all(), options).unwrap();
            let positions: Vec<u64> = events.map(|e| e.unwrap().position().get()).collect();
            assert_eq!(positions.len(), receipts.len() - index);
            assert_eq!(positions[0], first as u64);
        }
        let view = store.view_at_time(receipt.recorded_at()).unwrap();
        assert_eq!(view.position(), receipt.position());
        assert_eq!(view.head().unwrap().position, receipt.position());
    }
}

/// The writer enters an event into the index before it writes it. Where a revision stands was told from the first
/// row of its entity, visible or not: a reader of an entity whose first event was under way got `Corrupt`.
#[test]
fn revisions_are_told_from_events_that_are_visible() {
    let gate = Arc::new(Gate::default());
    let rule = Arc::clone(&gate);
    let disk = Ruled::new(MemoryDisk::new(), move |call| {
        if call.op == Op::Write && call.name == "segments/0000000001.seg" {
            rule.pass();
        }
        Ok(())
    });
    let store = Store::open_with(StoreConfig::on_disk(Arc::new(disk))).unwrap();
    let old = Coordinate::new("thing:old", "here").unwrap();
    let new = Coordinate::new("thing:new", "here").unwrap();
    store.append(&old, KIND, &0).unwrap();
    let _opener = gate.opener();
    gate.shut();
    let ticket = store.submit(&new, KIND, &0, AppendOptions::new()).unwrap();
    gate.wait_for_someone();
    let from = |revision: u64| ReadOptions::new().from_revision(revision);
    let read = |revision| store.stream_with("thing:new", from(revision)).unwrap();
    let found: Vec<_> = [1, 2].into_iter().map(|r| read(r).next()).collect();
    let old_found = store.stream_with("thing:old", from(1)).unwrap().count();
    gate.open();
    ticket.wait().unwrap();
    assert!(found.iter().all(Option::is_none), "{found:?}");
    assert_eq!(old_found, 1);
    assert_eq!(read(1).count(), 1);
}

/// The files of a disk as a killed process leaves them.
fn copy_of(disk: &MemoryDisk) -> MemoryDisk {
    let copy = MemoryDisk::new();
    copy.create_dir("segments").unwrap();
    for dir in ["", "segments"] {
        for entry in disk.list(dir).unwrap().iter().filter(|e| e.is_file) {
            let name = format!("{dir}/{}", entry.name);
            let name = name.trim_start_matches('/');
            let file = copy.open(name, Access::CreateNew).unwrap();
            file.write_at(&bytes_of(disk, name), 0).unwrap();
        }
    }
    copy
}

fn bytes_of(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn overwrite(disk: &MemoryDisk, name: &str, bytes: &[u8], offset: u64) {
    let file = disk.open(name, Access::Write).unwrap();
    file.write_at(bytes, offset).unwrap();
}

fn small_segments(disk: Ruled) -> StoreConfig {
    StoreConfig::on_disk(Arc::new(disk)).segment_bytes(MIN_SEGMENT_BYTES)
}

fn by_upkeep() -> bool {
    std::thread::current().name() == Some("quipu-upkeep")
}

/// A full segment was sealed as far as its groups could be read: behind a group that had rotted the footer was
/// written over acknowledged events, and the file cut.
#[test]
fn a_full_segment_with_a_damaged_group_is_not_sealed_over_what_follows_it() {
    const FIRST: &str = "segments/0000000001.seg";
    let memory = MemoryDisk::new();
    let gate = Arc::new(Gate::default());
    let rule = Arc::clone(&gate);
    let disk = Ruled::new(memory.clone(), move |call| {
        if by_upkeep() && call.op == Op::Open {
            rule.pass();
        }
        Ok(())
    });
    gate.shut();
    let store = Store::open_with(small_segments(disk)).unwrap();
    fill(&store, 8);
    gate.wait_for_someone();
    overwrite(&memory, FIRST, b"rot", 200 * 1024);
    let before = bytes_of(&memory, FIRST);
    gate.open();
    store.close().unwrap();
    let after = bytes_of(&memory, FIRST);
    let log = 6 * 150 * 1024;
    assert!(after.len() >= log && after[..log] == before[..log]);
}

/// A segment whose last groups were gone was given a footer and cut, and only then compared with its successor: the
/// opening that refuses a store says that nothing was changed, and a copy of the groups had no place to go to.
#[test]
fn an_opening_that_refuses_changes_no_segment() {
    const FIRST: &str = "segments/0000000001.seg";
    let memory = MemoryDisk::new();
    let disk = Ruled::new(memory.clone(), |call| match by_upkeep() {
        true if call.op == Op::Write => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    });
    let store = Store::open_with(small_segments(disk)).unwrap();
    fill(&store, 8);
    let killed = copy_of(&memory);
    drop(store);
    let before = bytes_of(&killed, FIRST);
    let last = before.windows(4).rposition(|w| w == b"GRUP").unwrap();
    overwrite(&killed, FIRST, &vec![0; before.len() - last], last as u64);
    let before = bytes_of(&killed, FIRST);
    let refused = Store::open_with(StoreConfig::on_disk(Arc::new(killed.clone())));
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert!(bytes_of(&killed, FIRST) == before);
}

/// A panic in upkeep, say of the caller's disk, left its work marked as under way: the writer waited for the next
/// segment, or for room among the unsealed ones, for ever, and so did the close.
#[test]
fn a_panic_in_upkeep_holds_nobody_up() {
    for wanted in [Op::Create, Op::Open] {
        let disk = Ruled::new(MemoryDisk::new(), move |call| {
            assert!(!by_upkeep() || call.op != wanted, "the disk panics");
            Ok(())
        });
        let store = Store::open_with(small_segments(disk)).unwrap();
        let thing = Coordinate::new("thing:1", "here").unwrap();
        let large = vec![0x5a_u8; 500 * 1024];
        for _ in 0..20 {
            let ticket = store.submit(&thing, KIND, &large, AppendOptions::new());
            let answer = ticket.unwrap().wait_timeout(Duration::from_secs(20));
            assert!(answer.is_some_and(|receipt| receipt.is_ok()), "{wanted:?}");
        }
        store.close().unwrap();
    }
}

/// Two readers that met a damaged footer made it again at once, under one temporary name: one of them failed.
#[test]
fn readers_that_meet_a_damaged_footer_together_all_read() {
    const FIRST: &str = "segments/0000000001.seg";
    let memory = MemoryDisk::new();
    let disk = Ruled::new(memory.clone(), |call| {
        if call.op == Op::Rename && call.name.contains(".sidx") {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let open = || Store::open_with(small_segments(disk.clone())).unwrap();
    let store = open();
    let receipts = fill(&store, 8);
    store.close().unwrap();
    let store = open();
    let end = bytes_of(&memory, FIRST).len() as u64;
    overwrite(&memory, FIRST, b"rot", end - 20);
    let found: Vec<_> = std::thread::scope(|scope| {
        let read = || store.get(receipts[0].id()).map(|event| event.is_some());
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    assert!(found.iter().all(|f| matches!(f, Ok(true))), "{found:?}");
}

/// A rotation that failed with the header of the next segment written, and could not take that file away again, let
/// appends go on in the old segment: two ends of one log, which the next opening refused as damage.
#[test]
fn a_rotation_that_cannot_be_taken_back_stops_the_writer() {
    let memory = MemoryDisk::new();
    let disk = Ruled::new(memory.clone(), |call| {
        let next = call.name == "segments/0000000002.seg";
        match next && matches!(call.op, Op::Map | Op::Remove) {
            true => Err(ErrorKind::OutOfMemory.into()),
            false => Ok(()),
        }
    });
    let store = Store::open_with(small_segments(disk)).unwrap();
    fill(&store, 6);
    let thing = Coordinate::new("thing:1", "here").unwrap();
    let large = vec![0x5a_u8; 150 * 1024];
    assert!(store.append(&thing, KIND, &large).is_err());
    let small = store.append(&thing, KIND, &0);
    let acknowledged = if small.is_ok() { 7 } else { 6 };
    drop(store);
    let store = Store::open_with(StoreConfig::on_disk(Arc::new(memory))).unwrap();
    assert_eq!(store.head().position, acknowledged);
}

/// A writer that panicked answered its tickets while it held the turn: a waker that appended, or dropped the last
/// handle, waited for that turn for ever.
#[test]
fn a_waker_may_append_after_a_panic_of_the_writer() {
    struct Appends(Store);
    impl Wake for Appends {
        fn wake(self: Arc<Self>) {
            let thing = Coordinate::new("thing:1", "here").unwrap();
            drop(self.0.append(&thing, KIND, &1));
        }
    }
    let gate = Arc::new(Gate::default());
    let rule = Arc::clone(&gate);
    let disk = Ruled::new(MemoryDisk::new(), move |call| {
        let writer = std::thread::current().name() == Some("quipu-writer");
        if writer && call.op == Op::Write && call.name.ends_with(".seg") {
            rule.pass();
            panic!("the disk panics");
        }
        Ok(())
    });
    let store = Store::open_with(small_segments(disk)).unwrap();
    let thing = Coordinate::new("thing:1", "here").unwrap();
    gate.shut();
    let mut first = store
        .submit(&thing, KIND, &0, AppendOptions::new())
        .unwrap();
    let waker = Waker::from(Arc::new(Appends(store.clone())));
    let polled = Pin::new(&mut first).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    gate.open();
    if let Ok(mut next) = store.submit(&thing, KIND, &0, AppendOptions::new()) {
        let answer = next.wait_timeout(Duration::from_secs(20));
        assert!(answer.is_some_and(|receipt| receipt.is_err()));
    }
    let unknown = first.wait().map_err(|e| e.kind());
    assert_eq!(unknown.unwrap_err(), StoreErrorKind::OutcomeUnknown);
}
