//! Idempotency: a repeated submission gets its first receipts, for ever.

use crate::support::disk::TestDisk;
use crate::support::held::Held;
use crate::support::places::{on_each, rotated};
use crate::support::power::PowerDisk;
use crate::support::script::{self, KIND};
use quipu::prelude::*;
use quipu::{MAX_IDEMPOTENCY_KEY_BYTES, Result};

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn key(key: &str) -> AppendOptions {
    AppendOptions::new().idempotency_key(key)
}

fn append(store: &Store, payload: u64, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(), KIND, &payload, options)
}

fn batch() -> Batch {
    let draft = |n: u64| {
        let place = Coordinate::new(format!("thing:{}", n % 2), "here").unwrap();
        EventDraft::new(&place, KIND, &n).tag("a").tag("b")
    };
    Batch::new()
        .events((0..3).map(draft))
        .idempotency_key("batch")
}

/// Asserts that `again` is what `first` was, told a second time.
fn assert_replay(first: &[Receipt], again: &[Receipt]) {
    let facts = |r: &Receipt| {
        (
            r.id(),
            r.position(),
            r.revision(),
            r.recorded_at(),
            r.hash(),
        )
    };
    let [first_facts, again_facts] =
        [first, again].map(|r| r.iter().map(facts).collect::<Vec<_>>());
    assert_eq!(first_facts, again_facts);
    assert!(again.iter().all(|r| r.replay() && r.durable()), "{again:?}");
}

fn assert_conflict<T: std::fmt::Debug>(outcome: Result<T>, position: u64) {
    let error = outcome.expect_err("the key was used for other content");
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    assert_eq!(error.in_the_way(), [position], "{error}");
}

/// Retries of what was written as `single` and `batch`, and the same keys with other content.
fn assert_remembered(store: &Store, single: &Receipt, whole: &[Receipt]) {
    let head = store.head();
    let again = append(store, 1, key("single")).unwrap();
    assert_replay(std::slice::from_ref(single), &[again]);
    assert_replay(whole, &store.append_batch(batch()).unwrap());
    assert_replay(whole, &store.receipt("batch").unwrap().unwrap());
    assert_conflict(append(store, 2, key("single")), single.position().get());
    let more = batch().event(EventDraft::new(&place(), KIND, &9));
    assert_conflict(store.append_batch(more), whole[0].position().get());
    assert_eq!(store.head(), head, "nothing was written");
}

#[test]
fn a_retry_gets_the_first_receipts_whatever_lies_between() {
    on_each(|open| {
        let store = open();
        append(&store, 0, AppendOptions::new()).unwrap();
        let single = append(&store, 1, key("single")).unwrap();
        let whole = store.append_batch(batch()).unwrap();
        assert!(!single.replay() && whole.iter().all(|r| !r.replay()));
        assert_remembered(&store, &single, &whole);
        drop(store);
        let store = open();
        assert_remembered(&store, &single, &whole);
        let store = rotated(store, open);
        assert_remembered(&store, &single, &whole);
        let store = rotated(store, open);
        assert_remembered(&store, &single, &whole);
    });
}

#[test]
fn a_retry_after_a_kill_gets_the_first_receipts() {
    let disk = PowerDisk::new(true);
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    let single = append(&store, 1, key("single")).unwrap();
    let whole = store.append_batch(batch()).unwrap();
    let after = Store::open_with(script::config(disk.after_kill())).unwrap();
    assert_remembered(&after, &single, &whole);
}

#[test]
fn a_retry_after_an_unknown_outcome_is_written_once() {
    let memory = TestDisk::new();
    let held = Held::on(memory.clone());
    append(&held.store, 0, AppendOptions::new()).unwrap();
    held.fail_syncs();
    let unknown = append(&held.store, 1, key("k")).unwrap_err();
    assert_eq!(unknown.kind(), StoreErrorKind::OutcomeUnknown);
    drop(held);
    let store = Store::open_with(script::config(memory)).unwrap();
    let first = append(&store, 1, key("k")).unwrap();
    let again = append(&store, 1, key("k")).unwrap();
    assert_eq!(first.id(), again.id());
    assert_eq!(store.stream("thing:1").unwrap().count(), 2);
}

#[test]
fn any_other_content_is_a_conflict() {
    let store = Store::in_memory().unwrap();
    let elsewhere = |entity, scope| Coordinate::new(entity, scope).unwrap();
    let draft = |place: &Coordinate, kind: EventKind, payload: u64| {
        EventDraft::new(place, kind, &payload)
            .tag("a")
            .schema_version(3)
    };
    let same = || draft(&place(), KIND, 1);
    let other = EventKind::literal("thing.other");
    let send = |drafts: Vec<EventDraft>| {
        store.append_batch(Batch::new().events(drafts).idempotency_key("k"))
    };
    send(vec![same(), draft(&place(), KIND, 2)]).unwrap();
    let second = || draft(&place(), KIND, 2);
    for drafts in [
        vec![draft(&elsewhere("thing:2", "here"), KIND, 1), second()],
        vec![draft(&elsewhere("thing:1", "there"), KIND, 1), second()],
        vec![draft(&place(), other, 1), second()],
        vec![draft(&place(), KIND, 3), second()],
        vec![same().tag("b"), second()],
        vec![same().schema_version(4), second()],
        vec![second(), same()],
        vec![same(), second(), second()],
        vec![same()],
        vec![second()],
    ] {
        assert_conflict(send(drafts), 1);
    }
    let again = send(vec![same().tag("a"), second()]).unwrap();
    assert!(again[0].replay(), "a tag twice is a tag");
    assert_eq!(store.head().position, 2);
}

#[test]
fn the_rest_of_a_retry_does_not_matter() {
    let store = Store::in_memory().unwrap();
    let parent = append(&store, 0, AppendOptions::new()).unwrap();
    let first = key("k").caused_by(parent).metadata("who", "me");
    let first = append(&store, 1, first.occurred_at(Timestamp::from_secs(1))).unwrap();
    let unknown = store.new_id();
    for options in [
        key("k"),
        key("k").event_id(store.new_id()),
        key("k").event_id(parent.id()),
        key("k").caused_by(first.id()),
        key("k").caused_by(unknown),
        key("k").correlation(unknown),
        key("k").metadata("who", "you"),
        key("k").occurred_at(Timestamp::from_secs(2)),
        key("k").expect_no_stream(),
        key("k").expect_revision(7),
        key("k").unless_any(Query::all(), 0),
        key("k").only_if(Query::tag("none"), 0),
        key("k").durability(Durability::Buffered),
    ] {
        let again = append(&store, 1, options).unwrap();
        assert_replay(std::slice::from_ref(&first), &[again]);
    }
    assert_eq!(store.head().position, 2);
    let kept = store.get(first.id()).unwrap().unwrap();
    assert!(kept.metadata().eq([("who", "me")]));
}

#[test]
fn two_submissions_of_one_key_in_one_group_are_written_once() {
    let held = Held::new();
    let (tickets, batches, other) = held.in_one_group(|store| {
        let submit = |payload: u64| store.submit(&place(), KIND, &payload, key("k")).unwrap();
        let tickets = [submit(1), submit(1), submit(1)];
        let batches = [(); 2].map(|()| store.submit_batch(batch()).unwrap());
        (tickets, batches, submit(2))
    });
    let [first, again, third] = tickets.map(|t| t.wait().unwrap());
    assert!(!first.replay() && first.durable());
    assert_replay(&[first, first], &[again, third]);
    let [first, again] = batches.map(|t| t.wait().unwrap());
    assert_replay(&first, &again);
    assert_conflict(other.wait(), 2);
    assert_eq!(held.store.head().position, 1 + 1 + 3);
}

#[test]
fn of_many_threads_with_one_key_exactly_one_writes() {
    let store = Store::in_memory().unwrap();
    let rounds = |store: &Store| -> Vec<Receipt> {
        (0..50)
            .map(|round| append(store, round, key(&format!("k:{round}"))).unwrap())
            .collect()
    };
    let answers: Vec<Vec<Receipt>> = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| rounds(&store)));
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(store.head().position, 50);
    for round in 0..50 {
        let told: Vec<_> = answers.iter().map(|receipts| receipts[round]).collect();
        let writers = told.iter().filter(|receipt| !receipt.replay()).count();
        assert_eq!(writers, 1, "{told:?}");
        assert!(
            told.iter()
                .all(|r| r.hash() == told[0].hash() && r.durable())
        );
    }
}

#[test]
fn what_was_refused_leaves_its_key_free() {
    let held = Held::new();
    let store = &held.store;
    append(store, 0, key("a").expect_stream()).unwrap_err();
    append(store, 0, key("a").caused_by(store.new_id())).unwrap_err();
    let tickets = held.in_one_group(|store| {
        let submit = |options| store.submit(&place(), KIND, &0, options).unwrap();
        [submit(key("b").expect_stream()), submit(key("b"))]
    });
    let [refused, written] = tickets.map(Ticket::wait);
    assert!(refused.is_err() && !written.unwrap().replay());
    assert!(store.receipt("a").unwrap().is_none());
    assert!(!append(store, 1, key("a")).unwrap().replay());
}

#[test]
fn a_key_is_its_bytes_and_its_receipts_can_be_asked_for() {
    let store = Store::in_memory().unwrap();
    let longest = vec![0xff; MAX_IDEMPOTENCY_KEY_BYTES];
    let keys: [&[u8]; 6] = [b"a", b"A", b"a\0", b"\0", b"aa", &longest];
    for (number, key) in keys.iter().enumerate() {
        assert!(store.receipt(key).unwrap().is_none());
        let options = AppendOptions::new().idempotency_key(key);
        let receipt = append(&store, 1, options).unwrap();
        assert_eq!(receipt.position().get(), number as u64 + 1);
        let told = store.receipt(key).unwrap().unwrap();
        assert_replay(&[receipt], &told);
        let before = store.view_at(number as u64).unwrap();
        assert!(before.receipt(key).unwrap().is_none());
    }
    for wrong in [&b""[..], &[1; MAX_IDEMPOTENCY_KEY_BYTES + 1]] {
        let error = store.receipt(wrong).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument);
    }
}
