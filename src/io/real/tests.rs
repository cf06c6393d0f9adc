//! What only a real directory can show: links, pipes, other processes, modes.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

const CHILD_DIRECTORY: &str = "QUIPU_TEST_LOCK_DIRECTORY";

fn prepared(path: impl AsRef<Path>) -> RealDisk {
    let disk = RealDisk::new(path);
    disk.prepare().unwrap();
    disk
}

/// Not a test by itself: run again by the one below, in a process of its own.
#[test]
fn holds_the_lock_until_killed() {
    let Ok(path) = std::env::var(CHILD_DIRECTORY) else {
        return;
    };
    let _lock = RealDisk::new(path).lock(std::process::id()).unwrap();
    // Waits at the test's end of the pipe; it outlives this process, as an exec'd child may.
    let mut grandchild = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
    println!("\nlocked");
    grandchild.wait().unwrap();
}

fn spawn_holder(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "io::real::tests::holds_the_lock_until_killed",
            "--nocapture",
        ])
        .env(CHILD_DIRECTORY, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|line| line == "locked"),
        "child took the lock"
    );
    child
}

#[test]
fn lock_dies_with_its_process_and_no_execed_child_keeps_it() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path());
    let mut holder = spawn_holder(place.path());
    // Kept open, so that the grandchild lives until the end of this test.
    let _pipe = holder.stdin.take();
    match disk.lock(1) {
        Err(LockError::Held { owner }) => assert_eq!(owner, Some(holder.id())),
        other => panic!("{other:?}"),
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(disk.lock(1).is_ok());
}

#[test]
fn lock_holds_through_a_link_and_without_its_file() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path().join("store"));
    symlink(place.path().join("store"), place.path().join("link")).unwrap();
    let _lock = disk.lock(7).unwrap();
    let linked = prepared(place.path().join("link"));
    assert!(matches!(
        linked.lock(8),
        Err(LockError::Held { owner: Some(7) })
    ));
    disk.remove(LOCK_FILE).unwrap();
    assert!(matches!(
        linked.lock(8),
        Err(LockError::Held { owner: None })
    ));
}

#[test]
fn lock_file_is_overwritten_whole() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path());
    drop(disk.lock(u32::MAX).unwrap());
    let _lock = disk.lock(5).unwrap();
    assert_eq!(
        fs::read_to_string(place.path().join(LOCK_FILE)).unwrap(),
        "5\n"
    );
}

#[test]
fn what_is_no_regular_file_is_refused_without_hanging() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path().join("store"));
    let at = |name: &str| place.path().join("store").join(name);
    fs::write(place.path().join("outside"), "secret").unwrap();
    symlink(place.path().join("outside"), at("link")).unwrap();
    symlink(place.path().join("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(at("pipe"))
            .status()
            .unwrap()
            .success()
    );
    for name in ["link", "dangling", "dir", "socket", "pipe"] {
        for access in [Access::Read, Access::Write] {
            let error = disk.open(name, access).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidData,
                "{name} {access:?}: {error}"
            );
        }
        let error = disk.open(name, Access::CreateNew).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name}");
    }
    assert!(disk.list("").unwrap().iter().all(|entry| !entry.is_file));
}

#[test]
fn pipe_as_lock_file_or_as_store_does_not_hang() {
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join(LOCK_FILE);
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let disk = prepared(place.path());
    let refused = |disk: &RealDisk| match disk.lock(1) {
        Err(LockError::Io(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&disk), ErrorKind::InvalidData);
    let disk = RealDisk::new(&pipe);
    assert_eq!(refused(&disk), ErrorKind::NotADirectory);
    assert_eq!(disk.prepare().unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn linked_directory_inside_the_store_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path().join("store"));
    symlink(place.path(), place.path().join("store/segments")).unwrap();
    assert_eq!(
        disk.list("segments").unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        disk.create_dir("segments").unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
}

#[test]
fn missing_parents_are_made_for_the_owner_only() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path().join("a/b/store"));
    disk.prepare().unwrap();
    disk.create_dir("segments").unwrap();
    disk.open("segments/1", Access::CreateNew).unwrap();
    let mode = |name: &str| {
        fs::metadata(place.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for dir in ["a", "a/b", "a/b/store", "a/b/store/segments"] {
        assert_eq!(mode(dir), 0o700, "{dir}");
    }
    assert_eq!(mode("a/b/store/segments/1"), 0o600);
}

#[test]
fn file_in_place_of_a_directory_is_named() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    for path in ["file", "file/store"] {
        let error = RealDisk::new(place.path().join(path))
            .prepare()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory, "{path}: {error}");
    }
    assert_eq!(
        RealDisk::new("").prepare().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

/// What a fork leaves: the lock, and a copy of its descriptor elsewhere.
fn lock_with_copy(disk: &RealDisk, taken_by: u32) -> (RealLock, File) {
    let locked = open_to_lock(disk).unwrap();
    locked.try_lock().unwrap();
    let copy = locked.try_clone().unwrap();
    (RealLock { locked, taken_by }, copy)
}

#[test]
fn dropped_lock_is_free_while_a_forked_child_has_a_copy() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path());
    let (lock, _copy) = lock_with_copy(&disk, std::process::id());
    drop(lock);
    assert!(disk.lock(1).is_ok());
}

#[test]
fn forked_child_that_drops_its_copy_leaves_the_parent_its_lock() {
    let place = tempfile::tempdir().unwrap();
    let disk = prepared(place.path());
    let parent = std::process::id() + 1;
    let (lock, _copy) = lock_with_copy(&disk, parent);
    drop(lock);
    assert!(matches!(disk.lock(1), Err(LockError::Held { owner: None })));
}

#[test]
fn a_hard_link_is_the_same_file_and_a_reflink_another_of_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| prepared(folder.path().join(name)));
    let file = from.open("file", Access::CreateNew).unwrap();
    write_all_at(&*file, b"knot", 0).unwrap();
    let path = from.path_of("file").unwrap();
    to.share("link", &path, Sharing::HardLink).unwrap();
    let again = to.share("link", &path, Sharing::HardLink).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let read = |name: &str| {
        let mut bytes = [0; 5];
        let count = to.open(name, Access::Read)?.read_at(&mut bytes, 0)?;
        Ok::<_, std::io::Error>(bytes[..count].to_vec())
    };
    assert_eq!(read("link").unwrap(), b"knot");
    // Whether it can depends on the file system; one that cannot leaves nothing.
    match to.share("clone", &path, Sharing::Reflink) {
        Ok(()) => assert_eq!(read("clone").unwrap(), b"knot"),
        Err(_) => assert_eq!(read("clone").unwrap_err().kind(), ErrorKind::NotFound),
    }
    write_all_at(&*file, b"K", 0).unwrap();
    assert_eq!(read("link").unwrap(), b"Knot");
    assert!(read("clone").is_err() || read("clone").unwrap() == b"knot");
}

#[test]
fn a_link_to_share_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = prepared(folder.path().join("to"));
    symlink("/etc/hostname", folder.path().join("link")).unwrap();
    let from = folder.path().join("link");
    assert!(disk.share("clone", &from, Sharing::Reflink).is_err());
    assert!(disk.open("clone", Access::Read).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_in_use_while_it_has_a_name_or_a_map() {
    let directory = tempfile::tempdir().unwrap();
    let disk = prepared(directory.path());
    let bytes = vec![7; 3 << 20];
    let made = disk.open("file", Access::CreateNew).unwrap();
    write_all_at(&*made, &bytes, 0).unwrap();
    disk.share("copy", &directory.path().join("file"), Sharing::HardLink)
        .unwrap();
    let map = disk.open("file", Access::Read).unwrap().map(3 << 20);
    assert!(!made.is_only_use(), "it has two names");
    disk.remove("file").unwrap();
    assert!(!made.is_only_use(), "it has a name");
    disk.remove("copy").unwrap();
    assert!(!made.is_only_use(), "it is mapped, though open no more");
    drop(map);
    assert!(made.is_only_use());
}

#[test]
fn what_is_discarded_stays_whole_for_those_who_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = prepared(directory.path());
    let bytes = vec![7; 3 << 20];
    for (by_map, by_name) in [(true, false), (false, true), (false, false)] {
        let made = disk.open("file", Access::CreateNew).unwrap();
        write_all_at(&*made, &bytes, 0).unwrap();
        drop(made);
        // It says nothing of its use, and sees what is done.
        let seen = File::open(directory.path().join("file")).unwrap();
        let map = by_map.then(|| {
            disk.open("file", Access::Read)
                .unwrap()
                .map(3 << 20)
                .unwrap()
        });
        if by_name {
            disk.share("other", &directory.path().join("file"), Sharing::HardLink)
                .unwrap();
        }
        crate::io::discard(&disk, "file").unwrap();
        assert!(
            disk.list("")
                .unwrap()
                .iter()
                .all(|entry| entry.name != "file")
        );
        let left = seen.metadata().unwrap().len();
        let is_used = by_map || by_name || !cfg!(target_os = "linux");
        assert_eq!(left > 1 << 20, is_used, "{left}");
        if let Some(map) = map {
            assert_eq!(map.slice(0, 3 << 20), Some(&bytes[..]));
        }
        if by_name {
            assert_eq!(fs::read(directory.path().join("other")).unwrap(), bytes);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_another_program_locks_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let disk = prepared(directory.path());
    disk.open("file", Access::CreateNew).unwrap();
    let other = File::open(directory.path().join("file")).unwrap();
    other.lock().unwrap();
    let error = disk.open("file", Access::Read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    other.unlock().unwrap();
    disk.open("file", Access::Read).unwrap();
}

/// Whoever opens a file and is held up before it says that it uses it finds it cut, when whoever removed it is done.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_was_removed_since_it_was_opened_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let disk = prepared(directory.path());
    let path = directory.path().join("file");
    disk.open("file", Access::CreateNew).unwrap();
    let held_up = File::open(&path).unwrap();
    assert!(announce_use(&held_up, "file").unwrap());
    let held_up = File::open(&path).unwrap();
    crate::io::discard(&disk, "file").unwrap();
    assert!(!announce_use(&held_up, "file").unwrap());
    // One that was replaced is opened again, by its name.
    crate::io::replace(&disk, "file", b"new").unwrap();
    assert_eq!(disk.open("file", Access::Read).unwrap().len().unwrap(), 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_is_in_use_by_those_who_write_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = prepared(directory.path());
    for access in [Access::CreateNew, Access::Write] {
        let map = disk.open("file", access).unwrap().map(4096).unwrap();
        let other = disk.open("file", Access::Write).unwrap();
        disk.remove("file").unwrap();
        assert!(!other.is_only_use(), "{access:?}");
        drop(map);
        assert!(other.is_only_use(), "{access:?}");
        disk.open("file", Access::CreateNew).unwrap();
    }
}
