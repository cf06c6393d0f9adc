//! quipu itself, with the settings it comes with; reads go through one view for each question.

use std::path::{Path, PathBuf};

use quipu::prelude::*;

use crate::facts::Fact;
use crate::peer::{Peer, Tally};

pub(crate) struct OnQuipu {
    directory: PathBuf,
    store: Option<Store>,
}

impl OnQuipu {
    pub(crate) fn new(directory: &Path) -> Self {
        let mut peer = Self {
            directory: directory.to_owned(),
            store: None,
        };
        peer.open();
        peer
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }
}

impl Peer for OnQuipu {
    fn append(&self, facts: &[Fact<'_>]) -> Vec<[u8; 16]> {
        if let [fact] = facts {
            let options = AppendOptions::new().tag(fact.tag);
            let (at, kind) = place(fact);
            let payload = RawPayload::new(fact.payload);
            let receipt = self
                .store()
                .append_with_options(&at, kind, &payload, options);
            return vec![*receipt.expect("quipu appends").id().as_bytes()];
        }
        let batch = facts.iter().fold(Batch::new(), |batch, fact| {
            let (at, kind) = place(fact);
            batch.event(EventDraft::new(&at, kind, &RawPayload::new(fact.payload)).tag(fact.tag))
        });
        let receipts = self.store().append_batch(batch).expect("quipu appends");
        receipts
            .iter()
            .map(|receipt| *receipt.id().as_bytes())
            .collect()
    }

    fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().expect("quipu closes");
        }
    }

    fn open(&mut self) -> Option<()> {
        self.store = Some(Store::open(&self.directory).expect("quipu opens"));
        Some(())
    }

    fn entity(&self, name: &str) -> Option<Tally> {
        let view = self.store().view();
        Some(tally(view.stream(name).expect("an entity")))
    }

    fn kind(&self, name: &str) -> Option<Tally> {
        let view = self.store().view();
        Some(tally(view.query(Query::kind(name)).expect("a kind")))
    }

    fn scan(&self) -> Option<Tally> {
        let view = self.store().view();
        Some(tally(view.query(Query::all()).expect("everything")))
    }

    fn get(&self, id: [u8; 16]) -> Option<Tally> {
        let view = self.store().view();
        let event = view.get(EventId::from_bytes(id)).expect("quipu reads")?;
        let mut tally = Tally::default();
        tally.add(event.payload_bytes().expect("a payload"));
        Some(tally)
    }
}

impl Drop for OnQuipu {
    fn drop(&mut self) {
        self.close();
    }
}

fn place(fact: &Fact<'_>) -> (Coordinate, EventKind) {
    let at = Coordinate::new(fact.entity, fact.scope).expect("a coordinate");
    (at, EventKind::new(fact.kind).expect("a kind"))
}

fn tally<'a>(events: impl Iterator<Item = quipu::Result<EventRef<'a>>>) -> Tally {
    let mut tally = Tally::default();
    for event in events {
        let event = event.expect("quipu reads");
        tally.add(event.payload_bytes().expect("a payload"));
    }
    tally
}
