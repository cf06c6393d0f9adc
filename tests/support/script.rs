//! A scripted history: what is sent, what was acknowledged, and whether what a store holds is a prefix of it.

use super::dice::Dice;
use quipu::Result;
use quipu::io::Disk;
use quipu::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const KIND: EventKind = EventKind::literal("thing.done");

/// One submission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) how: How,
    pub(crate) durability: Durability,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Append,
    Submit,
}

/// Small and large submissions, batches, both durabilities; enough bytes for a few segments of the smallest size.
pub(crate) fn units(dice: &mut Dice, count: usize) -> Vec<Unit> {
    let roll = |_| Unit {
        events: [1, 1, 1, 2, 5][dice.below(5)],
        bytes: [1, 30, 400, 700, 40_000, 90_000][dice.below(6)],
        how: [How::Append, How::Submit][dice.below(2)],
        durability: [Durability::Sync, Durability::Sync, Durability::Buffered][dice.below(3)],
    };
    (0..count).map(roll).collect()
}

/// What was sent and what is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// The number of events after each submission.
    pub(crate) ends: Vec<usize>,
    /// How many events were acknowledged as durable.
    pub(crate) durable: usize,
    /// The hashes of the acknowledged events, in order.
    pub(crate) hashes: Vec<EventHash>,
}

pub(crate) type Ledger = Arc<Mutex<Sent>>;

pub(crate) fn payload(serial: usize, bytes: usize) -> (u64, String) {
    let letter = char::from(b'a' + u8::try_from(serial % 26).unwrap());
    (serial as u64, letter.to_string().repeat(bytes))
}

pub(crate) fn entity_of(serial: usize) -> String {
    format!("e:{}", serial % 5)
}

/// The events of one submission that begins behind `sent` events.
pub(crate) fn batch_of(unit: &Unit, sent: usize) -> Batch {
    let drafts = (sent..sent + unit.events).map(|serial| {
        let place = Coordinate::new(entity_of(serial), "here").unwrap();
        EventDraft::new(&place, KIND, &payload(serial, unit.bytes)).tag(format!("t:{}", serial % 3))
    });
    Batch::new().events(drafts).durability(unit.durability)
}

/// Sends the units in order; ends early, with the error, when one fails.
pub(crate) fn send(store: &Store, units: &[Unit], ledger: &Ledger) -> Result<()> {
    let mut tickets: Vec<Ticket<Vec<Receipt>>> = Vec::new();
    for unit in units {
        let batch = {
            let mut sent = ledger.lock().unwrap();
            let before = sent.ends.last().copied().unwrap_or(0);
            sent.ends.push(before + unit.events);
            batch_of(unit, before)
        };
        match unit.how {
            How::Submit => tickets.push(store.submit_batch(batch)?),
            How::Append => {
                for ticket in tickets.drain(..) {
                    note(ledger, &ticket.wait()?);
                }
                note(ledger, &store.append_batch(batch)?);
            }
        }
    }
    for ticket in tickets {
        note(ledger, &ticket.wait()?);
    }
    Ok(())
}

pub(crate) fn note(ledger: &Ledger, receipts: &[Receipt]) {
    let mut sent = ledger.lock().unwrap();
    for receipt in receipts {
        let position = usize::try_from(receipt.position().get()).unwrap();
        assert_eq!(position, sent.hashes.len() + 1, "receipts come in order");
        sent.hashes.push(receipt.hash());
        if receipt.durable() {
            sent.durable = sent.durable.max(position);
        }
    }
}

/// Settings under which nothing is synced by time.
pub(crate) fn config(disk: impl Disk + 'static) -> StoreConfig {
    StoreConfig::on_disk(Arc::new(disk))
        .segment_bytes(1024 * 1024)
        .buffered_sync_interval(Duration::from_secs(3600))
}

/// Whether a store holds a prefix of what was sent, whole submissions, and all that was acknowledged durable.
///
/// Says how many events it holds, or what is wrong.
pub(crate) fn check(store: &Store, sent: &Sent, durable: usize) -> Result<usize, String> {
    let found = read_all(store).map_err(|e| format!("reading: {e}"))?;
    let count = found.len();
    if count < durable {
        return Err(format!(
            "{durable} events were acknowledged, {count} are there"
        ));
    }
    if count != 0 && sent.ends.binary_search(&count).is_err() {
        return Err(format!("{count} events: not a whole submission"));
    }
    for (serial, event) in found.iter().enumerate() {
        check_event(serial, event, sent).map_err(|what| format!("event {serial}: {what}"))?;
    }
    match store.head().position.get() == count as u64 {
        true => Ok(count),
        false => Err(format!("{count} events, head {:?}", store.head())),
    }
}

pub(crate) fn read_all(store: &Store) -> Result<Vec<Event>> {
    store.query(Query::all())?.collect()
}

fn check_event(serial: usize, event: &Event, sent: &Sent) -> Result<(), String> {
    let (number, fill): (u64, String) = event.payload().map_err(|e| e.to_string())?;
    let right = number == serial as u64
        && payload(serial, fill.len()).1 == fill
        && event.entity() == entity_of(serial)
        && event.position().get() == serial as u64 + 1
        && event.revision().get() == serial as u64 / 5 + 1
        && sent
            .hashes
            .get(serial)
            .is_none_or(|hash| *hash == event.hash());
    match right {
        true => Ok(()),
        false => Err(format!("is {event:?}")),
    }
}
