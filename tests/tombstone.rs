//! Tombstones: a stream that was ended stays ended, whoever asks, whenever, and through whatever door.

mod support;

use quipu::Result;
use quipu::prelude::*;
use std::sync::Barrier;
use support::places::{on_each, rotated};
use support::script::KIND;

fn place(entity: &str, scope: &str) -> Coordinate {
    Coordinate::new(entity, scope).unwrap()
}

fn append(store: &Store, entity: &str, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(entity, "here"), KIND, &1, options)
}

fn kind_of<T: std::fmt::Debug>(outcome: Result<T>) -> StoreErrorKind {
    outcome.expect_err("it must fail").kind()
}

/// Asserts that this is a conflict that names the tombstone.
fn assert_ended<T: std::fmt::Debug>(outcome: Result<T>, tombstone: &Receipt) {
    let error = outcome.expect_err("the stream was ended");
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    assert_eq!(error.in_the_way(), [tombstone.position().get()], "{error}");
}

#[test]
fn a_tombstone_is_the_last_event_of_its_stream() {
    on_each(|open| {
        let store = open();
        append(&store, "a", AppendOptions::new()).unwrap();
        store.append(&place("a", "there"), KIND, &2).unwrap();
        append(&store, "b", AppendOptions::new()).unwrap();
        let last = store.tombstone("a").unwrap();
        assert_eq!((last.position().get(), last.revision().get()), (4, 3));
        assert!(last.durable() && !last.replay());
        let event = store.at(4).unwrap().unwrap();
        let place = (event.entity(), event.scope(), event.kind());
        assert_eq!(place, ("a", "there", "quipu.tombstone"));
        assert_ended(append(&store, "a", AppendOptions::new()), &last);
        assert_eq!(store.head().position, 4, "nothing was written");
        append(&store, "b", AppendOptions::new()).unwrap();
        let found = store.query(Query::kind("quipu.tombstone")).unwrap();
        assert_eq!(
            found
                .map(|e| e.unwrap().position().get())
                .collect::<Vec<_>>(),
            [4]
        );
    });
}

#[test]
fn a_stream_stays_ended_in_sealed_segments_and_after_an_opening() {
    on_each(|open| {
        let store = open();
        append(&store, "a", AppendOptions::new()).unwrap();
        let last = store.tombstone("a").unwrap();
        let store = rotated(store, open);
        let store = rotated(store, open);
        assert_ended(append(&store, "a", AppendOptions::new()), &last);
        assert_ended(
            append(&store, "a", AppendOptions::new().expect_revision(2)),
            &last,
        );
        let again = store.tombstone("a").unwrap();
        assert_eq!((again.id(), again.hash()), (last.id(), last.hash()));
    });
}

#[test]
fn an_entity_without_events_has_no_stream_to_end() {
    let store = Store::in_memory().unwrap();
    assert_eq!(kind_of(store.tombstone("a")), StoreErrorKind::NotFound);
    assert_eq!(kind_of(store.tombstone("")), StoreErrorKind::Argument);
    assert_eq!(store.head().position, 0);
}

#[test]
fn ending_a_stream_again_returns_the_first_receipt() {
    let store = Store::in_memory().unwrap();
    append(&store, "a", AppendOptions::new()).unwrap();
    let first = store.tombstone("a").unwrap();
    let again = store.tombstone("a").unwrap();
    assert_eq!(
        (again.id(), again.position(), again.hash()),
        (first.id(), first.position(), first.hash())
    );
    assert!(again.replay() && again.durable());
    assert_eq!(store.head().position, 2);
}

#[test]
fn of_many_that_end_a_stream_at_once_one_does() {
    let store = Store::in_memory().unwrap();
    append(&store, "a", AppendOptions::new()).unwrap();
    let start = Barrier::new(8);
    let receipts: Vec<Receipt> = std::thread::scope(|scope| {
        let end = || {
            start.wait();
            store.tombstone("a").unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(end)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(store.head().position, 2);
    assert!(receipts.iter().all(|receipt| receipt.position() == 2));
    assert_eq!(
        receipts.iter().filter(|receipt| !receipt.replay()).count(),
        1
    );
}

#[test]
fn retries_by_key_are_answered_after_the_end() {
    let store = Store::in_memory().unwrap();
    let keyed = || AppendOptions::new().idempotency_key("k");
    let first = append(&store, "a", keyed()).unwrap();
    let last = store.tombstone("a").unwrap();
    let again = append(&store, "a", keyed()).unwrap();
    assert!(again.replay());
    assert_eq!(again.id(), first.id());
    assert_ended(
        append(&store, "a", AppendOptions::new().idempotency_key("other")),
        &last,
    );
}

#[test]
fn a_batch_with_one_event_for_an_ended_stream_is_refused_whole() {
    let store = Store::in_memory().unwrap();
    append(&store, "a", AppendOptions::new()).unwrap();
    let last = store.tombstone("a").unwrap();
    let draft = |entity| EventDraft::new(&place(entity, "here"), KIND, &1);
    let batch = || {
        Batch::new()
            .event(draft("b"))
            .event(draft("a"))
            .event(draft("c"))
    };
    assert_ended(store.append_batch(batch()), &last);
    assert_ended(store.submit_batch(batch()).unwrap().wait(), &last);
    assert_eq!(store.head().position, 2);
    assert_eq!(store.revision("b").unwrap(), 0);
    assert_eq!(
        append(&store, "b", AppendOptions::new())
            .unwrap()
            .revision(),
        1
    );
}

#[test]
fn no_caller_may_append_what_only_the_store_appends() {
    assert!(EventKind::new("quipu.tombstone").is_err());
    assert!("quipu.tombstone".parse::<EventKind>().is_err());
}
