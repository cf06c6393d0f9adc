//! A view: a consistent picture of the store at one position, from which everything can be asked.
//!
//! It holds its layers alive and takes no lock that the writer waits for longer than one page; any thread may use it.

use std::fmt;

use crate::error::{Result, StoreError};
use crate::event::digest::{Digest, EventHash};
use crate::event::hash::{fold_digest, key_digest};
use crate::event::id::EventId;
use crate::event::name;
use crate::event::position::{Position, Revision};
use crate::event::query::Query;
use crate::event::receipt::Receipt;
use crate::event::region::Region;
use crate::event::timestamp::Timestamp;
use crate::index::layers::Layers;
use crate::index::picture::{Picture, receipts_of};
use crate::index::read_options::ReadOptions;
use crate::index::walk::{Hit, Walk};
use crate::log::event::{Event, EventRef};
use crate::sync::Arc;

/// The end of what readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Head {
    /// The last visible position.
    pub position: Position,
    /// The running digest after it: 32 bytes that name the whole history.
    pub digest: Digest,
    /// When that event was recorded; zero for an empty store.
    pub recorded_at: Timestamp,
}

/// A consistent picture of the store at one position; cheap to take and to clone.
///
/// What is appended later is not in it. Events are borrowed from it, their payloads straight from the segment's map.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// let before = store.view();
/// store.append(&lamp, EventKind::literal("lamp.dimmed"), &3)?;
/// assert_eq!(before.revision("lamp:1")?, 1);
/// assert_eq!(store.view().revision("lamp:1")?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct View {
    layers: Arc<Layers>,
    upto: u64,
    durable: u64,
    /// The head, if this is the moment that it was published in.
    head: Option<Head>,
}

impl View {
    pub(crate) fn new(layers: Arc<Layers>, head: Head, durable: u64) -> Self {
        Self {
            layers,
            upto: head.position.get(),
            durable,
            head: Some(head),
        }
    }

    pub(crate) fn picture(&self) -> Picture<'_> {
        Picture {
            layers: &self.layers,
            upto: self.upto,
            staged: None,
        }
    }

    /// The last position in this picture.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.upto)
    }

    /// The end of this picture; costs nothing for the present, else a pass over a part of one segment.
    ///
    /// # Errors
    /// `Corrupt` when an event on the way is damaged.
    pub fn head(&self) -> Result<Head> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let picture = self.picture();
        let Some(layer) = picture
            .layer_of(self.upto)
            .and_then(|at| self.layers.all.get(at))
        else {
            return Ok(Head {
                position: Position::ZERO,
                digest: Digest::ZERO,
                recorded_at: Timestamp::default(),
            });
        };
        let mut digest = *layer.digest_before();
        let mut recorded_at = Timestamp::default();
        for row in 0..layer.rows_upto(self.upto) {
            let kept = layer.kept(row, None)?;
            digest = fold_digest(&digest, &kept.hash);
            recorded_at = Timestamp::from_nanos(kept.recorded_at);
        }
        Ok(Head {
            position: self.position(),
            digest: Digest::from_bytes(digest),
            recorded_at,
        })
    }

    /// The running digest after the event at a position, which may be inside a batch; at the end of a segment and of the
    /// picture nothing is read for it.
    pub(crate) fn digest_at(&self, position: Position) -> Result<Digest> {
        if let Some(head) = self.head.filter(|head| head.position == position) {
            return Ok(head.digest);
        }
        let position = position.get();
        let after = self.picture().layer_of(position.saturating_add(1));
        let Some(layer) = after.and_then(|at| self.layers.all.get(at)) else {
            return Ok(Digest::ZERO);
        };
        let mut digest = *layer.digest_before();
        for row in 0..layer.rows_upto(position) {
            digest = fold_digest(&digest, &layer.kept(row, None)?.hash);
        }
        Ok(Digest::from_bytes(digest))
    }

    /// The last positions of the layers that end before `before`, in order.
    pub(crate) fn segment_ends(&self, before: Position) -> Vec<Position> {
        let starts = self.layers.all.iter().map(|layer| layer.first_position());
        starts
            .map(|first| Position::new(first.saturating_sub(1)))
            .filter(|end| Position::ZERO < *end && *end < before)
            .collect()
    }

    /// The picture as it was at `position`; inside a batch, at the end of the one before.
    ///
    /// # Errors
    /// `Argument` for a position above this view's.
    pub fn at_position(&self, position: Position) -> Result<View> {
        let position = position.get();
        if position > self.upto {
            return Err(StoreError::argument(format!(
                "position {position} is above the last one, {}; ask for a position that exists",
                self.upto
            )));
        }
        if position == self.upto {
            return Ok(self.clone());
        }
        let place = self.picture().kept(position)?.map(|kept| kept.batch);
        let upto = match place {
            Some(batch) if batch.index + 1 < batch.len => position - 1 - u64::from(batch.index),
            _ => position,
        };
        Ok(View {
            upto,
            head: None,
            ..self.clone()
        })
    }

    /// The picture as it was at a recorded time: all that was recorded then or before.
    ///
    /// # Errors
    /// `Corrupt` when an event on the way is damaged.
    pub fn at_time(&self, time: Timestamp) -> Result<View> {
        let position = self.picture().position_at(time)?;
        self.at_position(Position::new(position))
    }

    /// The event with this id; in old segments one lookup for every sixteen, most of them a filter's no.
    ///
    /// # Errors
    /// `Corrupt` when the event or its index is damaged; `NotFound` when retention removed it.
    pub fn get(&self, id: impl Into<EventId>) -> Result<Option<EventRef<'_>>> {
        Ok(self
            .picture()
            .by_id(id.into().as_bytes())?
            .map(|hit| hit.event))
    }

    /// The event at this position.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn at(&self, position: impl Into<Position>) -> Result<Option<EventRef<'_>>> {
        Ok(self
            .picture()
            .at(position.into().get())?
            .map(|hit| hit.event))
    }

    /// The hash of the event at a position, removed or not; all zeros before everything.
    pub(crate) fn hash_at(&self, position: Position) -> Result<EventHash> {
        if position == Position::ZERO {
            return Ok(EventHash::from_bytes([0; 32]));
        }
        let kept = self.picture().kept(position.get())?;
        kept.map(|kept| EventHash::from_bytes(kept.hash))
            .ok_or_else(|| {
                StoreError::argument(format!("there is no event at position {position} yet"))
            })
    }

    /// The events of an entity, first to last.
    ///
    /// # Errors
    /// `Argument` for a name that no entity can have.
    pub fn stream(&self, entity: &str) -> Result<EventRefs<'_>> {
        self.stream_with(entity, ReadOptions::new())
    }

    /// The events of an entity, as the options say.
    ///
    /// # Errors
    /// `Argument` for a name that no entity can have.
    pub fn stream_with(&self, entity: &str, options: ReadOptions) -> Result<EventRefs<'_>> {
        name::check_entity(entity)?;
        self.query_with(Region::entity(entity), options)
    }

    /// The events that match, first to last; those that retention removed match nothing.
    ///
    /// # Errors
    /// `Argument` for a query with an invalid term.
    pub fn query(&self, query: impl Into<Query>) -> Result<EventRefs<'_>> {
        self.query_with(query, ReadOptions::new())
    }

    /// The events that match, as the options say.
    ///
    /// # Errors
    /// `Argument` for a query with an invalid term.
    pub fn query_with(
        &self,
        query: impl Into<Query>,
        options: ReadOptions,
    ) -> Result<EventRefs<'_>> {
        Ok(EventRefs {
            view: self,
            walk: options.walk(query.into())?,
        })
    }

    /// The events of a scope, first to last.
    ///
    /// # Errors
    /// `Argument` for a name that no scope can have.
    pub fn by_scope(&self, scope: &str) -> Result<EventRefs<'_>> {
        self.query(Query::scope(scope))
    }

    /// The events of a kind, first to last.
    ///
    /// # Errors
    /// `Argument` for a name that no kind can have.
    pub fn by_fact(&self, kind: impl AsRef<str>) -> Result<EventRefs<'_>> {
        self.query(Query::kind(kind))
    }

    /// The revision of an entity's last event, also if retention removed it; zero if it has none.
    ///
    /// # Errors
    /// `Argument` for a name that no entity can have.
    pub fn revision(&self, entity: &str) -> Result<Revision> {
        name::check_entity(entity)?;
        self.picture().revision(entity).map(Revision::new)
    }

    /// The event of the same entity before this one, along the hash chain.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn previous(&self, event: &EventRef<'_>) -> Result<Option<EventRef<'_>>> {
        self.at(event.previous_position())
    }

    /// What the submission with this idempotency key wrote, also if retention removed it since.
    ///
    /// # Errors
    /// `Argument` for an empty or too long key.
    pub fn receipt(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<Receipt>>> {
        name::check_key(key.as_ref())?;
        let picture = self.picture();
        let first = picture.position_of_key(&key_digest(key.as_ref()), 0)?;
        let Some(first) = first.map(|at| picture.kept(at)).transpose()?.flatten() else {
            return Ok(None);
        };
        let mut receipts = receipts_of(&picture, first.position, first.batch.len)?;
        receipts
            .iter_mut()
            .for_each(|r| r.durable = r.position.get() <= self.durable);
        Ok(Some(receipts))
    }
}

impl fmt::Debug for View {
    /// Where it stands; its layers hold every name of the newest segment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("position", &self.upto)
            .field("layers", &self.layers.all.len())
            .finish_non_exhaustive()
    }
}

/// Events borrowed from a view, in order; ends for good after an error.
#[derive(Clone, Debug)]
pub struct EventRefs<'a> {
    view: &'a View,
    walk: Walk,
}

impl<'a> Iterator for EventRefs<'a> {
    type Item = Result<EventRef<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = self.view;
        self.walk
            .next(&view.picture())
            .map(|hit| hit.map(|hit| hit.event))
    }
}

impl std::iter::FusedIterator for EventRefs<'_> {}

/// Events that own their view, in order; ends for good after an error.
#[derive(Clone, Debug)]
pub struct Events {
    view: View,
    walk: Walk,
}

impl Events {
    pub(crate) fn new(view: View, query: Query, options: ReadOptions) -> Result<Self> {
        Ok(Self {
            view,
            walk: options.walk(query)?,
        })
    }

    /// The view that they are read from.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk
            .next(&self.view.picture())
            .map(|hit| hit.map(Hit::owned))
    }
}

impl std::iter::FusedIterator for Events {}
