//! Isolation: one writer a directory, whichever path leads to it, until its process ends.

use crate::support::child::{self, Role};
use crate::support::disk::TestDisk;
use crate::support::script::KIND;
use quipu::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

/// The second opener hears who has it.
fn is_locked(opened: quipu::Result<Store>, owner: u32) {
    let error = opened.expect_err("a second writer");
    assert_eq!(error.kind(), StoreErrorKind::Locked, "{error}");
    let sentence = error.to_string();
    assert!(sentence.contains(&owner.to_string()), "{sentence}");
}

/// Two processes opened one directory, half of the data was gone, and the check said "ok".
#[test]
fn second_writer_is_refused_in_this_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    let me = std::process::id();
    is_locked(Store::open(&path), me);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    is_locked(Store::open(&link), me);
    is_locked(Store::open(dir.path().join("./store/../store")), me);
    // A lock file that was deleted or replaced is not the lock.
    std::fs::remove_file(path.join("lock")).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Locked);
    let view = store.view();
    store.close().unwrap();
    let store = Store::open(&link).unwrap();
    assert_eq!(store.head().position, view.position());
}

#[test]
fn second_writer_is_refused_in_memory() {
    let memory = Arc::new(TestDisk::new());
    let open = || Store::open_with(StoreConfig::on_disk(memory.clone()));
    let store = open().unwrap();
    is_locked(open(), std::process::id());
    drop(store);
    open().unwrap();
}

#[test]
fn second_writer_is_refused_in_another_process_until_the_first_is_killed() {
    if let Some(path) = child::place_for("hold") {
        let store = Store::open(path).unwrap();
        store.append(&place(), KIND, &1).unwrap();
        child::tell("open");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let test = "isolation::second_writer_is_refused_in_another_process_until_the_first_is_killed";
    let mut child = Role::start(test, "hold", &path);
    assert_eq!(child.hear().as_deref(), Some("open"));
    is_locked(Store::open(&path), child.id());
    child.kill();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.head().position.get(), 1);
}

/// A program that the owner started goes on after the owner was killed, and must not keep the lock.
#[test]
fn an_executed_program_does_not_inherit_the_lock() {
    if let Some(path) = child::place_for("exec") {
        let _store = Store::open(path).unwrap();
        #[expect(
            clippy::zombie_processes,
            reason = "it must outlive this process, which is killed"
        )]
        let program = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child::tell(program.id());
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let test = "isolation::an_executed_program_does_not_inherit_the_lock";
    let mut child = Role::start(test, "exec", &path);
    let program = child.hear().unwrap();
    child.kill();
    Store::open(&path).expect("the program has no lock");
    let alive = std::path::Path::new("/proc").join(&program).exists();
    let _ = Command::new("kill").arg(&program).status();
    assert!(
        alive,
        "the program should have outlived its parent for this to prove anything"
    );
}

/// A store copied while it is open opens as what it is, or says that it is damaged; it is never another store.
#[test]
fn copy_of_a_live_directory_opens_or_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open_with(StoreConfig::new(&path).segment_bytes(1 << 20)).unwrap();
    for round in 0..30_u64 {
        store.append(&place(), KIND, &"x".repeat(90_000)).unwrap();
        let copy = dir.path().join(format!("copy-{round}"));
        let copied = Command::new("cp")
            .arg("-r")
            .arg(&path)
            .arg(&copy)
            .stderr(Stdio::null())
            .status();
        assert!(copied.is_ok());
        match Store::open(&copy) {
            Ok(copy) => assert_eq!(copy.head(), store.head()),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}"),
        }
        std::fs::remove_dir_all(&copy).unwrap();
    }
    std::io::stdout().flush().unwrap();
}
