//! Whatever a compaction replaces between any two calls of a reader, the reader goes on with what is there now.

use crate::support::disk::TestDisk;
use crate::support::ruled::{Call, Op, Ruled};
use crate::support::script::{self, KIND};
use crate::{found, is_alike};
use quipu::prelude::*;
use quipu::{CompactionConfig, EventRef, Retention, RetentionMoment, RetentionPredicate};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// So many events of this size fill a segment.
const EVENTS_A_SEGMENT: u64 = 3;
const EVENT_BYTES: usize = 300_000;

struct World {
    disk: TestDisk,
    store: Store,
    /// How often it was compacted.
    rounds: u64,
}

impl World {
    fn new(segments: u64) -> Self {
        let disk = TestDisk::new();
        let store = Store::open_with(script::config(disk.clone())).unwrap();
        let world = Self {
            disk,
            store,
            rounds: 0,
        };
        world.fill(segments);
        world
    }

    /// Appends until the log is so many segments long, all but the newest sealed.
    fn fill(&self, segments: u64) {
        let payload = "x".repeat(EVENT_BYTES);
        while self.store.stats().segments < segments {
            let count = self.store.head().position.get();
            let place = Coordinate::new(format!("e:{}", count % 5), "here").unwrap();
            self.store.append(&place, KIND, &payload).unwrap();
        }
        while self.store.stats().unsealed_segments > 0 {
            std::thread::yield_now();
        }
    }

    fn compact(&self, config: CompactionConfig) {
        let done = self.store.compact(config).unwrap().wait().unwrap();
        assert!(!done.is_empty());
    }

    /// Removes something from every sealed segment, and each second time merges what became small.
    fn compact_all(&mut self) {
        let entity = format!("e:{}", self.rounds % 4);
        let gone = Retention::query(Query::entity(entity));
        let merged = CompactionConfig::new().remove(gone);
        self.rounds += 1;
        self.compact(match self.rounds % 2 {
            0 => merged,
            _ => merged.merge_below(0),
        });
    }

    fn is_shown_by(&self, reader: &Store, what: &str) {
        is_alike(&reader.view(), &self.store.view(), what);
    }
}

/// One event that may go.
#[derive(Debug)]
struct At(u64);

impl RetentionPredicate for At {
    fn may_go(&self, event: &EventRef<'_>, _: &RetentionMoment<'_>) -> quipu::Result<bool> {
        Ok(event.position().get() == self.0)
    }
}

/// What is done before a call of the reader.
type Act = Box<dyn FnMut(&mut World, Call<'_>) + Send>;

/// A disk for readers, whose calls let something happen first while they are armed.
struct Disturbed {
    world: Arc<Mutex<World>>,
    act: Arc<Mutex<Option<Act>>>,
}

impl Disturbed {
    fn new(segments: u64) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(segments))),
            act: Arc::default(),
        }
    }

    fn arm(&self, act: impl FnMut(&mut World, Call<'_>) + Send + 'static) {
        *self.act.lock().unwrap() = Some(Box::new(act));
    }

    fn disarm(&self) {
        *self.act.lock().unwrap() = None;
    }

    fn open(&self) -> quipu::Result<Store> {
        let (world, act) = (Arc::clone(&self.world), Arc::clone(&self.act));
        let inner = world.lock().unwrap().disk.clone();
        let disk = Ruled::new(inner, move |call| {
            if let Some(act) = &mut *act.lock().unwrap() {
                act(&mut world.lock().unwrap(), call);
            }
            Ok(())
        });
        Store::open_read_only_with(script::config(disk))
    }

    /// Lets compactions happen before call `at`, and before each 40th after that, three in all.
    fn compact_at(&self, at: usize) -> Arc<Mutex<usize>> {
        let left = Arc::new(Mutex::new(3));
        let (mut calls, counted) = (0, Arc::clone(&left));
        self.arm(move |world, _| {
            let mut left = counted.lock().unwrap();
            if *left > 0 && calls >= at && (calls - at).is_multiple_of(40) {
                *left -= 1;
                world.compact_all();
            }
            calls += 1;
        });
        left
    }
}

#[test]
fn an_opening_shows_the_store_whatever_is_compacted_meanwhile() {
    for at in 0.. {
        let disturbed = Disturbed::new(3);
        let left = disturbed.compact_at(at);
        let reader = disturbed.open().unwrap_or_else(|e| panic!("{at}: {e}"));
        disturbed.disarm();
        let world = disturbed.world.lock().unwrap();
        world.is_shown_by(&reader, &format!("call {at}"));
        if *left.lock().unwrap() == 3 {
            assert!(at > 20, "{at} calls");
            break;
        }
    }
}

#[test]
fn a_refresh_shows_the_store_whatever_is_compacted_meanwhile() {
    for at in 0.. {
        let disturbed = Disturbed::new(2);
        let reader = disturbed.open().unwrap();
        let before = reader.view();
        let had = found(&before, Query::all());
        disturbed.world.lock().unwrap().fill(5);
        let left = disturbed.compact_at(at);
        let seen = reader.query(Query::all()).map(Iterator::count);
        seen.unwrap_or_else(|e| panic!("{at}: {e}"));
        disturbed.disarm();
        assert_eq!(
            found(&before, Query::all()),
            had,
            "a view keeps what it has"
        );
        let world = disturbed.world.lock().unwrap();
        world.is_shown_by(&reader, &format!("call {at}"));
        if *left.lock().unwrap() == 3 {
            assert!(at > 20, "{at} calls");
            break;
        }
    }
}

/// The bug: the file of a segment was opened again for its footer. Replaced since it was opened for its events, it was
/// not there any more, and a sound store was damaged.
#[test]
fn a_verification_finds_the_store_sound_whatever_is_compacted_meanwhile() {
    for at in 0.. {
        let disturbed = Disturbed::new(3);
        let reader = disturbed.open().unwrap();
        let left = disturbed.compact_at(at);
        let found = reader.verify().unwrap_or_else(|e| panic!("{at}: {e}"));
        disturbed.disarm();
        assert!(found.is_sound(), "call {at}: {found}");
        assert_eq!(found.repairable_found, 0, "call {at}: {found}");
        if *left.lock().unwrap() == 3 {
            assert!(at > 20, "{at} calls");
            break;
        }
    }
}

/// The n-th segment is replaced at the moment at which it is wanted for the first time.
fn just_ahead() -> impl FnMut(&mut World, Call<'_>) {
    let mut wanted = BTreeSet::new();
    move |world, call| {
        let stem = call.name.strip_prefix("segments/");
        let stem = stem.and_then(|name| name.strip_suffix(".seg"));
        let number = stem.and_then(|stem| stem.parse::<u64>().ok());
        let Some(number) = number.filter(|_| call.op == Op::Open) else {
            return;
        };
        if number < world.store.stats().segments && wanted.insert(number) {
            let second = (number - 1) * EVENTS_A_SEGMENT + 2;
            world.compact(CompactionConfig::new().merge_below(0).remove(At(second)));
        }
    }
}

/// The bug: an opening began again whenever a file was replaced under it, at most 16 times. Beside a compaction that goes
/// through a long store faster than a reader opens it, each attempt met it once more.
#[test]
fn an_opening_ends_though_a_compaction_is_always_just_ahead_of_it() {
    let disturbed = Disturbed::new(24);
    disturbed.arm(just_ahead());
    let reader = disturbed.open().unwrap();
    disturbed.disarm();
    let world = disturbed.world.lock().unwrap();
    world.is_shown_by(&reader, "opened");
    assert_eq!(reader.query(Query::all()).unwrap().count(), 2 * 23 + 1);
}

#[test]
fn a_refresh_ends_though_a_compaction_is_always_just_ahead_of_it() {
    let disturbed = Disturbed::new(2);
    let reader = disturbed.open().unwrap();
    disturbed.world.lock().unwrap().fill(60);
    disturbed.arm(just_ahead());
    let shown = reader.query(Query::all()).unwrap().count();
    disturbed.disarm();
    assert!(shown > 2 * 58, "{shown}");
    let world = disturbed.world.lock().unwrap();
    world.is_shown_by(&reader, "refreshed");
}
