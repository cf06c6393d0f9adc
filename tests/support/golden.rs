//! A store with a bit of everything in it, as files, and the question whether a store answers like it.

use super::disk::TestDisk;
use super::power::Image;
use super::script::KIND;
use quipu::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Files and what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) image: Image,
    pub(crate) answers: Answers,
}

/// What a store answers to one question of each sort.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) events: Vec<(u64, EventId, EventHash, Vec<u8>)>,
    streams: Vec<Vec<u64>>,
    tagged: Vec<u64>,
    by_id: Vec<u64>,
    by_key: Vec<Vec<u64>>,
    correlated: Vec<u64>,
    head: Head,
}

pub(crate) fn config(disk: &TestDisk) -> StoreConfig {
    StoreConfig::on_disk(Arc::new(disk.clone()))
        .segment_bytes(1024 * 1024)
        .buffered_sync_interval(Duration::from_secs(3600))
}

pub(crate) fn keys() -> impl Iterator<Item = String> {
    (0..4).map(|n| format!("key-{n}"))
}

/// Some small groups behind `large` events that fill segments.
fn fill(store: &Store, large: usize) {
    for number in 0..large {
        let place = Coordinate::new(format!("big:{}", number % 3), "here").unwrap();
        let options = AppendOptions::new().tag("big");
        let payload = char::from(b'a' + u8::try_from(number).unwrap())
            .to_string()
            .repeat(300_000);
        store
            .append_with_options(&place, KIND, &payload, options)
            .unwrap();
    }
    let mut cause = None;
    for (number, key) in keys().enumerate() {
        let place = Coordinate::new(format!("e:{}", number % 2), "here").unwrap();
        let first = EventDraft::new(&place, KIND, &(number as u64)).tag("odd");
        let first = cause.map_or(first.clone(), |id: EventId| first.caused_by(id));
        let second = EventDraft::new(&place, KIND, &"second").metadata("by", "hand");
        let batch = Batch::new().event(first).event(second).idempotency_key(key);
        cause = Some(store.append_batch(batch).unwrap()[0].id());
    }
}

/// A store as a kill leaves it.
pub(crate) fn killed(large: usize) -> Golden {
    let memory = TestDisk::new();
    let store = Store::open_with(config(&memory)).unwrap();
    fill(&store, large);
    let mut image = Image::of(&memory);
    image.files.remove("lock");
    let answers = Answers::of(&store).unwrap();
    Golden { image, answers }
}

/// A store as a close leaves it.
pub(crate) fn closed(large: usize) -> Golden {
    let memory = TestDisk::new();
    let store = Store::open_with(config(&memory)).unwrap();
    fill(&store, large);
    let answers = Answers::of(&store).unwrap();
    store.close().unwrap();
    Golden {
        image: Image::of(&memory),
        answers,
    }
}

/// The same with `change` done to one of its files.
impl Golden {
    pub(crate) fn with(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Image {
        let mut image = self.image.clone();
        change(image.files.get_mut(name).unwrap());
        image
    }

    pub(crate) fn without(&self, names: &[&str]) -> Image {
        let mut image = self.image.clone();
        for name in names {
            image.files.remove(*name).unwrap();
        }
        image
    }

    /// Opens what is left and compares: `Ok` when it answers all alike, the error when it says what is wrong, and a
    /// panic when it answers otherwise without an error.
    pub(crate) fn survives(
        &self,
        image: &Image,
        what: impl std::fmt::Display,
    ) -> quipu::Result<()> {
        let store = Store::open_with(config(&image.disk()))?;
        assert_eq!(store.head(), self.answers.head, "{what}: another head");
        let answers = Answers::of(&store)?;
        assert!(
            answers == self.answers,
            "{what}: wrong answers without an error"
        );
        Ok(())
    }
}

impl Answers {
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn of(store: &Store) -> quipu::Result<Self> {
        let positions = |query: Query| -> quipu::Result<Vec<u64>> {
            store
                .query(query)?
                .map(|event| event.map(|e| e.position().get()))
                .collect()
        };
        let mut events = Vec::new();
        let mut by_id = Vec::new();
        for event in store.query(Query::all())? {
            let event = event?;
            let found = store.get(event.id())?;
            by_id.push(found.map_or(0, |e| e.position().get()));
            let bytes = event.payload_bytes()?.to_vec();
            events.push((event.position().get(), event.id(), event.hash(), bytes));
        }
        let mut by_key = Vec::new();
        for key in keys() {
            let receipts = store.receipt(key)?.unwrap_or_default();
            by_key.push(receipts.iter().map(|r| r.position().get()).collect());
        }
        let story = events.iter().rev().nth(7).map(|(_, id, ..)| *id);
        Ok(Self {
            events,
            streams: ["big:0", "big:1", "e:0", "e:1"]
                .map(|name| positions(Query::entity(name)))
                .into_iter()
                .collect::<quipu::Result<_>>()?,
            tagged: positions(Query::tag("odd"))?,
            by_id,
            by_key,
            correlated: match story {
                Some(id) => positions(Query::correlation(id))?,
                None => Vec::new(),
            },
            head: store.head(),
        })
    }
}
