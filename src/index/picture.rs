//! A picture: layers up to one position, and the questions that one event or one stream answers.
//!
//! A view's picture is what its reader sees, on any thread; the writer's, in its turn, also has the rows that it has
//! staged and not written.

use crate::error::{Result, StoreError};
use crate::event::hash::entity_digest;
use crate::event::kind::EventKind;
use crate::event::receipt::Receipt;
use crate::format::sidx::Axis16;
use crate::index::layer::Layer;
use crate::index::layers::Layers;
use crate::index::walk::Hit;
use crate::log::event::EventRef;
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

    /// The event at a position, `None` also if retention emptied it.
    pub(crate) fn kept_at(&self, position: u64) -> Result<Option<Hit<'a>>> {
        let Some((layer, row)) = self.place_of(position) else {
            return Ok(None);
        };
        let kept = layer.kept_event(row, self.staged)?;
        Ok(kept.map(|event| Hit { event, layer }))
    }

    /// The layer and the row of a position.
    fn place_of(&self, position: u64) -> Option<(&'a Arc<Layer>, u32)> {
        if position == 0 || position > self.upto {
            return None;
        }
        let layer = self.layers.all.get(self.layer_of(position)?)?;
        Some((layer, layer.rows_upto(position).saturating_sub(1)))
    }

    /// The event with an id, if its position is above `after`.
    pub(crate) fn by_id(&self, id: &[u8; 16], after: u64) -> Result<Option<Hit<'a>>> {
        let found = self.newest(Axis16::Id, id, after, |layer| layer.find_id(id))?;
        found.map(|found| self.hit(found)).transpose()
    }

    /// The position of the event with an id, which is not read.
    pub(crate) fn position_of(&self, id: &[u8; 16]) -> Result<Option<u64>> {
        let found = self.newest(Axis16::Id, id, 0, |layer| layer.find_id(id))?;
        Ok(found.map(|(layer, row)| layer.position(row)))
    }

    /// The first event of the submission with a key digest, if its position is above `after`.
    pub(crate) fn by_key(&self, key: &[u8; 16], after: u64) -> Result<Option<Hit<'a>>> {
        let found = self.newest(Axis16::Key, key, after, |layer| layer.find_key(key))?;
        found.map(|found| self.hit(found)).transpose()
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

    /// The newest event of an entity, if its position is above `after`.
    pub(crate) fn last_of(
        &self,
        entity: &str,
        digest: &[u8; 16],
        after: u64,
    ) -> Result<Option<EventRef<'a>>> {
        let span = (after, self.upto);
        for layer in self.layers.that_may_hold(Axis16::Entity, digest, span) {
            let rows = layer.rows_upto(self.upto);
            if let Some(row) = layer.last_of_entity(entity, digest, rows)? {
                if layer.position(row) <= after {
                    return Ok(None);
                }
                return layer.event(row, self.staged).map(Some);
            }
        }
        Ok(None)
    }

    /// The end of an entity's stream, if it has any.
    pub(crate) fn head_of(
        &self,
        entity: &str,
        digest: &[u8; 16],
        after: u64,
    ) -> Result<Option<StreamHead>> {
        Ok(self
            .last_of(entity, digest, after)?
            .map(|event| StreamHead {
                revision: event.revision().get(),
                position: event.position().get(),
                hash: *event.hash().as_bytes(),
                is_closed: EventKind::TOMBSTONE == event.kind(),
            }))
    }

    /// How many events an entity has.
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
            let hit = picture.at(position)?.ok_or_else(|| {
                StoreError::corrupt(format!(
                    "event {position} of a batch is missing; run a verification"
                ))
            })?;
            let event = hit.event;
            Ok(Receipt {
                id: event.id(),
                position: event.position(),
                revision: event.revision(),
                recorded_at: event.recorded_at(),
                hash: event.hash(),
                durable: false,
                replay: true,
            })
        })
        .collect()
}
