//! What must hold for an append: expected revisions, conditions, and how durable its answer is.

use crate::event::position::{Position, Revision};
use crate::event::query::Query;

/// What the stream of an entity must look like for an append to be accepted.
///
/// ```
/// use quipu::{ExpectedRevision, Revision};
///
/// assert_eq!(ExpectedRevision::from(7), ExpectedRevision::Exactly(Revision::new(7)));
/// assert_eq!(ExpectedRevision::from(0), ExpectedRevision::NoStream);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExpectedRevision {
    /// Anything goes.
    #[default]
    Any,
    /// The entity has no events.
    NoStream,
    /// The entity has at least one event.
    StreamExists,
    /// The entity's last event has this revision.
    Exactly(Revision),
}

impl From<u64> for ExpectedRevision {
    /// Takes a revision as read: 0 means that there is no stream.
    fn from(revision: u64) -> Self {
        Revision::new(revision).into()
    }
}

impl From<Revision> for ExpectedRevision {
    /// Takes a revision as read: 0 means that there is no stream.
    fn from(revision: Revision) -> Self {
        if revision == Revision::ZERO {
            Self::NoStream
        } else {
            Self::Exactly(revision)
        }
    }
}

impl ExpectedRevision {
    /// Tells whether a stream whose last revision is `actual` (0 if there is none) is as expected.
    pub(crate) fn holds(self, actual: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == Revision::ZERO,
            Self::StreamExists => actual != Revision::ZERO,
            Self::Exactly(revision) => actual == revision,
        }
    }
}

/// A statement about the events after a position, true or not when the writer takes its turn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    UnlessAny(Query, Position),
    OnlyIf(Query, Position),
}

impl Condition {
    pub(crate) fn query(&self) -> &Query {
        match self {
            Self::UnlessAny(query, _) | Self::OnlyIf(query, _) => query,
        }
    }

    pub(crate) fn after(&self) -> Position {
        match self {
            Self::UnlessAny(_, after) | Self::OnlyIf(_, after) => *after,
        }
    }
}

/// When an append is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Once the events are on stable storage.
    #[default]
    Sync,
    /// Once the operating system has the events; they are synced in the background.
    Buffered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_zero_expects_no_stream() {
        assert_eq!(ExpectedRevision::from(0), ExpectedRevision::NoStream);
        assert_eq!(
            ExpectedRevision::from(1),
            ExpectedRevision::Exactly(Revision::new(1))
        );
    }

    #[test]
    fn an_expectation_holds_for_the_revisions_it_names() {
        let held = |expected: ExpectedRevision| [0, 1, 2].map(|r| expected.holds(r.into()));
        assert_eq!(held(ExpectedRevision::Any), [true, true, true]);
        assert_eq!(held(ExpectedRevision::NoStream), [true, false, false]);
        assert_eq!(held(ExpectedRevision::StreamExists), [false, true, true]);
        assert_eq!(held(1.into()), [false, true, false]);
    }
}
