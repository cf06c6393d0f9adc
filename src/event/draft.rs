//! An event before it is appended: built without failing, checked and hashed when it is prepared.
//!
//! Preparing runs on the caller's thread and does all that needs neither the store nor the clock.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use crate::error::{Result, StoreError};
use crate::event::coordinate::Coordinate;
use crate::event::hash;
use crate::event::id::{CorrelationId, EventId};
use crate::event::kind::EventKind;
use crate::event::name;
use crate::event::payload::{Payload, encoded};
use crate::event::timestamp::Timestamp;

/// The schema version of a payload that names none.
const DEFAULT_SCHEMA_VERSION: u16 = 1;

/// What may be said of an event beside its coordinate, kind and payload.
#[derive(Debug, Clone)]
pub(crate) struct Extras {
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) metadata: Vec<(Box<str>, Box<str>)>,
    pub(crate) parents: Vec<EventId>,
    pub(crate) correlation: Option<CorrelationId>,
    pub(crate) id: Option<EventId>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) schema_version: u16,
}

impl Default for Extras {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            metadata: Vec::new(),
            parents: Vec::new(),
            correlation: None,
            id: None,
            occurred_at: None,
            schema_version: DEFAULT_SCHEMA_VERSION,
        }
    }
}

/// Gives a builder that has a field `extras` the methods that describe one event.
macro_rules! describe_event {
    () => {
        /// Adds a tag, 1 to 256 bytes; at most 32 on an event, and one given twice counts once.
        #[must_use]
        pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
            self.extras.tags.push(tag.as_ref().into());
            self
        }

        /// Adds several tags.
        #[must_use]
        pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
            self.extras
                .tags
                .extend(tags.into_iter().map(|tag| tag.as_ref().into()));
            self
        }

        /// Adds an event that caused this one; the first is the causation, and at most 64 are allowed.
        #[must_use]
        pub fn caused_by(mut self, parent: impl Into<EventId>) -> Self {
            self.extras.parents.push(parent.into());
            self
        }

        /// Names the story; by default it is the first parent's, else the event's own id.
        ///
        /// Of a parent that retention removed only the id is left, and names the story.
        #[must_use]
        pub fn correlation(mut self, id: impl Into<CorrelationId>) -> Self {
            self.extras.correlation = Some(id.into());
            self
        }

        /// Gives the event an id of the caller's; by default the store makes one.
        #[must_use]
        pub fn event_id(mut self, id: impl Into<EventId>) -> Self {
            self.extras.id = Some(id.into());
            self
        }

        /// Adds a metadata entry; at most 32 entries and 8192 bytes on an event, and no key twice.
        #[must_use]
        pub fn metadata(mut self, key: impl AsRef<str>, value: impl AsRef<str>) -> Self {
            self.extras
                .metadata
                .push((key.as_ref().into(), value.as_ref().into()));
            self
        }

        /// Says when it happened, which may differ from when the store records it.
        #[must_use]
        pub fn occurred_at(mut self, moment: Timestamp) -> Self {
            self.extras.occurred_at = Some(moment);
            self
        }

        /// Says which shape of its kind's payload this is; 1 by default.
        #[must_use]
        pub fn schema_version(mut self, version: u16) -> Self {
            self.extras.schema_version = version;
            self
        }
    };
}
pub(crate) use describe_event;

/// An event to be appended with others in a batch.
///
/// ```
/// use quipu::{Coordinate, EventDraft, EventKind};
///
/// const PLACED: EventKind = EventKind::literal("order.placed");
/// let draft = EventDraft::new(&Coordinate::new("order:17", "shop")?, &PLACED, &"two shoes")
///     .tag("customer:42");
/// # let _ = draft;
/// # Ok::<(), quipu::StoreError>(())
/// ```
#[derive(Debug)]
pub struct EventDraft {
    coordinate: Coordinate,
    kind: EventKind,
    /// An encoding that failed is told by the append, so that building never fails.
    payload: Result<Vec<u8>>,
    extras: Extras,
}

impl Clone for EventDraft {
    fn clone(&self) -> Self {
        Self {
            coordinate: self.coordinate.clone(),
            kind: self.kind.clone(),
            payload: self
                .payload
                .as_ref()
                .map_err(StoreError::duplicate)
                .cloned(),
            extras: self.extras.clone(),
        }
    }
}

impl EventDraft {
    /// Encodes the payload at once and begins a draft; a payload that does not encode fails the append.
    #[must_use]
    pub fn new(
        coordinate: &Coordinate,
        kind: impl Into<EventKind>,
        payload: &(impl Payload + ?Sized),
    ) -> Self {
        Self::with_extras(
            coordinate.clone(),
            kind.into(),
            encoded(payload),
            Extras::default(),
        )
    }

    pub(crate) fn with_extras(
        coordinate: Coordinate,
        kind: EventKind,
        payload: Result<Vec<u8>>,
        extras: Extras,
    ) -> Self {
        Self {
            coordinate,
            kind,
            payload,
            extras,
        }
    }

    describe_event!();

    /// Checks everything that can be checked without the store, and computes the hashes that need no other event.
    pub(crate) fn prepare(self, max_payload_bytes: usize) -> Result<PreparedEvent> {
        let payload = self.payload?;
        name::check_length("payload", payload.len(), max_payload_bytes)?;
        let Extras {
            tags,
            metadata,
            parents,
            correlation,
            id,
            occurred_at,
            schema_version,
        } = self.extras;
        let tags = sorted_tags(tags)?;
        let metadata = sorted_metadata(metadata)?;
        check_parents(&parents, id)?;
        let labels = hash::labels_digest(
            tags.iter().map(|tag| &**tag),
            metadata.iter().map(|(key, value)| (&**key, &**value)),
        );
        Ok(PreparedEvent {
            payload_hash: hash::payload_hash(&payload),
            entity_digest: hash::entity_digest(self.coordinate.entity()),
            coordinate: self.coordinate,
            kind: self.kind,
            schema_version,
            payload,
            labels,
            tags,
            metadata,
            parents,
            correlation,
            id,
            occurred_at,
        })
    }
}

/// An event that breaks no rule of its own and waits for its place.
#[derive(Debug, Clone)]
pub(crate) struct PreparedEvent {
    pub(crate) coordinate: Coordinate,
    pub(crate) kind: EventKind,
    pub(crate) schema_version: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) payload_hash: [u8; 32],
    pub(crate) labels: [u8; 32],
    pub(crate) entity_digest: [u8; 16],
    /// In byte order, none twice.
    pub(crate) tags: Vec<Box<str>>,
    /// In byte order of the keys, none twice.
    pub(crate) metadata: Vec<(Box<str>, Box<str>)>,
    /// None twice; the first is the causation.
    pub(crate) parents: Vec<EventId>,
    pub(crate) correlation: Option<CorrelationId>,
    pub(crate) id: Option<EventId>,
    pub(crate) occurred_at: Option<Timestamp>,
}

/// More than the fixed fields, counts and lengths of a frame ever take beside names, labels and payload.
const FRAME_OVERHEAD_BYTES: usize = 256;
/// More than the length of a tag, or of a metadata key and value, takes.
const LABEL_OVERHEAD_BYTES: usize = 8;

impl PreparedEvent {
    /// Returns an upper bound of the bytes that the event takes in the log.
    pub(crate) fn size_bound(&self) -> usize {
        let label_bytes = self.tags.iter().map(|tag| tag.len()).sum::<usize>()
            + self
                .metadata
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum::<usize>()
            + LABEL_OVERHEAD_BYTES * (self.tags.len() + self.metadata.len());
        let name_bytes = self.coordinate.entity().len()
            + self.coordinate.scope().len()
            + self.kind.as_str().len();
        FRAME_OVERHEAD_BYTES
            + name_bytes
            + label_bytes
            + size_of::<EventId>() * self.parents.len()
            + self.payload.len()
    }
}

fn sorted_tags(mut tags: Vec<Box<str>>) -> Result<Vec<Box<str>>> {
    tags.iter().try_for_each(|tag| name::check_tag(tag))?;
    tags.sort_unstable();
    tags.dedup();
    name::check_count("tags", tags.len(), name::MAX_TAGS)?;
    Ok(tags)
}

fn sorted_metadata(mut metadata: Vec<(Box<str>, Box<str>)>) -> Result<Vec<(Box<str>, Box<str>)>> {
    name::check_count(
        "metadata entries",
        metadata.len(),
        name::MAX_METADATA_ENTRIES,
    )?;
    let mut bytes = 0;
    for (key, value) in &metadata {
        name::check_name("metadata key", key, name::MAX_METADATA_KEY_BYTES)?;
        name::check_length(
            "metadata value",
            value.len(),
            name::MAX_METADATA_VALUE_BYTES,
        )?;
        bytes += key.len() + value.len();
    }
    name::check_length("metadata", bytes, name::MAX_METADATA_BYTES)?;
    metadata.sort_unstable();
    match metadata.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let message = format!("metadata key {:?} is given twice; give it once", pair[0].0);
            Err(StoreError::argument(message))
        }
        None => Ok(metadata),
    }
}

fn check_parents(parents: &[EventId], own: Option<EventId>) -> Result<()> {
    name::check_count("parents", parents.len(), name::MAX_PARENTS)?;
    if own.is_some_and(|own| parents.contains(&own)) {
        return Err(StoreError::argument(
            "an event cannot be its own parent; leave it out",
        ));
    }
    let mut seen = BTreeSet::new();
    match parents.iter().find(|parent| !seen.insert(**parent)) {
        Some(parent) => {
            let message = format!("parent {parent} is given twice; give it once");
            Err(StoreError::argument(message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::event::payload::RawPayload;

    const KIND: EventKind = EventKind::literal("order.placed");
    const MAX_PAYLOAD: usize = 1000;

    fn draft() -> EventDraft {
        EventDraft::new(&Coordinate::new("order:1", "shop").unwrap(), &KIND, &7)
    }

    fn refused(draft: EventDraft) -> bool {
        draft
            .prepare(MAX_PAYLOAD)
            .is_err_and(|error| error.kind() == StoreErrorKind::Argument)
    }

    fn id(number: u8) -> EventId {
        EventId::from_bytes([number; 16])
    }

    #[test]
    fn a_plain_draft_prepares_with_its_defaults() {
        let event = draft().prepare(MAX_PAYLOAD).unwrap();
        assert_eq!(event.coordinate.entity(), "order:1");
        assert_eq!((event.kind, event.schema_version), (KIND, 1));
        assert_eq!(event.payload, [7]);
        assert_eq!(event.payload_hash, hash::payload_hash(&[7]));
        assert_eq!(event.entity_digest, hash::entity_digest("order:1"));
        assert_eq!(event.labels, [0; 32]);
        assert!(event.tags.is_empty() && event.metadata.is_empty() && event.parents.is_empty());
        assert_eq!(
            (event.correlation, event.id, event.occurred_at),
            (None, None, None)
        );
    }

    #[test]
    fn everything_said_of_an_event_is_kept() {
        let event = draft()
            .correlation(id(3))
            .event_id(id(4))
            .caused_by(id(2))
            .caused_by(id(1))
            .occurred_at(Timestamp::from_secs(5))
            .schema_version(6)
            .prepare(MAX_PAYLOAD)
            .unwrap();
        assert_eq!(event.correlation, Some(id(3).into()));
        assert_eq!(event.id, Some(id(4)));
        assert_eq!(event.parents, [id(2), id(1)]);
        assert_eq!(event.occurred_at, Some(Timestamp::from_secs(5)));
        assert_eq!(event.schema_version, 6);
    }

    #[test]
    fn labels_are_sorted_before_they_are_hashed() {
        let event = draft()
            .tags(["b", "a", "b"])
            .metadata("y", "1")
            .metadata("x", "2")
            .prepare(MAX_PAYLOAD)
            .unwrap();
        assert_eq!(event.tags, ["a".into(), "b".into()]);
        assert_eq!(event.metadata[0], ("x".into(), "2".into()));
        let expected =
            hash::labels_digest(["a", "b"].into_iter(), [("x", "2"), ("y", "1")].into_iter());
        assert_eq!(event.labels, expected);
    }

    #[test]
    fn thirty_two_tags_pass_and_one_more_does_not() {
        let tags = |count: usize| draft().tags((0..count).map(|at| format!("tag:{at}")));
        assert!(tags(32).prepare(MAX_PAYLOAD).is_ok());
        assert!(
            tags(32).tag("tag:0").prepare(MAX_PAYLOAD).is_ok(),
            "doubles count once"
        );
        assert!(refused(tags(33)));
        assert!(refused(draft().tag("")) && refused(draft().tag("x".repeat(257))));
    }

    #[test]
    fn sixty_four_parents_pass_and_one_more_does_not() {
        let parents = |count: u8| (0..count).fold(draft(), |draft, at| draft.caused_by(id(at)));
        assert!(parents(64).prepare(MAX_PAYLOAD).is_ok());
        assert!(refused(parents(65)));
    }

    #[test]
    fn a_parent_is_named_once_and_is_another_event() {
        assert!(refused(draft().caused_by(id(1)).caused_by(id(1))));
        assert!(refused(draft().caused_by(id(1)).event_id(id(1))));
    }

    #[test]
    fn metadata_is_bounded_by_entry_and_in_all() {
        let entries = |count: usize| {
            (0..count).fold(draft(), |draft, at| draft.metadata(format!("k{at}"), ""))
        };
        assert!(entries(32).prepare(MAX_PAYLOAD).is_ok());
        assert!(refused(entries(33)));
        let sized = |key: usize, value: usize| draft().metadata("k".repeat(key), "v".repeat(value));
        assert!(sized(128, 1024).prepare(MAX_PAYLOAD).is_ok());
        assert!(refused(sized(129, 0)) && refused(sized(1, 1025)) && refused(sized(0, 1)));
        let eight = (0..8).fold(draft(), |draft, at| {
            draft.metadata(format!("k{at}"), "v".repeat(1022))
        });
        assert!(eight.clone().prepare(MAX_PAYLOAD).is_ok());
        assert!(refused(eight.metadata("x", "")));
        assert!(refused(draft().metadata("k", "1").metadata("k", "2")));
    }

    #[test]
    fn a_payload_at_the_bound_passes_and_one_byte_more_does_not() {
        let sized = |bytes: usize| {
            let text = "x".repeat(bytes - 3);
            EventDraft::new(
                &Coordinate::new("order:1", "shop").unwrap(),
                &KIND,
                text.as_str(),
            )
        };
        assert_eq!(
            sized(MAX_PAYLOAD)
                .prepare(MAX_PAYLOAD)
                .unwrap()
                .payload
                .len(),
            MAX_PAYLOAD
        );
        assert!(refused(sized(MAX_PAYLOAD + 1)));
    }

    #[test]
    fn a_payload_that_does_not_encode_fails_when_prepared() {
        let coordinate = Coordinate::new("order:1", "shop").unwrap();
        let draft = EventDraft::new(&coordinate, &KIND, &RawPayload::new(&[0xc1]));
        for draft in [draft.clone(), draft] {
            assert_eq!(
                draft.prepare(MAX_PAYLOAD).unwrap_err().kind(),
                StoreErrorKind::Payload
            );
        }
    }

    #[test]
    fn the_size_bound_counts_what_grows() {
        let plain = draft().prepare(MAX_PAYLOAD).unwrap().size_bound();
        let more = draft().tag("abc").caused_by(id(1)).metadata("k", "value");
        assert_eq!(
            more.prepare(MAX_PAYLOAD).unwrap().size_bound(),
            plain + 3 + 8 + 16 + 6 + 8
        );
    }
}
