//! Order: positions and revisions are dense, times rise, and readers see a prefix.

use crate::support::disk::TestDisk;
use crate::support::ends::Ends;
use crate::support::held::Held;
use crate::support::places::{on_each, rotated};
use crate::support::script::{self, KIND, read_all};
use crate::support::times::TestClock;
use quipu::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const THREADS: usize = 8;

fn entity(number: usize) -> Coordinate {
    Coordinate::new(format!("thing:{number}"), "here").unwrap()
}

/// Asserts that events come as one history: dense positions, dense revisions, times that rise, links that fit.
fn assert_ordered<'a>(events: impl Iterator<Item = EventRef<'a>>) -> u64 {
    let mut position = 0;
    let mut recorded_at = None;
    let mut streams: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for event in events {
        position += 1;
        assert_eq!(event.position(), position);
        assert!(Some(event.recorded_at()) > recorded_at, "{event:?}");
        recorded_at = Some(event.recorded_at());
        let stream = streams.entry(event.entity().to_owned()).or_default();
        assert_eq!(event.revision(), stream.0 + 1, "{event:?}");
        assert_eq!(event.previous_position(), stream.1, "{event:?}");
        *stream = (event.revision().get(), position);
    }
    position
}

fn assert_view_ordered(view: &View) -> u64 {
    let events = view.query(Query::all()).unwrap();
    let seen = assert_ordered(events.map(Result::unwrap));
    assert_eq!(view.position(), seen);
    seen
}

/// Appends, batches, tickets, conflicts and arguments, as they come, from one thread.
fn work(store: &Store, thread: usize) -> u64 {
    let buffered = || AppendOptions::new().durability(Durability::Buffered);
    let mut written = 0;
    for round in 0..40 {
        let place = entity((thread + round) % 5);
        let outcome = match round % 5 {
            0 => store
                .append_with_options(&place, KIND, &round, buffered())
                .map(|_| 1),
            1 => {
                let drafts = (0..3).map(|n| EventDraft::new(&entity(n), KIND, &round));
                let batch = Batch::new().events(drafts).durability(Durability::Buffered);
                store
                    .append_batch(batch)
                    .map(|receipts| receipts.len() as u64)
            }
            2 => {
                let ticket = store.submit(&place, KIND, &round, buffered()).unwrap();
                ticket.wait().map(|_| 1)
            }
            3 => {
                let refused = buffered().expect_revision(1_000_000);
                store
                    .append_with_options(&place, KIND, &round, refused)
                    .map(|_| 1)
            }
            _ => {
                let refused = buffered().caused_by(store.new_id());
                store
                    .append_with_options(&place, KIND, &round, refused)
                    .map(|_| 1)
            }
        };
        assert_eq!(outcome.is_ok(), round % 5 < 3, "{outcome:?}");
        written += outcome.unwrap_or(0);
    }
    written
}

#[test]
fn eight_threads_leave_no_hole_in_positions_or_revisions() {
    on_each(|open| {
        let store = open();
        let written: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn({
                        let store = &store;
                        move || work(store, thread)
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(written, 8 * 8 * 5);
        assert_eq!(assert_view_ordered(&store.view()), written);
        drop(store);
        let store = rotated(open(), open);
        assert!(assert_view_ordered(&store.view()) > written);
    });
}

/// Reads what came since its last look, so many times; returns the hashes it saw, in order.
fn read_along(store: &Store, looks: usize) -> Vec<EventHash> {
    let mut known = Vec::new();
    for _ in 0..looks {
        let mut view = store.view();
        while view.position() == known.len() as u64 {
            std::thread::yield_now();
            view = store.view();
        }
        let since = ReadOptions::new().after(known.len() as u64);
        for event in view.query_with(Query::all(), since).unwrap() {
            let event = event.unwrap();
            assert_eq!(event.position(), known.len() as u64 + 1, "a gap");
            known.push(event.hash());
        }
        assert_eq!(view.position(), known.len() as u64);
    }
    known
}

#[test]
fn readers_see_a_prefix_that_only_grows_while_others_write() {
    let config = StoreConfig::in_memory().segment_bytes(quipu::MIN_SEGMENT_BYTES);
    let store = Store::open_with(config).unwrap();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let _ends = Ends(&done);
        for thread in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(SeqCst) {
                    work(store, thread);
                }
            });
        }
        let readers = [(); 2].map(|()| scope.spawn(|| read_along(&store, 300)));
        readers.map(|reader| reader.join().unwrap())
    });
    let all = read_all(&store).unwrap();
    let hashes: Vec<_> = all.iter().map(Event::hash).collect();
    assert!(seen.iter().all(|seen| hashes.starts_with(seen)));
    assert_view_ordered(&store.view());
}

#[test]
fn tickets_of_one_thread_are_answered_in_the_order_of_their_submission() {
    let held = Held::new();
    let submit = |n: usize| {
        held.store
            .submit(&entity(n % 3), KIND, &n, AppendOptions::new())
            .unwrap()
    };
    let tickets = held.in_one_group(|_| (0..50).map(submit).collect::<Vec<_>>());
    let positions = tickets
        .into_iter()
        .map(|t| t.wait().unwrap().position().get());
    assert!(positions.eq(2..52));
    assert_eq!(assert_view_ordered(&held.store.view()), 51);
}

#[test]
fn what_was_refused_takes_no_number() {
    let held = Held::new();
    let place = entity(1);
    let tickets = held.in_one_group(|store| {
        let submit = |options| store.submit(&place, KIND, &0, options).unwrap();
        let unknown = store.new_id();
        [
            submit(AppendOptions::new()),
            submit(AppendOptions::new().expect_no_stream()),
            submit(AppendOptions::new().caused_by(unknown)),
            submit(AppendOptions::new()),
        ]
    });
    let [first, second, third, fourth] = tickets.map(Ticket::wait);
    assert!(second.is_err() && third.is_err());
    let (first, fourth) = (first.unwrap(), fourth.unwrap());
    assert_eq!((first.position().get(), first.revision().get()), (2, 1));
    assert_eq!((fourth.position().get(), fourth.revision().get()), (3, 2));
}

/// What the clock says, and what is recorded then.
const MOMENTS: [(u64, u64); 8] = [
    (1_000, 1_000),
    (1_000, 1_001),
    (400, 1_002),
    (0, 1_003),
    (1_003, 1_004),
    (9_000_000_000_000, 9_000_000_000_000),
    (8_999, 9_000_000_000_001),
    (9_000_000_000_002, 9_000_000_000_002),
];

#[test]
fn recorded_times_rise_whatever_the_clock_does() {
    let clock = TestClock::at(0);
    let disk = TestDisk::new();
    let open = || {
        let config = script::config(disk.clone()).clock(Arc::new(clock.clone()));
        Store::open_with(config).unwrap()
    };
    let mut store = open();
    for (round, (now, recorded)) in MOMENTS.into_iter().enumerate() {
        clock.set(now);
        let receipt = store.append(&entity(1), KIND, &now).unwrap();
        assert_eq!(receipt.recorded_at().as_nanos(), recorded, "at {now}");
        assert_eq!(store.head().recorded_at, receipt.recorded_at());
        if round % 2 == 0 {
            drop(store);
            store = open();
        }
    }
    let events = read_all(&store).unwrap();
    assert_eq!(assert_ordered(events.iter().map(Event::borrowed)), 8);
    assert_eq!(store.diagnostics().clock_behind.as_nanos(), 0);
    clock.set(9_000_000_000_002 - 61_000_000_000);
    store.append(&entity(1), KIND, &0).unwrap();
    assert_eq!(store.diagnostics().clock_behind.as_secs(), 61);
}

#[test]
fn the_events_of_one_batch_and_of_one_group_have_times_of_their_own() {
    let clock = TestClock::at(5_000);
    let config = StoreConfig::in_memory().clock(Arc::new(clock));
    let store = Store::open_with(config).unwrap();
    let batch = Batch::new().events((0..4).map(|n| EventDraft::new(&entity(n), KIND, &n)));
    let receipts = store.append_batch(batch).unwrap();
    let times = receipts.iter().map(|r| r.recorded_at().as_nanos());
    assert!(times.eq(5_000..5_004));
}

#[test]
fn a_view_at_a_time_is_the_prefix_that_was_recorded_by_then() {
    let store = Store::in_memory().unwrap();
    let receipts: Vec<_> = (0..20)
        .map(|n| store.append(&entity(n % 3), KIND, &n).unwrap())
        .collect();
    for receipt in receipts {
        let view = store.view_at_time(receipt.recorded_at()).unwrap();
        assert_eq!(view.position(), receipt.position());
        assert_eq!(assert_view_ordered(&view), receipt.position().get());
    }
    let before = store.view_at_time(Timestamp::from_nanos(0)).unwrap();
    assert_eq!(before.position(), 0);
}
