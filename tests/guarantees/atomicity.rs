//! Atomicity: a batch is there whole or not at all, for every reader at every position.
//!
//! What a crash leaves of a batch is tested with Recovery, whose images of a power cut are checked for whole batches.

use crate::support::ends::Ends;
use crate::support::held::Held;
use crate::support::places::{on_each, rotated};
use crate::support::script::KIND;
use quipu::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

fn draft(entity: usize, payload: usize) -> EventDraft {
    let place = Coordinate::new(format!("thing:{entity}"), "here").unwrap();
    EventDraft::new(&place, KIND, &payload).tag("ours")
}

/// A batch over as many entities as it has events.
fn batch(events: usize) -> Batch {
    Batch::new().events((0..events).map(|n| draft(n, events)))
}

/// Asserts that every batch that `view` shows any of is there from its first event to its last.
fn assert_whole(view: &View) -> u64 {
    let mut wanted = 0;
    let mut seen = 0;
    for event in view.query(Query::tag("ours")).unwrap() {
        let event = event.unwrap();
        assert_eq!(event.batch_index(), wanted, "{event:?}");
        wanted = (wanted + 1) % event.batch_len();
        seen += 1;
    }
    assert_eq!(wanted, 0, "the view ends inside a batch");
    seen
}

#[test]
fn a_view_inside_a_batch_stands_at_the_end_of_the_one_before() {
    on_each(|open| {
        let store = open();
        let mut ends = vec![0];
        for events in [1, 2, 5, 1, 3] {
            let receipts = store.append_batch(batch(events)).unwrap();
            ends.push(receipts.last().unwrap().position().get());
        }
        let check = |store: &Store| {
            for position in 0..=12 {
                let whole = *ends.iter().rev().find(|end| **end <= position).unwrap();
                let view = store.view_at(position).unwrap();
                assert_eq!(view.position(), whole, "at {position}");
                assert_eq!(view.head().unwrap().position, whole);
                assert_eq!(assert_whole(&view), whole, "at {position}");
                assert!(view.at(whole + 1).unwrap().is_none());
                let back = store.view().at_position(position.into()).unwrap();
                assert_eq!(back.at_position(back.position()).unwrap().position(), whole);
            }
        };
        check(&store);
        check(&rotated(store, open));
    });
}

#[test]
fn a_view_at_a_time_inside_a_batch_stands_at_the_end_of_the_one_before() {
    let store = Store::in_memory().unwrap();
    store.append_batch(batch(2)).unwrap();
    let receipts = store.append_batch(batch(4)).unwrap();
    for (index, receipt) in receipts.iter().enumerate() {
        let view = store.view_at_time(receipt.recorded_at()).unwrap();
        let whole = if index == 3 { 6 } else { 2 };
        assert_eq!(view.position(), whole, "event {index}");
        assert_eq!(assert_whole(&view), whole);
    }
}

/// The parts of one batch in a view that ends before it are not told by id, entity or key either.
#[test]
fn a_view_before_a_batch_shows_no_part_of_it_by_any_way() {
    let store = Store::in_memory().unwrap();
    store.append_batch(batch(2)).unwrap();
    let receipts = store.append_batch(batch(3).idempotency_key("k")).unwrap();
    let view = store.view_at(4).unwrap();
    assert_eq!(view.position(), 2);
    assert!(view.receipt("k").unwrap().is_none());
    assert_eq!(view.revision("thing:0").unwrap(), 1);
    assert_eq!(view.revision("thing:2").unwrap(), 0);
    for receipt in receipts {
        assert!(view.get(receipt.id()).unwrap().is_none());
        assert!(view.at(receipt.position()).unwrap().is_none());
    }
}

/// Looks at one view after the other until it has seen `looks` different ones.
fn look_on(store: &Store, looks: usize) {
    let mut last = Position::ZERO;
    for _ in 0..looks {
        let mut view = store.view();
        while view.position() == last {
            std::thread::yield_now();
            view = store.view();
        }
        assert!(view.position() > last);
        last = view.position();
        let end = view.at(last).unwrap().unwrap();
        assert_eq!(end.batch_index() + 1, end.batch_len(), "{end:?}");
        let revisions = ["thing:0", "thing:1", "thing:2"].map(|e| view.revision(e).unwrap());
        assert_eq!(revisions, [revisions[0]; 3], "each batch has all three");
    }
}

#[test]
fn readers_never_see_a_part_of_a_batch_while_batches_are_written() {
    let store = Store::in_memory().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&done);
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let buffered = batch(3).durability(Durability::Buffered);
                    store.append_batch(buffered).unwrap();
                }
            });
        }
        let readers = [(); 2].map(|()| scope.spawn(|| look_on(&store, 500)));
        readers.into_iter().for_each(|r| r.join().unwrap());
    });
    assert_eq!(assert_whole(&store.view()), store.head().position.get());
}

/// Each of these batches has good events before and after what is wrong with it.
#[test]
fn a_refused_batch_writes_nothing_of_itself() {
    let store = Store::in_memory().unwrap();
    let taken = store.new_id();
    let first = batch(2).event(draft(2, 0).event_id(taken));
    store.append_batch(first).unwrap();
    let id = store.new_id();
    let unknown = store.new_id();
    let twice = draft(1, 2).event_id(id);
    let refused = [
        batch(3)
            .event(draft(0, 1).event_id(taken))
            .event(draft(0, 2)),
        batch(3)
            .event(draft(0, 1).caused_by(unknown))
            .event(draft(0, 2)),
        batch(3).event(twice.clone()).event(twice),
        batch(3).expect_revision("thing:0", 0),
        batch(3)
            .expect_revision("thing:0", 1)
            .expect_revision("thing:9", ExpectedRevision::StreamExists),
        batch(3).unless_any(Query::tag("ours"), 2),
        batch(3).only_if(Query::tag("ours"), 3),
        batch(3).event(draft(0, 1).tag("")).event(draft(0, 2)),
    ];
    let before = (store.head(), store.stats().log_bytes);
    for (number, batch) in refused.into_iter().enumerate() {
        store.append_batch(batch).unwrap_err();
        let after = (store.head(), store.stats().log_bytes);
        assert_eq!(after, before, "batch {number}");
    }
    assert!(store.get(id).unwrap().is_none());
    let next = store.append_batch(batch(3)).unwrap();
    let places = next
        .iter()
        .map(|r| (r.position().get(), r.revision().get()));
    assert!(places.eq([(4, 2), (5, 2), (6, 2)]), "{next:?}");
}

/// A batch that is refused between others of its group is taken out of it without a trace.
#[test]
fn a_batch_refused_inside_a_group_leaves_the_others_whole() {
    let held = Held::new();
    let tickets = held.in_one_group(|store| {
        let taken = store.new_id();
        let unknown = store.new_id();
        [
            batch(3).event(draft(7, 7).event_id(taken)),
            batch(2).event(draft(7, 8).event_id(taken)),
            batch(2).event(draft(7, 9).caused_by(unknown)),
            batch(2).expect_revision("thing:7", 1),
        ]
        .map(|batch| store.submit_batch(batch).unwrap())
    });
    let [first, second, third, fourth] = tickets.map(Ticket::wait);
    assert_eq!(second.unwrap_err().kind(), StoreErrorKind::Conflict);
    assert_eq!(third.unwrap_err().kind(), StoreErrorKind::Argument);
    let places = |receipts: quipu::Result<Vec<Receipt>>| -> Vec<_> {
        let receipts = receipts.unwrap();
        let place = |r: &Receipt| (r.position().get(), r.revision().get());
        receipts.iter().map(place).collect()
    };
    assert_eq!(places(first), [(2, 1), (3, 1), (4, 1), (5, 1)]);
    assert_eq!(places(fourth), [(6, 2), (7, 2)]);
    assert_eq!(assert_whole(&held.store.view()), 6);
}

#[test]
fn every_event_says_its_place_in_its_batch() {
    on_each(|open| {
        let store = open();
        store.append_batch(batch(4)).unwrap();
        let store = rotated(store, open);
        let places: Vec<_> = store
            .query(Query::tag("ours"))
            .unwrap()
            .map(|event| event.map(|e| (e.batch_index(), e.batch_len())).unwrap())
            .collect();
        assert_eq!(places, [(0, 4), (1, 4), (2, 4), (3, 4)]);
    });
}
