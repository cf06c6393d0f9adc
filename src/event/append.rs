//! What a single append may say beside coordinate, kind and payload.

use crate::event::batch::{Batch, Terms, set_terms};
use crate::event::condition::{Condition, Durability, ExpectedRevision};
use crate::event::coordinate::Coordinate;
use crate::event::draft::{EventDraft, Extras, describe_event};
use crate::event::id::{CorrelationId, EventId};
use crate::event::kind::EventKind;
use crate::event::payload::{Payload, encoded};
use crate::event::position::Position;
use crate::event::query::Query;
use crate::event::timestamp::Timestamp;

/// What a single append says of its event, and the terms under which it is accepted.
///
/// ```
/// use quipu::AppendOptions;
///
/// let options = AppendOptions::new()
///     .expect_no_stream()
///     .idempotency_key("checkout-17");
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
pub struct AppendOptions {
    extras: Extras,
    expected: ExpectedRevision,
    terms: Terms,
}

impl AppendOptions {
    /// Begins options that ask for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts only if the entity's stream is as expected.
    #[must_use]
    pub fn expect_revision(mut self, expected: impl Into<ExpectedRevision>) -> Self {
        self.expected = expected.into();
        self
    }

    /// Accepts only if the entity has no events.
    #[must_use]
    pub fn expect_no_stream(self) -> Self {
        self.expect_revision(ExpectedRevision::NoStream)
    }

    /// Accepts only if the entity has events.
    #[must_use]
    pub fn expect_stream(self) -> Self {
        self.expect_revision(ExpectedRevision::StreamExists)
    }

    set_terms!();

    describe_event!();

    /// Joins the options with their event to a batch of one.
    pub(crate) fn into_batch(
        self,
        coordinate: &Coordinate,
        kind: EventKind,
        payload: &(impl Payload + ?Sized),
    ) -> Batch {
        let expectation = (self.expected != ExpectedRevision::Any)
            .then(|| (coordinate.shared_entity().clone(), self.expected));
        let event =
            EventDraft::with_extras(coordinate.clone(), kind, encoded(payload), self.extras);
        Batch::single(event, expectation, self.terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::batch::{BatchLimits, PreparedBatch};

    const KIND: EventKind = EventKind::literal("order.placed");

    fn prepared(options: AppendOptions) -> PreparedBatch {
        let coordinate = Coordinate::new("order:1", "shop").unwrap();
        let limits = BatchLimits {
            payload_bytes: 100,
            events: 1,
            bytes: 1000,
        };
        options
            .into_batch(&coordinate, KIND, &7)
            .prepare(&limits)
            .unwrap()
    }

    #[test]
    fn an_append_is_a_batch_of_one() {
        let batch = prepared(AppendOptions::new());
        assert_eq!(batch.events.len(), 1);
        assert_eq!(batch.events[0].payload, [7]);
        assert!(batch.expectations.is_empty() && batch.conditions.is_empty());
    }

    #[test]
    fn an_expectation_is_of_the_own_entity() {
        for (options, expected) in [
            (
                AppendOptions::new().expect_no_stream(),
                ExpectedRevision::NoStream,
            ),
            (
                AppendOptions::new().expect_stream(),
                ExpectedRevision::StreamExists,
            ),
            (
                AppendOptions::new().expect_revision(3),
                ExpectedRevision::Exactly(3.into()),
            ),
            (
                AppendOptions::new().expect_revision(0),
                ExpectedRevision::NoStream,
            ),
        ] {
            let batch = prepared(options);
            assert_eq!(&*batch.expectations[0].entity, "order:1");
            assert_eq!(batch.expectations[0].expected, expected);
        }
    }

    #[test]
    fn all_that_is_said_reaches_the_batch() {
        let id = EventId::from_bytes([1; 16]);
        let batch = prepared(
            AppendOptions::new()
                .tag("a")
                .event_id(id)
                .unless_any(Query::all(), 4)
                .idempotency_key("k")
                .durability(Durability::Buffered),
        );
        assert_eq!(batch.events[0].id, Some(id));
        assert_eq!(*batch.events[0].tags[0], *"a");
        assert_eq!(
            batch.conditions,
            [Condition::UnlessAny(Query::all(), 4.into())]
        );
        assert!(batch.key.is_some());
        assert_eq!(batch.durability, Some(Durability::Buffered));
    }
}
