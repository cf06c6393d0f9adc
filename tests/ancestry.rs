//! The graph of causes against a plain one: random graphs over several segments, at every position, closed and opened.

mod support;

use quipu::io::MemoryDisk;
use quipu::prelude::*;
use std::collections::BTreeSet;
use support::dice::Dice;
use support::script::{self, KIND};

/// What was appended: an event is a number, its position less one.
#[derive(Default)]
struct Graph {
    ids: Vec<EventId>,
    parents: Vec<Vec<usize>>,
    correlations: Vec<CorrelationId>,
    /// Where each batch ends.
    ends: Vec<usize>,
}

impl Graph {
    /// All that an event leads to or comes from, without itself; a plain search.
    fn reach(&self, from: usize, next: impl Fn(usize) -> Vec<usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(event) = open.pop() {
            open.extend(next(event).into_iter().filter(|event| found.insert(*event)));
        }
        found
    }

    fn ancestors(&self, event: usize) -> BTreeSet<usize> {
        self.reach(event, |event| self.parents[event].clone())
    }

    fn descendants(&self, event: usize, seen: usize) -> BTreeSet<usize> {
        let children = |parent: usize| {
            let children =
                (parent + 1..seen).filter(|child| self.parents[*child].contains(&parent));
            children.collect()
        };
        self.reach(event, children)
    }

    /// Common to both, themselves counted, and no ancestor of another such one.
    fn best(&self, a: usize, b: usize) -> Vec<usize> {
        let own = |event| {
            let mut all = self.ancestors(event);
            all.insert(event);
            all
        };
        let common: BTreeSet<usize> = own(a).intersection(&own(b)).copied().collect();
        let worse: BTreeSet<usize> = common.iter().flat_map(|e| self.ancestors(*e)).collect();
        common.difference(&worse).copied().collect()
    }

    fn numbers(&self, events: impl Iterator<Item = quipu::Result<Event>>) -> Vec<usize> {
        let mut numbers = Vec::new();
        for event in events {
            let event = event.unwrap();
            let number = usize::try_from(event.position().get()).unwrap() - 1;
            assert_eq!(event.id(), self.ids[number]);
            numbers.push(number);
        }
        numbers
    }
}

/// Appends a batch of 1 to 4 events with 0 to 4 parents each, near ones more often than far ones, some in the batch.
fn grow(store: &Store, graph: &mut Graph, dice: &mut Dice) {
    let mut batch = Batch::new();
    for _ in 0..1 + dice.below(4) {
        let number = graph.ids.len();
        let id = store.new_id();
        let place = Coordinate::new(format!("e:{}", number % 7), "here").unwrap();
        let bytes = [10, 10, 10_000, 90_000][dice.below(4)];
        let mut draft = EventDraft::new(&place, KIND, &"x".repeat(bytes)).event_id(id);
        let mut parents = Vec::new();
        for _ in 0..dice.below(5).min(number) {
            let reach = if dice.one_in(3) {
                number
            } else {
                number.min(9)
            };
            let parent = number - 1 - dice.below(reach);
            if !parents.contains(&parent) {
                parents.push(parent);
                draft = draft.caused_by(graph.ids[parent]);
            }
        }
        let story = parents.first().map(|parent| graph.correlations[*parent]);
        graph.correlations.push(story.unwrap_or_else(|| id.into()));
        graph.ids.push(id);
        graph.parents.push(parents);
        batch = batch.event(draft);
    }
    store.append_batch(batch).unwrap();
    graph.ends.push(graph.ids.len());
}

/// Asks a view of the first `seen` events everything about some of them.
fn check(view: &View, graph: &Graph, seen: usize, dice: &mut Dice) {
    for _ in 0..12 {
        let [a, b] = [dice.below(seen), dice.below(seen)];
        let limit = [0, 1, 2, 5, usize::MAX][dice.below(5)];
        let id = graph.ids[a];

        let above: Vec<usize> = graph.ancestors(a).into_iter().rev().take(limit).collect();
        let found = graph.numbers(view.walk_ancestors(id, limit).unwrap());
        assert_eq!(found, above, "ancestors of {a}, at most {limit}, of {seen}");

        let below = graph.descendants(a, seen).into_iter().take(limit);
        let found = graph.numbers(view.descendants(id, limit).unwrap());
        assert_eq!(
            found,
            below.collect::<Vec<_>>(),
            "descendants of {a}, at most {limit}, of {seen}"
        );

        let leads = graph.ancestors(b).contains(&a);
        assert_eq!(
            view.is_ancestor(id, graph.ids[b]).unwrap(),
            leads,
            "{a} to {b}"
        );

        let shared = view.common_ancestors(id, graph.ids[b]).unwrap();
        let shared = graph.numbers(shared.into_iter().map(Ok));
        assert_eq!(shared, graph.best(a, b), "shared by {a} and {b}");

        let story = graph.correlations[a];
        let told: Vec<usize> = (0..seen)
            .filter(|e| graph.correlations[*e] == story)
            .collect();
        let found = view.story(story).unwrap();
        let found: Vec<EventId> = found.map(|event| event.unwrap().id()).collect();
        assert!(
            found.iter().eq(told.iter().map(|e| &graph.ids[*e])),
            "story of {a}"
        );
    }
    for later in graph.ids.get(seen..).unwrap_or_default().iter().take(3) {
        let known = graph.ids[0];
        let errors = [
            view.walk_ancestors(later, 1).map(drop),
            view.descendants(later, 1).map(drop),
            view.is_ancestor(known, later).map(drop),
            view.is_ancestor(later, known).map(drop),
            view.common_ancestors(known, later).map(drop),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), StoreErrorKind::NotFound);
        }
    }
}

#[test]
fn random_graphs_answer_as_a_plain_one_does() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = u64::from(clock.unwrap().subsec_nanos());
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    for _ in 0..4 {
        let disk = MemoryDisk::new();
        let open = || Store::open_with(script::config(disk.clone())).unwrap();
        let mut store = open();
        let mut graph = Graph::default();
        for _ in 0..4 {
            for _ in 0..20 {
                grow(&store, &mut graph, &mut dice);
            }
            for _ in 0..5 {
                let seen = graph.ends[dice.below(graph.ends.len())];
                let view = store.view_at(u64::try_from(seen).unwrap()).unwrap();
                check(&view, &graph, seen, &mut dice);
            }
            check(&store.view(), &graph, graph.ids.len(), &mut dice);
            store.close().unwrap();
            store = open();
            check(&store.view(), &graph, graph.ids.len(), &mut dice);
        }
        assert!(store.stats().segments > 2, "{:?}", store.stats());
    }
}

fn append(store: &Store, parents: &[&Receipt]) -> Receipt {
    let place = Coordinate::new("thing:1", "here").unwrap();
    let options = parents
        .iter()
        .fold(AppendOptions::new(), |options, parent| {
            options.caused_by(parent.id())
        });
    store
        .append_with_options(&place, KIND, &0, options)
        .unwrap()
}

#[test]
fn crosswise_merges_have_two_best_common_ancestors() {
    let store = Store::in_memory().unwrap();
    let root = append(&store, &[]);
    let [ours, theirs] = [(); 2].map(|()| append(&store, &[&root]));
    let [one, two] = [[&ours, &theirs], [&theirs, &ours]].map(|both| append(&store, &both));
    let ids = |events: Vec<Event>| events.iter().map(Event::id).collect::<Vec<_>>();
    let shared = |a: Receipt, b: Receipt| ids(store.common_ancestors(a, b).unwrap());
    assert_eq!(shared(one, two), [ours.id(), theirs.id()]);
    assert_eq!(
        shared(one, theirs),
        [theirs.id()],
        "an event is its own ancestor here"
    );
    assert_eq!(shared(two, two), [two.id()]);
    let stranger = append(&store, &[]);
    assert!(shared(one, stranger).is_empty());
    assert!(
        !store.is_ancestor(one, one).unwrap(),
        "but it did not cause itself"
    );
}

#[test]
fn a_store_walks_as_its_view_does_until_it_is_closed() {
    let store = Store::in_memory().unwrap();
    let first = append(&store, &[]);
    let second = append(&store, &[&first]);
    let view = store.view();
    let third = append(&store, &[&second, &first]);
    let count = |found: quipu::Result<usize>| found.unwrap();
    assert_eq!(
        count(store.walk_ancestors(third, 9).map(Iterator::count)),
        2
    );
    assert_eq!(count(store.descendants(first, 9).map(Iterator::count)), 2);
    assert_eq!(count(view.descendants(first, 9).map(Iterator::count)), 1);
    assert_eq!(count(store.story(first.id()).map(Iterator::count)), 3);
    assert_eq!(count(view.story(first.id()).map(Iterator::count)), 2);
    let mut walk = store.walk_ancestors(third, 9).unwrap();
    store.clone().close().unwrap();
    assert_eq!(
        walk.next().unwrap().unwrap().id(),
        second.id(),
        "a walk holds its view"
    );
    let error = store.is_ancestor(first, second).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Closed);
}
