//! A picture: layers up to one position, and the questions that one event or one stream answers.
//!
//! A view's picture is what its reader sees, on any thread; the writer's, in its turn, also has the rows that it has
//! staged and not written. Only what asks for the event itself cares whether retention removed it.

use crate::error::{Result, StoreError};
use crate::event::digest::EventHash;
use crate::event::hash::entity_digest;
use crate::event::id::EventId;
use crate::event::kind::EventKind;
use crate::event::position::{Position, Revision};
use crate::event::receipt::Receipt;
use crate::event::region::Region;
use crate::event::timestamp::Timestamp;
use crate::format::record::Kept;
use crate::format::sidx::Axis16;
use crate::index::candidates::RowBounds;
use crate::index::layer::Layer;
use crate::index::layers::Layers;
use crate::index::walk::Hit;
use crate::log::segment::Staged;
use crate::sync::Arc;

/// The end of an entity's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamHead {
    pub(crate) revision: u64,
    pub(crate) position: u64,
    pub(crate) hash: [u8; 32],
    /// Whether a tombstone stands there, behind which nothing comes.
    pub(crate) is_closed: bool,
}

/// Layers, in order of position, as far as `upto`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) upto: u64,
    pub(crate) staged: Option<Staged<'a>>,
}

impl<'a> Picture<'a> {
    /// The layer that `position` lies in.
    pub(crate) fn layer_of(&self, position: u64) -> Option<usize> {
        let after = self
            .layers
            .all
            .partition_point(|layer| layer.first_position() <= position);
        after.checked_sub(1)
    }

    /// The last position that a layer can have: full layers that are not sealed do not know their own.
    pub(crate) fn end_of(&self, layer: usize) -> u64 {
        match self.layers.all.get(layer.saturating_add(1)) {
            Some(next) => next.first_position().saturating_sub(1),
            None => u64::MAX,
        }
    }

    /// The event at a position.
    pub(crate) fn at(&self, position: u64) -> Result<Option<Hit<'a>>> {
        let place = self.place_of(position);
        place.map(|place| self.hit(place)).transpose()
    }

    /// The event at a position, `None` also if retention removed it.
    pub(crate) fn event_at(&self, position: u64) -> Result<Option<Hit<'a>>> {
        let Some((layer, row)) = self.place_of(position) else {
            return Ok(None);
        };
        let event = layer.kept_event(row, self.staged)?;
        Ok(event.map(|event| Hit { event, layer }))
    }

    /// What is known of the event at a position, also if retention removed it.
    pub(crate) fn kept(&self, position: u64) -> Result<Option<Kept>> {
        let place = self.place_of(position);
        place
            .map(|(layer, row)| layer.kept(row, self.staged))
            .transpose()
    }

    /// The layer and the row of a position.
    fn place_of(&self, position: u64) -> Option<(&'a Arc<Layer>, u32)> {
        if position == 0 || position > self.upto {
            return None;
        }
        let layer = self.layers.all.get(self.layer_of(position)?)?;
        Some((layer, layer.rows_upto(position).saturating_sub(1)))
    }

    /// The event with an id.
    pub(crate) fn by_id(&self, id: &[u8; 16]) -> Result<Option<Hit<'a>>> {
        let found = self.newest(Axis16::Id, id, 0, |layer| layer.find_id(id))?;
        found.map(|found| self.hit(found)).transpose()
    }

    /// The position of the event with an id, removed or not, if it is above `after`; the event is not read.
    pub(crate) fn position_of(&self, id: &[u8; 16], after: u64) -> Result<Option<u64>> {
        let found = self.newest(Axis16::Id, id, after, |layer| layer.find_id(id))?;
        Ok(found.map(|(layer, row)| layer.position(row)))
    }

    /// Where the submission with a key digest begins, if that is above `after`; the event is not read.
    pub(crate) fn position_of_key(&self, key: &[u8; 16], after: u64) -> Result<Option<u64>> {
        let found = self.newest(Axis16::Key, key, after, |layer| layer.find_key(key))?;
        Ok(found.map(|(layer, row)| layer.position(row)))
    }

    fn hit(&self, (layer, row): (&'a Arc<Layer>, u32)) -> Result<Hit<'a>> {
        Ok(Hit {
            event: layer.event(row, self.staged)?,
            layer,
        })
    }

    fn newest(
        &self,
        axis: Axis16,
        key: &[u8; 16],
        after: u64,
        find: impl Fn(&Layer) -> Result<Option<u32>>,
    ) -> Result<Option<(&'a Arc<Layer>, u32)>> {
        for layer in self.layers.that_may_hold(axis, key, (after, self.upto)) {
            let Some(row) = find(layer)? else { continue };
            let position = layer.position(row);
            if position > after && position <= self.upto {
                return Ok(Some((layer, row)));
            }
        }
        Ok(None)
    }

    /// The end of an entity's stream, removed or not, if its position is above `after`.
    pub(crate) fn head_of(
        &self,
        entity: &str,
        digest: &[u8; 16],
        after: u64,
    ) -> Result<Option<StreamHead>> {
        let span = (after, self.upto);
        for layer in self.layers.that_may_hold(Axis16::Entity, digest, span) {
            let rows = layer.rows_upto(self.upto);
            let Some(row) = layer.last_of_entity(entity, digest, rows)? else {
                continue;
            };
            if layer.position(row) <= after {
                return Ok(None);
            }
            return self.head_in(layer, row).map(Some);
        }
        Ok(None)
    }

    fn head_in(&self, layer: &Layer, row: u32) -> Result<StreamHead> {
        if let Some(event) = layer.kept_event(row, self.staged)? {
            return Ok(StreamHead {
                revision: event.revision().get(),
                position: event.position().get(),
                hash: *event.hash().as_bytes(),
                is_closed: EventKind::TOMBSTONE == event.kind(),
            });
        }
        let removed = layer.kept(row, self.staged)?;
        Ok(StreamHead {
            revision: removed.stream.revision,
            position: removed.position,
            hash: removed.hash,
            // No retention removes a tombstone.
            is_closed: false,
        })
    }

    /// The last position that was recorded at a time or before; 0 if there is none.
    pub(crate) fn position_at(&self, time: Timestamp) -> Result<u64> {
        let region = Region::all().recorded(..=time);
        for (at, layer) in self.layers.all.iter().enumerate().rev() {
            let (low, high) = RowBounds::of(layer, &region, (1, self.end_of(at)), self)?.rows();
            if low < high {
                return Ok(layer.position(high - 1));
            }
        }
        Ok(0)
    }

    /// The revision of an entity's last event, removed or not; 0 if it has none.
    pub(crate) fn revision(&self, entity: &str) -> Result<u64> {
        Ok(self
            .head_of(entity, &entity_digest(entity), 0)?
            .map_or(0, |head| head.revision))
    }
}

/// The receipts of a submission that was appended before, as a retry gets them; whether durable is said later.
pub(crate) fn receipts_of(picture: &Picture<'_>, first: u64, len: u32) -> Result<Vec<Receipt>> {
    (first..first.saturating_add(u64::from(len)))
        .map(|position| {
            let kept = picture.kept(position)?.ok_or_else(|| {
                StoreError::corrupt(format!(
                    "event {position} of a batch is missing; run a verification"
                ))
            })?;
            Ok(Receipt {
                id: EventId::from_bytes(kept.id),
                position: Position::new(kept.position),
                revision: Revision::new(kept.stream.revision),
                recorded_at: Timestamp::from_nanos(kept.recorded_at),
                hash: EventHash::from_bytes(kept.hash),
                durable: false,
                replay: true,
            })
        })
        .collect()
}
