//! The following processes: each tells what it sees, and the parent holds it against the log at the end.

use crate::support::child::{Role, tell};
use crate::support::script;
use crate::writer::{self, ENDED, Place, limit, place_of};
use crate::{PATIENCE, read_only};
use quipu::prelude::*;
use std::path::Path;

/// Few enough that a subscriber in a debug build loses some.
const SUBSCRIBED: usize = 8;

/// What every follower checks of every event, at the moment that it sees it.
pub(crate) struct Eye<'a> {
    place: &'a Path,
    pub(crate) store: Store,
}

impl Eye<'_> {
    pub(crate) fn open(place: &Path) -> Eye<'_> {
        let store = read_only(place).unwrap();
        Eye { place, store }
    }

    /// Tells of an event; true when it is the last one.
    pub(crate) fn sees(&self, event: &Event) -> bool {
        let position = event.position().get();
        let limit = limit(self.place);
        assert!(
            position <= limit,
            "{event} was seen, and {limit} may be durable"
        );
        assert!(self.store.head().position >= event.position());
        let ended = event.kind() == ENDED.as_str();
        if !ended {
            let (serial, fill): (usize, String) = event.payload().unwrap();
            assert_eq!(serial as u64 + 1, position);
            assert_eq!(event.entity(), script::entity_of(serial));
            assert!(script::payload(serial, fill.len()).1 == fill, "{event}");
        }
        tell(format_args!("saw {position} {}", event.hash()));
        if ended {
            tell(format_args!("ended {}", self.store.head().digest));
        }
        ended
    }
}

pub(crate) fn follow(place: &Path) {
    follow_query(place, Query::all());
}

/// The events with a tag that the scripted ones have one time in three, and the last one has.
pub(crate) fn follow_tag(place: &Path) {
    follow_query(place, Query::tag("t:1"));
}

fn follow_query(place: &Path, query: impl Into<Query>) {
    let eye = Eye::open(place);
    let mut cursor = eye.store.cursor(query).unwrap();
    tell("ready");
    loop {
        assert!(cursor.wait(PATIENCE).unwrap(), "nothing comes any more");
        for event in cursor.by_ref() {
            if eye.sees(&event.unwrap()) {
                return;
            }
        }
    }
}

/// As [`follow`], but opens the store anew every few batches and goes on from a saved position.
pub(crate) fn follow_in_batches(place: &Path) {
    let mut eye = Eye::open(place);
    let mut cursor = eye.store.cursor(Query::all()).unwrap();
    tell("ready");
    loop {
        for _ in 0..5 {
            assert!(cursor.wait(PATIENCE).unwrap(), "nothing comes any more");
            let batch = cursor.next_batch(7).unwrap();
            assert!(!batch.is_empty());
            if batch.iter().any(|event| eye.sees(event)) {
                return;
            }
        }
        let saved = serde_json::to_string(&cursor.position().unwrap()).unwrap();
        eye = Eye::open(place);
        let saved: CursorPosition = serde_json::from_str(&saved).unwrap();
        cursor = eye.store.cursor_from(Query::all(), saved).unwrap();
    }
}

pub(crate) fn subscribe(place: &Path) {
    let eye = Eye::open(place);
    let mut events = eye.store.subscribe_with(Query::all(), SUBSCRIBED).unwrap();
    tell("ready");
    loop {
        match events.recv_timeout(PATIENCE).unwrap() {
            Some(Delivery::Event(event)) if eye.sees(&event) => return,
            Some(Delivery::Lagged(lost)) => tell(format_args!("lost {lost}")),
            Some(_) => {}
            None => panic!("nothing comes any more"),
        }
    }
}

/// The parent's side of a following process.
pub(crate) struct Follower(Role);

/// What a follower saw, in order, and the digest of the history as it found it.
pub(crate) struct Seen {
    pub(crate) events: Vec<Place>,
    lost: u64,
    /// How often it was told that an event that it had seen was removed.
    pub(crate) told_removed: u64,
    /// Positions and digests of heads that it saw on its way.
    pub(crate) heads: Vec<Place>,
    pub(crate) digest: String,
}

impl Follower {
    /// Starts it; its store is open then, and it follows.
    pub(crate) fn start(role: &str, place: &Path) -> Follower {
        Self::ready(Role::start("plays_a_role", role, place))
    }

    /// The same, of a process that has begun.
    pub(crate) fn ready(mut role: Role) -> Follower {
        assert_eq!(role.hear().as_deref(), Some("ready"));
        Follower(role)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Hears it out.
    pub(crate) fn seen(mut self) -> Seen {
        let (mut events, mut heads) = (Vec::new(), Vec::new());
        let (mut lost, mut told_removed) = (0, 0);
        while let Some(told) = self.0.hear() {
            match told.split(' ').collect::<Vec<_>>()[..] {
                ["saw", position, hash] => events.push(place_of(&[position, hash])),
                ["lost", count] => lost += count.parse::<u64>().unwrap(),
                ["head", position, digest] => heads.push(place_of(&[position, digest])),
                ["removed", count] => told_removed += count.parse::<u64>().unwrap(),
                ["ended", digest] => {
                    let digest = digest.to_owned();
                    return Seen {
                        events,
                        lost,
                        told_removed,
                        heads,
                        digest,
                    };
                }
                _ => panic!("a follower: {told}"),
            }
        }
        panic!("a follower is gone");
    }
}

/// The log as it is in the end.
pub(crate) struct Log {
    pub(crate) segments: u64,
    events: Vec<Place>,
    tagged: Vec<Place>,
    digest: String,
}

impl Log {
    pub(crate) fn read(place: &Path) -> Log {
        let store = writer::open_store(place);
        let places = |query: Query| {
            let events = store.query(query).unwrap().map(Result::unwrap);
            events
                .map(|event| (event.position().get(), event.hash().to_string()))
                .collect()
        };
        let segments = store.stats().segments;
        println!("{} in {segments} segments", store.head().position);
        Log {
            segments,
            events: places(Query::all()),
            tagged: places(Query::tag("t:1")),
            digest: store.head().digest.to_string(),
        }
    }

    /// Every event that was acknowledged to its writer is there, buffered ones of killed processes too.
    pub(crate) fn holds(&self, acked: &[Place]) {
        for place in acked {
            let index = usize::try_from(place.0 - 1).unwrap();
            assert_eq!(self.events.get(index), Some(place), "acknowledged");
        }
    }

    /// A cursor over everything saw everything, once and in order.
    pub(crate) fn was_seen_by(&self, follower: Follower) {
        let seen = follower.seen();
        same(&seen.events, &self.events);
        assert_eq!(seen.digest, self.digest);
    }

    pub(crate) fn matches_were_seen_by(&self, follower: Follower) {
        let seen = follower.seen();
        same(&seen.events, &self.tagged);
        assert_eq!(seen.digest, self.digest);
    }

    /// A subscriber saw a part of the log in order, and knows how many it did not see.
    pub(crate) fn was_counted_by(&self, subscriber: Follower) {
        let seen = subscriber.seen();
        assert!(seen.events.is_sorted_by(|a, b| a.0 < b.0));
        self.holds(&seen.events);
        let total = self.events.len() as u64;
        println!("{} of {total} were lost", seen.lost);
        assert_eq!(seen.events.len() as u64 + seen.lost, total);
        assert_eq!(seen.digest, self.digest);
    }
}

/// Says where two lists part instead of printing both.
fn same(seen: &[Place], log: &[Place]) {
    for (index, pair) in seen.iter().zip(log).enumerate() {
        assert_eq!(pair.0, pair.1, "number {index}: seen, and in the log");
    }
    assert_eq!(seen.len(), log.len(), "seen, and in the log");
}
