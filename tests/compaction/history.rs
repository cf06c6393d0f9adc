//! A directory whose compaction writes three ranges anew, and what may be found there when the compaction was stopped:
//! each range as it was or as it becomes, and everything else as it was.

use crate::shop::{self, PLACED, VIEWED};
use crate::support::files::assert_all_named;
use crate::support::power::Image;
use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{CompactionConfig, Retention};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

const DRAFTED: EventKind = EventKind::literal("order.drafted");
/// Two such events do not fit into one segment.
const LARGE_BYTES: usize = 530_000;

/// The kinds of each segment's large event and of its small ones. Drafts go before, views of pages go with the
/// compaction: of 1 and 2, of 5 and 6, which become one file each, and of 4. Of 3 and of 7, the newest one, nothing goes.
const SEGMENTS: [(EventKind, &[EventKind]); 7] = [
    (VIEWED, &[PLACED, DRAFTED, VIEWED, PLACED]),
    (VIEWED, &[PLACED, VIEWED]),
    (PLACED, &[PLACED]),
    (PLACED, &[VIEWED, PLACED, VIEWED]),
    (DRAFTED, &[PLACED, VIEWED]),
    (VIEWED, &[PLACED]),
    (PLACED, &[PLACED]),
];
/// What of them is written anew.
const RANGES: [RangeInclusive<u64>; 3] = [1..=2, 4..=4, 5..=6];

/// The compaction that is stopped.
pub(crate) fn compaction() -> CompactionConfig {
    CompactionConfig::new().remove(Retention::kinds([VIEWED, DRAFTED]))
}

/// One event as it reads.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    about: String,
    payload: Vec<u8>,
}

impl Told {
    fn of(event: &Event) -> Self {
        let tags: Vec<_> = event.tags().collect();
        let about = format!(
            "{event:?} {:?} {:?} {:?} {tags:?}",
            event.hash(),
            event.recorded_at(),
            event.previous_position(),
        );
        Self {
            about,
            payload: event.payload_bytes().unwrap().to_vec(),
        }
    }
}

/// The directory, and what is known of it.
pub(crate) struct History {
    /// Its files before the compaction.
    pub(crate) image: Image,
    head: Head,
    /// What can be read before it.
    told: BTreeMap<u64, Told>,
    /// Removed before it begins.
    gone: BTreeSet<u64>,
    /// Removed by it, range for range.
    going: Vec<BTreeSet<u64>>,
    sent: Vec<(Batch, Vec<Receipt>)>,
}

impl History {
    pub(crate) fn new() -> Self {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let store = shop::open(&disk);
        let sent = fill(&store);
        store.close().unwrap();
        let store = shop::open(&disk);
        let drafts = CompactionConfig::new().remove(Retention::kinds([DRAFTED]));
        shop::compact(&store, drafts.merge_below(0));
        let planned = store.plan_compaction(&compaction()).unwrap();
        let ranges = planned.rewrites.iter();
        let ranges: Vec<_> = ranges.map(|r| r.first_segment..=r.last_segment).collect();
        assert_eq!(ranges, RANGES, "{planned}");
        let head = store.head();
        let positions = 1..=head.position.get();
        let (gone, told) = read(&store, positions);
        let segment_of = segments_of(&sent);
        let going = RANGES.map(|range| {
            let goes = |position: &u64| {
                range.contains(&segment_of[position])
                    && told[position].about.contains(VIEWED.as_str())
            };
            told.keys().copied().filter(goes).collect()
        });
        store.close().unwrap();
        let history = Self {
            image: Image::of(&*disk),
            head,
            told,
            gone,
            going: going.into(),
            sent,
        };
        assert_eq!(history.recover(&disk), [false; 3]);
        history
    }

    /// Opens what was left, to read and to write, and asserts that it is whole and tidy; then compacts again. Says which
    /// ranges it found new.
    pub(crate) fn recover(&self, disk: &Arc<dyn Disk>) -> Vec<bool> {
        let config = StoreConfig::on_disk(Arc::clone(disk));
        let reader = Store::open_read_only_with(config).unwrap();
        let found = self.found_in(&reader);
        drop(reader);
        let store = shop::open(disk);
        assert_eq!(self.found_in(&store), found, "a reader saw others");
        self.close(store, disk, &found);
        let store = shop::open(disk);
        shop::compact(&store, compaction());
        let all = vec![true; RANGES.len()];
        assert_eq!(self.found_in(&store), all);
        self.close(store, disk, &all);
        found
    }

    /// Asserts that a store holds the history, each range as it was or as it becomes; says which are new.
    pub(crate) fn found_in(&self, store: &Store) -> Vec<bool> {
        let view = store.view_at(self.head.position).unwrap();
        assert_eq!(view.head().unwrap(), self.head);
        let (mut removed, told) = read(store, 1..=self.head.position.get());
        for (position, told) in &told {
            assert!(self.told[position] == *told, "{}", told.about);
        }
        assert!(self.gone.is_subset(&removed), "removed ones are back");
        removed.retain(|position| !self.gone.contains(position));
        let found = self.going.iter().map(|going| {
            let mixed = !going.is_subset(&removed) && !going.is_disjoint(&removed);
            assert!(!mixed, "of {going:?} are removed {removed:?}");
            going.is_subset(&removed)
        });
        let found: Vec<bool> = found.collect();
        removed.retain(|position| self.going.iter().all(|going| !going.contains(position)));
        assert!(removed.is_empty(), "{removed:?} were to be kept");
        let queried: Vec<u64> = shop::found(&view, Query::all());
        assert!(queried.iter().eq(told.keys()), "{queried:?}");
        self.assert_receipts(store);
        let verification = store.verify().unwrap();
        assert!(verification.is_sound(), "{verification}");
        found
    }

    fn assert_receipts(&self, store: &Store) {
        let about = |receipt: &Receipt| {
            (
                receipt.id(),
                receipt.position(),
                receipt.revision(),
                receipt.recorded_at(),
                receipt.hash(),
            )
        };
        for (serial, (_, first)) in self.sent.iter().enumerate() {
            let known = store.receipt(key(serial)).unwrap().unwrap();
            assert!(known.iter().map(about).eq(first.iter().map(about)));
        }
    }

    /// Asserts that retries are answered as they were, closes the store and asserts that no file is left over.
    fn close(&self, store: Store, disk: &Arc<dyn Disk>, new: &[bool]) {
        let before = store.head();
        for (batch, first) in &self.sent {
            let again = store.append_batch(batch.clone()).unwrap();
            assert!(again.iter().all(Receipt::replay));
            let hashes =
                |receipts: &[Receipt]| receipts.iter().map(Receipt::hash).collect::<Vec<_>>();
            assert_eq!(hashes(&again), hashes(first));
        }
        assert_eq!(store.head(), before);
        store.close().unwrap();
        let files = assert_all_named(&**disk);
        for (range, new) in RANGES.iter().zip(new) {
            let merged = range.start() != range.end();
            let is_there = files.contains(&(*range.start(), *range.end()));
            assert!(
                !merged || is_there == *new,
                "{files:?}, {range:?} is new: {new}"
            );
        }
    }
}

fn key(serial: usize) -> String {
    format!("key:{serial}")
}

/// One submission for the large event of each segment and one for its small ones.
fn fill(store: &Store) -> Vec<(Batch, Vec<Receipt>)> {
    let mut sent = Vec::new();
    for (segment, (large, small)) in (1..).zip(SEGMENTS) {
        let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap()).to_string();
        let draft = |kind: EventKind, nth: usize, bytes: usize| {
            let place = Coordinate::new(format!("order:{}", nth % 3), "shop").unwrap();
            let payload = letter(nth + segment).repeat(bytes);
            EventDraft::new(&place, kind, payload.as_str()).tag(format!("in:{segment}"))
        };
        let small = small.iter().zip(1..);
        let small: Vec<_> = small
            .map(|(kind, nth)| draft(kind.clone(), nth, 300 * nth))
            .collect();
        for drafts in [vec![draft(large, 0, LARGE_BYTES)], small] {
            let batch = Batch::new().events(drafts).idempotency_key(key(sent.len()));
            let receipts = store.append_batch(batch.clone()).unwrap();
            sent.push((batch, receipts));
        }
        assert_eq!(store.stats().segments, segment as u64);
    }
    sent
}

/// The segment that each position was appended to.
fn segments_of(sent: &[(Batch, Vec<Receipt>)]) -> BTreeMap<u64, u64> {
    let of_segment = sent.chunks(2).zip(1..);
    let positions = of_segment.flat_map(|(submissions, segment)| {
        let receipts = submissions.iter().flat_map(|(_, receipts)| receipts);
        receipts.map(move |receipt| (receipt.position().get(), segment))
    });
    positions.collect()
}

/// Reads every event at these positions: those that are told as removed, and the others.
fn read(store: &Store, positions: RangeInclusive<u64>) -> (BTreeSet<u64>, BTreeMap<u64, Told>) {
    let (mut removed, mut told) = (BTreeSet::new(), BTreeMap::new());
    for position in positions {
        match store.at(position) {
            Ok(event) => drop(told.insert(position, Told::of(&event.unwrap()))),
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
                let text = error.to_string();
                assert!(text.contains("removed by retention"), "{text}");
                removed.insert(position);
            }
        }
    }
    (removed, told)
}
