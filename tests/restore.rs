//! Restores and forks: what is restored is the original at that place in everything, and goes on from there.

mod support;

#[path = "restore/diff.rs"]
mod diff;
#[path = "restore/forks.rs"]
mod forks;
#[path = "restore/interrupted.rs"]
mod interrupted;
#[path = "restore/killed.rs"]
mod killed;
#[path = "restore/places.rs"]
mod places;

use quipu::io::{Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{Identity, RestoreOptions, RestoreReport, Upto};
use std::sync::Arc;
use support::dice::Dice;
use support::script::{self, KIND};

fn opened(disk: &MemoryDisk) -> Store {
    Store::open_with(script::config(disk.clone())).unwrap()
}

fn read_only(disk: &MemoryDisk) -> quipu::Result<Store> {
    Store::open_read_only_with(StoreConfig::on_disk(Arc::new(disk.clone())))
}

fn restored(from: &MemoryDisk, upto: Upto, identity: Identity) -> (MemoryDisk, RestoreReport) {
    let dest = MemoryDisk::new();
    let report = restore_into(from, &dest, upto, identity).unwrap();
    (dest, report)
}

fn restore_into(
    from: &MemoryDisk,
    dest: &(impl Disk + Clone + 'static),
    upto: Upto,
    identity: Identity,
) -> quipu::Result<RestoreReport> {
    let options = RestoreOptions::new().upto(upto).identity(identity);
    quipu::restore_on_disks(Arc::new(from.clone()), Arc::new(dest.clone()), options)
}

fn upto(position: u64) -> Upto {
    Upto::Position(Position::new(position))
}

/// A submission of one to four events, of any size, with keys, tags and parents; several of them make a group.
fn batch(dice: &mut Dice, serial: u64) -> Batch {
    let drafts = (0..=dice.below(4)).map(|nth| {
        let entity = format!("e:{}", dice.below(5));
        let place = Coordinate::new(entity, ["here", "there"][dice.below(2)]).unwrap();
        let bytes = [0, 10, 300, 2000, 60_000][dice.below(5)];
        EventDraft::new(&place, KIND, &"x".repeat(bytes)).tag(format!("t:{nth}"))
    });
    let drafts: Vec<_> = drafts.collect();
    Batch::new()
        .events(drafts)
        .durability(Durability::Buffered)
        .idempotency_key(format!("key:{serial}"))
}

/// Appends so many submissions, many of them together in one group.
fn grow(store: &Store, dice: &mut Dice, submissions: u64) {
    let before = store.head().position.get();
    let mut tickets = Vec::new();
    for serial in 0..submissions {
        tickets.push(
            store
                .submit_batch(batch(dice, (before << 20) + serial))
                .unwrap(),
        );
        if dice.one_in(6) {
            tickets
                .drain(..)
                .for_each(|ticket| drop(ticket.wait().unwrap()));
        }
    }
    tickets
        .drain(..)
        .for_each(|ticket| drop(ticket.wait().unwrap()));
    store.sync().unwrap();
}

/// All that can be asked of an event, payload and all.
fn told(event: &EventRef<'_>) -> String {
    let payload: String = event.payload().unwrap();
    let tags: Vec<&str> = event.tags().collect();
    format!(
        "{event:?} {:?} {:?} {} {:?} {}/{} {}",
        event.hash(),
        event.recorded_at(),
        event.previous_position(),
        tags,
        event.batch_index(),
        event.batch_len(),
        payload.len()
    )
}

fn all(view: &View, query: Query) -> Vec<String> {
    let events = view.query(query).unwrap();
    events.map(|event| told(&event.unwrap())).collect()
}

/// Whether two views answer the same in everything that is asked here.
fn assert_same(found: &View, expected: &View) {
    assert_eq!(found.head().unwrap(), expected.head().unwrap());
    let queries = [
        Query::all(),
        Query::scope("here"),
        Query::parse_at("tag:t:1", Timestamp::default()).unwrap(),
        Query::from(Region::entity("e:3")),
    ];
    for query in queries {
        assert_eq!(
            all(found, query.clone()),
            all(expected, query.clone()),
            "{query}"
        );
        assert_eq!(
            found.count(query.clone()).unwrap(),
            expected.count(query).unwrap()
        );
    }
    for entity in ["e:0", "e:4", "nobody"] {
        assert_eq!(
            found.revision(entity).unwrap(),
            expected.revision(entity).unwrap()
        );
    }
    for serial in 0..5 {
        let receipts = [found, expected].map(|v| v.receipt(format!("key:{serial}")).unwrap());
        let ids =
            receipts.map(|r| r.map(|r| r.iter().map(|r| (r.id(), r.hash())).collect::<Vec<_>>()));
        assert_eq!(ids[0], ids[1], "key {serial}");
    }
}
