//! Directories that are no store, stores of a later day, forbidden and full disks.

#[path = "bad_places/full.rs"]
mod full;
#[path = "support/ruled.rs"]
mod ruled;

use quipu::io::{MemoryDisk, RealDisk};
use quipu::prelude::*;
use quipu::{MIN_SEGMENT_BYTES, RestoreOptions, Result, StoreErrorKind as Is};
use ruled::{Call, Op, Ruled};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const KIND: EventKind = EventKind::literal("thing.done");
const MANIFEST: &str = "manifest";
const SEGMENT: &str = "segments/0000000001.seg";

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

/// Every file below a directory, with its bytes; the lock file is nobody's.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(
                contents(&entry.path())
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else if name != "lock" {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn refused(path: &Path, kind: Is, words: &[&str]) {
    let before = path.is_dir().then(|| contents(path));
    let error = Store::open(path).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for words in words {
        assert!(error.to_string().contains(words), "{words:?} in {error}");
    }
    let after = path.is_dir().then(|| contents(path));
    assert!(before == after, "something was written: {error}");
}

#[test]
fn a_directory_with_other_files_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.doc"), "years of work").unwrap();
    let words = ["is not a store", "thesis.doc", "name an empty directory"];
    refused(dir.path(), Is::Argument, &words);
    assert!(!dir.path().join("lock").exists());
    assert!(!dir.path().join("segments").exists());
}

#[test]
fn an_empty_directory_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.append(&place(), KIND, &0).unwrap();
}

#[test]
fn a_file_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "text").unwrap();
    let words = ["is not a directory", "name a directory"];
    refused(&path, Is::Argument, &words);
    refused(&path.join("below"), Is::Argument, &words);
    assert_eq!(fs::read(&path).unwrap(), b"text");
}

/// A store with one event, changed at one place of one file.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.append(&place(), KIND, &0).unwrap();
    store.close().unwrap();
    let path = dir.path().join(name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    dir
}

/// A manifest whose checksum is right again after a change.
fn resummed(bytes: &mut [u8]) {
    let (body, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

#[test]
fn a_store_of_a_newer_format_is_unsupported() {
    let newer = ["newer version of quipu"];
    let dir = changed(MANIFEST, |bytes| bytes[8] = 2);
    refused(dir.path(), Is::Unsupported, &newer);
    let dir = changed(MANIFEST, |bytes| {
        bytes[8] = 2;
        resummed(bytes);
    });
    refused(dir.path(), Is::Unsupported, &newer);
    let dir = changed(SEGMENT, |bytes| bytes[8] = 2);
    refused(dir.path(), Is::Unsupported, &newer);
}

#[test]
fn unknown_required_features_are_unsupported() {
    for bit in [1, 7, 63] {
        let dir = changed(MANIFEST, |bytes| {
            bytes[16 + bit / 8] |= 1 << (bit % 8);
            resummed(bytes);
        });
        refused(dir.path(), Is::Unsupported, &["newer version of quipu"]);
    }
    let dir = changed(SEGMENT, |bytes| {
        bytes[144] = 1;
        let sum = crc32fast::hash(&bytes[16..160]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    });
    refused(dir.path(), Is::Unsupported, &["newer version of quipu"]);
}

#[test]
fn a_damaged_or_missing_manifest_is_corrupt() {
    let dir = changed(MANIFEST, |bytes| bytes[30] ^= 1);
    refused(dir.path(), Is::Corrupt, &[MANIFEST, "restore"]);
    let dir = changed(MANIFEST, |bytes| bytes.truncate(20));
    refused(dir.path(), Is::Corrupt, &[MANIFEST, "restore"]);
    let dir = changed(MANIFEST, |_| {});
    fs::remove_file(dir.path().join(MANIFEST)).unwrap();
    refused(dir.path(), Is::Corrupt, &["manifest is missing", "restore"]);
}

#[test]
fn a_path_that_cannot_be_is_an_argument() {
    for path in ["", "a\0b"] {
        refused(Path::new(path), Is::Argument, &["name one"]);
    }
}

/// A comparison of two stores said "manifest at byte 0", and not of which.
#[test]
fn damage_is_told_with_the_directory_that_has_it() {
    let damaged = changed(MANIFEST, |bytes| bytes[30] ^= 1);
    let folder = tempfile::tempdir().unwrap();
    let [path, new] = ["store", "new"].map(|name| folder.path().join(name));
    let store = Store::open(&path).unwrap();
    for told in [
        Store::open(&damaged).map(drop),
        Store::open_read_only(&damaged).map(drop),
        quipu::diff(&path, &damaged).map(drop),
        quipu::restore(&damaged, &new, RestoreOptions::new()).map(drop),
        store.snapshot(&damaged).map(drop),
    ] {
        let error = told.unwrap_err();
        assert_eq!(error.kind(), Is::Corrupt, "{error}");
        let place = damaged.path().display().to_string();
        assert!(error.to_string().contains(&place), "{error}");
    }
}

#[test]
fn a_second_writer_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let error = Store::open(path).unwrap_err();
        assert_eq!(error.kind(), Is::Locked);
        let owner = format!("process {}, this one; clone the handle", std::process::id());
        assert!(error.to_string().contains(&owner), "{error}");
    }
    store.append(&place(), KIND, &0).unwrap();
    drop(store);
    assert_eq!(Store::open(&link).unwrap().head().position, 1);
}

/// Root may read everything, so the disk itself refuses.
#[test]
fn a_store_without_permission_says_so_at_every_step_of_opening() {
    for op in [
        Op::Prepare,
        Op::List,
        Op::Lock,
        Op::Create,
        Op::CreateDir,
        Op::Open,
    ] {
        let inner = MemoryDisk::new();
        let made = Store::open_with(StoreConfig::on_disk(Arc::new(inner.clone()))).unwrap();
        made.append(&place(), KIND, &0).unwrap();
        made.close().unwrap();
        let fresh = matches!(op, Op::Create | Op::CreateDir);
        let inner = if fresh { MemoryDisk::new() } else { inner };
        let disk = Ruled::new(inner, move |call| match call.op == op {
            true => Err(ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        });
        let error = Store::open_with(StoreConfig::on_disk(Arc::new(disk))).unwrap_err();
        assert_eq!(error.kind(), Is::Io, "{op:?}: {error}");
        let words = "give this user access to the store";
        assert!(error.to_string().contains(words), "{op:?}: {error}");
    }
}

/// A disk on which nothing more fits while `full` is set: no new files, no bytes where none were.
fn filling(inner: RealDisk, full: &Arc<AtomicBool>) -> Ruled {
    let full = Arc::clone(full);
    let ends: Mutex<HashMap<String, u64>> = Mutex::default();
    Ruled::new(inner, move |call: Call<'_>| {
        let mut ends = ends.lock().unwrap();
        let end = ends.entry(call.name.to_owned()).or_default();
        let grows = match call.op {
            Op::Create | Op::CreateDir => true,
            Op::Write => call.end > *end,
            _ => false,
        };
        if grows && full.load(Ordering::SeqCst) {
            return Err(ErrorKind::StorageFull.into());
        }
        *end = call.end.max(*end);
        Ok(())
    })
}

fn event_of(bytes: usize) -> Vec<u8> {
    let mut value = vec![0xc6];
    value.extend_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
    value.resize(bytes + 5, 7);
    value
}

fn append(store: &Store, bytes: usize) -> Result<Receipt> {
    store.append(&place(), KIND, &RawPayload::new(&event_of(bytes)))
}

/// Every event that was acknowledged is there, and nothing else.
fn assert_holds(store: &Store, receipts: &[Receipt]) {
    assert_eq!(store.head().position, receipts.len() as u64);
    let events = store.stream("thing:1").unwrap();
    let hashes: Vec<_> = events.map(|event| event.unwrap().hash()).collect();
    assert!(
        hashes.iter().eq(receipts
            .iter()
            .map(Receipt::hash)
            .collect::<Vec<_>>()
            .iter())
    );
}

fn assert_full(error: &StoreError) {
    assert_eq!(error.kind(), Is::Io, "{error}");
    let says = error.to_string();
    assert!(says.contains("nothing was written"), "{says}");
    assert!(says.contains("free space, then go on"), "{says}");
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_space() {
    for bytes in [500, 20_000, 200_000, 2_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let disk = filling(RealDisk::new(dir.path()), &full);
        let config = StoreConfig::on_disk(Arc::new(disk)).segment_bytes(MIN_SEGMENT_BYTES);
        let store = Store::open_with(config).unwrap();
        let mut receipts = Vec::new();
        for round in 0..4 {
            receipts.push(append(&store, bytes).unwrap());
            full.store(true, Ordering::SeqCst);
            let error = loop {
                match append(&store, bytes) {
                    Ok(receipt) => receipts.push(receipt),
                    Err(error) => break error,
                }
            };
            assert_full(&error);
            assert_full(&append(&store, bytes).unwrap_err());
            assert_holds(&store, &receipts);
            full.store(false, Ordering::SeqCst);
            receipts.push(append(&store, bytes).unwrap_or_else(|e| panic!("round {round}: {e}")));
            assert_holds(&store, &receipts);
        }
        store.close().unwrap();
        assert_holds(&Store::open(dir.path()).unwrap(), &receipts);
    }
}

/// A workload over several segments on a disk whose call number `at` says that it is full, once.
fn full_once(at: u64) -> u64 {
    let inner = MemoryDisk::new();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let disk = Ruled::new(inner.clone(), move |call| {
        let takes_space = matches!(call.op, Op::Create | Op::Write | Op::SetLen | Op::CreateDir);
        if takes_space && counted.fetch_add(1, Ordering::SeqCst) == at {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
    });
    let config = StoreConfig::on_disk(Arc::new(disk)).segment_bytes(MIN_SEGMENT_BYTES);
    let store = match Store::open_with(config.clone()) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), Is::Io, "call {at}: {error}");
            Store::open_with(config).unwrap_or_else(|e| panic!("call {at}, open again: {e}"))
        }
    };
    let mut receipts = Vec::new();
    while receipts.len() < 14 {
        let size = if receipts.len() == 6 {
            2_100_000
        } else {
            250_000
        };
        match append(&store, size) {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => {
                assert_eq!(error.kind(), Is::Io, "call {at}: {error}");
                let again = append(&store, size);
                receipts.push(again.unwrap_or_else(|e| panic!("call {at}, append again: {e}")));
            }
        }
        assert_eq!(store.head().position, receipts.len() as u64);
    }
    assert_holds(&store, &receipts);
    if let Err(error) = store.close() {
        assert_eq!(error.kind(), Is::Io, "call {at}: {error}");
    }
    let store = Store::open_with(StoreConfig::on_disk(Arc::new(inner))).unwrap();
    assert_holds(&store, &receipts);
    calls.load(Ordering::SeqCst)
}

#[test]
fn a_disk_that_is_full_for_one_call_loses_nothing_and_stops_nothing() {
    let calls = full_once(u64::MAX);
    assert!(calls > 40, "{calls} calls");
    for at in 0..calls {
        full_once(at);
    }
}

const TINY_DISK: &str = "QUIPU_TINY_DISK";

/// Runs in a child whose store lies on a file system of 8 MiB; see the next test.
#[test]
#[ignore = "run by a_small_file_system_fills_up_and_goes_on"]
fn child_fills_a_tiny_disk() {
    let place = std::env::var(TINY_DISK).unwrap();
    let place = Path::new(&place);
    let ballast = place.join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let path = place.join("store");
    let store = Store::open(&path).unwrap();
    let mut receipts = Vec::new();
    let error = loop {
        match append(&store, 10_000) {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => break error,
        }
    };
    assert_full(&error);
    assert!(receipts.len() > 50, "{}", receipts.len());
    assert_holds(&store, &receipts);
    fs::remove_file(&ballast).unwrap();
    for _ in 0..50 {
        receipts.push(append(&store, 10_000).unwrap());
    }
    assert_holds(&store, &receipts);
    drop(store);
    assert_holds(&Store::open(&path).unwrap(), &receipts);
}

#[test]
fn a_small_file_system_fills_up_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let shell = "mount -t tmpfs -o size=8m none \"$0\" || exit 77; exec \"$@\"";
    let outcome = Command::new("unshare")
        .args(["-m", "sh", "-c", shell])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_fills_a_tiny_disk", "--ignored"])
        .env(TINY_DISK, dir.path())
        .output();
    let Ok(output) = outcome else {
        println!("skipped: there is no `unshare` here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(77) || !said.contains("running 1 test") {
        println!("skipped: this user may not mount a file system");
        return;
    }
    assert!(output.status.success(), "{said}");
}
