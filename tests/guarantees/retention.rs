//! Retention: what is kept reads the same and verifies; what is gone is told as gone, and still counts.

use crate::support::places::{on_each, rotated};
use crate::support::script::{self, KIND};
use crate::support::times::TestClock;
use quipu::io::MemoryDisk;
use quipu::prelude::*;
use quipu::{CompactionConfig, Result, Retention};
use std::sync::Arc;
use std::time::Duration;

fn place(entity: &str) -> Coordinate {
    Coordinate::new(entity, "here").unwrap()
}

fn append(store: &Store, entity: &str, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(entity), KIND, &7, options)
}

fn secret() -> AppendOptions {
    AppendOptions::new().tag("secret")
}

fn remove(store: &Store, retention: Retention) -> u64 {
    let config = CompactionConfig::new().remove(retention);
    let plan = store.plan_compaction(&config).unwrap();
    let done = store.compact(config.clone()).unwrap().wait().unwrap();
    assert_eq!(plan.events_removed, done.events_removed);
    assert!(
        store.plan_compaction(&config).unwrap().is_empty(),
        "there is more to do"
    );
    assert!(store.verify().unwrap().is_sound());
    done.events_removed
}

fn secrets() -> Retention {
    Retention::query(Query::tag("secret"))
}

/// Positions 1 to 4: open, secret, open, secret, of two entities; then a full segment behind them.
fn with_secrets(open: &dyn Fn() -> Store) -> (Store, Vec<Receipt>) {
    let store = open();
    let mut receipts = Vec::new();
    for entity in ["a", "b"] {
        receipts.push(append(&store, entity, AppendOptions::new()).unwrap());
        receipts.push(append(&store, entity, secret().idempotency_key(entity)).unwrap());
    }
    (rotated(store, open), receipts)
}

fn is_told_as_removed<T: std::fmt::Debug>(outcome: Result<T>) -> bool {
    let error = outcome.expect_err("it was removed");
    error.kind() == StoreErrorKind::NotFound && error.to_string().contains("removed by retention")
}

/// The same, before and after an opening.
fn twice(store: Store, open: &dyn Fn() -> Store, test: impl Fn(&Store)) -> Store {
    test(&store);
    store.close().unwrap();
    let store = open();
    test(&store);
    store
}

#[test]
fn what_was_removed_is_told_and_matches_nothing() {
    on_each(|open| {
        let (store, receipts) = with_secrets(open);
        assert_eq!(remove(&store, secrets()), 2);
        let store = twice(store, open, |store| {
            assert!(is_told_as_removed(store.at(2)));
            assert!(is_told_as_removed(store.get(receipts[3])));
            assert_eq!(store.count(Query::tag("secret")).unwrap(), 0);
            assert_eq!(store.stream("a").unwrap().count(), 1);
        });
        let unless = AppendOptions::new().unless_any(Query::tag("secret"), 0);
        append(&store, "c", unless).expect("no event matches");
        let only_if = AppendOptions::new().only_if(Query::tag("secret"), 0);
        let error = append(&store, "c", only_if).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    });
}

#[test]
fn what_is_kept_reads_the_same() {
    on_each(|open| {
        let (store, receipts) = with_secrets(open);
        let kept = [&receipts[0], &receipts[2]];
        let facts = |store: &Store| -> Vec<String> {
            let events = kept.map(|receipt| store.get(receipt).unwrap().unwrap());
            let payload = |event: &Event| event.payload_bytes().unwrap().to_vec();
            let facts = events
                .iter()
                .map(|e| format!("{e:?} {:?} {:?}", e.hash(), payload(e)));
            facts.collect()
        };
        let (before, head) = (facts(&store), store.head());
        assert_eq!(remove(&store, secrets()), 2);
        twice(store, open, |store| {
            assert_eq!(facts(store), before);
            assert_eq!(
                store.head(),
                head,
                "the running digest is that of the whole history"
            );
        });
    });
}

#[test]
fn what_was_removed_still_counts() {
    on_each(|open| {
        let (store, receipts) = with_secrets(open);
        assert_eq!(remove(&store, secrets()), 2);
        let store = twice(store, open, |store| {
            let again = append(store, "a", secret().idempotency_key("a")).unwrap();
            assert!(again.replay());
            assert_eq!(
                (again.id(), again.hash()),
                (receipts[1].id(), receipts[1].hash())
            );
            let used = AppendOptions::new().event_id(receipts[1].id());
            let error = append(store, "c", used).unwrap_err();
            assert_eq!(error.in_the_way(), [2], "{error}");
            assert_eq!(store.revision("b").unwrap(), 2);
        });
        let child = AppendOptions::new().caused_by(receipts[3].id());
        let child = append(&store, "b", child).unwrap();
        assert_eq!(child.revision(), 3);
        let effects = store.descendants(receipts[3].id(), 10).unwrap();
        let effects: Vec<EventId> = effects.map(|event| event.unwrap().id()).collect();
        assert_eq!(effects, [child.id()]);
    });
}

#[test]
fn a_stream_that_was_ended_goes_but_for_its_tombstone() {
    on_each(|open| {
        let store = open();
        append(&store, "a", AppendOptions::new()).unwrap();
        append(&store, "b", AppendOptions::new()).unwrap();
        let last = store.tombstone("a").unwrap();
        let store = rotated(store, open);
        assert_eq!(remove(&store, Retention::tombstoned()), 1);
        let nothing_is_spared = Retention::all_but_newest(0);
        assert!(
            remove(&store, nothing_is_spared) > 1,
            "`b` and what filled the segment"
        );
        let store = twice(store, open, |store| {
            assert!(is_told_as_removed(store.at(1)));
            let left = store.at(last.position()).unwrap().unwrap();
            assert_eq!((left.entity(), left.kind()), ("a", "quipu.tombstone"));
            let error = append(store, "a", AppendOptions::new()).unwrap_err();
            assert_eq!(error.in_the_way(), [3], "{error}");
            assert_eq!(store.tombstone("a").unwrap().id(), last.id());
        });
        // Of `b` nothing is left that tells a scope.
        let ended = store.tombstone("b").unwrap();
        assert_eq!(store.get(ended).unwrap().unwrap().scope(), "quipu");
    });
}

#[test]
fn a_clock_that_goes_back_removes_nothing_too_early() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::at(seconds(100)));
    let open = || {
        let config = script::config(disk.clone()).clock(Arc::new(clock.clone()));
        Store::open_with(config).unwrap()
    };
    let store = open();
    append(&store, "a", AppendOptions::new()).unwrap();
    clock.set(seconds(50));
    let later = append(&store, "a", AppendOptions::new()).unwrap();
    assert!(later.recorded_at() > Timestamp::from_nanos(seconds(100)));
    let store = rotated(store, &open);
    let older = || Retention::older_than(Duration::from_secs(10));
    for now in [50, 61, 110] {
        clock.set(seconds(now));
        assert_eq!(remove(&store, older()), 0, "at {now} s");
    }
    let before = Timestamp::from_nanos(seconds(100) + 1);
    assert_eq!(remove(&store, Retention::recorded_before(before)), 1);
    clock.set(seconds(111));
    assert!(remove(&store, older()) > 0);
    assert!(is_told_as_removed(store.get(later)));
}

fn seconds(count: u64) -> u64 {
    count * 1_000_000_000
}

/// The rules of one composition speak of the same event; what they know of its stream is the whole stream's.
#[test]
fn rules_compose_and_the_newest_are_those_of_the_whole_stream() {
    on_each(|open| {
        let store = open();
        for options in [secret(), AppendOptions::new(), secret(), secret()] {
            append(&store, "a", options).unwrap();
        }
        append(&store, "b", secret()).unwrap();
        let store = rotated(store, open);
        let filler = || Retention::query(Query::scope("there"));
        let plan = |rule: Retention| {
            let config = CompactionConfig::new().remove(rule.and(filler().not()));
            store.plan_compaction(&config).unwrap().events_removed
        };
        assert_eq!(plan(secrets()), 4);
        assert_eq!(plan(secrets().not()), 1);
        assert_eq!(plan(secrets().and(Retention::all_but_newest(2))), 1);
        assert_eq!(plan(secrets().or(Retention::all_but_newest(2))), 5);
        assert_eq!(plan(Retention::all_but_newest(1)), 3);
        assert_eq!(plan(Retention::all_but_newest(0)), 5);
        assert_eq!(
            remove(&store, secrets().and(Retention::all_but_newest(1))),
            2
        );
        assert_eq!(store.stream("a").unwrap().count(), 2);
        assert_eq!(plan(Retention::all_but_newest(1)), 1, "removed ones count");
    });
}
