//! tephra 0.4: entity, scope, tag and id are tags of an event, the kind is its type.

use std::path::{Path, PathBuf};

use tephra::{
    Event, EventType, Position, Query, QueryItem, SegmentConfig, SegmentSet, Tag, Tags,
    WriteCoordinator, WriteHandle, WriterConfig,
};

use crate::facts::{Fact, mix};
use crate::peer::{Peer, Tally};

/// The size that tephra's own README opens a store with.
const SEGMENT_BYTES: usize = 256 * 1024 * 1024;

pub(crate) struct OnTephra {
    directory: PathBuf,
    running: Option<(WriteHandle, WriteCoordinator)>,
    ids: std::sync::atomic::AtomicU64,
}

impl OnTephra {
    pub(crate) fn new(directory: &Path) -> Self {
        let ids = std::sync::atomic::AtomicU64::new(0);
        let mut peer = Self {
            directory: directory.to_owned(),
            running: None,
            ids,
        };
        peer.open();
        peer
    }

    fn handle(&self) -> &WriteHandle {
        &self.running.as_ref().expect("it is open").0
    }

    /// tephra has no ids of its own, so the caller makes one, as random as a UUID.
    fn new_id(&self) -> [u8; 16] {
        let number = self.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let halves = [mix(number * 2), mix(number * 2 + 1)];
        let mut id = [0; 16];
        id[..8].copy_from_slice(&halves[0].to_le_bytes());
        id[8..].copy_from_slice(&halves[1].to_le_bytes());
        id
    }

    fn read(&self, query: &Query) -> Option<Tally> {
        let mut reads = self.handle().read(query, Position::ZERO, None);
        let mut tally = Tally::default();
        while let Some(item) = reads.next() {
            tally.add(item.expect("tephra reads").event.data());
        }
        Some(tally)
    }

    fn tagged(&self, name: &str) -> Option<Tally> {
        let tags = Tags::new([tag(name)]).expect("one tag");
        self.read(&Query::item(QueryItem::with_tags(tags)))
    }
}

impl Peer for OnTephra {
    fn append(&self, facts: &[Fact<'_>]) -> Vec<[u8; 16]> {
        let ids: Vec<[u8; 16]> = facts.iter().map(|_| self.new_id()).collect();
        let events = facts
            .iter()
            .zip(&ids)
            .map(|(fact, id)| event(fact, id))
            .collect();
        self.handle().append(events, None).expect("tephra appends");
        ids
    }

    fn close(&mut self) {
        if let Some((handle, coordinator)) = self.running.take() {
            drop(handle);
            coordinator.shutdown();
        }
    }

    fn open(&mut self) -> Option<()> {
        let config = SegmentConfig::new(SEGMENT_BYTES);
        let set = SegmentSet::open(&self.directory, config).expect("tephra opens");
        let started = WriteCoordinator::start(set, WriterConfig::default());
        let (coordinator, handle) = started.expect("tephra starts");
        self.running = Some((handle, coordinator));
        Some(())
    }

    fn entity(&self, name: &str) -> Option<Tally> {
        self.tagged(name)
    }

    fn kind(&self, name: &str) -> Option<Tally> {
        let kind = EventType::new(name).expect("a type");
        self.read(&Query::item(QueryItem::of_types(vec![kind])))
    }

    fn scan(&self) -> Option<Tally> {
        self.read(&Query::all())
    }

    fn get(&self, id: [u8; 16]) -> Option<Tally> {
        self.tagged(&id_tag(&id))
    }
}

impl Drop for OnTephra {
    fn drop(&mut self) {
        self.close();
    }
}

fn event(fact: &Fact<'_>, id: &[u8; 16]) -> Event {
    let names = [
        tag(fact.entity),
        tag(fact.scope),
        tag(fact.tag),
        tag(&id_tag(id)),
    ];
    let kind = EventType::new(fact.kind).expect("a type");
    Event::new(&kind, &Tags::new(names).expect("four tags"), fact.payload).expect("an event")
}

fn tag(name: &str) -> Tag {
    Tag::new(name).expect("a tag")
}

fn id_tag(id: &[u8; 16]) -> String {
    format!("id:{:032x}", u128::from_be_bytes(*id))
}
