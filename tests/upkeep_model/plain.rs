//! The model: each store is a list of all events that it was given, and a set of those whose content was removed.

use crate::support::disk::TestDisk;
use quipu::Difference;
use quipu::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const ENTITIES: usize = 30;
pub(crate) const TAGS: usize = 5;
pub(crate) const KINDS: [&str; 3] = ["order.placed", "order.paid", "stock.moved"];
const TOMBSTONE: &str = "quipu.tombstone";

/// Everything that is known of one event.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) id: EventId,
    pub(crate) entity: String,
    pub(crate) scope: String,
    pub(crate) kind: String,
    pub(crate) revision: u64,
    pub(crate) recorded_at: u64,
    pub(crate) tag: Option<String>,
    pub(crate) parents: Vec<EventId>,
    /// The event that its story begins with.
    pub(crate) story: EventId,
    /// Of a payload that is one text; a tombstone has none.
    pub(crate) text_len: Option<usize>,
    pub(crate) hash: [u8; 32],
    /// The running digest behind it, if a store can end there: it is the last of its batch.
    pub(crate) digest: Option<[u8; 32]>,
}

impl Fact {
    pub(crate) fn is_tombstone(&self) -> bool {
        self.kind == TOMBSTONE
    }

    /// Asserts that the event at `position` is this one, in every accessor.
    pub(crate) fn assert_is(&self, event: &EventRef<'_>, position: u64) {
        assert_eq!((event.position().get(), event.id()), (position, self.id));
        let names = (event.entity(), event.kind());
        assert_eq!(names, (&*self.entity, &*self.kind), "{position}");
        assert_eq!(event.revision(), self.revision, "{position}");
        let recorded_at = event.recorded_at().as_nanos();
        assert_eq!(recorded_at, self.recorded_at, "{position}");
        assert!(event.tags().eq(self.tag.as_deref()), "{position}");
        assert!(event.parents().eq(self.parents.iter().copied()));
        assert_eq!(*event.hash().as_bytes(), self.hash, "{position}");
        if let Some(len) = self.text_len {
            let text: String = event.payload().unwrap();
            assert!(text == text_of(len), "the payload at {position}");
        }
    }
}

/// A payload, which its length tells.
pub(crate) fn text_of(len: usize) -> String {
    let letter = ["q", "u", "i", "p"][len % 4];
    letter.repeat(len)
}

/// A batch that was accepted under a key, and the ids and last position that it was given.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    pub(crate) batch: Batch,
    pub(crate) ids: Vec<EventId>,
    pub(crate) end: u64,
}

/// What a store shares with the one that it was forked from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fork {
    pub(crate) shared_end: u64,
    pub(crate) is_compacted: bool,
}

/// A store, its disk, and what must be in it.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) disk: TestDisk,
    pub(crate) facts: Vec<Fact>,
    pub(crate) removed: BTreeSet<u64>,
    pub(crate) keyed: Vec<Keyed>,
    pub(crate) segment_bytes: u64,
    pub(crate) fork: Option<Fork>,
}

impl Branch {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self {
            disk: TestDisk::new(),
            facts: Vec::new(),
            removed: BTreeSet::new(),
            keyed: Vec::new(),
            segment_bytes,
            fork: None,
        }
    }

    pub(crate) fn disk(&self) -> Arc<TestDisk> {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn end(&self) -> u64 {
        self.facts.len() as u64
    }

    /// The fact of the event at a position.
    pub(crate) fn at(&self, position: u64) -> &Fact {
        &self.facts[usize::try_from(position - 1).unwrap()]
    }

    /// Every event that was ever appended, with its position.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &Fact)> {
        (1..).zip(&self.facts)
    }

    /// Those up to a position that were not removed.
    pub(crate) fn kept_upto(&self, last: u64) -> impl Iterator<Item = (u64, &Fact)> {
        let upto = self
            .all()
            .take_while(move |(position, _)| *position <= last);
        upto.filter(|(position, _)| !self.removed.contains(position))
    }

    /// The positions of those that fit and were not removed.
    pub(crate) fn kept(&self, fits: impl Fn(&Fact) -> bool) -> Vec<u64> {
        let kept = self.kept_upto(self.end()).filter(|(_, fact)| fits(fact));
        kept.map(|(position, _)| position).collect()
    }

    /// The last revision of an entity, removed events counted.
    pub(crate) fn revision(&self, entity: &str) -> u64 {
        let of_it = self.facts.iter().rev().find(|fact| fact.entity == entity);
        of_it.map_or(0, |fact| fact.revision)
    }

    /// The entities that were ended.
    pub(crate) fn ended(&self) -> BTreeSet<&str> {
        let tombstones = self.facts.iter().filter(|fact| fact.is_tombstone());
        tombstones.map(|fact| &*fact.entity).collect()
    }

    /// Where a store ends that is restored up to a position: no batch is cut in two.
    pub(crate) fn end_upto(&self, position: u64) -> u64 {
        let within = self.all().take_while(|(at, _)| *at <= position);
        let ends = within.filter(|(_, fact)| fact.digest.is_some());
        ends.last().map_or(0, |(at, _)| at)
    }

    /// Where this history and another one part.
    pub(crate) fn difference(&self, other: &Self) -> Difference {
        let both = self.facts.iter().zip(&other.facts);
        let shared = both.take_while(|(a, b)| a.hash == b.hash).count() as u64;
        match (shared == self.end(), shared == other.end()) {
            (true, true) => Difference::Equal,
            (true, false) => Difference::Behind(Position::new(shared)),
            (false, true) => Difference::Ahead(Position::new(shared)),
            (false, false) => Difference::At(Position::new(shared + 1)),
        }
    }

    /// What is in a store that is made of this one, up to `end`, on another disk.
    pub(crate) fn cut_at(&self, end: u64, disk: TestDisk) -> Self {
        let mut cut = self.clone();
        cut.disk = disk;
        cut.facts.truncate(usize::try_from(end).unwrap());
        cut.removed.retain(|position| *position <= end);
        cut.keyed.retain(|keyed| keyed.end <= end);
        cut
    }
}
