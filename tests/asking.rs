//! Counts, lists of names and explanations, each held against a plain filter over every event.

#[path = "support/dice.rs"]
mod dice;
#[path = "asking/world.rs"]
mod world;

use quipu::prelude::*;
use std::collections::BTreeMap;
use world::{Fact, World};

/// A store of several segments, grown, asked, reopened, grown on and asked again.
fn ask_in_all_ages(mut ask: impl FnMut(&mut World)) {
    let mut world = World::new();
    for _ in 0..3 {
        world.grow(250);
        ask(&mut world);
        world.reopen();
        ask(&mut world);
    }
    assert!(world.store.stats().segments > 2, "too few segments");
}

#[test]
fn a_count_is_that_of_a_filter_over_all_events() {
    let mut found = 0;
    ask_in_all_ages(|world| {
        for _ in 0..300 {
            let ask = world.ask();
            let (view, facts) = world.some_view();
            let expected = facts.iter().filter(|fact| ask.fits(fact)).count() as u64;
            assert_eq!(view.count(ask.query()).unwrap(), expected, "{ask:?}");
            found += expected;
        }
    });
    assert!(found > 1_000, "only {found} events were counted");
}

#[test]
fn a_count_of_an_invalid_query_is_refused() {
    let store = Store::in_memory().unwrap();
    let error = store.count(Query::entity("")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument);
    assert_eq!(store.count(Query::all()).unwrap(), 0);
}

type List = fn(&View, &str) -> quipu::Result<Names>;
type Of = fn(&Fact) -> Vec<&str>;

/// The four lists, and what a fact adds to each.
const LISTS: [(List, Of); 4] = [
    (
        |view, prefix| view.entities(prefix),
        |fact| vec![&fact.entity],
    ),
    (|view, prefix| view.scopes(prefix), |fact| vec![&fact.scope]),
    (|view, prefix| view.kinds(prefix), |fact| vec![&fact.kind]),
    (
        |view, prefix| view.tags(prefix),
        |fact| fact.tags.iter().map(String::as_str).collect(),
    ),
];

#[test]
fn a_list_of_names_is_that_of_a_pass_over_all_events() {
    let mut listed = 0;
    ask_in_all_ages(|world| {
        for _ in 0..30 {
            let (view, facts) = world.some_view();
            let (list, of) = LISTS[world.dice.below(LISTS.len())];
            let prefix = world.some_prefix(of);
            let mut expected = BTreeMap::new();
            for (fact, name) in facts
                .iter()
                .flat_map(|f| of(f).into_iter().map(move |n| (f, n)))
            {
                if name.starts_with(&prefix) {
                    let (events, last) = expected.entry(name).or_insert((0, 0));
                    *events += 1;
                    *last = fact.position;
                }
            }
            let mut names = list(&view, &prefix).unwrap();
            for (name, (events, last)) in &expected {
                let entry = names.next().unwrap().unwrap();
                let found = (entry.name(), entry.events(), entry.last_position().get());
                assert_eq!(found, (*name, *events, *last), "{prefix:?} in {view:?}");
            }
            assert_eq!(names.next().map(Result::unwrap), None);
            assert!(names.next().is_none(), "fused");
            listed += expected.len();
        }
    });
    assert!(listed > 500, "only {listed} names were listed");
}

#[test]
fn a_list_shows_what_was_there_when_it_was_begun() {
    let store = Store::in_memory().unwrap();
    let see = |name: &str| {
        let place = Coordinate::new(name, "house").unwrap();
        store
            .append(&place, EventKind::literal("thing.seen"), &())
            .unwrap();
    };
    (0..1000).for_each(|number| see(&format!("lamp:{number:04}")));
    let mut names = store.entities("lamp:").unwrap();
    see("lamp:0000");
    see("lamp:2000");
    assert_eq!(names.next().unwrap().unwrap().events(), 1);
    assert_eq!(names.count(), 999);
    let entry = store
        .entities("lamp:0000")
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(entry.to_string(), "lamp:0000  2  last at 1001");
    let json = serde_json::to_string(&entry).unwrap();
    assert_eq!(
        json,
        r#"{"name":"lamp:0000","events":2,"last_position":1001}"#
    );
}

#[test]
fn a_prefix_that_no_name_can_have_is_refused() {
    let view = Store::in_memory().unwrap().view();
    for (list, _) in LISTS {
        let refused = |prefix: &str| list(&view, prefix).unwrap_err().kind();
        assert_eq!(refused(&"x".repeat(513)), StoreErrorKind::Argument);
        assert_eq!(refused("a\nb"), StoreErrorKind::Argument);
        assert!(list(&view, "").unwrap().next().is_none());
    }
}
