//! Counts, lists of names and explanations, each held against a plain filter over every event.

#[path = "support/dice.rs"]
mod dice;
#[path = "asking/world.rs"]
mod world;

use quipu::prelude::*;
use world::World;

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
