//! Counts, lists of names and explanations, each held against a plain filter over every event.

#[path = "support/dice.rs"]
mod dice;
#[path = "asking/world.rs"]
mod world;

use quipu::io::MemoryDisk;
use quipu::prelude::*;
use quipu::{AxisUse, RegionExplanation};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use world::{Fact, World};

/// A store of several segments, grown, asked, reopened, grown on and asked again.
fn ask_in_all_ages(mut ask: impl FnMut(&mut World)) {
    let mut world = World::new();
    for _ in 0..3 {
        world.grow(220);
        ask(&mut world);
        world.reopen();
        ask(&mut world);
        // Few enough that one segment has two layers: the checkpoint's and the live one.
        world.grow(20);
        ask(&mut world);
    }
    assert!(world.store.stats().segments > 2, "too few segments");
}

#[test]
fn a_count_and_an_explanation_are_those_of_a_filter_over_all_events() {
    let mut found = 0;
    ask_in_all_ages(|world| {
        for _ in 0..200 {
            let ask = world.ask();
            let (view, facts) = world.some_view();
            let expected = facts.iter().filter(|fact| ask.fits(fact)).count() as u64;
            assert_eq!(view.count(ask.query()).unwrap(), expected, "{ask:?}");
            let explanation = view.explain(ask.query()).unwrap();
            assert_eq!(explanation.matched(), expected, "{ask:?}");
            assert!(explanation.rows_touched() >= expected, "{ask:?}");
            let (read, all) = (explanation.segments_read(), explanation.segments());
            assert!(
                read <= all && all <= world.store.stats().segments,
                "{ask:?}"
            );
            let axes = explanation
                .regions()
                .iter()
                .flat_map(RegionExplanation::axes);
            assert!(
                axes.map(AxisUse::segments).all(|used| used <= read),
                "{ask:?}"
            );
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

#[test]
fn counts_explanations_and_lists_read_no_payload() {
    let mut world = World::new();
    world.grow(600);
    world.spoil_payloads_of_segment(1);
    let (view, spoilt) = (world.store.view(), world.facts[0].position);
    let payloads = view.query(Query::all()).unwrap();
    let damaged = payloads.filter(|event| event.as_ref().unwrap().payload_bytes().is_err());
    assert!(damaged.count() > 50, "few payloads are damaged");
    for _ in 0..200 {
        let ask = world.ask();
        let expected = world.facts.iter().filter(|fact| ask.fits(fact)).count() as u64;
        assert_eq!(view.count(ask.query()).unwrap(), expected, "{ask:?}");
        assert_eq!(view.explain(ask.query()).unwrap().matched(), expected);
    }
    for (list, _) in LISTS {
        assert!(list(&view, "").unwrap().all(|entry| entry.is_ok()));
    }
    assert!(view.at(spoilt).unwrap().is_some());
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
        for _ in 0..25 {
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

/// Events of 97 pumps and 97 valves, a thousandth of them with the tag `rare`, each second of those a pump's.
const RARE: u64 = 1_000;
const EVENTS: u64 = 22 * RARE;

fn draft(number: u64) -> EventDraft {
    let half = usize::try_from((number + number / RARE) % 2).unwrap();
    let entity = format!("{}:{}", ["pump", "valve"][half], number % 97);
    let place = Coordinate::new(entity, ["north", "south"][half]).unwrap();
    let kind = ["pump.ran", "valve.shut"][half];
    let kind = EventKind::new(if number % 8 == 3 { "part.worn" } else { kind }).unwrap();
    let draft = EventDraft::new(&place, kind, &"x".repeat(1_000)).tag("common");
    match number {
        13_500 => draft.tag("once"),
        _ if number % RARE == 7 => draft.tag("rare"),
        _ => draft,
    }
}

/// A store whose more than 20 segments are sealed, but for the last, whose index is the checkpoint's.
fn plant() -> &'static Store {
    static PLANT: OnceLock<Store> = OnceLock::new();
    PLANT.get_or_init(|| {
        let disk = Arc::new(MemoryDisk::new());
        let store = world::open(&disk);
        for first in (0..EVENTS).step_by(100) {
            let drafts = (first..first + 100).map(draft);
            store.append_batch(Batch::new().events(drafts)).unwrap();
        }
        store.close().unwrap();
        let store = world::open(&disk);
        assert!(store.stats().segments > 20, "{:?}", store.stats());
        store
    })
}

#[test]
fn a_query_touches_at_most_two_rows_for_each_result() {
    let store = plant();
    let tagged = EVENTS / RARE;
    let rare = || Region::all().tag("rare");
    for (region, matches, most_touched) in [
        (rare(), tagged, tagged),
        (rare().tag("common"), tagged, tagged),
        (rare().kind("valve.shut"), tagged / 2, tagged),
        (rare().kind_prefix("valve."), tagged / 2, tagged),
        (rare().scope("south"), tagged / 2, tagged),
        (rare().scope_prefix("so"), tagged / 2, tagged),
        (
            Region::entity_prefix("valve:").tag("rare"),
            tagged / 2,
            tagged,
        ),
        (Region::entity_prefix("").tag("rare"), tagged, tagged),
        (Region::entity_prefix("valve:"), EVENTS / 2, EVENTS),
        (
            Region::entity_prefix("valve:").scope("south"),
            EVENTS / 2,
            EVENTS / 2,
        ),
        (
            Region::all().kind_prefix("part.").scope_prefix(""),
            EVENTS / 8,
            EVENTS / 4,
        ),
        (
            Region::entity_prefix("").kind("part.worn"),
            EVENTS / 8,
            EVENTS / 8,
        ),
    ] {
        let explanation = store.explain(region.clone()).unwrap();
        assert_eq!(explanation.matched(), matches, "{region:?}");
        let touched = explanation.rows_touched();
        assert!(touched <= most_touched, "{region:?}\n{explanation}");
        assert!(touched <= 2 * matches, "{region:?}\n{explanation}");
    }
}

#[test]
fn an_explanation_tells_axes_and_segments() {
    let store = plant();
    let once = store
        .explain(Region::all().tag("common").tag("once"))
        .unwrap();
    assert_eq!((once.matched(), once.rows_touched()), (1, 1));
    assert_eq!(once.segments(), store.stats().segments);
    assert_eq!(
        (once.segments_read(), once.segments_skipped()),
        (1, once.segments() - 1)
    );
    let axes = once.regions()[0].axes();
    assert_eq!(
        (axes[0].axis(), axes[0].segments(), axes.len()),
        ("tag:once", 1, 1)
    );
    let shown = once.to_string();
    assert!(shown.contains("1 read, 2"), "{shown}");
    assert!(
        shown.ends_with("region        tag:common tag:once\n  by          tag:once (segments: 1)"),
        "{shown}"
    );
    assert!(
        serde_json::to_string(&once)
            .unwrap()
            .contains(r#""rows_touched":1"#)
    );

    let nothing = store.explain(Query::entity("nobody")).unwrap();
    assert_eq!(
        (
            nothing.matched(),
            nothing.segments_read(),
            nothing.rows_touched()
        ),
        (0, 0, 0)
    );
    assert!(nothing.regions()[0].axes().is_empty());
    let early = store.view_at(500).unwrap();
    assert_eq!(early.explain(Query::all()).unwrap().segments(), 1);
}
