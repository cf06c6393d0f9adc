//! An event as readers see it: borrowed from the map of its segment, or owned together with it.
//!
//! Heads are checked when an event is read; the payload, which may be large, when it is asked for. Any thread reads.

use std::fmt;

use serde::Deserialize;

use crate::error::{Result, StoreError};
use crate::event::digest::EventHash;
use crate::event::id::{CorrelationId, EventId};
use crate::event::payload;
use crate::event::position::{Position, Revision};
use crate::event::timestamp::Timestamp;
use crate::format::crc::Seed;
use crate::format::record::{RecordLayout, StreamPlace};
use crate::format::stub::StubFields;
use crate::log::segment::Segment;
use crate::sync::Arc;

/// An event borrowed from a [`View`](crate::View): nothing of it is copied.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    frame: &'a [u8],
    layout: RecordLayout,
    position: u64,
    offset: u64,
    segment: &'a Segment,
    seed: &'a Seed,
}

impl<'a> EventRef<'a> {
    pub(crate) fn new(
        frame: &'a [u8],
        layout: RecordLayout,
        position: u64,
        offset: u64,
        segment: &'a Segment,
        seed: &'a Seed,
    ) -> Self {
        Self {
            frame,
            layout,
            position,
            offset,
            segment,
            seed,
        }
    }

    /// The length of its frame in bytes.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frame.len() as u64
    }

    /// The length of the frame of the stub that would stay of it, in bytes.
    pub(crate) fn stub_bytes(&self) -> u64 {
        let stream = StreamPlace {
            revision: self.layout.revision,
            previous_position: self.layout.previous_position,
        };
        let key = self.layout.key(self.frame);
        StubFields::frame_bytes(self.position, stream, self.layout.batch, key)
    }

    /// Its entity, scope and kind as they are compared.
    pub(crate) fn names(&self) -> [&'a [u8]; 3] {
        self.layout.names(self.frame)
    }

    /// The same event, owned: it keeps its segment mapped, and copies no payload.
    pub(crate) fn to_owned_in(self, segment: &Arc<Segment>) -> Event {
        let len = self.frame.len();
        Event {
            segment: Arc::clone(segment),
            layout: self.layout,
            position: self.position,
            offset: self.offset,
            len,
        }
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> EventId {
        EventId::from_bytes(self.layout.id(self.frame))
    }

    /// Its place in the global order.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.position)
    }

    /// Its place in its entity's stream.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision::new(self.layout.revision)
    }

    /// The position of the entity's previous event, zero if this is the first.
    #[must_use]
    pub fn previous_position(&self) -> Position {
        Position::new(self.layout.previous_position)
    }

    /// When the store recorded it.
    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        Timestamp::from_nanos(self.layout.recorded_at(self.frame))
    }

    /// When it happened, if its writer said so.
    #[must_use]
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.layout
            .occurred_at(self.frame)
            .map(Timestamp::from_nanos)
    }

    /// Its kind, such as `order.placed`.
    #[must_use]
    pub fn kind(&self) -> &'a str {
        self.layout.kind(self.frame)
    }

    /// The first part of its kind.
    #[must_use]
    pub fn category(&self) -> &'a str {
        let kind = self.kind();
        kind.split_once('.').map_or(kind, |(category, _)| category)
    }

    /// Who it is about.
    #[must_use]
    pub fn entity(&self) -> &'a str {
        self.layout.entity(self.frame)
    }

    /// Where it happened.
    #[must_use]
    pub fn scope(&self) -> &'a str {
        self.layout.scope(self.frame)
    }

    /// Which shape of its kind's payload this is.
    #[must_use]
    pub fn schema_version(&self) -> u16 {
        self.layout.schema_version
    }

    /// Its tags, in byte order.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &'a str> + Clone + use<'a> {
        self.layout.tags(self.frame)
    }

    /// Whether it has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags().any(|t| t == tag)
    }

    /// The ids of the events that caused it; the first is the causation.
    pub fn parents(&self) -> impl ExactSizeIterator<Item = EventId> + Clone + use<'a> {
        self.layout.parents(self.frame).map(EventId::from_bytes)
    }

    /// The first parent.
    #[must_use]
    pub fn causation(&self) -> Option<EventId> {
        self.parents().next()
    }

    /// The story that it belongs to.
    #[must_use]
    pub fn correlation(&self) -> CorrelationId {
        CorrelationId::from_bytes(self.layout.correlation(self.frame))
    }

    /// Its metadata, in byte order of the keys.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.layout.metadata(self.frame)
    }

    /// Its hash, which covers everything in it, its parents' hashes and that of its entity's previous event.
    #[must_use]
    pub fn hash(&self) -> EventHash {
        EventHash::from_bytes(self.layout.hash(self.frame))
    }

    /// Its index in the batch that it was appended with, from 0.
    #[must_use]
    pub fn batch_index(&self) -> u32 {
        self.layout.batch.index
    }

    /// How many events that batch has.
    #[must_use]
    pub fn batch_len(&self) -> u32 {
        self.layout.batch.len
    }

    /// The length of its payload in bytes.
    #[must_use]
    pub fn payload_len(&self) -> u32 {
        self.layout.payload_len()
    }

    /// Its payload as MessagePack bytes, checked against their checksum.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not those that were written.
    pub fn payload_bytes(&self) -> Result<&'a [u8]> {
        if !self.layout.check_payload(self.frame, self.seed) {
            return Err(StoreError::corrupt(format!(
                "{} at byte {}: the payload of event {} is not what was written; restore the file from a copy",
                self.segment.name(),
                self.offset,
                self.position
            )));
        }
        Ok(self.layout.payload(self.frame))
    }

    /// Its payload, decoded.
    ///
    /// # Errors
    /// `Corrupt` as above; `Payload` when the bytes are not a `T`.
    pub fn payload<T: Deserialize<'a>>(&self) -> Result<T> {
        payload::decode(self.payload_bytes()?)
    }
}

/// An event that keeps the map it stands in alive; its payload is a slice of that map, not a copy.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// let dimmed = store.append(&lamp, EventKind::literal("lamp.dimmed"), &3)?;
/// let event = store.get(&dimmed)?.expect("it was just appended");
/// assert_eq!((event.entity(), event.kind()), ("lamp:1", "lamp.dimmed"));
/// assert_eq!(event.payload::<u8>()?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Event {
    segment: Arc<Segment>,
    layout: RecordLayout,
    position: u64,
    offset: u64,
    len: usize,
}

macro_rules! same_as_borrowed {
    ($($(#[$doc:meta])* $name:ident: $answer:ty;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name(&self) -> $answer { self.borrowed().$name() })*
    };
}

impl Event {
    /// The event, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> EventRef<'_> {
        let seed = self
            .segment
            .known_seed()
            .expect("an event was read from a mapped segment");
        EventRef {
            frame: self.segment.known_frame(self.offset, self.len),
            layout: self.layout,
            position: self.position,
            offset: self.offset,
            segment: &self.segment,
            seed,
        }
    }

    same_as_borrowed! {
        /// The event's id.
        id: EventId;
        /// Its place in the global order.
        position: Position;
        /// Its place in its entity's stream.
        revision: Revision;
        /// The position of the entity's previous event, zero if this is the first.
        previous_position: Position;
        /// When the store recorded it.
        recorded_at: Timestamp;
        /// When it happened, if its writer said so.
        occurred_at: Option<Timestamp>;
        /// Its kind, such as `order.placed`.
        kind: &str;
        /// The first part of its kind.
        category: &str;
        /// Who it is about.
        entity: &str;
        /// Where it happened.
        scope: &str;
        /// Which shape of its kind's payload this is.
        schema_version: u16;
        /// The first parent.
        causation: Option<EventId>;
        /// The story that it belongs to.
        correlation: CorrelationId;
        /// Its hash; see [`EventRef::hash`].
        hash: EventHash;
        /// Its index in the batch that it was appended with, from 0.
        batch_index: u32;
        /// How many events that batch has.
        batch_len: u32;
        /// The length of its payload in bytes.
        payload_len: u32;
    }

    /// Its tags, in byte order.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.borrowed().tags()
    }

    /// Whether it has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.borrowed().has_tag(tag)
    }

    /// The ids of the events that caused it; the first is the causation.
    pub fn parents(&self) -> impl ExactSizeIterator<Item = EventId> + Clone {
        self.borrowed().parents()
    }

    /// Its metadata, in byte order of the keys.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.borrowed().metadata()
    }

    /// Its payload as MessagePack bytes, checked against their checksum.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not those that were written.
    pub fn payload_bytes(&self) -> Result<&[u8]> {
        self.borrowed().payload_bytes()
    }

    /// Its payload, decoded.
    ///
    /// # Errors
    /// `Corrupt` as above; `Payload` when the bytes are not a `T`.
    pub fn payload<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.borrowed().payload()
    }
}

impl From<&Event> for EventId {
    fn from(event: &Event) -> Self {
        event.id()
    }
}

impl From<EventRef<'_>> for EventId {
    fn from(event: EventRef<'_>) -> Self {
        event.id()
    }
}

impl From<&EventRef<'_>> for EventId {
    fn from(event: &EventRef<'_>) -> Self {
        event.id()
    }
}

impl From<&Event> for Position {
    fn from(event: &Event) -> Self {
        event.position()
    }
}

impl From<&EventRef<'_>> for Position {
    fn from(event: &EventRef<'_>) -> Self {
        event.position()
    }
}

impl fmt::Debug for EventRef<'_> {
    /// Everything but the payload, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("position", &self.position)
            .field("entity", &self.entity())
            .field("revision", &self.layout.revision)
            .field("scope", &self.scope())
            .field("kind", &self.kind())
            .field("id", &self.id())
            .field("payload_bytes", &self.payload_len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrowed().fmt(f)
    }
}

impl fmt::Display for EventRef<'_> {
    /// One line: position, entity, revision, kind, recorded time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, revision) = (self.position, self.layout.revision);
        write!(
            f,
            "{position}  {}  rev {revision}  {}  {}",
            self.entity(),
            self.kind(),
            self.recorded_at()
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrowed().fmt(f)
    }
}
