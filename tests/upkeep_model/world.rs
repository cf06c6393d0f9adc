//! A few stores side by side, each with its model, under one clock: some are copies or forks of others.

use crate::answers::assert_answers;
use crate::plain::Branch;
use crate::same::{assert_holds, assert_replays};
use crate::support::dice::Dice;
use crate::support::files::{assert_all_named, runs_of};
use quipu::MIN_SEGMENT_BYTES;
use quipu::io::{Clock, Disk};
use quipu::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many stores there are at most; then a new one takes the place of another.
const MOST_BRANCHES: usize = 4;

/// One world of so many is long.
const LONG_WORLDS: u64 = 3;
/// More segments than a run is over.
const LONG_SEGMENTS: u64 = 20;

/// A clock that the dice move, and entropy that is never the same twice.
#[derive(Debug)]
pub(crate) struct Hands {
    now: AtomicU64,
    drawn: AtomicU64,
}

impl Hands {
    pub(crate) fn advance(&self, nanos: u64) {
        self.now.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn entropy(&self) -> [u8; 16] {
        let mut dice = Dice::new(self.drawn.fetch_add(1, Ordering::SeqCst));
        let (high, low) = (u128::from(dice.next()), u128::from(dice.next()));
        (high << 64 | low).to_be_bytes()
    }
}

/// How often what happened, so that a walk that tests nothing shows.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) events: u64,
    pub(crate) tombstones: u64,
    pub(crate) removed: u64,
    pub(crate) merged_files: u64,
    pub(crate) snapshots: u64,
    pub(crate) restores: u64,
    pub(crate) forks: u64,
    pub(crate) restores_of_compacted_forks: u64,
    /// Openings that found runs, and runs that were taken away before one.
    pub(crate) openings_with_runs: u64,
    pub(crate) lost_runs: u64,
}

impl Said {
    fn counts(&mut self) -> [&mut u64; 10] {
        [
            &mut self.events,
            &mut self.tombstones,
            &mut self.removed,
            &mut self.merged_files,
            &mut self.snapshots,
            &mut self.restores,
            &mut self.forks,
            &mut self.restores_of_compacted_forks,
            &mut self.openings_with_runs,
            &mut self.lost_runs,
        ]
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        for (sum, count) in self.counts().into_iter().zip(other.counts()) {
            *sum += *count;
        }
    }

    pub(crate) fn assert_all_happened(&mut self) {
        let all = self.counts().iter().all(|count| **count > 0);
        assert!(all, "{self:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Grow,
    Compact,
    Snapshot,
    Restore,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) hands: Arc<Hands>,
    pub(crate) said: Said,
    branches: Vec<Branch>,
    /// Whether the first store begins with so many segments that a run is over some.
    is_long: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let hands = Hands {
            now: AtomicU64::new(1_700_000_000_000_000_000),
            drawn: AtomicU64::new(0),
        };
        Self {
            is_long: seed.is_multiple_of(LONG_WORLDS),
            dice: Dice::new(seed),
            hands: Arc::new(hands),
            said: Said::default(),
            branches: vec![Branch::new(MIN_SEGMENT_BYTES)],
        }
    }

    /// Does something with one of the stores, and looks at all of it, before and after a reopening.
    pub(crate) fn step(&mut self, number: u64) {
        let mut branch = self.choose();
        if self.dice.one_in(6) {
            branch.segment_bytes = MIN_SEGMENT_BYTES * (1 + self.dice.next() % 2);
        }
        let act = self.act_on(&branch);
        println!("step {number}: {act:?}, {} events", branch.end());
        let store = self.open(&branch);
        match act {
            Act::Grow => {
                self.grow(&mut branch, &store, 10, 60);
                while number == 0 && self.is_long && store.stats().segments <= LONG_SEGMENTS {
                    self.grow(&mut branch, &store, 10, 60);
                }
            }
            Act::Compact => self.compact(&mut branch, &store),
            Act::Snapshot => self.snapshot(&mut branch, &store),
            Act::Restore => {
                let other = self.restore(&branch);
                self.keep(other);
            }
        }
        self.look(&branch, store);
        self.compare(&branch);
        self.branches.insert(0, branch);
    }

    /// Asserts that the store and another one part where their models do.
    fn compare(&mut self, branch: &Branch) {
        if self.branches.is_empty() {
            return;
        }
        let other = &self.branches[self.dice.below(self.branches.len())];
        let (store, other_store) = (self.open_read_only(branch), self.open_read_only(other));
        let difference = store.view().difference(&other_store.view()).unwrap();
        assert_eq!(difference, branch.difference(other));
    }

    /// Anything, but most often a compaction of a fork, and a restore of one that was compacted: there histories meet.
    fn act_on(&mut self, branch: &Branch) -> Act {
        let is_any = self.dice.one_in(2);
        match branch.fork {
            _ if branch.facts.is_empty() => Act::Grow,
            Some(fork) if !is_any && fork.is_compacted => Act::Restore,
            Some(_) if !is_any => Act::Compact,
            _ => match self.dice.below(11) {
                0..4 => Act::Grow,
                4..7 => Act::Compact,
                7 | 8 => Act::Snapshot,
                _ => Act::Restore,
            },
        }
    }

    /// Takes out any of the stores, most often the one that was made last: what is a copy is copied and changed again.
    fn choose(&mut self) -> Branch {
        let chosen = match self.dice.one_in(3) {
            true => self.dice.below(self.branches.len()),
            false => self.branches.len() - 1,
        };
        self.branches.remove(chosen)
    }

    /// Has it beside the others, or instead of one of them.
    pub(crate) fn keep(&mut self, branch: Branch) {
        // One more is being looked at, and comes back.
        if self.branches.len() + 1 == MOST_BRANCHES {
            let away = self.dice.below(self.branches.len());
            self.branches.remove(away);
        }
        self.branches.push(branch);
    }

    pub(crate) fn config(&self, branch: &Branch) -> StoreConfig {
        StoreConfig::on_disk(branch.disk())
            .segment_bytes(branch.segment_bytes)
            .clock(Arc::clone(&self.hands) as Arc<dyn Clock>)
    }

    pub(crate) fn open(&self, branch: &Branch) -> Store {
        Store::open_with(self.config(branch)).unwrap()
    }

    pub(crate) fn open_read_only(&self, branch: &Branch) -> Store {
        Store::open_read_only_with(self.config(branch)).unwrap()
    }

    /// Takes some runs of a closed store away: they are derived.
    fn lose_runs(&mut self, branch: &Branch) {
        let runs = runs_of(&branch.disk);
        self.said.openings_with_runs += u64::from(!runs.is_empty());
        for run in runs {
            if self.dice.one_in(3) {
                branch.disk.remove(&run).unwrap();
                self.said.lost_runs += 1;
            }
        }
    }

    /// Asserts that the store holds what it should, as it is or when it is opened again; closes it.
    pub(crate) fn look(&mut self, branch: &Branch, mut store: Store) {
        let way = self.dice.below(3);
        if way > 0 {
            store.close().unwrap();
            self.lose_runs(branch);
            store = match way {
                1 => self.open_read_only(branch),
                _ => self.open(branch),
            };
        }
        assert_holds(&store, branch);
        assert_answers(&store.view(), branch, &mut self.dice);
        if self.dice.one_in(3) {
            let earlier = self.dice.next() % (branch.end() + 1);
            assert_answers(&store.view_at(earlier).unwrap(), branch, &mut self.dice);
        }
        if way != 1 {
            assert_replays(&store, branch);
        }
        store.close().unwrap();
        assert_all_named(&branch.disk);
    }
}
