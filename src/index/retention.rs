//! Retention: which events' content may go, as ready rules and as a trait for rules of the caller's own.
//!
//! A rule is asked about one event at a time, on threads that plan; it says what may go, never what
//! must stay, and the store adds its own terms: sealed segments only, and never a tombstone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::error::Result;
use crate::event::hash::entity_digest;
use crate::event::name::MAX_QUERY_REGIONS;
use crate::event::position::Revision;
use crate::event::query::Query;
use crate::event::region::Region;
use crate::event::timestamp::Timestamp;
use crate::index::picture::Picture;
use crate::index::walk::matches_any;
use crate::log::event::EventRef;
use crate::sync::Arc;

/// The ends of how many streams are remembered while events are asked about.
const MAX_REMEMBERED_STREAMS: usize = 65_536;

/// Says of which events the content may go; [`Retention`] has ready ones.
///
/// It is asked about events in sealed segments alone, and never about a tombstone. What it sees of an event is all that was
/// appended; of the rest it may ask the [`RetentionMoment`], or a view of the store that it holds itself: no lock is held
/// meanwhile. It runs on three threads that end with the plan, and should answer the same when asked again, or the dry run says
/// something else than what is done. It must not wait for another thread that closes the store:
/// closing waits for the plan of a compaction, and so for the predicate.
///
/// ```
/// use quipu::{EventRef, Result, RetentionMoment, RetentionPredicate};
///
/// /// Large payloads, but for the newest event of each entity.
/// #[derive(Debug)]
/// struct LargeAndOld;
///
/// impl RetentionPredicate for LargeAndOld {
///     fn may_go(&self, event: &EventRef<'_>, moment: &RetentionMoment<'_>) -> Result<bool> {
///         Ok(event.payload_len() > 1_000_000 && event.revision() < moment.newest_revision(event)?)
///     }
/// }
/// ```
pub trait RetentionPredicate: fmt::Debug + Send + Sync {
    /// Whether the content of `event` may go; asked about each event once in a plan or compaction, unless
    /// [`candidates`](Self::candidates) leaves it out or it went before. Several threads ask at once, each about the events of
    /// one segment in order: an answer must not depend on what was asked before.
    ///
    /// # Errors
    /// An error ends the plan or compaction, which returns it.
    fn may_go(&self, event: &EventRef<'_>, moment: &RetentionMoment<'_>) -> Result<bool>;

    /// A query that all events that may go match, so that the others need not be read; every event unless said. One that
    /// is too narrow keeps too much, and removes nothing that was not asked about. Asked for once in a plan or compaction,
    /// which ends with `Argument` when the query is not valid.
    fn candidates(&self, _now: Timestamp) -> Query {
        Query::all()
    }

    /// Whether the terms of the predicate are valid.
    ///
    /// # Errors
    /// `Argument`, say, which the call that was given the predicate returns.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// What a predicate can ask beside the event: the time, and how the event's stream ends.
pub struct RetentionMoment<'a> {
    now: Timestamp,
    picture: Picture<'a>,
    ends: RefCell<HashMap<Box<str>, StreamEnd>>,
    most_ends: usize,
}

#[derive(Clone, Copy)]
struct StreamEnd {
    revision: u64,
    is_closed: bool,
}

impl<'a> RetentionMoment<'a> {
    /// `picture` shows what is durable: what a power cut can take back must not be a reason to remove anything.
    pub(crate) fn new(now: Timestamp, picture: Picture<'a>) -> Self {
        Self {
            now,
            picture,
            ends: RefCell::default(),
            most_ends: MAX_REMEMBERED_STREAMS,
        }
    }

    /// When the plan or compaction began, by the store's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The revision of the last event of the event's entity.
    ///
    /// # Errors
    /// `Corrupt` when that event or its index is damaged.
    pub fn newest_revision(&self, event: &EventRef<'_>) -> Result<Revision> {
        Ok(Revision::new(self.end_of(event)?.revision))
    }

    /// Whether the stream of the event's entity was ended by a tombstone.
    ///
    /// # Errors
    /// As [`RetentionMoment::newest_revision`].
    pub fn is_tombstoned(&self, event: &EventRef<'_>) -> Result<bool> {
        Ok(self.end_of(event)?.is_closed)
    }

    fn end_of(&self, event: &EventRef<'_>) -> Result<StreamEnd> {
        let entity = event.entity();
        if let Some(end) = self.ends.borrow().get(entity) {
            return Ok(*end);
        }
        let head = self.picture.head_of(entity, &entity_digest(entity), 0)?;
        let end = StreamEnd {
            revision: head.map_or(event.revision().get(), |head| head.revision),
            is_closed: head.is_some_and(|head| head.is_closed),
        };
        let mut ends = self.ends.borrow_mut();
        if ends.len() >= self.most_ends {
            // They are looked up again: the picture is one moment's, so that the answer is the same.
            ends.clear();
        }
        ends.insert(entity.into(), end);
        Ok(end)
    }
}

impl fmt::Debug for RetentionMoment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetentionMoment")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// A ready rule about which events' content may go; rules compose with `and`, `or` and `not`, also with predicates of your own.
///
/// What goes is no longer seen by queries, and so by no condition that is one: an append `unless_any` event of an account
/// exists passes again once retention took that event. Ids, revisions and idempotency keys of removed events still count:
/// rest rules of uniqueness on those, or keep the events that such a condition looks for.
///
/// ```
/// use quipu::{Query, Retention};
/// use std::time::Duration;
///
/// let days = |n: u64| Duration::from_secs(n * 86_400);
/// let logs = Retention::kinds(["page.viewed"]).and(Retention::older_than(days(30)));
/// let drafts = Retention::query(Query::scope("drafts")).and(Retention::all_but_newest(1));
/// let rule = logs.or(drafts).or(Retention::tombstoned());
/// # let _ = rule;
/// ```
#[derive(Clone, Debug)]
pub struct Retention(Rule);

#[derive(Clone, Debug)]
enum Rule {
    OlderThan(Duration),
    RecordedBefore(Timestamp),
    AllButNewest(u64),
    Tombstoned,
    Matching(Query),
    Both(Part, Part),
    Either(Part, Part),
    Not(Part),
}

type Part = Arc<dyn RetentionPredicate>;

impl Retention {
    /// Events recorded longer ago than `age`, as of when the plan or compaction begins.
    ///
    /// It compares the times at which the store recorded events, which only grow, with its clock at that moment. After a
    /// clock went back, events look younger than they are and stay longer; one that is ahead makes all of them older, and
    /// more goes than should. Where clocks are not to be trusted, name the time with [`Retention::recorded_before`].
    #[must_use]
    pub fn older_than(age: Duration) -> Self {
        Self(Rule::OlderThan(age))
    }

    /// Events recorded before a time, whatever the clock says.
    #[must_use]
    pub fn recorded_before(time: Timestamp) -> Self {
        Self(Rule::RecordedBefore(time))
    }

    /// All but the newest `count` events of each entity, a tombstone counted.
    ///
    /// The newest are those of the whole stream, by revision, whatever else a composition says: with
    /// `and(Retention::kinds(..))` an event of those kinds stays if it is among the newest of any kind. Events that were
    /// removed before count, too. With 0 nothing of a stream stays but its tombstone.
    #[must_use]
    pub fn all_but_newest(count: u64) -> Self {
        Self(Rule::AllButNewest(count))
    }

    /// The events of entities whose streams were ended by [`Store::tombstone`](crate::Store::tombstone).
    #[must_use]
    pub fn tombstoned() -> Self {
        Self(Rule::Tombstoned)
    }

    /// Events of any of these kinds, each a whole name: `order.*` would be the kind of that name.
    ///
    /// For all that begin alike, and for texts such as `kind:order.*`, there is [`Retention::query`].
    ///
    /// ```
    /// use quipu::{Query, Retention};
    ///
    /// let rule = Retention::query(Query::kind_prefix("page.")).and(Retention::kinds(["page.bought"]).not());
    /// # let _ = rule;
    /// ```
    #[must_use]
    pub fn kinds(kinds: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let region = kinds.into_iter().fold(Region::all(), Region::kind);
        // A region without kinds would mean all of them.
        match region.kinds().is_empty() {
            true => Self::query(Region::all().positions(..0)),
            false => Self::query(region),
        }
    }

    /// Events that match a query.
    #[must_use]
    pub fn query(query: impl Into<Query>) -> Self {
        Self(Rule::Matching(query.into()))
    }

    /// What may go by this rule and by the other.
    #[must_use]
    pub fn and(self, other: impl RetentionPredicate + 'static) -> Self {
        Self(Rule::Both(Arc::new(self), Arc::new(other)))
    }

    /// What may go by this rule or by the other.
    #[must_use]
    pub fn or(self, other: impl RetentionPredicate + 'static) -> Self {
        Self(Rule::Either(Arc::new(self), Arc::new(other)))
    }

    /// What may not go by this rule: everything else may, so that it seldom stands alone.
    ///
    /// ```
    /// use quipu::{Query, Retention};
    ///
    /// let audited = Retention::query(Query::tag("audited"));
    /// let rule = Retention::kinds(["page.viewed"]).and(audited.not());
    /// # let _ = rule;
    /// ```
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "it reads like `and` and `or`, which no operator does"
    )]
    pub fn not(self) -> Self {
        Self(Rule::Not(Arc::new(self)))
    }
}

impl RetentionPredicate for Retention {
    fn may_go(&self, event: &EventRef<'_>, moment: &RetentionMoment<'_>) -> Result<bool> {
        Ok(match &self.0 {
            Rule::OlderThan(age) => event.recorded_at() < before(moment.now, *age),
            Rule::RecordedBefore(time) => event.recorded_at() < *time,
            Rule::AllButNewest(count) => {
                let newest = moment.newest_revision(event)?.get();
                newest.saturating_sub(event.revision().get()) >= *count
            }
            Rule::Tombstoned => moment.is_tombstoned(event)?,
            Rule::Matching(query) => matches_any(query, event),
            Rule::Both(a, b) => a.may_go(event, moment)? && b.may_go(event, moment)?,
            Rule::Either(a, b) => a.may_go(event, moment)? || b.may_go(event, moment)?,
            Rule::Not(a) => !a.may_go(event, moment)?,
        })
    }

    fn candidates(&self, now: Timestamp) -> Query {
        match &self.0 {
            Rule::OlderThan(age) => Region::all().recorded(..before(now, *age)).into(),
            Rule::RecordedBefore(time) => Region::all().recorded(..*time).into(),
            Rule::Matching(query) => query.clone(),
            Rule::Both(a, b) => match a.candidates(now) {
                all if all == Query::all() => b.candidates(now),
                some => some,
            },
            Rule::Either(a, b) => {
                let (mut either, other) = (a.candidates(now), b.candidates(now));
                for region in other.regions() {
                    either = either.or(region.clone());
                }
                match either.regions().len() {
                    0..=MAX_QUERY_REGIONS => either,
                    _ => Query::all(),
                }
            }
            Rule::AllButNewest(_) | Rule::Tombstoned | Rule::Not(_) => Query::all(),
        }
    }

    fn check(&self) -> Result<()> {
        match &self.0 {
            Rule::Matching(query) => query.check(),
            Rule::Both(a, b) | Rule::Either(a, b) => a.check().and_then(|()| b.check()),
            Rule::Not(a) => a.check(),
            _ => Ok(()),
        }
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_nanos(now.as_nanos().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::emptied_tests::view;

    /// Two entities take turns up to revision 20 each; of some events, the last of one stream among them, stubs are left.
    #[test]
    fn what_must_stay_stays_however_few_streams_are_remembered() {
        let view = view();
        let rule = Retention::all_but_newest(5);
        for most_ends in [1, 2, MAX_REMEMBERED_STREAMS] {
            let moment = RetentionMoment {
                most_ends,
                ..RetentionMoment::new(Timestamp::default(), view.picture())
            };
            let (mut went, mut stayed) = (0, 0);
            for event in view.query(Query::all()).unwrap() {
                let event = event.unwrap();
                let goes = rule.may_go(&event, &moment).unwrap();
                assert_eq!(goes, event.revision().get() <= 15, "{event:?}");
                assert!(moment.ends.borrow().len() <= most_ends);
                match goes {
                    true => went += 1,
                    false => stayed += 1,
                }
            }
            assert_eq!((went, stayed), (20, 7));
        }
    }
}
