//! The model: events in a plain list, a predicate that looks at each of them, and the dice.

use crate::knots::{self, Knot};
use quipu::prelude::*;
use std::ops::Bound;

/// SplitMix64: small, and the same in every run with the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// Once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub(crate) fn bytes16(&mut self) -> [u8; 16] {
        (u128::from(self.bits()) << 64 | u128::from(self.bits())).to_be_bytes()
    }
}

/// Everything that is known of one event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fact {
    pub(crate) id: [u8; 16],
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) previous: u64,
    pub(crate) recorded_at: u64,
    pub(crate) entity: String,
    pub(crate) scope: String,
    pub(crate) kind: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) schema_version: u16,
    pub(crate) tags: Vec<String>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) parents: Vec<[u8; 16]>,
    pub(crate) correlation: [u8; 16],
    pub(crate) occurred_at: Option<u64>,
    pub(crate) batch_index: u32,
    pub(crate) batch_len: u32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) hash: [u8; 32],
}

impl Fact {
    fn knot(&self) -> Knot<'_> {
        Knot {
            position: self.position,
            revision: self.revision,
            previous: self.previous,
            recorded_at: self.recorded_at,
            id: self.id,
            batch_index: self.batch_index,
            batch_len: self.batch_len,
            key: None,
            entity: &self.entity,
            scope: &self.scope,
            kind: &self.kind,
            schema_version: self.schema_version,
            payload: &self.payload,
            tags: self.tags.iter().map(String::as_str).collect(),
            metadata: self
                .metadata
                .iter()
                .map(|(key, value)| (&**key, &**value))
                .collect(),
            correlation: self.correlation,
            occurred_at: self.occurred_at,
            parents: self.parents.clone(),
            parent_hashes: Vec::new(),
            previous_hash: [0; 32],
        }
    }

    /// Asserts that the event has, in every accessor, what the fact has.
    pub(crate) fn assert_is(&self, event: &EventRef<'_>) {
        assert_eq!(*event.id().as_bytes(), self.id);
        assert_eq!(event.position(), self.position);
        assert_eq!(event.revision(), self.revision);
        assert_eq!(event.previous_position(), self.previous);
        assert_eq!(event.recorded_at().as_nanos(), self.recorded_at);
        assert_eq!(
            event.occurred_at().map(Timestamp::as_nanos),
            self.occurred_at
        );
        let names = (event.entity(), event.scope(), event.kind());
        assert_eq!(names, (&*self.entity, &*self.scope, &*self.kind));
        assert_eq!(event.category(), self.kind.split('.').next().unwrap());
        assert_eq!(event.schema_version(), self.schema_version);
        assert!(event.tags().eq(self.tags.iter().map(String::as_str)));
        let metadata = self.metadata.iter().map(|(k, v)| (&**k, &**v));
        assert!(event.metadata().eq(metadata));
        let parents = self.parents.iter().map(|id| EventId::from_bytes(*id));
        assert!(event.parents().eq(parents));
        let causation = self.parents.first().map(|id| EventId::from_bytes(*id));
        assert_eq!(event.causation(), causation);
        assert_eq!(*event.correlation().as_bytes(), self.correlation);
        let place = (event.batch_index(), event.batch_len());
        assert_eq!(place, (self.batch_index, self.batch_len));
        assert_eq!(*event.hash().as_bytes(), self.hash);
        assert_eq!(event.payload_len() as usize, self.payload.len());
        assert!(event.payload_bytes().unwrap() == self.payload);
    }
}

/// The log as a list.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) facts: Vec<Fact>,
    /// The running digest after each position, zeros first.
    pub(crate) digests: Vec<[u8; 32]>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            facts: Vec::new(),
            digests: vec![[0; 32]],
        }
    }

    pub(crate) fn head(&self) -> u64 {
        self.facts.len() as u64
    }

    pub(crate) fn at(&self, position: u64) -> Option<&Fact> {
        let index = usize::try_from(position).ok()?.checked_sub(1)?;
        self.facts.get(index)
    }

    pub(crate) fn by_id(&self, id: &[u8; 16]) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.id == *id)
    }

    pub(crate) fn last_of(&self, entity: &str) -> Option<&Fact> {
        self.facts.iter().rev().find(|fact| fact.entity == entity)
    }

    /// The receipts' facts of what a key wrote.
    pub(crate) fn by_key(&self, key: &[u8]) -> Option<&[Fact]> {
        let first = self
            .facts
            .iter()
            .position(|fact| fact.key.as_deref() == Some(key))?;
        let len = usize::try_from(self.facts[first].batch_len).unwrap();
        Some(&self.facts[first..first + len])
    }

    /// Appends a submission whose events have everything but what the store assigns; `now` is the clock.
    pub(crate) fn append(&mut self, facts: Vec<Fact>, key: Option<&[u8]>, now: u64) {
        let len = u32::try_from(facts.len()).unwrap();
        let content = knots::content_digest(&facts.iter().map(Fact::knot).collect::<Vec<_>>());
        for (index, mut fact) in (0..).zip(facts) {
            let last = self.last_of(&fact.entity);
            let previous_hash = last.map_or([0; 32], |last| last.hash);
            fact.revision = last.map_or(0, |last| last.revision) + 1;
            fact.previous = last.map_or(0, |last| last.position);
            fact.position = self.head() + 1;
            fact.recorded_at = now.max(self.facts.last().map_or(0, |f| f.recorded_at + 1));
            (fact.batch_index, fact.batch_len) = (index, len);
            fact.key = key.filter(|_| index == 0).map(<[u8]>::to_vec);
            let parent_hashes: Vec<_> = fact
                .parents
                .iter()
                .map(|id| self.by_id(id).unwrap().hash)
                .collect();
            let knot = Knot {
                key: fact.key.as_deref().map(|key| (key, content)),
                parent_hashes,
                previous_hash,
                ..fact.knot()
            };
            fact.hash = knots::event_hash(&knot);
            let before = *self.digests.last().unwrap();
            self.digests.push(knots::fold(before, fact.hash));
            self.facts.push(fact);
        }
    }
}

/// One term of a region, to be told to the store and to be asked of a fact.
#[derive(Clone, Debug)]
pub(crate) enum Term {
    Scope(String),
    ScopePrefix(String),
    Kind(String),
    KindPrefix(String),
    Tag(String),
    Correlation([u8; 16]),
    Positions(Bound<u64>, Bound<u64>),
    Revisions(Bound<u64>, Bound<u64>),
    Recorded(Bound<u64>, Bound<u64>),
}

/// Whose events a region means.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Anyone,
    Entity(String),
    EntityPrefix(String),
}

/// A region of which both sides can be told.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) who: Who,
    pub(crate) terms: Vec<Term>,
}

impl Patch {
    pub(crate) fn region(&self) -> Region {
        let start = match &self.who {
            Who::Anyone => Region::all(),
            Who::Entity(name) => Region::entity(name),
            Who::EntityPrefix(prefix) => Region::entity_prefix(prefix),
        };
        let time = |bound: &Bound<u64>| bound.map(Timestamp::from_nanos);
        self.terms.iter().fold(start, |region, term| match term {
            Term::Scope(name) => region.scope(name),
            Term::ScopePrefix(prefix) => region.scope_prefix(prefix),
            Term::Kind(kind) => region.kind(kind),
            Term::KindPrefix(prefix) => region.kind_prefix(prefix),
            Term::Tag(tag) => region.tag(tag),
            Term::Correlation(id) => region.correlation(CorrelationId::from_bytes(*id)),
            Term::Positions(from, to) => region.positions((*from, *to)),
            Term::Revisions(from, to) => region.revisions((*from, *to)),
            Term::Recorded(from, to) => region.recorded((time(from), time(to))),
        })
    }

    pub(crate) fn fits(&self, fact: &Fact) -> bool {
        let who = match &self.who {
            Who::Anyone => true,
            Who::Entity(name) => fact.entity == *name,
            Who::EntityPrefix(prefix) => fact.entity.starts_with(prefix),
        };
        let kinds: Vec<bool> = self
            .terms
            .iter()
            .filter_map(|term| match term {
                Term::Kind(kind) => Some(fact.kind == *kind),
                Term::KindPrefix(prefix) => Some(fact.kind.starts_with(prefix)),
                _ => None,
            })
            .collect();
        let others = self.terms.iter().all(|term| match term {
            Term::Kind(_) | Term::KindPrefix(_) => true,
            Term::Scope(name) => fact.scope == *name,
            Term::ScopePrefix(prefix) => fact.scope.starts_with(prefix),
            Term::Tag(tag) => fact.tags.contains(tag),
            Term::Correlation(id) => fact.correlation == *id,
            Term::Positions(from, to) => within(fact.position, from, to),
            Term::Revisions(from, to) => within(fact.revision, from, to),
            Term::Recorded(from, to) => within(fact.recorded_at, from, to),
        });
        who && (kinds.is_empty() || kinds.contains(&true)) && others
    }
}

fn within(number: u64, from: &Bound<u64>, to: &Bound<u64>) -> bool {
    let above = match from {
        Bound::Included(first) => number >= *first,
        Bound::Excluded(before) => number > *before,
        Bound::Unbounded => true,
    };
    let below = match to {
        Bound::Included(last) => number <= *last,
        Bound::Excluded(after) => number < *after,
        Bound::Unbounded => true,
    };
    above && below
}

/// A query of which both sides can be told.
#[derive(Clone, Debug)]
pub(crate) struct Ask(pub(crate) Vec<Patch>);

impl Ask {
    pub(crate) fn query(&self) -> Query {
        let mut regions = self.0.iter().map(Patch::region);
        let first = Query::from(regions.next().unwrap());
        regions.fold(first, Query::or)
    }

    pub(crate) fn fits(&self, fact: &Fact) -> bool {
        self.0.iter().any(|patch| patch.fits(fact))
    }
}
