//! Atomicity: a batch is there whole or not at all, for every reader at every position.

use crate::support::script::KIND;
use quipu::prelude::*;

fn batch(events: usize) -> Batch {
    Batch::new().events((0..events).map(|n| {
        let place = Coordinate::new(format!("thing:{n}"), "here").unwrap();
        EventDraft::new(&place, KIND, &n)
    }))
}

#[test]
fn a_view_inside_a_batch_stands_at_the_end_of_the_one_before() {
    let store = Store::in_memory().unwrap();
    let mut ends = vec![0];
    for events in [1, 2, 5, 1, 3] {
        let receipts = store.append_batch(batch(events)).unwrap();
        ends.push(receipts.last().unwrap().position().get());
    }
    for position in 0..=12 {
        let whole = ends.iter().rev().find(|end| **end <= position).unwrap();
        let view = store.view_at(position).unwrap();
        assert_eq!(view.position().get(), *whole, "at {position}");
        let seen = view.query(Query::all()).unwrap().count() as u64;
        assert_eq!(seen, *whole, "at {position}");
    }
}
