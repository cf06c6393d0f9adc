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
