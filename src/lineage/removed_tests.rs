//! A store of which retention removed events: what is kept reads as before, what is gone still counts where it must.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::engine::follow::Follower;
use crate::engine::open::open;
use crate::engine::shared::Engine;
use crate::error::{Result, StoreErrorKind};
use crate::event::batch::Batch;
use crate::event::condition::ExpectedRevision;
use crate::event::coordinate::Coordinate;
use crate::event::draft::EventDraft;
use crate::event::id::{CorrelationId, EventId};
use crate::event::kind::EventKind;
use crate::event::position::Position;
use crate::event::query::Query;
use crate::event::receipt::Receipt;
use crate::event::region::Region;
use crate::index::model::Random;
use crate::index::read_options::ReadOptions;
use crate::index::view::{Head, View};
use crate::io::{Access, Disk, MemoryDisk, read_exact_at, write_all_at};
use crate::log::event::{Event, EventRef};
use crate::log::files::SegmentFile;
use crate::log::stubbing::leave_stubs;
use crate::options::{MIN_SEGMENT_BYTES, StoreConfig};
use crate::sync::Arc;

const EVENTS: usize = 160;
const PAYLOAD_BYTES: usize = 40_000;
const ENTITIES: usize = 7;
/// Retention takes all of this entity.
const GONE: usize = 3;
/// Retention takes the last events of this one.
const BEHEADED: usize = 4;

/// An event as it was appended; its position is its place in the world, from 1.
struct Said {
    entity: usize,
    parents: BTreeSet<usize>,
    correlation: [u8; 16],
    receipt: Receipt,
}

/// A batch as it was appended.
struct Sent {
    key: Option<String>,
    events: Range<usize>,
}

struct World {
    disk: MemoryDisk,
    engine: Arc<Engine>,
    /// By position; the first place stands for none.
    said: Vec<Option<Said>>,
    sent: Vec<Sent>,
    removed: BTreeSet<usize>,
}

fn id(position: usize) -> EventId {
    EventId::v7(position as u64, position as u128)
}

fn entity(number: usize) -> String {
    format!("box:{number}")
}

fn scope(position: usize) -> &'static str {
    ["attic", "cellar", "attic/north"][position % 3]
}

fn kind(position: usize) -> EventKind {
    EventKind::new(["box.filled", "box.moved"][position / 3 % 2]).unwrap()
}

fn tag(position: usize) -> String {
    format!("label:{}", position % 5)
}

fn reopened(disk: &MemoryDisk) -> Arc<Engine> {
    let config = StoreConfig::on_disk(Arc::new(disk.clone()));
    open(config.segment_bytes(MIN_SEGMENT_BYTES)).unwrap()
}

impl World {
    /// A store of several segments.
    fn full(random: &mut Random) -> Self {
        let disk = MemoryDisk::new();
        let mut world = Self {
            engine: reopened(&disk),
            disk,
            said: vec![None],
            sent: Vec::new(),
            removed: BTreeSet::new(),
        };
        while world.said.len() <= EVENTS {
            world.append(random);
        }
        assert!(world.engine.stats().segments >= 5);
        world
    }

    fn append(&mut self, random: &mut Random) {
        let first = self.said.len();
        let events = first..first + 1 + random.below(4);
        let said: Vec<_> = events
            .clone()
            .map(|position| {
                let entity = random.below(ENTITIES);
                let parents = (0..random.below(3)).map(|_| random.below(position));
                (entity, parents.filter(|parent| *parent > 0).collect())
            })
            .collect();
        let key = (random.below(2) == 0).then(|| format!("key:{first}"));
        let drafts = events
            .clone()
            .zip(&said)
            .map(|(position, (entity, parents))| draft(position, *entity, parents));
        let receipts = self.send(key.as_deref(), drafts.collect()).unwrap();
        let view = self.engine.front.last_view();
        for ((entity, parents), receipt) in said.into_iter().zip(receipts) {
            assert_eq!(receipt.position().get(), self.said.len() as u64);
            let event = view.at(receipt.position()).unwrap().unwrap();
            self.said.push(Some(Said {
                entity,
                parents,
                correlation: *event.correlation().as_bytes(),
                receipt,
            }));
        }
        self.sent.push(Sent { key, events });
    }

    fn send(&self, key: Option<&str>, drafts: Vec<EventDraft>) -> Result<Vec<Receipt>> {
        let batch = Batch::new().events(drafts);
        self.engine.append(match key {
            Some(key) => batch.idempotency_key(key),
            None => batch,
        })
    }

    /// Puts stubs in the place of one whole stream, the end of another, and a quarter of the rest.
    fn empty(&mut self, random: &mut Random) {
        let ends = self.said.len() * 3 / 4;
        let is_told =
            |world: &Self, random: &mut Random, position| match world.said(position).entity {
                GONE => true,
                BEHEADED if position > ends => true,
                _ => random.below(4) == 0,
            };
        let removed = (1..self.said.len()).filter(|position| is_told(self, random, *position));
        let removed: BTreeSet<_> = removed.collect();
        self.engine.close().unwrap();
        let store_id = self.engine.store_id;
        leave_stubs(&self.disk, &store_id, &|position| {
            removed.contains(&usize::try_from(position).unwrap())
        });
        self.removed = removed;
        self.engine = reopened(&self.disk);
    }

    fn said(&self, position: usize) -> &Said {
        self.said[position].as_ref().unwrap()
    }

    fn positions(&self) -> Range<usize> {
        1..self.said.len()
    }

    fn is_kept(&self, position: usize) -> bool {
        !self.removed.contains(&position)
    }

    /// The positions of kept events for which something holds.
    fn kept(&self, holds: impl Fn(usize, &Said) -> bool) -> Vec<usize> {
        let kept = self.positions().filter(|position| self.is_kept(*position));
        kept.filter(|position| holds(*position, self.said(*position)))
            .collect()
    }

    fn stream(&self, number: usize) -> Vec<usize> {
        let of_it = |position: &usize| self.said(*position).entity == number;
        self.positions().filter(of_it).collect()
    }

    fn view(&self) -> View {
        self.engine.front.last_view()
    }
}

fn draft(position: usize, number: usize, parents: &BTreeSet<usize>) -> EventDraft {
    let at = Coordinate::new(entity(number), scope(position)).unwrap();
    let payload = format!("{position} {}", "x".repeat(PAYLOAD_BYTES));
    let draft = EventDraft::new(&at, kind(position), &payload).event_id(id(position));
    let draft = draft.tag(tag(position));
    parents
        .iter()
        .fold(draft, |draft, parent| draft.caused_by(id(*parent)))
}

fn place(event: &EventRef<'_>) -> usize {
    usize::try_from(event.position().get()).unwrap()
}

fn found(view: &View, query: &Query, options: ReadOptions) -> Vec<usize> {
    let events = view.query_with(query.clone(), options).unwrap();
    events.map(|event| place(&event.unwrap())).collect()
}

/// All that a place in the log tells: the views that stand there, and its event's hash.
fn places(world: &World, view: &View) -> Vec<(Head, Head, [u8; 32])> {
    let places = world.positions().map(|position| {
        let place = Position::new(position as u64);
        let time = world.said(position).receipt.recorded_at();
        let (there, then) = (view.at_position(place), view.at_time(time));
        let hash = view.hash_at(place).unwrap();
        (
            there.unwrap().head().unwrap(),
            then.unwrap().head().unwrap(),
            *hash.as_bytes(),
        )
    });
    places.collect()
}

fn check_events(world: &World, view: &View) {
    for position in world.positions() {
        let (by_id, by_place) = (view.get(id(position)), view.at(position as u64));
        if world.is_kept(position) {
            for event in [by_id, by_place] {
                let event = event.unwrap().unwrap();
                assert_eq!(event.hash(), world.said(position).receipt.hash());
                let payload: String = event.payload().unwrap();
                assert!(payload.starts_with(&format!("{position} ")));
            }
            let event = view.at(position as u64).unwrap().unwrap();
            let before = usize::try_from(event.previous_position().get()).unwrap();
            match view.previous(&event) {
                Ok(previous) => assert!(previous.map_or(before == 0, |e| place(&e) == before)),
                Err(_) => assert!(!world.is_kept(before)),
            }
            continue;
        }
        for error in [by_id.unwrap_err(), by_place.unwrap_err()] {
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            let told = format!("event {position} was removed by retention");
            assert!(error.to_string().contains(&told), "{error}");
        }
    }
}

fn check_queries(world: &World, view: &View) {
    let mut cases: Vec<(Query, Vec<usize>)> = vec![
        (Query::all(), world.kept(|_, _| true)),
        (Query::entity_prefix("box:"), world.kept(|_, _| true)),
        (
            Query::scope("attic"),
            world.kept(|p, _| scope(p) == "attic"),
        ),
        (
            Region::all().scope_prefix("attic").into(),
            world.kept(|p, _| scope(p).starts_with("attic")),
        ),
        (
            Query::kind("box.moved").or(Region::entity(entity(1))),
            world.kept(|p, said| kind(p).as_str() == "box.moved" || said.entity == 1),
        ),
        (Query::tag("label:2"), world.kept(|p, _| p % 5 == 2)),
        (
            Region::all().positions(20_u64..=90).into(),
            world.kept(|p, _| (20..=90).contains(&p)),
        ),
    ];
    for number in 0..ENTITIES {
        let stream = world.kept(|_, said| said.entity == number);
        cases.push((Query::entity(entity(number)), stream));
        for (low, high) in [(1, 5), (4, 9), (8, 100), (12, 12)] {
            let revision = |said: &Said| said.receipt.revision().get();
            let fits =
                |said: &Said| said.entity == number && (low..=high).contains(&revision(said));
            let region = Region::entity(entity(number)).revisions(low..=high);
            cases.push((region.into(), world.kept(|_, said| fits(said))));
        }
    }
    for position in world.positions().step_by(7) {
        let story = CorrelationId::from_bytes(*id(position).as_bytes());
        let told = world.kept(|_, said| said.correlation == *id(position).as_bytes());
        cases.push((Query::correlation(story), told));
        let caused = world.kept(|_, said| said.parents.contains(&position));
        cases.push((Region::all().caused_by(id(position)).into(), caused));
    }
    for (query, mut expected) in cases {
        assert_eq!(
            view.count(query.clone()).unwrap(),
            expected.len() as u64,
            "{query}"
        );
        assert_eq!(found(view, &query, ReadOptions::new()), expected, "{query}");
        expected.reverse();
        let backward = ReadOptions::new().backward();
        assert_eq!(found(view, &query, backward), expected, "{query}");
    }
}

fn check_streams_and_keys(world: &World, view: &View) {
    for number in 0..ENTITIES {
        let revision = view.revision(&entity(number)).unwrap().get();
        assert_eq!(
            revision,
            world.stream(number).len() as u64,
            "{}",
            entity(number)
        );
    }
    let names: Vec<_> = view
        .entities("")
        .unwrap()
        .map(|name| name.unwrap())
        .collect();
    let counts =
        (0..ENTITIES).map(|number| world.kept(|_, said| said.entity == number).len() as u64);
    let counts: Vec<_> = counts.filter(|count| *count > 0).collect();
    assert_eq!(
        names.iter().map(|name| name.events()).collect::<Vec<_>>(),
        counts
    );
    for sent in &world.sent {
        let Some(key) = &sent.key else { continue };
        let receipts = view.receipt(key).unwrap().unwrap();
        assert_eq!(receipts, replayed(world, sent), "{key}");
    }
    assert!(view.receipt("key:none").unwrap().is_none());
}

/// The receipts of a submission, as a retry gets them.
fn replayed(world: &World, sent: &Sent) -> Vec<Receipt> {
    let receipts = sent.events.clone().map(|position| Receipt {
        durable: true,
        replay: true,
        ..world.said(position).receipt
    });
    receipts.collect()
}

/// What leads to an event through kept events alone, each once and nearest first; removed ones are met and lead no further.
fn causes(world: &World, of: usize) -> Vec<usize> {
    let (mut open, mut seen) = (vec![of], BTreeSet::new());
    while let Some(position) = open.pop() {
        for parent in &world.said(position).parents {
            if seen.insert(*parent) && world.is_kept(*parent) {
                open.push(*parent);
            }
        }
    }
    seen.into_iter().rev().collect()
}

/// What an event led to through kept events alone; nothing tells which removed ones it led to.
fn effects(world: &World, of: usize) -> Vec<usize> {
    let mut seen = BTreeSet::from([of]);
    for position in of + 1..world.said.len() {
        let parents = &world.said(position).parents;
        if world.is_kept(position) && parents.iter().any(|parent| seen.contains(parent)) {
            seen.insert(position);
        }
    }
    seen.into_iter().skip(1).collect()
}

/// Divides what was met into what is given and how many were passed over.
fn given(world: &World, met: &[usize]) -> (Vec<usize>, u64) {
    let (kept, gone): (Vec<_>, Vec<_>) = met.iter().partition(|position| world.is_kept(**position));
    (kept, gone.len() as u64)
}

fn check_lineage(world: &World, view: &View) {
    let places = |walk: &mut dyn Iterator<Item = Result<Event>>| -> Vec<usize> {
        walk.map(|event| place(&event.unwrap().borrowed()))
            .collect()
    };
    for position in world.positions() {
        let below = places(&mut view.descendants(id(position), usize::MAX).unwrap());
        assert_eq!(below, effects(world, position), "of {position}");
        if !world.is_kept(position) {
            let error = view.walk_ancestors(id(position), 9).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            continue;
        }
        let met = causes(world, position);
        let mut above = view.walk_ancestors(id(position), usize::MAX).unwrap();
        let found = (places(&mut above), above.removed());
        assert_eq!(found, given(world, &met), "of {position}");
        for cause in world.positions().step_by(7) {
            let hides = |at: &usize| *at > cause && !world.is_kept(*at);
            let expected = match met.contains(&cause) {
                true => Some(true),
                false => (!met.iter().any(hides)).then_some(false),
            };
            check_is_ancestor(view, (cause, position), expected);
        }
    }
}

/// `None` stands for what cannot be told.
fn check_is_ancestor(view: &View, (a, b): (usize, usize), expected: Option<bool>) {
    match (view.is_ancestor(id(a), id(b)), expected) {
        (Ok(leads), Some(expected)) => assert_eq!(leads, expected, "{a} to {b}"),
        (Err(error), None) => {
            assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains("cannot be told"), "{error}");
        }
        (found, _) => panic!("{a} to {b}: {found:?}, expected {expected:?}"),
    }
}

fn check(world: &World, view: &View, before: &[(Head, Head, [u8; 32])]) {
    assert_eq!(places(world, view), before);
    check_events(world, view);
    check_queries(world, view);
    check_streams_and_keys(world, view);
    check_lineage(world, view);
}

#[test]
fn what_is_kept_reads_as_before_and_what_is_gone_still_counts() {
    let random = &mut Random::from_clock();
    let mut world = World::full(random);
    let before = places(&world, &world.view());
    check(&world, &world.view(), &before);
    world.empty(random);
    // The newest segment's stubs are in the index in memory, the others' in footers.
    check(&world, &world.view(), &before);
    world.engine.close().unwrap();
    // Now those of the newest segment are in the checkpoint.
    world.engine = reopened(&world.disk);
    check(&world, &world.view(), &before);
    let (_, read) = Follower::open(Arc::new(world.disk.clone())).unwrap();
    let view = View::new(read.layers, read.head, read.durable);
    check(&world, &view, &before);
    let past = view.at_position(Position::new(EVENTS as u64 / 2)).unwrap();
    assert!(past.revision(&entity(GONE)).unwrap().get() > 0);
    world.engine.close().unwrap();
}

#[test]
fn a_retry_of_what_was_removed_gets_its_first_receipts() {
    let random = &mut Random::from_clock();
    let mut world = World::full(random);
    world.empty(random);
    for sent in world.sent.iter().filter(|sent| sent.key.is_some()) {
        let drafts = |shift: usize| -> Vec<_> {
            let none = BTreeSet::new();
            let events = sent.events.clone();
            let entity = |position| (world.said(position).entity + shift) % ENTITIES;
            events
                .map(|position| draft(position, entity(position), &none))
                .collect()
        };
        let receipts = world.send(sent.key.as_deref(), drafts(0)).unwrap();
        assert_eq!(receipts, replayed(&world, sent));
        let error = world.send(sent.key.as_deref(), drafts(1)).unwrap_err();
        assert_eq!(error.in_the_way(), [sent.events.start as u64], "{error}");
    }
    assert_eq!(world.view().position().get(), world.said.len() as u64 - 1);
    world.engine.close().unwrap();
}

#[test]
fn ids_revisions_and_parents_of_removed_events_still_count() {
    let random = &mut Random::from_clock();
    let mut world = World::full(random);
    world.empty(random);
    let last = world.said.len() - 1;
    for position in world.positions() {
        let error = world
            .send(None, vec![draft(position, 0, &BTreeSet::new())])
            .unwrap_err();
        assert_eq!(error.in_the_way(), [position as u64], "{error}");
    }
    for position in world.positions().step_by(5) {
        let next = world.said.len();
        let parents = BTreeSet::from([position]);
        world.send(None, vec![draft(next, GONE, &parents)]).unwrap();
        let view = world.view();
        let event = view.at(next as u64).unwrap().unwrap();
        let stream = world.stream(GONE);
        assert_eq!(event.revision().get(), stream.len() as u64 + 1);
        let end = *stream.last().unwrap() as u64;
        assert_eq!(event.previous_position().get(), end);
        let story = match world.is_kept(position) {
            true => world.said(position).correlation,
            false => *id(position).as_bytes(),
        };
        assert_eq!(*event.correlation().as_bytes(), story, "of {position}");
        let receipt = Receipt {
            id: event.id(),
            position: event.position(),
            revision: event.revision(),
            recorded_at: event.recorded_at(),
            hash: event.hash(),
            durable: true,
            replay: false,
        };
        world.said.push(Some(Said {
            entity: GONE,
            parents,
            correlation: story,
            receipt,
        }));
    }
    assert!(world.said.len() > last + 10);
    check_events(&world, &world.view());
    check_lineage(&world, &world.view());
    world.engine.close().unwrap();
}

#[test]
fn conditions_see_revisions_of_removed_events_and_not_the_events() {
    let random = &mut Random::from_clock();
    let mut world = World::full(random);
    world.empty(random);
    let other = || vec![draft(900, 0, &BTreeSet::new())];
    let expect = |number: usize, expected: ExpectedRevision| {
        let batch = Batch::new().events(other());
        world
            .engine
            .append(batch.expect_revision(entity(number), expected))
    };
    let stream = world.stream(GONE);
    let end = *stream.last().unwrap() as u64;
    for expected in [
        ExpectedRevision::NoStream,
        ExpectedRevision::from(stream.len() as u64 - 1),
    ] {
        let error = expect(GONE, expected).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Conflict);
        assert_eq!(error.in_the_way(), [end], "{error}");
    }
    let error = expect(GONE, ExpectedRevision::from(stream.len() as u64 + 1)).unwrap_err();
    assert!(error.in_the_way().is_empty(), "{error}");
    let unless = |number: usize| {
        let batch = Batch::new().events(other());
        let batch = batch.expect_revision(entity(GONE), stream.len() as u64);
        world
            .engine
            .append(batch.unless_any(Query::entity(entity(number)), 0_u64))
    };
    let in_the_way = world.kept(|_, said| said.entity == BEHEADED);
    let error = unless(BEHEADED).unwrap_err();
    let in_the_way: Vec<_> = in_the_way.iter().take(16).map(|p| *p as u64).collect();
    assert_eq!(error.in_the_way(), in_the_way, "{error}");
    unless(GONE).unwrap();
    world.engine.close().unwrap();
}

#[test]
fn a_damaged_footer_over_stubs_is_made_again_byte_for_byte() {
    let random = &mut Random::from_clock();
    let mut world = World::full(random);
    let before = places(&world, &world.view());
    world.empty(random);
    world.engine.close().unwrap();
    let sealed = 1..world.engine.stats().segments;
    let mut footers = Vec::new();
    for number in sealed.clone() {
        let file = world
            .disk
            .open(&SegmentFile::original(number).name(), Access::Write)
            .unwrap();
        let bytes = read(&world.disk, &SegmentFile::original(number).name());
        let total = bytes[bytes.len() - 16..].first_chunk().unwrap();
        let start = bytes.len() - usize::try_from(u64::from_le_bytes(*total)).unwrap();
        write_all_at(&*file, &[!bytes[start + 200]], start as u64 + 200).unwrap();
        footers.push(bytes[start..].to_vec());
    }
    world.engine = reopened(&world.disk);
    check(&world, &world.view(), &before);
    for (number, footer) in sealed.zip(footers) {
        assert!(
            read(
                &world.disk,
                &SegmentFile::original(number).side_index_name()
            ) == footer,
            "segment {number}"
        );
    }
    world.engine.close().unwrap();
}

fn read(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}
