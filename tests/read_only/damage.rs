//! Damage under a reader, and files that the writer makes again: it says `Corrupt`, or does without.

use crate::support::disk::TestDisk;
use crate::support::power::Image;
use crate::support::ruled::{Op, Ruled};
use crate::support::script::{self, KIND};
use crate::{Reader, Writer, is_alike};
use quipu::io::{Access, Disk};
use quipu::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const HEADER: usize = 4096;

fn append(store: &Store, bytes: usize) -> u64 {
    let count = store.head().position.get();
    let place = Coordinate::new(format!("e:{}", count % 5), "here").unwrap();
    let receipt = store.append(&place, KIND, &"x".repeat(bytes)).unwrap();
    receipt.position().get()
}

fn segment(number: u64) -> String {
    format!("segments/{number:010}.seg")
}

/// Turns a bit of a file; the second time it is as before.
fn flip(disk: &dyn Disk, name: &str, at: u64) {
    let file = disk.open(name, Access::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1], at).unwrap();
}

fn is_corrupt(image: &Image, file: &str, what: &str) {
    let error = Reader::open(image.disk()).err().expect(what);
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}: {error}");
    assert!(error.to_string().contains(file), "{what}: {error}");
}

/// A log of four segments, and the image that a kill leaves.
fn killed() -> (View, Image) {
    let disk = TestDisk::new();
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    while store.stats().segments < 4 {
        append(&store, 90_000);
    }
    for _ in 0..5 {
        append(&store, 100);
    }
    let (closed, view) = (disk.clone(), store.view());
    let image = Image::of(&disk);
    store.close().unwrap();
    // What upkeep made until the kill is left to chance; closing has sealed all.
    let mut whole = Image::of(&closed);
    let newest = segment(4);
    whole
        .files
        .insert(newest.clone(), image.files[&newest].clone());
    whole.files.remove("checkpoint").unwrap();
    (view, whole)
}

#[test]
fn damage_below_what_is_proven_is_reported_and_above_it_is_not_shown() {
    let (view, image) = killed();
    let newest = segment(4);
    let used = image.files[&newest].iter().rposition(|b| *b != 0).unwrap() + 1;
    let flipped = |at: usize| {
        let mut image = image.clone();
        image.files.get_mut(&newest).unwrap()[at] ^= 1;
        image
    };
    for at in [13, HEADER, HEADER + 80, used - 700, used - 1] {
        is_corrupt(&flipped(at), &newest, &format!("byte {at} of {used}"));
    }
    let mut short = image.clone();
    short.files.get_mut(&newest).unwrap().truncate(used - 1);
    is_corrupt(&short, &newest, "a byte is missing");
    for number in 1..=4 {
        let mut image = image.clone();
        let name = segment(number);
        image.files.remove(&name).unwrap();
        is_corrupt(&image, &name, "a segment is missing");
    }
    // Without the hint nothing proves the last event, and only its group would prove the one before.
    let mut unproven = flipped(used - 1);
    unproven.files.remove("hint").unwrap();
    let reader = Reader::open(unproven.disk()).unwrap();
    assert_eq!(reader.view().position().get(), view.position().get() - 2);
    // Damage further down is, since later groups say that it was durable.
    let mut under = flipped(used - 700);
    under.files.remove("hint").unwrap();
    is_corrupt(&under, &newest, "under later groups");
}

#[test]
fn a_read_error_is_an_error_and_not_the_end_of_the_log() {
    let (_, image) = killed();
    for number in [3, 4] {
        let name = segment(number);
        let disk = Ruled::new(image.disk(), move |call| {
            match call.op == Op::Read && call.name == name {
                true => Err(io::Error::from_raw_os_error(5)),
                false => Ok(()),
            }
        });
        let error = Store::open_read_only_with(script::config(disk)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Io, "{error}");
    }
}

/// What cannot be read now may be read later; nothing is shown twice then, and nothing is left out.
#[test]
fn a_refresh_that_failed_can_be_repeated() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk).store;
    append(&writer, 100);
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    let unreadable = Ruled::new(disk.clone(), move |call| {
        match breaks.load(SeqCst) && call.op == Op::Read && call.name.ends_with(".seg") {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    });
    let reader = Store::open_read_only_with(script::config(unreadable)).unwrap();
    let first = writer.stats().log_bytes;
    append(&writer, 100);
    let second = writer.stats().log_bytes;
    append(&writer, 100);
    // The second time, the first of the two is read before the damage is met.
    for at in [first, second] {
        flip(&disk, &segment(1), at + 100);
        let error = reader.query(Query::all()).err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        flip(&disk, &segment(1), at + 100);
    }
    broken.store(true, SeqCst);
    let error = reader.query(Query::all()).err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Io, "{error}");
    assert_eq!(reader.view().position().get(), 1, "the last picture stays");
    broken.store(false, SeqCst);
    is_alike(&reader.view(), &writer.view(), "mended");
    assert_eq!(reader.view().position().get(), 3);
}

/// Each page of a footer in turn, with a checkpoint, so that it is met by a read, and without, so that the opening
/// meets it; the reader makes the index again for itself alone.
#[test]
fn damaged_footers_are_made_again_in_memory() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk).store;
    let unit = |events| script::Unit {
        events,
        bytes: 400,
        how: script::How::Append,
        durability: Durability::Sync,
    };
    while writer.stats().segments < 3 {
        let sent = usize::try_from(writer.head().position.get()).unwrap();
        writer
            .append_batch(script::batch_of(&unit(500), sent))
            .unwrap();
    }
    let view = writer.view();
    writer.close().unwrap();
    let image = Image::of(&disk);
    let (first, second) = (segment(1), segment(2));
    let start = |name: &str| {
        let bytes = &image.files[name];
        let begins = |at: &usize| bytes[*at..].starts_with(b"QPSIDX\n\0");
        (0..bytes.len()).step_by(4096).find(begins).unwrap()
    };
    let is_right = |image: &Image, what: &str| {
        for derived in ["", "checkpoint"] {
            let mut image = image.clone();
            image.files.remove(derived);
            let disk = image.disk();
            let reader = Reader::open(disk.clone()).unwrap();
            is_alike(&reader.view(), &view, what);
            assert_eq!(Image::of(&disk), image, "{what}: something was changed");
        }
    };
    let end = image.files[&second].len();
    let pages = (start(&second) + 100..end).step_by(4096);
    assert!(pages.len() > 4, "there is more than one page");
    for at in pages.chain([end - 1]) {
        let mut image = image.clone();
        image.files.get_mut(&second).unwrap()[at] ^= 1;
        is_right(&image, &format!("byte {at}"));
    }
    let (mut all, mut none) = (image.clone(), image.clone());
    for name in [&first, &second] {
        all.files.get_mut(name).unwrap()[start(name) + 5000] ^= 1;
        none.files.get_mut(name).unwrap().truncate(start(name));
    }
    is_right(&all, "all footers are damaged");
    is_right(&none, "no footer is there");
}

/// A reader that asked for a run before it was made asks again once the log enters another segment.
#[test]
fn runs_are_used_if_they_are_there_and_not_needed() {
    let disk = TestDisk::new();
    let name = "segments/0000000001-0000000016.run";
    let fill = |writer: &Store, segments: u64| {
        while writer.stats().segments < segments {
            append(writer, 200_000);
        }
    };
    let asks_for_it = |reader: &Reader, view: &View| {
        reader.deeds.lock().unwrap().opened.clear();
        assert_eq!(reader.view().revision("absent").unwrap(), 0);
        let asked = reader.deeds.lock().unwrap().opened.contains(name);
        is_alike(&reader.view(), view, name);
        asked
    };
    let writer = Writer::open(&disk).store;
    fill(&writer, 18);
    let view = writer.view();
    writer.close().unwrap();
    let _ = disk.remove(name);
    let reader = Reader::open(disk.clone()).unwrap();
    assert_eq!(reader.view().revision("absent").unwrap(), 0);
    assert!(!asks_for_it(&reader, &view), "it was missing, and still is");
    let writer = Writer::open(&disk).store;
    fill(&writer, 19);
    let view = writer.view();
    writer.close().unwrap();
    assert!(asks_for_it(&reader, &view), "in the next segment");
    let late = Reader::open(disk.clone()).unwrap();
    is_alike(&late.view(), &view, "opened late");
    let _ = disk.remove(name);
    is_alike(&Reader::open(disk).unwrap().view(), &view, "without runs");
}

/// The next writer makes a new hint, whose count of writes begins again.
#[test]
fn a_deleted_hint_is_no_news_and_the_next_one_is() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk);
    for _ in 0..20 {
        append(&writer.store, 100);
    }
    let reader = Reader::open(disk.clone()).unwrap();
    disk.remove("hint").unwrap();
    append(&writer.store, 100);
    assert_eq!(reader.store.head().position.get(), 20);
    writer.kill();
    let writer = Writer::open(&disk).store;
    assert_eq!(reader.store.head().position.get(), 21, "written at opening");
    append(&writer, 100);
    is_alike(&reader.view(), &writer.view(), "a new hint");
    // One slot is torn: the other one counts, which is older.
    let slots = [0, 4096].map(|at| {
        flip(&disk, "hint", at + 20);
        let position = reader.store.head().position.get();
        flip(&disk, "hint", at + 20);
        position
    });
    assert_eq!(slots, [22, 22]);
}

#[test]
fn a_store_that_is_gone_or_replaced_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let writer = Store::open(&path).unwrap();
    append(&writer, 100);
    let reader = Store::open_read_only(&path).unwrap();
    writer.close().unwrap();
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    let gone = || {
        let error = reader.query(Query::all()).err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
    };
    gone();
    let other = Store::open(&path).unwrap();
    gone();
    for _ in 0..5 {
        append(&other, 100);
        gone();
    }
    assert_eq!(reader.view().position().get(), 1, "what was read stays");
    std::fs::remove_dir_all(&path).unwrap_or_default();
    drop(other);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::rename(folder.path().join("old"), &path).unwrap();
    assert_eq!(reader.query(Query::all()).unwrap().count(), 1);
}

/// A segment was begun and could not be mapped, and was taken away again: its header had been seen.
#[test]
fn a_segment_that_was_not_begun_after_all_is_not_entered() {
    let disk = TestDisk::new();
    let seen: Arc<std::sync::Mutex<Vec<Reader>>> = Arc::default();
    let fails = Arc::new(AtomicBool::new(true));
    let (failing, opened, below) = (Arc::clone(&fails), Arc::clone(&seen), disk.clone());
    let breaking = Ruled::new(disk.clone(), move |call| {
        if call.name != segment(2) || !failing.load(SeqCst) {
            return Ok(());
        }
        match call.op {
            Op::Map => Err(io::Error::from_raw_os_error(12)),
            Op::Remove => {
                opened
                    .lock()
                    .unwrap()
                    .push(Reader::open(below.clone()).unwrap());
                Ok(())
            }
            _ => Ok(()),
        }
    });
    let writer = Store::open_with(script::config(breaking)).unwrap();
    let place = Coordinate::new("e:1", "here").unwrap();
    let mut count = 0;
    while writer.append(&place, KIND, &"x".repeat(90_000)).is_ok() {
        count += 1;
    }
    let readers = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(readers.len(), 1);
    assert_eq!(readers[0].view().position().get(), count);
    for _ in 0..3 {
        append(&writer, 100);
        is_alike(&readers[0].view(), &writer.view(), "in the old segment");
    }
    fails.store(false, SeqCst);
    append(&writer, 90_000);
    append(&writer, 90_000);
    assert_eq!(writer.stats().segments, 2);
    is_alike(&readers[0].view(), &writer.view(), "in the new segment");
}
