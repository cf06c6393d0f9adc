//! A store and its model side by side: opened, closed and opened again on the same disk and the same clock.

use crate::plain::{Dice, Fact, Model};
use quipu::io::{Clock, Disk, MemoryDisk, RealDisk};
use quipu::prelude::*;
use quipu::{MIN_SEGMENT_BYTES, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that the dice move, and entropy that is never the same twice.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    now: AtomicU64,
    drawn: AtomicU64,
}

impl Hands {
    pub(crate) fn set(&self, now: u64) {
        self.now.store(now, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn entropy(&self) -> [u8; 16] {
        Dice::new(self.drawn.fetch_add(1, Ordering::SeqCst)).bytes16()
    }
}

/// A submission that was accepted under a key.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) key: Vec<u8>,
    pub(crate) facts: Vec<Fact>,
}

pub(crate) struct World {
    pub(crate) store: Option<Store>,
    pub(crate) model: Model,
    pub(crate) dice: Dice,
    pub(crate) hands: Arc<Hands>,
    pub(crate) used: Vec<Used>,
    pub(crate) ids: u64,
    /// Views taken earlier, some of them from a store that was closed since.
    pub(crate) views: Vec<View>,
    pub(crate) said: Said,
    disk: Arc<dyn Disk>,
}

/// How often what happened, so that a run that tests nothing shows.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) accepted: u64,
    pub(crate) replays: u64,
    pub(crate) conflicts: u64,
    pub(crate) refused: u64,
    pub(crate) reads: u64,
    pub(crate) read_events: u64,
    pub(crate) reopened: u64,
}

impl World {
    pub(crate) fn on_file(seed: u64, path: &std::path::Path) -> Self {
        Self::on(seed, Arc::new(RealDisk::new(path)))
    }

    pub(crate) fn in_memory(seed: u64) -> Self {
        Self::on(seed, Arc::new(MemoryDisk::new()))
    }

    fn on(seed: u64, disk: Arc<dyn Disk>) -> Self {
        let hands = Arc::new(Hands::default());
        hands.set(1_700_000_000_000_000_000);
        let mut world = Self {
            store: None,
            model: Model::new(),
            dice: Dice::new(seed),
            hands,
            used: Vec::new(),
            ids: 0,
            views: Vec::new(),
            said: Said::default(),
            disk,
        };
        world.open();
        world
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn open(&mut self) {
        let config = StoreConfig::on_disk(Arc::clone(&self.disk))
            .segment_bytes(MIN_SEGMENT_BYTES)
            .clock(Arc::clone(&self.hands) as Arc<dyn Clock>);
        self.store = Some(Store::open_with(config).unwrap());
        self.assert_head();
    }

    pub(crate) fn assert_head(&self) {
        let head = self.store().head();
        assert_eq!(head.position, self.model.head());
        assert_eq!(head.digest.as_bytes(), self.model.digests.last().unwrap());
        let last = self.model.facts.last().map_or(0, |fact| fact.recorded_at);
        assert_eq!(head.recorded_at.as_nanos(), last);
        assert_eq!(self.store().stats().head, head);
    }

    /// Closes the store or drops its last handle, and opens it again.
    pub(crate) fn reopen(&mut self) {
        let store = self.store.take().unwrap();
        let clone = store.clone();
        if self.dice.one_in(2) {
            store.close().unwrap();
            let closed: Result<_> = clone.at(1);
            assert_eq!(closed.unwrap_err().kind(), StoreErrorKind::Closed);
        } else {
            drop(store);
            drop(clone);
        }
        self.said.reopened += 1;
        self.open();
    }

    /// Moves the clock: on, not at all, or back.
    pub(crate) fn tick(&mut self) {
        let now = self.hands.now();
        let step = self.dice.below(5_000_000);
        self.hands.set(match self.dice.below(10) {
            0..3 => now,
            3 => now - step,
            _ => now + step,
        });
    }

    pub(crate) fn new_id(&mut self) -> [u8; 16] {
        self.ids += 1;
        let mut bytes = [0xee; 16];
        bytes[8..].copy_from_slice(&self.ids.to_be_bytes());
        bytes
    }

    pub(crate) fn some_fact(&mut self) -> Option<Fact> {
        let index = self.dice.index(self.model.facts.len());
        self.model.facts.get(index).cloned()
    }
}
