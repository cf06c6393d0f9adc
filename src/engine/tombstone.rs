//! Ends an entity's stream for good: one last event, behind which every append is a conflict.
//!
//! Runs on the caller's thread. The writer refuses what would follow a tombstone when it looks for the end of the
//! stream, which it does for every event anyway.

use crate::engine::shared::Engine;
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::append::AppendOptions;
use crate::event::condition::Durability;
use crate::event::coordinate::Coordinate;
use crate::event::hash::entity_digest;
use crate::event::kind::EventKind;
use crate::event::name;
use crate::event::receipt::Receipt;
use crate::event::region::Region;
use crate::index::layer::Direction;
use crate::index::picture::{Picture, StreamHead, receipts_of};
use crate::index::walk::Walk;

/// The scope of a tombstone on a stream of which retention left no event that tells its own.
const SCOPE_OF_NOTHING: &str = "quipu";

impl Engine {
    /// Appends the tombstone of `entity`, or finds the one that is there.
    pub(crate) fn tombstone(&self, entity: &str) -> Result<Receipt> {
        name::check_entity(entity)?;
        loop {
            self.check_writable()?;
            let view = self.front.last_view();
            let picture = view.picture();
            let Some(end) = picture.head_of(entity, &entity_digest(entity), 0)? else {
                return Err(StoreError::not_found(format!(
                    "{entity} has no events; there is no stream to end"
                )));
            };
            if end.is_closed {
                return self.first_receipt(&picture, &end);
            }
            let place = Coordinate::new(entity, scope_of(&picture, entity)?)?;
            let batch = AppendOptions::new().into_batch(&place, EventKind::TOMBSTONE, &());
            match self.append(batch) {
                // Somebody else's came first; whoever is told of a conflict can see what it names.
                Err(error) if error.kind() == StoreErrorKind::Conflict => {}
                outcome => return outcome.and_then(only),
            }
        }
    }

    /// The receipt of the tombstone that is there already, durable if that is how the store appends.
    fn first_receipt(&self, picture: &Picture<'_>, end: &StreamHead) -> Result<Receipt> {
        if self.config.durability == Durability::Sync && end.position > self.front.durable() {
            self.sync()?;
        }
        let mut receipt = only(receipts_of(picture, end.position, 1)?)?;
        receipt.durable = end.position <= self.front.durable();
        Ok(receipt)
    }
}

/// The scope of the entity's newest event that retention has left.
fn scope_of(picture: &Picture<'_>, entity: &str) -> Result<String> {
    let region = Region::entity(entity).into();
    let mut walk = Walk::new(region, Direction::Backward, (1, u64::MAX), 1);
    let newest = walk.next(picture).transpose()?;
    Ok(newest
        .map_or(SCOPE_OF_NOTHING, |hit| hit.event.scope())
        .to_owned())
}

/// What an append to a stream that a tombstone ended is told.
pub(crate) fn closed_by(entity: &str, tombstone: &StreamHead) -> StoreError {
    let position = tombstone.position;
    StoreError::conflict(format!(
        "{entity} was ended by the tombstone at position {position}; append to another entity"
    ))
    .with_positions(vec![position])
}

fn only(receipts: Vec<Receipt>) -> Result<Receipt> {
    let first = receipts.into_iter().next();
    first.ok_or_else(|| StoreError::argument("a tombstone is one event and has one receipt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::open;
    use crate::engine::submit::Patience;
    use crate::event::batch::Batch;
    use crate::options::StoreConfig;

    const KIND: EventKind = EventKind::literal("thing.done");

    fn event(kind: EventKind) -> Batch {
        let place = Coordinate::new("a", "here").unwrap();
        AppendOptions::new().into_batch(&place, kind, &1)
    }

    #[test]
    fn what_is_staged_behind_a_tombstone_in_one_group_is_refused() {
        let engine = open::open(StoreConfig::in_memory()).unwrap();
        engine.append(event(KIND)).unwrap();
        let turn = engine.turn.lock();
        let submit = |kind| engine.submit(event(kind), Patience::Setting).unwrap();
        let (before, end) = (submit(KIND), submit(EventKind::TOMBSTONE));
        let (behind, second) = (submit(KIND), submit(EventKind::TOMBSTONE));
        drop(turn);
        assert_eq!(only(before.wait().unwrap()).unwrap().revision(), 2);
        assert_eq!(only(end.wait().unwrap()).unwrap().revision(), 3);
        for late in [behind, second] {
            let error = late.wait().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
            assert_eq!(error.in_the_way(), [3]);
        }
        assert_eq!(engine.tombstone("a").unwrap().position(), 3);
        engine.close().unwrap();
    }
}
