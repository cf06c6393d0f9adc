//! What an accepted append returns.

use core::fmt;

use serde::Serialize;

use crate::event::digest::EventHash;
use crate::event::id::EventId;
use crate::event::position::{Position, Revision};
use crate::event::timestamp::Timestamp;

/// The store's answer to an accepted event: its name, its places and its proof.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// let receipt = store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// assert_eq!(receipt.to_string(), "position 1, revision 1, durable");
/// assert!(store.get(&receipt)?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Receipt {
    pub(crate) id: EventId,
    pub(crate) position: Position,
    pub(crate) revision: Revision,
    pub(crate) recorded_at: Timestamp,
    pub(crate) hash: EventHash,
    pub(crate) durable: bool,
    pub(crate) replay: bool,
}

impl Receipt {
    /// Returns the id of the event.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns the place of the event in the global order.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the place of the event in its entity's stream.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns when the store recorded the event.
    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// Returns the hash of the event.
    #[must_use]
    pub fn hash(&self) -> EventHash {
        self.hash
    }

    /// Tells whether the event was on stable storage when this receipt was given.
    #[must_use]
    pub fn durable(&self) -> bool {
        self.durable
    }

    /// Tells whether the event was there already, written by an earlier try with the same idempotency key.
    #[must_use]
    pub fn replay(&self) -> bool {
        self.replay
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let durable = if self.durable { "durable" } else { "buffered" };
        let replay = if self.replay { ", replay" } else { "" };
        write!(
            f,
            "position {}, revision {}, {durable}{replay}",
            self.position, self.revision
        )
    }
}

impl From<&Receipt> for EventId {
    fn from(receipt: &Receipt) -> Self {
        receipt.id
    }
}

impl From<Receipt> for EventId {
    fn from(receipt: Receipt) -> Self {
        receipt.id
    }
}

impl From<Receipt> for Position {
    fn from(receipt: Receipt) -> Self {
        receipt.position
    }
}

impl From<&Receipt> for Position {
    fn from(receipt: &Receipt) -> Self {
        receipt.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            id: EventId::from_bytes([1; 16]),
            position: Position::new(2),
            revision: Revision::new(1),
            recorded_at: Timestamp::from_nanos(3),
            hash: EventHash::from_bytes([4; 32]),
            durable: true,
            replay: false,
        }
    }

    #[test]
    fn a_receipt_prints_as_one_line() {
        assert_eq!(receipt().to_string(), "position 2, revision 1, durable");
        let replay = Receipt {
            durable: false,
            replay: true,
            ..receipt()
        };
        assert_eq!(
            replay.to_string(),
            "position 2, revision 1, buffered, replay"
        );
    }

    #[test]
    fn a_receipt_stands_for_its_id_and_its_position() {
        assert_eq!(EventId::from(&receipt()), receipt().id());
        assert_eq!(EventId::from(receipt()), receipt().id());
        assert_eq!(Position::from(receipt()), 2);
    }

    #[test]
    fn a_receipt_serialises_with_named_fields() {
        let json = serde_json::to_value(receipt()).unwrap();
        assert_eq!(json["position"], 2);
        assert_eq!(json["id"], receipt().id().to_string());
        assert_eq!(json["hash"], receipt().hash().to_string());
        assert_eq!(json["durable"], true);
    }
}
