//! Conflict: of two appends that exclude each other one wins, and the other learns of it honestly.

use crate::support::held::Held;
use crate::support::places::{on_each, rotated};
use crate::support::script::KIND;
use quipu::Result;
use quipu::prelude::*;
use std::sync::Barrier;

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn buffered() -> AppendOptions {
    AppendOptions::new().durability(Durability::Buffered)
}

fn append(store: &Store, payload: u64, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(), KIND, &payload, options)
}

/// Asserts that this is a conflict with these positions, which nothing was written for.
fn assert_conflict<T: std::fmt::Debug>(outcome: Result<T>, in_the_way: &[u64]) {
    let error = outcome.expect_err("the condition does not hold");
    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    assert_eq!(error.in_the_way(), in_the_way, "{error}");
}

/// Lets two threads append at once, a hundred times, under options that only one of them can meet.
fn race(options: impl Fn(u64) -> AppendOptions + Sync) {
    let store = Store::in_memory().unwrap();
    let start = Barrier::new(2);
    let thread = |me: u64| {
        let (store, start, options) = (&store, &start, &options);
        move || -> Vec<Result<Receipt>> {
            let round = |round| {
                start.wait();
                let outcome = append(store, me, options(round));
                start.wait();
                outcome
            };
            (0..100).map(round).collect()
        }
    };
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(thread(2));
        (thread(1)(), theirs.join().unwrap())
    });
    for (round, pair) in ours.into_iter().zip(theirs).enumerate() {
        let (winner, loser) = match pair {
            (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(winner.revision().get(), round as u64 + 1);
        assert_conflict::<()>(Err(loser), &[winner.position().get()]);
    }
    assert_eq!(store.head().position, 100);
}

#[test]
fn of_two_exclusive_expectations_exactly_one_holds() {
    race(|round| buffered().expect_revision(round));
    race(|round| AppendOptions::new().expect_revision(round));
}

#[test]
fn of_two_exclusive_conditions_exactly_one_holds() {
    race(|round| buffered().tag("seat").unless_any(Query::tag("seat"), round));
    race(|round| buffered().unless_any(Query::entity("thing:1"), round));
    race(|round| AppendOptions::new().unless_any(Query::kind(KIND.as_str()), round));
}

#[test]
fn expectations_hold_or_not_as_the_stream_is() {
    on_each(|open| {
        let store = open();
        let expect = |store: &Store, expected: ExpectedRevision| {
            append(store, 0, AppendOptions::new().expect_revision(expected))
        };
        use ExpectedRevision::{Any, Exactly, NoStream, StreamExists};
        assert_conflict(expect(&store, StreamExists), &[]);
        assert_conflict(expect(&store, Exactly(1.into())), &[]);
        assert_eq!(expect(&store, NoStream).unwrap().revision(), 1);
        assert_conflict(expect(&store, NoStream), &[1]);
        assert_eq!(expect(&store, StreamExists).unwrap().revision(), 2);
        assert_eq!(expect(&store, Any).unwrap().revision(), 3);
        assert_conflict(expect(&store, Exactly(1.into())), &[2, 3]);
        let store = rotated(store, open);
        let store = rotated(store, open);
        let filled = store.head();
        assert_conflict(expect(&store, NoStream), &[1, 2, 3]);
        assert_conflict(expect(&store, Exactly(2.into())), &[3]);
        assert_conflict(expect(&store, Exactly(4.into())), &[]);
        assert_eq!(store.head(), filled, "nothing was written");
        assert_eq!(expect(&store, Exactly(3.into())).unwrap().revision(), 4);
    });
}

#[test]
fn conditions_look_after_their_position_also_into_sealed_segments() {
    on_each(|open| {
        let mut store = open();
        let seat = || AppendOptions::new().tag("seat");
        append(&store, 1, seat()).unwrap();
        for round in 0..2 {
            let unless = |after: u64| seat().unless_any(Query::tag("seat"), after);
            assert_conflict(append(&store, 2, unless(0)), &[1]);
            let only_if = |after: u64| buffered().only_if(Query::tag("seat"), after);
            append(&store, 3, only_if(0)).unwrap();
            assert_conflict(append(&store, 4, only_if(1)), &[]);
            let elsewhere = Query::tag("seat").or(Region::entity("thing:1").tag("none"));
            append(&store, 5, buffered().unless_any(elsewhere, 1)).unwrap();
            if round == 0 {
                store = rotated(store, open);
            }
        }
        let after = store.head().position;
        let second = seat().unless_any(Query::tag("seat"), 1);
        assert_eq!(
            append(&store, 6, second).unwrap().position().get(),
            after.get() + 1
        );
        let both = [1, after.get() + 1];
        let third = seat().unless_any(Query::tag("seat"), 0);
        assert_conflict(append(&store, 7, third), &both);
    });
}

#[test]
fn every_condition_of_an_append_must_hold() {
    let store = Store::in_memory().unwrap();
    append(&store, 1, AppendOptions::new().tag("a")).unwrap();
    append(&store, 2, AppendOptions::new().tag("b")).unwrap();
    let terms = || {
        AppendOptions::new()
            .expect_revision(2)
            .only_if(Query::tag("a"), 0)
            .unless_any(Query::tag("c"), 0)
    };
    assert_conflict(
        append(&store, 3, terms().unless_any(Query::tag("b"), 1)),
        &[2],
    );
    assert_conflict(append(&store, 3, terms().only_if(Query::tag("b"), 2)), &[]);
    assert_conflict(append(&store, 3, terms().expect_revision(1)), &[2]);
    assert_eq!(append(&store, 3, terms()).unwrap().position(), 3);
}

#[test]
fn a_conflict_names_at_most_sixteen_events_the_first_ones() {
    let store = Store::in_memory().unwrap();
    for number in 0..20 {
        append(&store, number, buffered().tag("seat")).unwrap();
    }
    let first: Vec<u64> = (3..19).collect();
    let unless = AppendOptions::new().unless_any(Query::tag("seat"), 2);
    assert_conflict(append(&store, 0, unless), &first);
    assert_conflict(
        append(&store, 0, AppendOptions::new().expect_revision(2)),
        &first,
    );
}

/// Ten that the caller's view showed and ten that are staged: still the first sixteen of them.
#[test]
fn a_conflict_names_at_most_sixteen_events_of_view_and_group() {
    let held = Held::new();
    for number in 0..10 {
        append(&held.store, number, buffered().tag("seat")).unwrap();
    }
    let loser = held.in_one_group(|store| {
        let submit = |options| store.submit(&place(), KIND, &0, options).unwrap();
        let _staged: Vec<Ticket> = (0..10).map(|_| submit(buffered().tag("seat"))).collect();
        submit(buffered().unless_any(Query::tag("seat"), 0))
    });
    // The eleventh is the event that opened the group.
    let first: Vec<u64> = (1..=10).chain(12..=17).collect();
    assert_conflict(loser.wait(), &first);
}

/// What is staged earlier in the same group is seen by expectations and conditions, whatever the caller's view showed.
#[test]
fn conditions_see_what_is_staged_before_them_in_their_group() {
    let held = Held::new();
    let tickets = held.in_one_group(|store| {
        let submit = |options| store.submit(&place(), KIND, &0, options).unwrap();
        let seat = || buffered().tag("seat").unless_any(Query::tag("seat"), 0);
        [
            submit(seat()),
            submit(seat()),
            submit(buffered().expect_no_stream()),
            submit(buffered().expect_stream()),
            submit(buffered().expect_revision(1)),
            submit(buffered().expect_revision(2)),
            submit(buffered().only_if(Query::tag("seat"), 1)),
            submit(buffered().only_if(Query::tag("seat"), 2)),
            submit(buffered().unless_any(Query::entity("thing:1"), 2)),
        ]
    });
    let mut outcomes = tickets.into_iter().map(Ticket::wait);
    let mut next = || outcomes.next().unwrap();
    assert_eq!(next().unwrap().position(), 2);
    assert_conflict(next(), &[2]);
    assert_conflict(next(), &[2]);
    assert_eq!(next().unwrap().revision(), 2);
    assert_conflict(next(), &[3]);
    assert_eq!(next().unwrap().revision(), 3);
    assert_eq!(next().unwrap().revision(), 4);
    assert_conflict(next(), &[]);
    assert_conflict(next(), &[3, 4, 5]);
    assert_eq!(held.store.head().position, 5);
}

/// A batch is judged by the state before it: its own events are in nobody's way.
#[test]
fn a_batch_is_judged_by_the_state_before_it() {
    let store = Store::in_memory().unwrap();
    let draft = |n: u64| EventDraft::new(&place(), KIND, &n).tag("seat");
    let batch = || {
        Batch::new()
            .events((0..3).map(draft))
            .expect_revision("thing:1", 0)
            .expect_revision("thing:2", ExpectedRevision::NoStream)
            .unless_any(Query::tag("seat"), 0)
    };
    assert_eq!(store.append_batch(batch()).unwrap().len(), 3);
    assert_conflict(store.append_batch(batch()), &[1, 2, 3]);
    let only_if = Batch::new().event(draft(4).tag("new"));
    assert_conflict(
        store.append_batch(only_if.only_if(Query::tag("new"), 0)),
        &[],
    );
    assert_eq!(store.head().position, 3);
}

#[test]
fn a_used_id_is_a_conflict_also_within_a_group_and_in_sealed_segments() {
    on_each(|open| {
        let store = open();
        let id = store.new_id();
        append(&store, 1, AppendOptions::new().event_id(id)).unwrap();
        let store = rotated(store, open);
        assert_conflict(append(&store, 1, AppendOptions::new().event_id(id)), &[1]);
    });
    let held = Held::new();
    let tickets = held.in_one_group(|store| {
        let id = store.new_id();
        [0, 1].map(|n| {
            store
                .submit(&place(), KIND, &n, buffered().event_id(id))
                .unwrap()
        })
    });
    let [first, second] = tickets.map(Ticket::wait);
    assert_conflict(second, &[first.unwrap().position().get()]);
}

/// The loser of a sync is told when its cause is durable, not when it is decided.
#[test]
fn a_conflict_is_held_back_until_its_cause_is_durable() {
    let held = Held::new();
    let (winner, loser) = held.in_one_group(|store| {
        held.syncs.shut();
        let winner = store.submit(&place(), KIND, &1, buffered());
        let loser = AppendOptions::new().expect_no_stream();
        (
            winner.unwrap(),
            store.submit(&place(), KIND, &2, loser).unwrap(),
        )
    });
    held.syncs.wait_for_someone();
    assert!(!loser.is_done() && !winner.is_done());
    held.syncs.open();
    assert_conflict(loser.wait(), &[2]);
    assert!(winner.wait().unwrap().durable());
}

#[test]
fn a_conflict_with_a_visible_cause_that_is_not_durable_waits_for_its_sync() {
    let held = Held::new();
    append(&held.store, 1, buffered()).unwrap();
    assert_conflict(append(&held.store, 2, buffered().expect_no_stream()), &[1]);
    held.syncs.shut();
    let id = held.store.new_id();
    let losers = [
        AppendOptions::new().expect_no_stream(),
        AppendOptions::new().unless_any(Query::entity("thing:1"), 0),
        AppendOptions::new()
            .expect_revision(1)
            .event_id(id)
            .unless_any(Query::all(), 0),
    ];
    let submit = |options| held.store.submit(&place(), KIND, &3, options).unwrap();
    let losers = losers.map(submit);
    held.syncs.wait_for_someone();
    assert!(losers.iter().all(|loser| !loser.is_done()));
    assert_eq!(held.store.stats().durable_position, 0);
    held.syncs.open();
    for loser in losers {
        assert_conflict(loser.wait(), &[1]);
    }
    assert_eq!(held.store.stats().durable_position, 1);
}

#[test]
fn a_conflict_whose_cause_failed_fails_with_it() {
    let held = Held::new();
    append(&held.store, 1, AppendOptions::new()).unwrap();
    held.fail_syncs();
    let tickets = held.in_one_group(|store| {
        let submit = |options| store.submit(&place(), KIND, &2, options).unwrap();
        [
            submit(AppendOptions::new().expect_revision(1)),
            submit(buffered().expect_revision(1)),
            submit(buffered().unless_any(Query::entity("thing:1"), 1)),
            submit(AppendOptions::new().expect_no_stream()),
        ]
    });
    let outcomes = tickets.map(Ticket::wait);
    for outcome in &outcomes[..3] {
        let kind = outcome.as_ref().unwrap_err().kind();
        assert_eq!(kind, StoreErrorKind::OutcomeUnknown);
    }
    let told = outcomes[3].as_ref().unwrap_err().kind();
    assert_eq!(
        told,
        StoreErrorKind::OutcomeUnknown,
        "it names events that failed"
    );
}

/// Sixteen threads add to one sum that each of them has read; in a store that loses an update the sum is too small.
#[test]
fn sixteen_threads_that_read_and_add_lose_nothing() {
    const THREADS: u64 = 16;
    const ADDITIONS: u64 = 10;
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::in_memory(), Store::open(dir.path())] {
        let store = store.unwrap();
        let last = || store.stream_with("thing:1", ReadOptions::new().backward().limit(1));
        let read = || match last().unwrap().next() {
            Some(event) => {
                let event = event.unwrap();
                (event.payload::<u64>().unwrap(), event.revision())
            }
            None => (0, Revision::ZERO),
        };
        let add = || loop {
            let (sum, revision) = read();
            match append(
                &store,
                sum + 1,
                AppendOptions::new().expect_revision(revision),
            ) {
                Err(error) if error.kind() == StoreErrorKind::Conflict => {
                    assert!(!error.in_the_way().is_empty(), "{error}");
                }
                outcome => return outcome.map(drop).unwrap(),
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| (0..ADDITIONS).for_each(|_| add()));
            }
        });
        let all = THREADS * ADDITIONS;
        assert_eq!(read(), (all, Revision::new(all)));
    }
}

#[test]
fn a_condition_after_a_position_that_does_not_exist_is_refused() {
    let store = Store::in_memory().unwrap();
    let seat = Coordinate::new("seat:1", "hall").unwrap();
    let kind = EventKind::literal("seat.taken");
    let first = store.append(&seat, kind.clone(), &1).unwrap();

    let beyond =
        AppendOptions::new().unless_any(Query::entity("seat:1"), first.position().get() + 1);
    let error = store
        .append_with_options(&seat, kind, &2, beyond)
        .unwrap_err();

    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    assert_eq!(store.head().position, 1);
}
