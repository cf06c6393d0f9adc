//! A store of many small segments for tests, and everything that it must answer.
//!
//! It lives in memory; the thread that tests runs it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::engine::chain;
use crate::engine::exchange::{next_generation, remove_all, replace_segments};
use crate::engine::front::Front;
use crate::engine::open::{open, open_read_only};
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::{Result, StoreError};
use crate::event::batch::Batch;
use crate::event::coordinate::Coordinate;
use crate::event::draft::EventDraft;
use crate::event::id::{CorrelationId, EventId};
use crate::event::kind::EventKind;
use crate::event::position::Position;
use crate::event::region::Region;
use crate::format::checkpoint::SealedEntry;
use crate::format::manifest::Manifest;
use crate::format::sidx::Axis16;
use crate::index::layer::Axis;
use crate::index::run::Run;
use crate::index::view::View;
use crate::io::{Access, Disk, MemoryDisk, read_exact_at, write_all_at};
use crate::log::files::{SEGMENTS, SegmentFile, read_manifest};
use crate::log::merged::merge;
use crate::log::seal::Sealed;
use crate::options::{MIN_SEGMENT_BYTES, StoreConfig};
use crate::sync::Arc;

const PAYLOAD_BYTES: usize = 60_000;
const ENTITIES: usize = 97;

/// A store of many small segments, and what was appended to it.
pub(crate) struct Small {
    pub(crate) disk: MemoryDisk,
    /// Position, then id, key and entity.
    pub(crate) events: Vec<(u64, EventId, String, String)>,
}

impl Small {
    pub(crate) fn new() -> Self {
        Self {
            disk: MemoryDisk::new(),
            events: Vec::new(),
        }
    }

    /// The same files in another directory.
    pub(crate) fn copied(&self) -> Self {
        let copy = Self {
            disk: MemoryDisk::new(),
            events: self.events.clone(),
        };
        copy.disk.create_dir(SEGMENTS).unwrap();
        for (dir, prefix) in [("", String::new()), (SEGMENTS, format!("{SEGMENTS}/"))] {
            for entry in self
                .disk
                .list(dir)
                .unwrap()
                .into_iter()
                .filter(|e| e.is_file)
            {
                let name = format!("{prefix}{}", entry.name);
                copy.put(&name, &self.bytes(&name).unwrap());
            }
        }
        copy
    }

    pub(crate) fn open(&self) -> Arc<Engine> {
        open(config(self.disk.clone())).unwrap()
    }

    /// As it is opened beside a writer.
    pub(crate) fn reader(&self) -> Result<Arc<Front>> {
        open_read_only(config(self.disk.clone()))
    }

    /// What those who cannot open it are told: one that writes, and one that only reads.
    pub(crate) fn refusals(&self) -> [StoreError; 2] {
        let writer = open(config(self.disk.clone()));
        [writer.unwrap_err(), self.reader().unwrap_err()]
    }

    pub(crate) fn manifest(&self) -> Manifest {
        read_manifest(&self.disk).unwrap().unwrap()
    }

    /// The segment files that are there.
    pub(crate) fn segments(&self) -> Vec<SegmentFile> {
        let files = self.disk.list(SEGMENTS).unwrap().into_iter();
        let files = files.filter_map(|entry| SegmentFile::parse(&entry.name, "seg"));
        files.collect()
    }

    pub(crate) fn fill(&mut self, engine: &Engine, segments: u64) {
        let payload = "x".repeat(PAYLOAD_BYTES);
        while engine.turn.lock().tip.mark.segment < segments {
            let number = self.events.len();
            let (entity, key) = (entity(number * 31 % ENTITIES), format!("key:{number}"));
            let at = Coordinate::new(&entity, "house").unwrap();
            let draft = EventDraft::new(&at, EventKind::literal("box.filled"), &payload);
            let draft = draft.tag(tag(number));
            let draft = match parent_of(number).map(|parent| self.events[parent].1) {
                Some(parent) => draft.caused_by(parent),
                None => draft,
            };
            let batch = Batch::new().event(draft).idempotency_key(&key);
            let receipt = engine.append(batch).unwrap()[0];
            let position = receipt.position().get();
            self.events.push((position, receipt.id(), key, entity));
        }
    }

    /// Everything that can be looked up, against brute force, in a view up to any position.
    pub(crate) fn check(&self, view: &View) {
        let upto = view.position().get();
        let mut revisions = HashMap::new();
        self.check_children(view);
        self.check_walks(view);
        self.check_names(view);
        for (position, id, key, entity) in &self.events {
            let seen = *position <= upto;
            let found = view.get(*id).unwrap().map(|event| event.position().get());
            assert_eq!(found, seen.then_some(*position));
            let found = view.receipt(key).unwrap();
            let found = found.map(|receipts| receipts[0].position().get());
            assert_eq!(found, seen.then_some(*position), "{key}");
            *revisions.entry(entity.clone()).or_insert(0) += u64::from(seen);
        }
        for number in 0..2 * ENTITIES {
            let (entity, number) = (entity(number), number as u64);
            let revision = revisions.get(&entity).copied().unwrap_or(0);
            assert_eq!(view.revision(&entity).unwrap(), revision, "{entity}");
            let absent = EventId::v7(number, u128::from(number));
            assert!(view.get(absent).unwrap().is_none());
            assert!(view.receipt(format!("absent:{number}")).unwrap().is_none());
        }
    }

    /// What names lead to, against brute force.
    fn check_walks(&self, view: &View) {
        let upto = view.position().get();
        let seen = || {
            self.events
                .iter()
                .take_while(|event| event.0 <= upto)
                .enumerate()
        };
        let check = |region: Region, is_meant: &dyn Fn(usize, &str) -> bool| {
            let found = view.query(region.clone()).unwrap();
            let found: Vec<_> = found.map(|event| event.unwrap().position().get()).collect();
            let meant = seen().filter(|(number, event)| is_meant(*number, &event.3));
            assert_eq!(
                found,
                meant.map(|(_, event)| event.0).collect::<Vec<_>>(),
                "{region}"
            );
            assert_eq!(view.count(region).unwrap(), found.len() as u64);
        };
        for number in (0..2 * ENTITIES).step_by(19) {
            let name = entity(number);
            check(Region::entity(&name), &|_, of| of == name);
            check(Region::entity_prefix(&name), &|_, of| of.starts_with(&name));
            let (one, other) = (tag(number), tag(number + 700));
            check(Region::all().tag(&one), &|number, _| tag(number) == one);
            check(Region::all().tag(&other), &|number, _| tag(number) == other);
            check(Region::entity(&name).tag(&one), &|number, of| {
                of == name && tag(number) == one
            });
            if let Some((_, id, ..)) = self.events.get(number) {
                let story = Region::all().correlation(CorrelationId::from_bytes(*id.as_bytes()));
                check(story, &|other, _| story_of(other) == number);
            }
        }
        check(Region::entity_prefix("boxes:"), &|_, _| false);
        check(Region::all().kind("box.emptied"), &|_, _| false);
        check(Region::all().kind_prefix("box."), &|_, _| true);
        check(Region::all().scope("shed"), &|_, _| false);
    }

    /// The lists of names, against brute force.
    fn check_names(&self, view: &View) {
        let upto = view.position().get();
        for prefix in ["", "box:1", "box:77", "boxes"] {
            let mut expected = BTreeMap::new();
            for (position, _, _, entity) in self.events.iter().filter(|event| event.0 <= upto) {
                if entity.starts_with(prefix) {
                    let (events, last) = expected.entry(entity.clone()).or_insert((0, 0));
                    *events += 1;
                    *last = *position;
                }
            }
            let found = view.entities(prefix).unwrap().map(|entry| {
                let entry = entry.unwrap();
                let borne = (entry.events(), entry.last_position().get());
                (entry.name().to_owned(), borne)
            });
            assert!(found.eq(expected), "entities that begin with {prefix:?}");
        }
        let seen = self.events.partition_point(|event| event.0 <= upto);
        let tags = view
            .tags("")
            .unwrap()
            .map(|entry| entry.unwrap().name().to_owned());
        assert!(tags.eq((0..seen).map(tag).collect::<BTreeSet<_>>()));
    }

    /// A parent's children stand in one layer that may hold them or in several, and no layer that does is passed over.
    pub(crate) fn check_children(&self, view: &View) {
        let layers = view.picture().layers;
        for (parent, (_, id, ..)) in self.events.iter().enumerate() {
            let mut found = Vec::new();
            let mut from = 0;
            while let Some(at) = layers.next_that_may_hold(Axis16::Parent, id.as_bytes(), from) {
                let (layer, axis) = (&layers.all[at], Axis::Effects(*id.as_bytes()));
                let rows = 0..layer.axis_len(&axis).unwrap();
                found.extend(rows.map(|nth| layer.position(layer.nth(&axis, nth).unwrap())));
                from = at + 1;
            }
            // A view's last layer may have grown since; a layer may stand there twice.
            found.retain(|position| *position <= view.position().get());
            found.sort_unstable();
            found.dedup();
            let children = self.events.iter().enumerate();
            let children = children.filter(|(number, _)| parent_of(*number) == Some(parent));
            let children = children.map(|(_, event)| event.0);
            let seen = children.filter(|position| *position <= view.position().get());
            assert_eq!(found, seen.collect::<Vec<_>>());
        }
    }

    pub(crate) fn check_everywhere(&self, engine: &Engine) {
        let view = engine.front.last_view();
        self.check(&view);
        for position in (0..=view.position().get()).step_by(211) {
            self.check(&view.at_position(Position::new(position)).unwrap());
        }
    }

    /// The same, for one that only reads.
    pub(crate) fn check_to_read(&self) {
        self.check(&self.reader().unwrap().view().unwrap());
    }

    /// The same, in a store that is opened and closed.
    pub(crate) fn check_opened(&self) {
        let engine = self.open();
        self.check_everywhere(&engine);
        engine.close().unwrap();
    }

    /// No segment file is there that the manifest does not name.
    pub(crate) fn check_all_named(&self, manifest: &Manifest) {
        let is_named = |file: &SegmentFile| SegmentFile::holding(manifest, file.number) == *file;
        let files = self.segments();
        assert!(files.iter().all(is_named), "{files:?} of {manifest:?}");
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.disk.open(name, Access::Read).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        read_exact_at(&*file, &mut bytes, 0).unwrap();
        Some(bytes)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let _ = self.disk.remove(name);
        let file = self.disk.open(name, Access::CreateNew).unwrap();
        write_all_at(&*file, bytes, 0).unwrap();
    }
}

pub(crate) fn config(disk: impl Disk + 'static) -> StoreConfig {
    StoreConfig::on_disk(Arc::new(disk)).segment_bytes(MIN_SEGMENT_BYTES)
}

/// Writes a replacement for a range of sealed segments, which nothing names yet.
pub(crate) fn write_replacement(engine: &Engine, first: u64, last: u64) -> (SealedEntry, Sealed) {
    let sources = engine.sealed.lock().clone();
    let sources = sources
        .iter()
        .filter(|entry| (first..=last).contains(&entry.number));
    let files: Vec<_> = sources.map(SegmentFile::from).collect();
    let generation = next_generation(engine);
    let (file, sealed) = merge(&*engine.disk, &files, generation, engine.store_id).unwrap();
    (chain::entry_of(&engine.store_id, file, &sealed), sealed)
}

/// Puts a replacement that was written in its place.
pub(crate) fn put_in_place(engine: &Engine, (entry, sealed): &(SealedEntry, Sealed)) -> Result<()> {
    let replaced = replace_segments(engine, *entry, sealed.digest_before)?;
    remove_all(engine, replaced);
    Ok(())
}

/// Some parents have several children, most have none; some children stand many segments behind.
pub(crate) fn parent_of(number: usize) -> Option<usize> {
    (number % 4 == 3).then(|| number * 3 / 4 / 10 * 10)
}

/// The number of the event that the story of an event begins with.
fn story_of(number: usize) -> usize {
    parent_of(number).map_or(number, story_of)
}

/// Three events in a row share a tag.
fn tag(number: usize) -> String {
    format!("lot:{:05}", number / 3)
}

pub(crate) fn entity(number: usize) -> String {
    format!("box:{number}")
}

pub(crate) fn all_runs(engine: &Engine) -> Vec<Arc<Run>> {
    engine.front.published.read().layers.runs.clone()
}

/// Waits until upkeep has sealed `segments` and made what runs there can be.
pub(crate) fn settle(engine: &Engine, segments: usize) {
    let start = Instant::now();
    let settled = || {
        let (sealed, runs) = (engine.sealed.lock().clone(), all_runs(engine));
        sealed.len() == segments
            && runs.len() == runs::over(&engine.disk, &engine.store_id, &sealed).len()
            && runs.iter().all(|run| run.is_usable())
    };
    while !settled() {
        assert!(start.elapsed() < Duration::from_secs(60), "upkeep is stuck");
        std::thread::sleep(Duration::from_millis(1));
    }
}
