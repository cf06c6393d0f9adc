//! What is done to a store: appends and tombstones, snapshots, restores and forks, and what the model says of each.

use crate::plain::{Branch, ENTITIES, Fact, Fork, KINDS, Keyed, TAGS, text_of};
use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::world::World;
use quipu::prelude::*;
use quipu::{CompactionConfig, Difference, Identity, RestoreOptions, SnapshotOptions, Upto};
use std::sync::Arc;

/// So many entities go on, whatever is ended.
const NEVER_ENDED: usize = 10;

/// One event to be appended.
struct Wish {
    entity: String,
    kind: &'static str,
    tag: String,
    parents: Vec<EventId>,
    text_len: usize,
}

impl Wish {
    fn random(dice: &mut Dice, branch: &Branch) -> Self {
        let ended = branch.ended();
        let mut entity = format!("e{}", dice.below(ENTITIES));
        while ended.contains(&*entity) {
            entity = format!("e{}", dice.below(ENTITIES));
        }
        let mut parents = Vec::new();
        for _ in 0..dice.below(3).min(branch.facts.len()) {
            parents.push(branch.facts[dice.below(branch.facts.len())].id);
        }
        parents.dedup();
        Self {
            entity,
            kind: KINDS[dice.below(KINDS.len())],
            tag: format!("t{}", dice.below(TAGS)),
            parents,
            text_len: match dice.one_in(8) {
                true => 100_000 + dice.below(150_000),
                false => dice.below(3000),
            },
        }
    }

    fn draft(&self) -> EventDraft {
        let coordinate = Coordinate::new(&self.entity, "shop").unwrap();
        let text = text_of(self.text_len);
        let draft = EventDraft::new(&coordinate, EventKind::literal(self.kind), &text);
        let draft = draft.tag(&self.tag);
        let parents = self.parents.iter();
        parents.fold(draft, |draft, id| draft.caused_by(*id))
    }
}

/// Takes down what was just appended: what the store was told as it was told it, the rest as the store says it.
fn take_in(branch: &mut Branch, store: &Store, receipt: &Receipt, wish: Option<Wish>) {
    assert_eq!(receipt.position(), branch.end() + 1);
    let event = store.at(receipt.position()).unwrap().unwrap();
    let wish = wish.as_ref();
    let entity = event.entity().to_owned();
    branch.facts.push(Fact {
        id: receipt.id(),
        revision: branch.revision(&entity) + 1,
        entity: wish.map_or(entity, |wish| wish.entity.clone()),
        scope: event.scope().to_owned(),
        kind: wish.map_or(event.kind(), |wish| wish.kind).to_owned(),
        recorded_at: event.recorded_at().as_nanos(),
        tag: wish.map(|wish| wish.tag.clone()),
        parents: wish.map_or(Vec::new(), |wish| wish.parents.clone()),
        story: EventId::from_bytes(*event.correlation().as_bytes()),
        text_len: wish.map(|wish| wish.text_len),
        hash: *event.hash().as_bytes(),
        digest: None,
    });
}

/// A store can end here.
fn end_batch(branch: &mut Branch, store: &Store) {
    let digest = *store.head().digest.as_bytes();
    branch.facts.last_mut().unwrap().digest = Some(digest);
}

impl World {
    /// Appends `least` batches or more, below `most`, and perhaps ends an entity.
    pub(crate) fn grow(&mut self, branch: &mut Branch, store: &Store, least: usize, most: usize) {
        for _ in 0..least + self.dice.below(most - least) {
            self.append(branch, store);
        }
        let entity = format!("e{}", self.dice.below(ENTITIES));
        let ended = branch.ended();
        let may_end = ended.len() + NEVER_ENDED < ENTITIES && !ended.contains(&*entity);
        if branch.revision(&entity) > 0 && may_end && self.dice.one_in(3) {
            let receipt = store.tombstone(&entity).unwrap();
            take_in(branch, store, &receipt, None);
            assert!(branch.facts.last_mut().unwrap().is_tombstone());
            end_batch(branch, store);
            self.said.tombstones += 1;
        }
    }

    fn append(&mut self, branch: &mut Branch, store: &Store) {
        self.hands.advance(self.dice.next() % 5_000_000);
        let wishes: Vec<_> = (0..=self.dice.below(4))
            .map(|_| Wish::random(&mut self.dice, branch))
            .collect();
        let mut batch = Batch::new().events(wishes.iter().map(Wish::draft));
        let is_keyed = self.dice.one_in(3);
        if is_keyed {
            let key = format!("key {} {}", branch.end(), self.dice.next());
            batch = batch.idempotency_key(key);
        }
        let receipts = store.append_batch(batch.clone()).unwrap();
        assert_eq!(receipts.len(), wishes.len());
        self.said.events += receipts.len() as u64;
        for (receipt, wish) in receipts.iter().zip(wishes) {
            take_in(branch, store, receipt, Some(wish));
        }
        end_batch(branch, store);
        if is_keyed {
            branch.keyed.push(Keyed {
                batch,
                ids: receipts.iter().map(Receipt::id).collect(),
                end: branch.end(),
            });
        }
    }

    /// Takes a snapshot, changes the store, and takes another onto the first; that one lives on as a store.
    pub(crate) fn snapshot(&mut self, branch: &mut Branch, store: &Store) {
        let disk = TestDisk::new();
        let take = || store.snapshot_on_disk(Arc::new(disk.clone()), SnapshotOptions::new());
        take().unwrap();
        self.grow(branch, store, 0, 50);
        match self.dice.below(3) {
            0 => drop(
                store
                    .compact(CompactionConfig::new())
                    .unwrap()
                    .wait()
                    .unwrap(),
            ),
            1 => self.compact(branch, store),
            _ => {}
        }
        take().unwrap();
        self.said.snapshots += 1;
        let copy = branch.cut_at(branch.end(), disk.clone());
        let copied = self.open_read_only(&copy);
        assert_eq!(copied.head(), store.head());
        let difference = copied.view().difference(&store.view()).unwrap();
        assert_eq!(difference, Difference::Equal);
        drop(copied);
        let copied = self.open(&copy);
        self.look(&copy, copied);
        if self.dice.one_in(3) {
            self.keep(copy);
        }
    }

    /// Restores the store up to some place, as itself or as a fork, and lets what was restored go its own way.
    pub(crate) fn restore(&mut self, branch: &Branch) -> Branch {
        let upto = self.place(branch);
        let is_fork = self.dice.one_in(2);
        let identity = match is_fork {
            true => Identity::Fork,
            false => Identity::SameStore,
        };
        println!("  {identity:?} up to {upto}");
        let options = RestoreOptions::new().identity(identity);
        let options = options.upto(Upto::Position(Position::new(upto)));
        let disk = TestDisk::new();
        let report =
            quipu::restore_on_disks(branch.disk(), Arc::new(disk.clone()), options).unwrap();
        let end = branch.end_upto(upto);
        assert_eq!(report.position, end);
        let mut other = branch.cut_at(end, disk);
        self.count_restore(branch, &mut other, is_fork);
        let store = self.open(&other);
        self.look(&other, store);
        self.part(branch, &mut other);
        other
    }

    /// Where to restore up to: often near the end of what a fork shares, where one history becomes another.
    fn place(&mut self, branch: &Branch) -> u64 {
        let end = branch.end();
        match (self.dice.below(6), branch.fork) {
            (0, _) => 0,
            (1, _) => end,
            (2..4, Some(fork)) => end.min(fork.shared_end.saturating_sub(self.dice.next() % 3)),
            _ => end - self.dice.next() % (end / 2 + 1),
        }
    }

    fn count_restore(&mut self, branch: &Branch, other: &mut Branch, is_fork: bool) {
        if branch.fork.is_some_and(|fork| fork.is_compacted) {
            self.said.restores_of_compacted_forks += 1;
        }
        match is_fork {
            true => {
                self.said.forks += 1;
                other.fork = Some(Fork {
                    shared_end: other.end(),
                    is_compacted: false,
                });
            }
            false => self.said.restores += 1,
        }
    }

    /// What was restored is the beginning of the original, and then no longer.
    fn part(&mut self, branch: &Branch, other: &mut Branch) {
        let (store, original) = (self.open(other), self.open_read_only(branch));
        let difference = || store.view().difference(&original.view()).unwrap();
        assert_eq!(difference(), other.difference(branch));
        self.append(other, &store);
        assert_eq!(difference(), other.difference(branch));
        drop(original);
        self.grow(other, &store, 0, 40);
        if self.dice.one_in(2) {
            self.compact(other, &store);
        }
        self.look(other, store);
    }
}
