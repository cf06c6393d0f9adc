//! Followers in other processes: beside a writer that works, rotates, closes, reopens and is killed.
//!
//! Each process is this binary again: the test `plays_a_role` is a writer, a follower or a subscriber when its
//! environment says so. `QUIPU_FOLLOW_SEED` repeats a history, and `QUIPU_KILLS` makes the one with kills longer.

#[path = "follow/compacted.rs"]
mod compacted;
#[path = "follow/followers.rs"]
mod followers;
#[path = "support/mod.rs"]
mod support;
#[path = "follow/writer.rs"]
mod writer;

use followers::{Follower, Log};
use quipu::prelude::*;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;
use support::child;
use support::dice::Dice;
use writer::Writer;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn plays_a_role() {
    for (role, play) in [
        ("write", writer::play as fn(&Path)),
        ("follow", followers::follow),
        ("follow-in-batches", followers::follow_in_batches),
        ("follow-tag", followers::follow_tag),
        ("subscribe", followers::subscribe),
        ("look-back", compacted::look_back),
        ("hold", compacted::hold),
        ("open-anew", compacted::open_anew),
    ] {
        if let Some(place) = child::place_for(role) {
            std::panic::set_hook(Box::new(|panic| {
                child::tell(panic.to_string().replace('\n', " "));
            }));
            return play(&place);
        }
    }
}

fn dice() -> Dice {
    let seed = std::env::var("QUIPU_FOLLOW_SEED").map_or_else(
        |_| RandomState::new().hash_one(0),
        |seed| seed.parse().unwrap(),
    );
    println!("QUIPU_FOLLOW_SEED={seed}");
    Dice::new(seed)
}

fn kills() -> u64 {
    std::env::var("QUIPU_KILLS").map_or(30, |kills| kills.parse().unwrap())
}

fn read_only(place: &Path) -> quipu::Result<Store> {
    Store::open_read_only(place.join("store"))
}

/// Reads all that the cursor has, and says where it stands then.
fn catch_up(cursor: &mut Cursor) -> u64 {
    let last = cursor.by_ref().map(Result::unwrap).last();
    last.map_or(0, |event| event.position().get())
}

#[test]
fn a_follower_sees_what_a_writer_appends_rotates_and_seals() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = Writer::start(dir.path());
    let follower = Follower::start("follow", dir.path());
    writer.append(&mut dice, 400);
    let acked = writer.end();
    let log = Log::read(dir.path());
    assert!(
        log.segments > 10,
        "{} segments are no rotation",
        log.segments
    );
    log.holds(&acked);
    log.was_seen_by(follower);
}

#[test]
fn followers_see_one_history_while_their_writer_is_killed() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = Writer::start(dir.path());
    let follower = Follower::start("follow", dir.path());
    let reopening = Follower::start("follow-in-batches", dir.path());
    let subscriber = Follower::start("subscribe", dir.path());
    let mut acked = Vec::new();
    for _ in 0..kills() {
        writer.begin(&mut dice, 100_000);
        acked.extend(writer.killed_after(dice.below(60)));
        if dice.one_in(4) {
            Writer::opening(dir.path()).kill();
        }
        writer = Writer::start(dir.path());
    }
    writer.append(&mut dice, 20);
    acked.extend(writer.end());
    let log = Log::read(dir.path());
    log.holds(&acked);
    log.was_seen_by(follower);
    log.was_seen_by(reopening);
    log.was_counted_by(subscriber);
}

#[test]
fn a_follower_sees_one_history_while_its_writer_closes_and_opens_again() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = Writer::start(dir.path());
    let follower = Follower::start("follow-in-batches", dir.path());
    for _ in 0..8 {
        writer.append(&mut dice, 25);
        writer.reopen();
    }
    let acked = writer.end();
    let log = Log::read(dir.path());
    log.holds(&acked);
    log.was_seen_by(follower);
}

#[test]
fn several_followers_of_one_writer_see_the_same() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = Writer::start(dir.path());
    let whole = ["follow", "follow-in-batches"].map(|role| Follower::start(role, dir.path()));
    let tagged = Follower::start("follow-tag", dir.path());
    writer.append(&mut dice, 200);
    let acked = writer.end();
    let log = Log::read(dir.path());
    log.holds(&acked);
    whole
        .into_iter()
        .for_each(|follower| log.was_seen_by(follower));
    log.matches_were_seen_by(tagged);
}

#[test]
fn a_follower_of_an_empty_store_without_a_writer_sees_the_first_event() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    Store::open(dir.path().join("store"))
        .unwrap()
        .close()
        .unwrap();
    let follower = Follower::start("follow", dir.path());
    let mut writer = Writer::start(dir.path());
    writer.append(&mut dice, 1);
    writer.end();
    Log::read(dir.path()).was_seen_by(follower);
}

#[test]
fn a_follower_without_a_store_is_told_so_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let missing = read_only(dir.path()).unwrap_err();
    assert!(!dir.path().join("store").exists());
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let empty = read_only(dir.path()).unwrap_err();
    for error in [missing, empty] {
        assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("store"), "{error}");
    }
    let left = std::fs::read_dir(dir.path().join("store")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_only_buffered_is_shown_once_it_is_durable() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = Writer::start(dir.path());
    writer.append(&mut dice, 3);
    let durable = writer.sync();
    let store = read_only(dir.path()).unwrap();
    let mut cursor = store.cursor(Query::all()).unwrap();
    assert_eq!(catch_up(&mut cursor), durable);

    let written = writer.buffer(5);
    assert_eq!(written, durable + 5);
    assert_eq!(store.head().position, durable);
    assert!(cursor.next().is_none());
    assert!(!cursor.wait(Duration::from_millis(20)).unwrap());
    assert_eq!(read_only(dir.path()).unwrap().head().position, durable);

    writer.sync();
    assert!(cursor.wait(PATIENCE).unwrap());
    assert_eq!(catch_up(&mut cursor), written);
    assert_eq!(store.head().position, written);
    writer.end();
}

#[test]
fn what_a_killed_writer_left_unsynced_is_shown_once_the_next_one_kept_it() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = Writer::start(dir.path());
    writer.append(&mut dice, 3);
    let durable = writer.sync();
    let store = read_only(dir.path()).unwrap();
    let mut cursor = store.cursor(Query::all()).unwrap();
    assert_eq!(catch_up(&mut cursor), durable);
    let written = writer.buffer(5);
    writer.killed_after(0);
    assert!(cursor.next().is_none());
    assert_eq!(read_only(dir.path()).unwrap().head().position, durable);

    let writer = Writer::start(dir.path());
    assert!(cursor.wait(PATIENCE).unwrap());
    assert_eq!(catch_up(&mut cursor), written);
    writer.end();
}
