//! Random stores with keys, ids and tombstones, random policies, and what must be true after a compaction under them.

use crate::asking::{Fact, World};
use quipu::prelude::*;
use quipu::{CompactionConfig, MIN_SEGMENT_BYTES, Retention};
use std::collections::{BTreeMap, BTreeSet};

const KIND: EventKind = EventKind::literal("stock.moved");
pub(crate) const TOMBSTONE: &str = "quipu.tombstone";

/// Everything that can be read of an event.
pub(crate) fn whole(event: &Event) -> String {
    let labels: Vec<_> = event
        .tags()
        .chain(event.metadata().flat_map(|(k, v)| [k, v]))
        .collect();
    format!(
        "{:?} {:?} {labels:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {} {:?}",
        Fact::of(event),
        event.previous_position(),
        event.occurred_at(),
        event.hash(),
        event.schema_version(),
        event.causation(),
        event.batch_index(),
        event.batch_len(),
        event.payload_len(),
        event.payload_bytes().unwrap().len(),
        sum_of(event.payload_bytes().unwrap()),
    )
}

/// A sum that tells payloads apart, so that a failure prints no pages.
fn sum_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, byte| {
        sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
    })
}

/// A policy, to be told to the store and to be asked of a fact.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    Before(u64),
    AllButNewest(u64),
    Tombstoned,
    Kinds(Vec<String>),
    Tagged(String),
    And(Box<Rule>, Box<Rule>),
    Or(Box<Rule>, Box<Rule>),
    Not(Box<Rule>),
}

impl Rule {
    pub(crate) fn random(world: &mut World, depth: usize) -> Self {
        let like = world.some_fact().unwrap();
        let part = |world: &mut World| Box::new(Self::random(world, depth - 1));
        match world.dice.below(if depth == 0 { 5 } else { 8 }) {
            0 => Self::Before(like.recorded_at),
            1 => Self::AllButNewest(world.dice.below(6) as u64),
            2 => Self::Tombstoned,
            3 => Self::Kinds(vec![like.kind, String::from("order")]),
            4 => Self::Tagged(world.pick(&["t", "t:1", "customer:1"])),
            5 => Self::And(part(world), part(world)),
            6 => Self::Or(part(world), part(world)),
            _ => Self::Not(part(world)),
        }
    }

    pub(crate) fn retention(&self) -> Retention {
        match self {
            Self::Before(nanos) => Retention::recorded_before(Timestamp::from_nanos(*nanos)),
            Self::AllButNewest(count) => Retention::all_but_newest(*count),
            Self::Tombstoned => Retention::tombstoned(),
            Self::Kinds(kinds) => Retention::kinds(kinds),
            Self::Tagged(tag) => Retention::query(Query::tag(tag)),
            Self::And(a, b) => a.retention().and(b.retention()),
            Self::Or(a, b) => a.retention().or(b.retention()),
            Self::Not(a) => a.retention().not(),
        }
    }

    fn fits(&self, fact: &Fact, ends: &BTreeMap<String, (u64, bool)>) -> bool {
        let (newest, ended) = ends[&fact.entity];
        match self {
            Self::Before(nanos) => fact.recorded_at < *nanos,
            Self::AllButNewest(count) => newest - fact.revision >= *count,
            Self::Tombstoned => ended,
            Self::Kinds(kinds) => kinds.contains(&fact.kind),
            Self::Tagged(tag) => fact.tags.contains(tag),
            Self::And(a, b) => a.fits(fact, ends) && b.fits(fact, ends),
            Self::Or(a, b) => a.fits(fact, ends) || b.fits(fact, ends),
            Self::Not(a) => !a.fits(fact, ends),
        }
    }
}

/// A store that has lived, and what was in it at its fullest.
pub(crate) struct Aged {
    pub(crate) world: World,
    /// Every event as it read before anything was removed, by position from 1.
    wholes: Vec<String>,
    /// Submissions with keys, and what they were answered.
    sent: Vec<(Batch, Vec<Receipt>)>,
    /// Positions of which only stubs are left.
    pub(crate) removed: BTreeSet<u64>,
}

impl Aged {
    pub(crate) fn new() -> Self {
        let world = World::new();
        assert_eq!(MIN_SEGMENT_BYTES, 1024 * 1024);
        Self {
            world,
            wholes: Vec::new(),
            sent: Vec::new(),
            removed: BTreeSet::new(),
        }
    }

    /// Grows by some 250 events for each segment, with keys and tombstones among them; all but the last few are sealed.
    pub(crate) fn live(&mut self, segments: usize) {
        for round in 0..segments * 10 {
            self.world.grow(24);
            self.submit_keyed(round);
            if self.world.dice.one_in(4) {
                self.end_a_stream();
            }
        }
        self.world.reopen();
        self.note();
    }

    fn submit_keyed(&mut self, round: usize) {
        let key = format!("{}-{round}", self.world.facts.len());
        let draft = |n: usize, revision: usize| {
            let place = Coordinate::new(format!("keyed:{n}"), "shop").unwrap();
            EventDraft::new(&place, KIND, &revision)
                .tag("t")
                .metadata("by", "me")
        };
        let count = 1 + self.world.dice.below(3);
        let batch = Batch::new()
            .events((0..count).map(|at| draft(round % 7, at)))
            .idempotency_key(key);
        let receipts = self.world.store.append_batch(batch.clone()).unwrap();
        self.take(&receipts);
        self.sent.push((batch, receipts));
    }

    /// A stream of its own, so that what the world appends to stays open.
    fn end_a_stream(&mut self) {
        let entity = format!("user:{}:gone", self.world.facts.len());
        let place = Coordinate::new(&entity, "shop").unwrap();
        let store = &self.world.store;
        let append = |_| {
            store
                .append(&place, KIND, "x".repeat(500).as_str())
                .unwrap()
        };
        let mut receipts: Vec<_> = (0..3).map(append).collect();
        receipts.push(store.tombstone(&entity).unwrap());
        self.take(&receipts);
    }

    fn take(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            let event = self.world.store.get(receipt).unwrap().unwrap();
            self.world.facts.push(Fact::of(&event));
        }
    }

    /// Reads what is new as it is now.
    fn note(&mut self) {
        let after = self.wholes.len() as u64;
        let new = ReadOptions::new().after(after);
        let events = self.world.store.query_with(Query::all(), new).unwrap();
        self.wholes
            .extend(events.map(|event| whole(&event.unwrap())));
        assert_eq!(self.wholes.len(), self.world.facts.len());
    }

    /// What a rule lets go of what is left, wherever it stands.
    fn going(&self, rule: &Rule) -> BTreeSet<u64> {
        let mut ends: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        for fact in &self.world.facts {
            let ended = fact.kind == TOMBSTONE;
            let end = ends.entry(fact.entity.clone()).or_default();
            *end = (end.0.max(fact.revision), end.1 || ended);
        }
        let left = self
            .world
            .facts
            .iter()
            .filter(|fact| !self.removed.contains(&fact.position));
        let going = left.filter(|fact| fact.kind != TOMBSTONE && rule.fits(fact, &ends));
        going.map(|fact| fact.position).collect()
    }

    /// Compacts under a rule and checks that exactly what it lets go in sealed segments is gone.
    pub(crate) fn compact(&mut self, rule: &Rule, config: CompactionConfig) {
        let config = config.remove(rule.retention());
        let plan = self.world.store.plan_compaction(&config).unwrap();
        let done = self
            .world
            .store
            .compact(config.clone())
            .unwrap()
            .wait()
            .unwrap();
        let going = self.going(rule);
        let gone: BTreeSet<u64> = going
            .iter()
            .copied()
            .filter(|position| self.is_removed(*position))
            .collect();
        assert_eq!(plan.events_removed, gone.len() as u64, "{rule:?}");
        assert_eq!(done.events_removed, plan.events_removed);
        assert_eq!(
            (done.files_after, done.rewrites.len()),
            (plan.files_after, plan.rewrites.len())
        );
        // What stands in the newest segment stays: what is gone are the first ones of those that may go.
        let boundary = gone.last().copied().unwrap_or(0);
        let missed: Vec<_> = going
            .range(..boundary)
            .filter(|p| !gone.contains(p))
            .collect();
        assert!(missed.is_empty(), "{rule:?} left {missed:?}");
        self.removed.extend(gone);
        let again = self.world.store.plan_compaction(&config).unwrap();
        assert!(again.is_empty(), "{again}");
    }

    fn is_removed(&self, position: u64) -> bool {
        match self.world.store.at(position) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
                assert!(
                    error.to_string().contains("removed by retention"),
                    "{error}"
                );
                true
            }
        }
    }

    /// Asserts that everything kept reads as it did, and that what is gone is told as gone.
    pub(crate) fn check(&mut self) {
        self.check_events();
        self.check_queries();
        self.check_retries();
        self.check_streams();
        let verification = self.world.store.verify().unwrap();
        assert!(verification.is_sound(), "{verification}");
    }

    fn check_events(&self) {
        for (fact, before) in self.world.facts.iter().zip(&self.wholes) {
            let store = &self.world.store;
            if self.removed.contains(&fact.position) {
                assert!(self.is_removed(fact.position), "{fact:?} is back");
                let error = store.get(fact.id).unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
                continue;
            }
            let at = store.at(fact.position).unwrap().unwrap();
            assert_eq!(whole(&at), *before);
            assert_eq!(whole(&store.get(fact.id).unwrap().unwrap()), *before);
        }
    }

    fn check_queries(&mut self) {
        for _ in 0..100 {
            let ask = self.world.ask();
            let (view, facts) = self.world.some_view();
            let kept = facts
                .iter()
                .filter(|fact| !self.removed.contains(&fact.position));
            let mut expected: Vec<u64> = kept
                .filter(|fact| ask.fits(fact))
                .map(|fact| fact.position)
                .collect();
            assert_eq!(
                view.count(ask.query()).unwrap(),
                expected.len() as u64,
                "{ask:?}"
            );
            let found = view.query(ask.query()).unwrap();
            let found: Vec<u64> = found.map(|event| event.unwrap().position().get()).collect();
            assert_eq!(found, expected, "{ask:?}");
            expected.reverse();
            let found = view
                .query_with(ask.query(), ReadOptions::new().backward())
                .unwrap();
            let found: Vec<u64> = found.map(|event| event.unwrap().position().get()).collect();
            assert_eq!(found, expected, "{ask:?} backward");
        }
    }

    fn check_retries(&self) {
        for (batch, first) in &self.sent {
            let again = self.world.store.append_batch(batch.clone()).unwrap();
            let facts = |r: &Receipt| {
                (
                    r.id(),
                    r.position(),
                    r.revision(),
                    r.recorded_at(),
                    r.hash(),
                )
            };
            assert!(again.iter().all(Receipt::replay));
            assert!(again.iter().map(facts).eq(first.iter().map(facts)));
        }
    }

    fn check_streams(&self) {
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for fact in &self.world.facts {
            newest.insert(&fact.entity, fact.revision);
        }
        for (entity, revision) in newest {
            assert_eq!(
                self.world.store.revision(entity).unwrap(),
                revision,
                "{entity}"
            );
        }
        for position in self.removed.iter().step_by(40) {
            let place = Coordinate::new("reuser", "shop").unwrap();
            let id = self.world.facts[usize::try_from(*position).unwrap() - 1].id;
            let used = AppendOptions::new().event_id(id);
            let error = self
                .world
                .store
                .append_with_options(&place, KIND, &1, used)
                .unwrap_err();
            assert_eq!(error.in_the_way(), [*position], "{error}");
        }
    }

    /// Goes on appending: to streams whose events are gone, and with removed events as parents.
    pub(crate) fn go_on(&mut self) {
        for position in self.removed.clone().into_iter().rev().step_by(50) {
            let fact = self.world.facts[usize::try_from(position).unwrap() - 1].clone();
            let place = Coordinate::new(&fact.entity, "shop").unwrap();
            let caused = AppendOptions::new().caused_by(fact.id);
            let newest = self.world.store.revision(&fact.entity).unwrap().get();
            match self
                .world
                .store
                .append_with_options(&place, KIND, &1, caused)
            {
                Ok(receipt) => {
                    assert_eq!(receipt.revision(), newest + 1);
                    self.take(&[receipt]);
                }
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
                    assert!(fact.entity.ends_with(":gone"), "{error}");
                }
            }
        }
        self.note();
    }
}
