//! Causality: a parent exists before its child.

use crate::support::held::Held;
use crate::support::places::{on_each, rotated};
use crate::support::script::KIND;
use crate::support::times::TestClock;
use quipu::prelude::*;
use quipu::{MAX_PARENTS, Result};
use std::sync::Arc;

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn append(store: &Store, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(), KIND, &0, options)
}

fn draft() -> EventDraft {
    EventDraft::new(&place(), KIND, &0)
}

fn assert_argument<T: std::fmt::Debug>(outcome: Result<T>) {
    let error = outcome.expect_err("no such parent");
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
}

fn ids(events: impl Iterator<Item = Result<Event>>) -> Vec<EventId> {
    events.map(|event| event.unwrap().id()).collect()
}

fn event_of(store: &Store, receipt: &Receipt) -> Event {
    store.get(receipt.id()).unwrap().unwrap()
}

#[test]
fn a_parent_that_does_not_exist_is_refused() {
    let store = Store::in_memory().unwrap();
    let known = append(&store, AppendOptions::new()).unwrap();
    let head = store.head();
    let by = |parent: EventId| AppendOptions::new().caused_by(parent);
    let own = store.new_id();
    assert_argument(append(&store, by(store.new_id())));
    assert_argument(append(&store, by(known.id()).caused_by(store.new_id())));
    assert_argument(append(&store, by(known.id()).caused_by(known.id())));
    assert_argument(append(&store, by(own).event_id(own)));
    let zero = EventId::from_bytes([0; 16]);
    assert_argument(append(&store, by(zero)));
    assert_eq!(store.head(), head, "nothing was written");
}

#[test]
fn in_a_batch_a_parent_comes_before_its_child() {
    let store = Store::in_memory().unwrap();
    let [first, second] = [store.new_id(), store.new_id()];
    let backwards = Batch::new()
        .event(draft().event_id(first).caused_by(second))
        .event(draft().event_id(second));
    assert_argument(store.append_batch(backwards));
    let circle = Batch::new()
        .event(draft().event_id(first).caused_by(second))
        .event(draft().event_id(second).caused_by(first));
    assert_argument(store.append_batch(circle));
    let own = Batch::new()
        .event(draft())
        .event(draft().event_id(first).caused_by(first));
    assert_argument(store.append_batch(own));
    assert_argument(append(&store, AppendOptions::new().caused_by(first)));
    assert_eq!(store.head().position, 0);
    let forwards = Batch::new()
        .event(draft().event_id(first))
        .event(draft().event_id(second).caused_by(first))
        .event(draft().caused_by(second).caused_by(first));
    let receipts = store.append_batch(forwards).unwrap();
    let last = event_of(&store, &receipts[2]);
    assert!(last.parents().eq([second, first]), "in the order given");
    assert_eq!(last.causation(), Some(second));
    assert_eq!(last.correlation(), first.into());
}

#[test]
fn in_a_group_a_parent_is_known_once_it_is_staged() {
    let held = Held::new();
    let (tickets, parent) = held.in_one_group(|store| {
        let parent = store.new_id();
        let submit = |options| store.submit(&place(), KIND, &0, options).unwrap();
        let by = || AppendOptions::new().caused_by(parent);
        let refused = AppendOptions::new().event_id(parent).expect_stream();
        let tickets = [
            submit(by()),
            submit(refused),
            submit(by()),
            submit(AppendOptions::new().event_id(parent)),
            submit(by()),
        ];
        (tickets, parent)
    });
    let [early, refused, again, written, child] = tickets.map(Ticket::wait);
    assert_argument(early);
    assert!(refused.is_err());
    assert_argument(again);
    assert_eq!(written.unwrap().id(), parent);
    let child = event_of(&held.store, &child.unwrap());
    assert_eq!(child.causation(), Some(parent));
    assert_eq!(child.correlation(), parent.into(), "from a staged parent");
}

#[test]
fn a_correlation_follows_the_first_parent() {
    on_each(|open| {
        let store = open();
        let story = |store: &Store, options| {
            let receipt = append(store, options).unwrap();
            event_of(store, &receipt).correlation()
        };
        let root = append(&store, AppendOptions::new()).unwrap();
        assert_eq!(event_of(&store, &root).correlation(), root.id().into());
        let named: CorrelationId = store.new_id().into();
        let other = append(&store, AppendOptions::new().correlation(named)).unwrap();
        let by = |parents: [&Receipt; 2]| {
            let options = AppendOptions::new().caused_by(parents[0]);
            options.caused_by(parents[1])
        };
        assert_eq!(story(&store, by([&root, &other])), root.id().into());
        assert_eq!(story(&store, by([&other, &root])), named);
        let own: CorrelationId = store.new_id().into();
        assert_eq!(story(&store, by([&other, &root]).correlation(own)), own);
        let store = rotated(store, open);
        assert_eq!(story(&store, by([&root, &other])), root.id().into());
        assert_eq!(story(&store, by([&other, &root])), named);
    });
}

#[test]
fn a_reaction_names_its_story_and_its_cause() {
    let store = Store::in_memory().unwrap();
    let cause = append(&store, AppendOptions::new()).unwrap();
    let story = store.new_id();
    let receipt = store.append_reaction(&place(), KIND, &1, story, cause);
    let reaction = event_of(&store, &receipt.unwrap());
    assert_eq!(reaction.causation(), Some(cause.id()));
    assert_eq!(reaction.correlation(), story.into());
    let unknown = store.append_reaction(&place(), KIND, &1, story, store.new_id());
    assert_argument(unknown);
}

/// Effects are found through the index of the active segment, of sealed ones, and across both.
#[test]
fn effects_are_found_by_cause_and_by_story() {
    on_each(|open| {
        let mut store = open();
        let cause = append(&store, AppendOptions::new()).unwrap();
        let other = append(&store, AppendOptions::new()).unwrap();
        let mut effects = Vec::new();
        for _ in 0..3 {
            let by = || AppendOptions::new().caused_by(cause);
            let second = AppendOptions::new().caused_by(other).caused_by(cause);
            effects.push(append(&store, by()).unwrap().id());
            effects.push(append(&store, second).unwrap().id());
            append(&store, AppendOptions::new().caused_by(other)).unwrap();
            append(&store, AppendOptions::new()).unwrap();
            let found = store.query(Region::all().caused_by(cause)).unwrap();
            assert_eq!(ids(found), effects);
            store = rotated(store, open);
        }
        let found = store.query(Region::all().caused_by(cause)).unwrap();
        assert_eq!(ids(found), effects);
        let story = ids(store.query(Query::correlation(cause.id())).unwrap());
        assert_eq!(story, [cause.id(), effects[0], effects[2], effects[4]]);
        let none = store.query(Region::all().caused_by(effects[0])).unwrap();
        assert_eq!(none.count(), 0);
        let view = store.view_at(3).unwrap();
        let found = view.query(Region::all().caused_by(cause)).unwrap();
        assert_eq!(found.count(), 1, "a view shows the effects of its time");
    });
}

#[test]
fn a_parent_is_known_after_rotation_and_reopening() {
    on_each(|open| {
        let store = open();
        let mut parents = vec![append(&store, AppendOptions::new()).unwrap().id()];
        let mut store = store;
        for _ in 0..2 {
            store = rotated(store, open);
            let by_all = parents
                .iter()
                .fold(AppendOptions::new(), |options, id| options.caused_by(*id));
            assert_argument(append(&store, by_all.clone().caused_by(store.new_id())));
            let child = append(&store, by_all).unwrap();
            let kept = event_of(&store, &child);
            assert!(kept.parents().eq(parents.iter().copied()));
            parents.push(child.id());
        }
    });
}

#[test]
fn an_event_may_have_all_the_parents_it_is_allowed() {
    let store = Store::in_memory().unwrap();
    let parents: Vec<_> = (0..MAX_PARENTS)
        .map(|_| append(&store, AppendOptions::new()).unwrap().id())
        .collect();
    let by = |parents: &[EventId]| {
        let none = AppendOptions::new();
        parents
            .iter()
            .fold(none, |options, id| options.caused_by(*id))
    };
    let child = append(&store, by(&parents)).unwrap();
    assert!(event_of(&store, &child).parents().eq(parents.clone()));
    for parent in &parents {
        let found = store.query(Region::all().caused_by(*parent)).unwrap();
        assert_eq!(ids(found), [child.id()]);
    }
    assert_argument(append(&store, by(&parents).caused_by(child.id())));
}

/// The hash of a child of the parents `named`, in a store where `payload` is what the first of two parents says.
fn child_hash(payload: u64, named: &[u8]) -> EventHash {
    let clock = TestClock::at(1_000);
    let config = StoreConfig::in_memory().clock(Arc::new(clock));
    let store = Store::open_with(config).unwrap();
    let id = |n: u8| EventId::from_bytes([n; 16]);
    for (number, payload) in [(1, payload), (2, 0)] {
        let parent = Coordinate::new(format!("parent:{number}"), "here").unwrap();
        let options = AppendOptions::new().event_id(id(number));
        store
            .append_with_options(&parent, KIND, &payload, options)
            .unwrap();
    }
    let story = AppendOptions::new().event_id(id(3)).correlation(id(9));
    let options = named.iter().fold(story, |o, n| o.caused_by(id(*n)));
    append(&store, options).unwrap().hash()
}

#[test]
fn a_child_hash_covers_its_parents() {
    assert_eq!(child_hash(1, &[1, 2]), child_hash(1, &[1, 2]));
    let hashes = [
        child_hash(1, &[1, 2]),
        child_hash(2, &[1, 2]),
        child_hash(1, &[2, 1]),
        child_hash(1, &[1]),
        child_hash(1, &[2]),
        child_hash(1, &[]),
    ];
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..at].contains(hash), "case {at}");
    }
}
