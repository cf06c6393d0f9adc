//! Full and incremental snapshots, what they copy, and what they refuse.

use crate::support::disk::TestDisk;
use crate::support::power::Image;
use crate::support::ruled::{Op, Ruled};
use crate::{append, assert_prefix, fill_segment, opened, read_only, snapshot, taken};
use quipu::io::{Access, Disk, MemoryDisk, RealDisk};
use quipu::prelude::*;
use quipu::{Control, Copying, RestoreOptions, SnapshotOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A store of three segments, all but the last of them sealed.
fn store_on(disk: &(impl Disk + Clone + 'static)) -> Store {
    let store = opened(disk.clone()).unwrap();
    fill_segment(&store);
    fill_segment(&store);
    append(&store, 20, 400);
    store.close().unwrap();
    opened(disk.clone()).unwrap()
}

fn is_refused(store: &Store, dest: &(impl Disk + Clone + 'static), kind: StoreErrorKind) {
    let error = taken(store, dest).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
}

/// The names of all files but the lock, with lengths and hashes of their bytes.
fn bytes_of(disk: &dyn Disk) -> Vec<(String, usize, u64)> {
    let files = Image::of(disk).files.into_iter();
    let files = files.filter(|(name, _)| name != "lock");
    let told = files.map(|(name, bytes)| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        (name, bytes.len(), hasher.finish())
    });
    told.collect()
}

#[test]
fn a_snapshot_opens_for_reading_and_for_writing_and_goes_on_alone() {
    let (disk, dest) = (TestDisk::new(), TestDisk::new());
    let store = store_on(&disk);
    let report = snapshot(&store, &dest);
    assert_eq!(report.position, store.head().position);
    assert_eq!(report.digest, store.head().digest);
    append(&store, 3, 10);
    let before = bytes_of(&dest);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    assert_eq!(bytes_of(&dest), before, "reading changed the snapshot");
    for _ in 0..2 {
        let copy = opened(dest.clone()).unwrap();
        assert!(copy.head().position >= report.position);
        append(&copy, 5, 100);
        fill_segment(&copy);
        assert!(copy.verify().unwrap().is_sound());
        copy.close().unwrap();
    }
    assert!(read_only(dest).unwrap().verify().unwrap().is_sound());
    assert_eq!(store.head().position.get(), report.position.get() + 3);
}

#[test]
fn what_was_buffered_is_in_the_snapshot_and_durable() {
    let store = opened(MemoryDisk::new()).unwrap();
    append(&store, 3, 10);
    assert_eq!(store.stats().durable_position, 0);
    let report = snapshot(&store, &MemoryDisk::new());
    assert_eq!(report.position, 3);
    assert_eq!(store.stats().durable_position, 3);
    assert!(store.diagnostics().since_last_snapshot.is_some());
}

#[test]
fn reports_and_diagnostics_are_shown_in_words() {
    let store = opened(TestDisk::new()).unwrap();
    append(&store, 3, 10);
    assert!(
        store
            .diagnostics()
            .to_string()
            .ends_with("\nsnapshot  none since it was opened")
    );
    let report = snapshot(&store, &TestDisk::new());
    let (copied, took) = (report.copied_bytes, report.took);
    assert_eq!(
        report.to_string(),
        format!("up to 3: {copied} bytes copied, 0 shared, 0 were there, in {took:.1?}")
    );
    let shown = store.diagnostics().to_string();
    let begins: Vec<_> = shown
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        begins,
        [
            "store", "head", "log", "written", "syncs", "waiting", "snapshot"
        ]
    );
    assert!(shown.contains("written   3 events in "), "{shown}");
    assert!(shown.contains(", durable up to 3\n"), "{shown}");
}

#[test]
fn an_empty_store_has_a_snapshot_too() {
    let store = opened(TestDisk::new()).unwrap();
    let dest = TestDisk::new();
    assert_eq!(snapshot(&store, &dest).position, 0);
    assert_eq!(read_only(dest.clone()).unwrap().head().position, 0);
    append(&store, 2, 10);
    assert_eq!(snapshot(&store, &dest).position, 2);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    assert_prefix(&opened(dest).unwrap(), &store);
}

#[test]
fn an_earlier_snapshot_gets_only_what_is_new() {
    let (disk, dest) = (TestDisk::new(), TestDisk::new());
    let store = store_on(&disk);
    let first = snapshot(&store, &dest);
    assert!(
        first.copied_bytes > 2_000_000 && first.kept_bytes == 0,
        "{first:?}"
    );
    append(&store, 1, 1000);
    let grown = store.stats().log_bytes;
    let second = snapshot(&store, &dest);
    assert!((1000..2000).contains(&second.copied_bytes), "{second:?}");
    assert_eq!(second.kept_bytes, first.copied_bytes);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    let third = snapshot(&store, &dest);
    assert_eq!((third.copied_bytes, third.position), (0, second.position));
    assert_eq!(third.kept_bytes, second.kept_bytes + second.copied_bytes);
    assert_eq!(store.stats().log_bytes, grown);
    for _ in 0..3 {
        fill_segment(&store);
        snapshot(&store, &dest);
        assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    }
    assert_prefix(&opened(dest).unwrap(), &store);
}

#[test]
fn a_snapshot_of_a_snapshot_and_of_what_was_made_of_one() {
    let (disk, one, two) = (TestDisk::new(), TestDisk::new(), TestDisk::new());
    let store = store_on(&disk);
    snapshot(&store, &one);
    let copy = read_only(one.clone()).unwrap();
    snapshot(&copy, &two);
    assert_prefix(&read_only(two.clone()).unwrap(), &store);
    drop(copy);
    append(&store, 3, 10);
    snapshot(&store, &two);
    assert_prefix(&read_only(two).unwrap(), &store);
    let copy = opened(one).unwrap();
    append(&copy, 3, 10);
    let three = TestDisk::new();
    snapshot(&copy, &three);
    assert_prefix(&opened(three).unwrap(), &copy);
}

#[test]
fn a_store_that_is_open_only_for_reading_is_copied_up_to_its_durable_position() {
    let (disk, dest) = (TestDisk::new(), TestDisk::new());
    let store = store_on(&disk);
    store.sync().unwrap();
    let reader = read_only(disk.clone()).unwrap();
    let durable = store.stats().durable_position;
    append(&store, 2, 10);
    assert_eq!(snapshot(&reader, &dest).position, durable);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    fill_segment(&store);
    store.sync().unwrap();
    assert_eq!(snapshot(&reader, &dest).position, store.head().position);
    assert_prefix(&read_only(dest.clone()).unwrap(), &store);
    store.close().unwrap();
    snapshot(&reader, &dest);
    assert_prefix(&opened(dest).unwrap(), &read_only(disk).unwrap());
}

#[test]
fn another_history_is_refused_and_nothing_is_touched() {
    let (disk, other) = (TestDisk::new(), TestDisk::new());
    let store = store_on(&disk);
    let dest = TestDisk::new();
    snapshot(&store, &dest);
    let before = bytes_of(&dest);
    let stranger = store_on(&other);
    is_refused(&stranger, &dest, StoreErrorKind::Argument);
    // The same store by its id, and another branch of it.
    let (base, branch) = (TestDisk::new(), TestDisk::new());
    let shared = opened(base.clone()).unwrap();
    append(&shared, 3, 10);
    snapshot(&shared, &branch);
    let twin = opened(branch).unwrap();
    append(&twin, 2, 20);
    append(&shared, 5, 10);
    let dest_of_shared = TestDisk::new();
    snapshot(&shared, &dest_of_shared);
    let held = bytes_of(&dest_of_shared);
    is_refused(&twin, &dest_of_shared, StoreErrorKind::Argument);
    append(&twin, 9, 20);
    is_refused(&twin, &dest_of_shared, StoreErrorKind::Argument);
    assert_eq!(bytes_of(&dest_of_shared), held);
    assert_eq!(bytes_of(&dest), before);
}

#[test]
fn a_snapshot_that_is_open_for_writing_and_the_store_itself_are_locked() {
    let (disk, dest) = (TestDisk::new(), TestDisk::new());
    let store = store_on(&disk);
    snapshot(&store, &dest);
    let copy = opened(dest.clone()).unwrap();
    is_refused(&store, &dest, StoreErrorKind::Locked);
    is_refused(&store, &disk, StoreErrorKind::Locked);
    copy.close().unwrap();
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let store = store_on(&TestDisk::new());
    for name in ["notes.txt", "manifest.old", "hint"] {
        let dest = MemoryDisk::new();
        dest.open(name, Access::CreateNew).unwrap();
        is_refused(&store, &dest, StoreErrorKind::Argument);
        let left = bytes_of(&dest);
        assert!(
            left.len() == 1 && left[0].0 == name && left[0].1 == 0,
            "{left:?}"
        );
    }
    let dest = MemoryDisk::new();
    dest.create_dir("segments").unwrap();
    dest.open("segments/0000000001.seg", Access::CreateNew)
        .unwrap();
    is_refused(&store, &dest, StoreErrorKind::Argument);
    assert_eq!(bytes_of(&dest).len(), 1);
}

#[test]
fn a_place_inside_the_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, inside) = (
        folder.path().join("store"),
        folder.path().join("store/nightly"),
    );
    let store = Store::open(&path).unwrap();
    append(&store, 3, 10);
    let error = store.snapshot(&inside).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    let error = quipu::restore(&path, &inside, RestoreOptions::new()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    assert!(error.to_string().contains("inside the store"), "{error}");
    assert!(!inside.exists());
    store.snapshot(folder.path().join("store-nightly")).unwrap();
}

#[test]
fn two_snapshots_into_one_directory_do_not_mix() {
    let disk = TestDisk::new();
    let store = store_on(&disk);
    let dest = MemoryDisk::new();
    let (again, inner, busy) = (store.clone(), dest.clone(), Arc::new(Mutex::new(0)));
    let (seen, reached) = (Arc::clone(&busy), AtomicU64::new(0));
    let ruled = Ruled::new(dest.clone(), move |call| {
        if call.op == Op::Rename && reached.fetch_add(1, SeqCst) == 1 {
            let error = taken(&again, &inner).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Locked, "{error}");
            assert!(
                error.to_string().contains("wait until it is free"),
                "{error}"
            );
            *seen.lock().unwrap() += 1;
        }
        Ok(())
    });
    snapshot(&store, &ruled);
    assert_eq!(*busy.lock().unwrap(), 1);
    assert_prefix(&read_only(dest).unwrap(), &store);
}

/// Turns a bit in the middle of a file's log.
fn damage(disk: &dyn Disk, name: &str) {
    let file = disk.open(name, Access::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 300_000).unwrap();
    file.write_at(&[byte[0] ^ 1], 300_000).unwrap();
}

#[test]
fn a_damaged_store_is_refused_by_the_name_of_its_file() {
    let disk = MemoryDisk::new();
    let store = store_on(&disk);
    for number in 1..=3 {
        let name = format!("segments/{number:010}.seg");
        let dest = MemoryDisk::new();
        if number == 3 {
            fill_segment(&store);
        }
        damage(&disk, &name);
        let error = taken(&store, &dest).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert!(error.to_string().starts_with(&name), "{error}");
        assert!(read_only(dest.clone()).is_err(), "a half copy opened");
        damage(&disk, &name);
        snapshot(&store, &dest);
        assert_prefix(&read_only(dest).unwrap(), &store);
    }
}

/// `docs/backup.md` advises it once a store is damaged.
#[test]
fn damage_in_what_an_earlier_snapshot_holds_does_not_come_into_it() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    let store = store_on(&disk);
    snapshot(&store, &dest);
    damage(&disk, "segments/0000000001.seg");
    fill_segment(&store);
    assert!(!store.verify().unwrap().is_sound());
    snapshot(&store, &dest);
    let copy = read_only(dest).unwrap();
    assert_eq!(copy.head(), store.head());
    assert!(copy.verify().unwrap().is_sound());
}

#[test]
fn a_copy_that_is_not_what_was_written_is_found() {
    let disk = MemoryDisk::new();
    let store = store_on(&disk);
    let dest = MemoryDisk::new();
    let inner = dest.clone();
    let ruled = Ruled::new(dest.clone(), move |call| {
        if call.op == Op::Sync && call.name == "segments/0000000002.seg.part" {
            damage(&inner, call.name);
        }
        Ok(())
    });
    let error = taken(&store, &ruled).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert!(
        error
            .to_string()
            .contains("the copy of segments/0000000002.seg"),
        "{error}"
    );
    snapshot(&store, &dest);
    assert_prefix(&read_only(dest).unwrap(), &store);
}

#[test]
fn a_throttle_slows_and_progress_tells_how_far() {
    let store = store_on(&TestDisk::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let options = SnapshotOptions::new()
        .bytes_per_second(20_000_000)
        .progress(move |progress| {
            seen.lock().unwrap().push(progress);
            Control::Continue
        });
    let started = Instant::now();
    let report = store
        .snapshot_on_disk(Arc::new(MemoryDisk::new()), options)
        .unwrap();
    // Copied once and read once.
    let least = report.copied_bytes * 2 * 9 / 10 / 20_000;
    assert!(
        started.elapsed() >= Duration::from_millis(least),
        "{report:?}"
    );
    let told = told.lock().unwrap();
    let (first, last) = (told.first().unwrap(), told.last().unwrap());
    assert_eq!((first.done_bytes, first.done_events), (0, 0));
    assert_eq!(last.done_bytes, last.total_bytes);
    assert_eq!(last.done_bytes, report.copied_bytes);
    assert_eq!(last.done_events, report.position.get());
    assert_eq!(last.total_events, report.position.get());
    assert!(told.windows(2).all(|w| w[0].done_bytes <= w[1].done_bytes));
}

/// It once was taken for one byte a second, and the call never came back.
#[test]
fn a_pace_of_nothing_is_refused() {
    let store = Store::in_memory().unwrap();
    append(&store, 1, 10);
    let dest = MemoryDisk::new();
    let options = SnapshotOptions::new().bytes_per_second(0);
    let refused = store.snapshot_on_disk(Arc::new(dest.clone()), options);
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Argument);
    snapshot(&store, &dest);
    let options = RestoreOptions::new().bytes_per_second(0);
    let refused = quipu::restore_on_disks(Arc::new(dest), Arc::new(MemoryDisk::new()), options);
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Argument);
}

#[test]
fn a_cancelled_snapshot_leaves_the_earlier_one_and_is_gone_on_with() {
    let store = store_on(&TestDisk::new());
    let dest = TestDisk::new();
    let mut end = None;
    for _ in 0..2 {
        let options = SnapshotOptions::new().progress(|progress| {
            match progress.done_bytes * 2 > progress.total_bytes {
                true => Control::Cancel,
                false => Control::Continue,
            }
        });
        let error = store
            .snapshot_on_disk(Arc::new(dest.clone()), options)
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Cancelled, "{error}");
        assert_eq!(read_only(dest.clone()).ok().map(|s| s.head()), end);
        let report = snapshot(&store, &dest);
        assert!(report.kept_bytes > 0, "{report:?}");
        assert_prefix(&read_only(dest.clone()).unwrap(), &store);
        end = Some(store.head());
        fill_segment(&store);
        fill_segment(&store);
    }
}

#[test]
fn hard_links_are_made_of_sealed_segments_and_never_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["store", "snapshot"].map(|name| folder.path().join(name));
    let store = store_on(&RealDisk::new(&paths[0]));
    let link = || SnapshotOptions::new().copying(Copying::HardLink);
    let report = store.snapshot_with(&paths[1], link()).unwrap();
    let inode = |path: &std::path::Path, number: u64| {
        let name = format!("segments/{number:010}.seg");
        std::fs::metadata(path.join(name)).unwrap().ino()
    };
    for number in 1..=2 {
        assert_eq!(inode(&paths[0], number), inode(&paths[1], number));
    }
    assert_ne!(inode(&paths[0], 3), inode(&paths[1], 3));
    assert!(report.shared_bytes > 1_500_000, "{report:?}");
    fill_segment(&store);
    store.close().unwrap();
    let store = opened(RealDisk::new(&paths[0])).unwrap();
    let before = bytes_of(&RealDisk::new(&paths[0]));
    store.snapshot_with(&paths[1], link()).unwrap();
    // An earlier end was in it: it stays a file of the snapshot's own.
    assert_ne!(inode(&paths[0], 3), inode(&paths[1], 3));
    let copy = opened(RealDisk::new(&paths[1])).unwrap();
    assert_prefix(&copy, &store);
    fill_segment(&copy);
    copy.close().unwrap();
    let sealed = |files: Vec<(String, usize, u64)>| -> Vec<_> {
        let is_sealed = |name: &str| (1..=3).any(|n| name == format!("segments/{n:010}.seg"));
        files
            .into_iter()
            .filter(|file| is_sealed(&file.0))
            .collect()
    };
    assert_eq!(sealed(bytes_of(&RealDisk::new(&paths[0]))), sealed(before));
    assert!(store.verify().unwrap().is_sound());
}

/// Without its hint a store is proven durable up to the end of its last sealed segment, and no further. A copy that
/// ends there is cut behind its last event when it is opened, and grows: in a file of its own.
#[test]
fn the_segment_in_which_a_copy_ends_is_never_a_hard_link() {
    let folder = tempfile::tempdir().unwrap();
    let disks = ["store", "snapshot"].map(|name| RealDisk::new(folder.path().join(name)));
    store_on(&disks[0]).close().unwrap();
    for name in ["hint", "checkpoint"] {
        disks[0].remove(name).unwrap();
    }
    let store = read_only(disks[0].clone()).unwrap();
    let options = SnapshotOptions::new().copying(Copying::HardLink);
    let path = folder.path().join("snapshot");
    let report = store.snapshot_with(path, options).unwrap();
    assert!(report.shared_bytes > 0, "{report:?}");
    let before = bytes_of(&disks[0]);
    let copy = opened(disks[1].clone()).unwrap();
    append(&copy, 3, 10);
    copy.close().unwrap();
    assert_eq!(bytes_of(&disks[0]), before);
    assert!(
        opened(disks[0].clone())
            .unwrap()
            .verify()
            .unwrap()
            .is_sound()
    );
}

#[test]
fn bytes_behind_the_end_of_a_snapshot_do_not_count() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    let store = store_on(&disk);
    snapshot(&store, &dest);
    let end = store.head();
    append(&store, 10, 1000);
    fill_segment(&store);
    store.close().unwrap();
    // As an incremental snapshot that was interrupted leaves it: files longer and more than the manifest says.
    let mut image = Image::of(&dest);
    let longer = Image::of(&disk);
    for (name, bytes) in longer.files {
        if name.ends_with(".seg") {
            image.files.insert(name, bytes);
        }
    }
    assert_eq!(read_only(image.disk()).unwrap().head(), end);
    let disk = image.disk();
    let copy = opened(disk.clone()).unwrap();
    assert_eq!(copy.head(), end);
    append(&copy, 3, 10);
    copy.close().unwrap();
    assert_eq!(
        read_only(disk).unwrap().head().position.get(),
        end.position.get() + 3
    );
}

#[test]
fn nothing_is_read_of_what_an_earlier_snapshot_has() {
    let (disk, dest) = (MemoryDisk::new(), MemoryDisk::new());
    let store = store_on(&disk);
    snapshot(&store, &dest);
    store.close().unwrap();
    let opened_files = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let seen = Arc::clone(&opened_files);
    let noted = move |disk: &MemoryDisk| {
        let seen = Arc::clone(&seen);
        Ruled::new(disk.clone(), move |call| {
            if call.op == Op::Open && call.name.ends_with(".seg") {
                seen.lock().unwrap().insert(call.name.to_owned());
            }
            Ok(())
        })
    };
    let store = opened(noted(&disk)).unwrap();
    append(&store, 2, 10);
    opened_files.lock().unwrap().clear();
    snapshot(&store, &noted(&dest));
    let names = std::mem::take(&mut *opened_files.lock().unwrap());
    assert_eq!(names.len(), 1, "{names:?}");
    assert_prefix(&read_only(dest).unwrap(), &store);
}
