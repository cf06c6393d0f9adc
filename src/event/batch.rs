//! Events that are appended together or not at all, and the terms under which.
//!
//! A single append is a batch of one: there is one way into the store.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Result, StoreError};
use crate::event::condition::{Condition, Durability, ExpectedRevision};
use crate::event::draft::{EventDraft, PreparedEvent};
use crate::event::hash::{self, ContentDigest};
use crate::event::name;
use crate::event::position::Position;
use crate::event::query::Query;

/// Under which terms a submission is accepted and how it is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) durability: Option<Durability>,
}

/// Gives a builder that has a field `terms` the methods that set the terms of a submission.
macro_rules! set_terms {
    () => {
        /// Accepts only if no event after the position matches the query, as of when the writer decides.
        #[must_use]
        pub fn unless_any(mut self, query: impl Into<Query>, after: impl Into<Position>) -> Self {
            let condition = Condition::UnlessAny(query.into(), after.into());
            self.terms.conditions.push(condition);
            self
        }

        /// Accepts only if some event after the position matches the query, as of when the writer decides.
        #[must_use]
        pub fn only_if(mut self, query: impl Into<Query>, after: impl Into<Position>) -> Self {
            let condition = Condition::OnlyIf(query.into(), after.into());
            self.terms.conditions.push(condition);
            self
        }

        /// Names the submission, in 1 to 64 bytes, so that a retry with the same content returns the first try's receipts;
        /// the same key with other content is a `Conflict`.
        #[must_use]
        pub fn idempotency_key(mut self, key: impl AsRef<[u8]>) -> Self {
            self.terms.key = Some(key.as_ref().to_vec());
            self
        }

        /// Says when the submission is answered; by default as the store is configured.
        #[must_use]
        pub fn durability(mut self, durability: Durability) -> Self {
            self.terms.durability = Some(durability);
            self
        }
    };
}
pub(crate) use set_terms;

/// Events that are appended together or not at all.
///
/// ```
/// use quipu::{Batch, Coordinate, EventDraft, EventKind};
///
/// const MOVED: EventKind = EventKind::literal("account.moved");
/// let batch = Batch::new()
///     .event(EventDraft::new(&Coordinate::new("account:1", "bank")?, &MOVED, &-5))
///     .event(EventDraft::new(&Coordinate::new("account:2", "bank")?, &MOVED, &5))
///     .expect_revision("account:1", 7);
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), quipu::StoreError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch {
    events: Vec<EventDraft>,
    expectations: Vec<(Arc<str>, ExpectedRevision)>,
    terms: Terms,
}

impl Batch {
    /// Begins an empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn single(
        event: EventDraft,
        expectation: Option<(Arc<str>, ExpectedRevision)>,
        terms: Terms,
    ) -> Self {
        let expectations = expectation.into_iter().collect();
        Self {
            events: alloc::vec![event],
            expectations,
            terms,
        }
    }

    /// Adds an event.
    #[must_use]
    pub fn event(mut self, event: EventDraft) -> Self {
        self.events.push(event);
        self
    }

    /// Adds several events.
    #[must_use]
    pub fn events(mut self, events: impl IntoIterator<Item = EventDraft>) -> Self {
        self.events.extend(events);
        self
    }

    /// Accepts only if the stream of `entity` is as expected before the batch.
    #[must_use]
    pub fn expect_revision(
        mut self,
        entity: impl AsRef<str>,
        expected: impl Into<ExpectedRevision>,
    ) -> Self {
        self.expectations
            .push((entity.as_ref().into(), expected.into()));
        self
    }

    set_terms!();

    /// Returns how many events the batch has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Tells whether the batch has no events; such a batch is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Checks everything that can be checked without the store.
    pub(crate) fn prepare(self, limits: &BatchLimits) -> Result<PreparedBatch> {
        if self.events.is_empty() {
            return Err(StoreError::argument(
                "a batch has no events; give it at least one",
            ));
        }
        name::check_count("events in a batch", self.events.len(), limits.events)?;
        let expectations = prepare_expectations(self.expectations, limits)?;
        check_conditions(&self.terms.conditions)?;
        if let Some(key) = &self.terms.key {
            name::check_key(key)?;
        }
        let events = prepare_events(self.events, limits)?;
        let key = self.terms.key.map(|key| KeyDigests {
            key: hash::key_digest(&key),
            content: content_digest(&events),
        });
        Ok(PreparedBatch {
            events,
            expectations,
            conditions: self.terms.conditions,
            key,
            durability: self.terms.durability,
        })
    }
}

/// How large a batch may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) payload_bytes: usize,
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// A batch that breaks no rule of its own and waits for the writer.
#[derive(Debug, Clone)]
pub(crate) struct PreparedBatch {
    pub(crate) events: Vec<PreparedEvent>,
    pub(crate) expectations: Vec<Expectation>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) key: Option<KeyDigests>,
    pub(crate) durability: Option<Durability>,
}

/// What one stream must look like before the batch.
#[derive(Debug, Clone)]
pub(crate) struct Expectation {
    pub(crate) entity: Arc<str>,
    pub(crate) entity_digest: [u8; 16],
    pub(crate) expected: ExpectedRevision,
}

/// What the log keeps of an idempotency key and of the content it was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyDigests {
    pub(crate) key: [u8; 16],
    pub(crate) content: [u8; 16],
}

fn prepare_events(drafts: Vec<EventDraft>, limits: &BatchLimits) -> Result<Vec<PreparedEvent>> {
    let mut events = Vec::with_capacity(drafts.len());
    let mut ids = BTreeSet::new();
    let mut bytes = 0;
    for draft in drafts {
        let event = draft.prepare(limits.payload_bytes)?;
        bytes += event.size_bound();
        name::check_length("batch", bytes, limits.bytes)?;
        if let Some(id) = event.id.filter(|id| !ids.insert(*id)) {
            let message = format!("event id {id} is given twice in a batch; ids are unique");
            return Err(StoreError::argument(message));
        }
        events.push(event);
    }
    Ok(events)
}

fn prepare_expectations(
    expectations: Vec<(Arc<str>, ExpectedRevision)>,
    limits: &BatchLimits,
) -> Result<Vec<Expectation>> {
    name::check_count("expected revisions", expectations.len(), limits.events)?;
    let mut prepared = Vec::with_capacity(expectations.len());
    for (entity, expected) in expectations {
        name::check_entity(&entity)?;
        if expected != ExpectedRevision::Any {
            let entity_digest = hash::entity_digest(&entity);
            prepared.push(Expectation {
                entity,
                entity_digest,
                expected,
            });
        }
    }
    Ok(prepared)
}

fn check_conditions(conditions: &[Condition]) -> Result<()> {
    name::check_count("conditions", conditions.len(), name::MAX_CONDITIONS)?;
    conditions
        .iter()
        .try_for_each(|condition| condition.query().check_condition())
}

fn content_digest(events: &[PreparedEvent]) -> [u8; 16] {
    let mut content = ContentDigest::new(events.len());
    for event in events {
        content.push(
            event.coordinate.entity(),
            event.coordinate.scope(),
            event.kind.as_str(),
            event.schema_version,
            &event.payload_hash,
            event.tags.iter().map(|tag| &**tag),
        );
    }
    content.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::event::coordinate::Coordinate;
    use crate::event::id::EventId;
    use crate::event::kind::EventKind;
    use crate::event::region::Region;

    const KIND: EventKind = EventKind::literal("order.placed");
    const LIMITS: BatchLimits = BatchLimits {
        payload_bytes: 1000,
        events: 3,
        bytes: 10_000,
    };

    fn draft(entity: &str) -> EventDraft {
        EventDraft::new(&Coordinate::new(entity, "shop").unwrap(), &KIND, &7)
    }

    fn one() -> Batch {
        Batch::new().event(draft("order:1"))
    }

    fn refused(batch: Batch) -> bool {
        batch
            .prepare(&LIMITS)
            .is_err_and(|error| error.kind() == StoreErrorKind::Argument)
    }

    #[test]
    fn an_empty_batch_is_refused() {
        assert!(Batch::new().is_empty());
        assert!(refused(Batch::new()));
    }

    #[test]
    fn a_batch_at_its_bound_passes_and_one_event_more_does_not() {
        let full = Batch::new().events(["a", "b", "c"].map(draft));
        assert_eq!(full.len(), 3);
        assert!(full.clone().prepare(&LIMITS).is_ok());
        assert!(refused(full.event(draft("d"))));
    }

    #[test]
    fn a_batch_of_too_many_bytes_is_refused() {
        let bytes = draft("order:1").prepare(1000).unwrap().size_bound();
        assert!(one().prepare(&BatchLimits { bytes, ..LIMITS }).is_ok());
        assert!(
            one()
                .prepare(&BatchLimits {
                    bytes: bytes - 1,
                    ..LIMITS
                })
                .is_err()
        );
    }

    #[test]
    fn a_wrong_event_fails_the_whole_batch() {
        assert!(refused(one().event(draft("order:2").tag(""))));
    }

    #[test]
    fn an_event_id_given_twice_is_refused() {
        let named = || draft("order:1").event_id(EventId::from_bytes([1; 16]));
        assert!(refused(Batch::new().events([named(), named()])));
    }

    #[test]
    fn expectations_are_checked_and_any_is_dropped() {
        let batch = one()
            .expect_revision("order:1", 4)
            .expect_revision("order:2", ExpectedRevision::Any)
            .prepare(&LIMITS)
            .unwrap();
        let [expectation] = batch.expectations.as_slice() else {
            panic!("{batch:?}")
        };
        assert_eq!(&*expectation.entity, "order:1");
        assert_eq!(expectation.entity_digest, hash::entity_digest("order:1"));
        assert_eq!(expectation.expected, 4.into());
        assert!(refused(one().expect_revision("", 4)));
        let full = (0..3).fold(one(), |batch, _| batch.expect_revision("a", 1));
        assert!(full.clone().prepare(&LIMITS).is_ok());
        assert!(refused(full.expect_revision("a", 1)));
    }

    #[test]
    fn sixteen_conditions_pass_and_one_more_does_not() {
        let full = (0..8).fold(one(), |batch, _| {
            batch
                .unless_any(Query::tag("a"), 5)
                .only_if(Region::entity("b"), 0)
        });
        let prepared = full.clone().prepare(&LIMITS).unwrap();
        assert_eq!(prepared.conditions.len(), 16);
        assert_eq!(
            prepared.conditions[0],
            Condition::UnlessAny(Query::tag("a"), 5.into())
        );
        assert_eq!(prepared.conditions[1].after(), 0);
        assert!(refused(full.only_if(Query::all(), 0)));
    }

    #[test]
    fn a_condition_with_a_range_is_refused() {
        assert!(refused(one().unless_any(Region::all().positions(3..), 0)));
    }

    #[test]
    fn a_key_of_64_bytes_passes_and_of_none_or_65_does_not() {
        assert!(one().idempotency_key([1; 64]).prepare(&LIMITS).is_ok());
        assert!(refused(one().idempotency_key([1; 65])));
        assert!(refused(one().idempotency_key("")));
    }

    #[test]
    fn content_is_what_the_promise_names_and_nothing_else() {
        let content = |draft: EventDraft| {
            let batch = Batch::new()
                .event(draft)
                .idempotency_key("k")
                .prepare(&LIMITS)
                .unwrap();
            assert_eq!(batch.key.unwrap().key, hash::key_digest(b"k"));
            batch.key.unwrap().content
        };
        let plain = content(draft("order:1"));
        let id = EventId::from_bytes([1; 16]);
        let retold = draft("order:1")
            .event_id(id)
            .correlation(id)
            .metadata("k", "v");
        assert_eq!(content(retold), plain);
        assert_eq!(content(draft("order:1").caused_by(id)), plain);
        assert_ne!(content(draft("order:2")), plain);
        assert_ne!(content(draft("order:1").tag("a")), plain);
        assert_ne!(content(draft("order:1").schema_version(2)), plain);
        assert_eq!(one().prepare(&LIMITS).unwrap().key, None);
    }

    #[test]
    fn durability_is_the_stores_unless_said() {
        assert_eq!(one().prepare(&LIMITS).unwrap().durability, None);
        let buffered = one()
            .durability(Durability::Buffered)
            .prepare(&LIMITS)
            .unwrap();
        assert_eq!(buffered.durability, Some(Durability::Buffered));
    }
}
