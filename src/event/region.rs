//! The one predicate over events: entity, scope, kinds, tags, correlation and ranges.
//!
//! Builders take anything; `check` refuses what could never be asked.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

use crate::error::{Result, StoreError};
use crate::event::id::{CorrelationId, EventId};
use crate::event::name;
use crate::event::position::{Position, Revision};
use crate::event::timestamp::Timestamp;

/// The range that holds every number, both ends included.
pub(crate) const EVERYTHING: (u64, u64) = (0, u64::MAX);
/// A range that holds nothing.
const NOTHING: (u64, u64) = (1, 0);

/// A name asked for as a whole or by its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Match {
    Exact(Arc<str>),
    Prefix(Arc<str>),
}

impl Match {
    pub(crate) fn fits(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => name == wanted.as_bytes(),
            Self::Prefix(prefix) => name.starts_with(prefix.as_bytes()),
        }
    }

    fn check(&self, what: &str, max_bytes: usize) -> Result<()> {
        match self {
            Self::Exact(wanted) => name::check_name(what, wanted, max_bytes),
            Self::Prefix(prefix) => name::check_prefix(what, prefix, max_bytes),
        }
    }
}

/// Which events are meant: those that fit every term given; a region without terms means all.
///
/// ```
/// use quipu::Region;
///
/// let paid_this_week = Region::all()
///     .scope("shop")
///     .kind("order.paid")
///     .tag("customer:42");
/// assert_ne!(paid_this_week, Region::all());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    entity: Option<Match>,
    scope: Option<Match>,
    kinds: Vec<Match>,
    tags: Vec<Arc<str>>,
    correlation: Option<CorrelationId>,
    cause: Option<EventId>,
    positions: (u64, u64),
    revisions: (u64, u64),
    recorded: (u64, u64),
}

impl Default for Region {
    fn default() -> Self {
        Self {
            entity: None,
            scope: None,
            kinds: Vec::new(),
            tags: Vec::new(),
            correlation: None,
            cause: None,
            positions: EVERYTHING,
            revisions: EVERYTHING,
            recorded: EVERYTHING,
        }
    }
}

impl Region {
    /// Means all events.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Means the events of one entity.
    #[must_use]
    pub fn entity(name: impl AsRef<str>) -> Self {
        Self {
            entity: Some(Match::Exact(name.as_ref().into())),
            ..Self::default()
        }
    }

    /// Means the events of all entities whose names begin with `prefix`.
    #[must_use]
    pub fn entity_prefix(prefix: impl AsRef<str>) -> Self {
        Self {
            entity: Some(Match::Prefix(prefix.as_ref().into())),
            ..Self::default()
        }
    }

    /// Narrows to one scope; the last of several calls counts.
    #[must_use]
    pub fn scope(mut self, name: impl AsRef<str>) -> Self {
        self.scope = Some(Match::Exact(name.as_ref().into()));
        self
    }

    /// Narrows to the scopes whose names begin with `prefix`; the last of several calls counts.
    #[must_use]
    pub fn scope_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.scope = Some(Match::Prefix(prefix.as_ref().into()));
        self
    }

    /// Narrows to one kind; several kinds and kind prefixes mean any of them.
    #[must_use]
    pub fn kind(mut self, kind: impl AsRef<str>) -> Self {
        self.kinds.push(Match::Exact(kind.as_ref().into()));
        self
    }

    /// Narrows to the kinds that begin with `prefix`, as in `order.`; several mean any of them.
    #[must_use]
    pub fn kind_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.kinds.push(Match::Prefix(prefix.as_ref().into()));
        self
    }

    /// Narrows to events with this tag; several tags mean all of them.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<str>) -> Self {
        let tag = tag.as_ref();
        if !self.tags.iter().any(|known| &**known == tag) {
            self.tags.push(tag.into());
        }
        self
    }

    /// Narrows to the events of one story.
    #[must_use]
    pub fn correlation(mut self, id: impl Into<CorrelationId>) -> Self {
        self.correlation = Some(id.into());
        self
    }

    /// Narrows to the events that name this one as a parent: its direct effects.
    #[must_use]
    pub fn caused_by(mut self, id: impl Into<EventId>) -> Self {
        self.cause = Some(id.into());
        self
    }

    /// Narrows to a range of positions, of numbers or of [`Position`]s.
    #[must_use]
    pub fn positions<P: Into<Position> + Copy>(mut self, range: impl RangeBounds<P>) -> Self {
        self.positions = inclusive(&range, |position| (*position).into().get());
        self
    }

    /// Narrows to a range of revisions, of numbers or of [`Revision`]s.
    #[must_use]
    pub fn revisions<R: Into<Revision> + Copy>(mut self, range: impl RangeBounds<R>) -> Self {
        self.revisions = inclusive(&range, |revision| (*revision).into().get());
        self
    }

    /// Narrows to a range of recorded times.
    #[must_use]
    pub fn recorded(mut self, range: impl RangeBounds<Timestamp>) -> Self {
        self.recorded = inclusive(&range, |moment| moment.as_nanos());
        self
    }

    pub(crate) fn narrow(&mut self, from_revision: u64, since: u64) {
        self.revisions.0 = self.revisions.0.max(from_revision);
        self.recorded.0 = self.recorded.0.max(since);
    }

    pub(crate) fn with_entity(mut self, entity: Match) -> Self {
        self.entity = Some(entity);
        self
    }

    pub(crate) fn with_scope(mut self, scope: Match) -> Self {
        self.scope = Some(scope);
        self
    }

    pub(crate) fn with_kinds(mut self, any_of: Vec<Match>) -> Self {
        self.kinds = any_of;
        self
    }

    pub(crate) fn entity_match(&self) -> Option<&Match> {
        self.entity.as_ref()
    }

    pub(crate) fn scope_match(&self) -> Option<&Match> {
        self.scope.as_ref()
    }

    pub(crate) fn kinds(&self) -> &[Match] {
        &self.kinds
    }

    pub(crate) fn tags(&self) -> &[Arc<str>] {
        &self.tags
    }

    pub(crate) fn correlation_id(&self) -> Option<CorrelationId> {
        self.correlation
    }

    pub(crate) fn cause(&self) -> Option<EventId> {
        self.cause
    }

    /// Returns the range of positions, both ends included; it is empty if the first is the greater.
    pub(crate) fn position_range(&self) -> (u64, u64) {
        self.positions
    }

    /// Returns the range of revisions, both ends included; it is empty if the first is the greater.
    pub(crate) fn revision_range(&self) -> (u64, u64) {
        self.revisions
    }

    /// Returns the range of recorded times, both ends included; it is empty if the first is the greater.
    pub(crate) fn recorded_range(&self) -> (u64, u64) {
        self.recorded
    }

    /// Refuses names that no event can have and more terms than allowed.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(entity) = &self.entity {
            entity.check("entity", name::MAX_ENTITY_BYTES)?;
        }
        if let Some(scope) = &self.scope {
            scope.check("scope", name::MAX_SCOPE_BYTES)?;
        }
        name::check_count(
            "kinds in a region",
            self.kinds.len(),
            name::MAX_REGION_KINDS,
        )?;
        for kind in &self.kinds {
            match kind {
                Match::Exact(kind) => name::check_kind(kind)?,
                Match::Prefix(prefix) => {
                    name::check_prefix("kind prefix", prefix, name::MAX_KIND_BYTES)?;
                }
            }
        }
        name::check_count("tags in a region", self.tags.len(), name::MAX_TAGS)?;
        self.tags.iter().try_for_each(|tag| name::check_tag(tag))
    }

    /// Refuses, beyond `check`, what a condition must not depend on.
    pub(crate) fn check_condition(&self) -> Result<()> {
        self.check()?;
        if [self.positions, self.revisions, self.recorded] != [EVERYTHING; 3] {
            return Err(StoreError::argument(
                "a condition must not name positions, revisions or recorded times; leave the range out",
            ));
        }
        Ok(())
    }

    /// Tells whether an event with these facets is meant, but for its parents; cheap terms are looked at first.
    pub(crate) fn matches<'a, T>(&self, facets: &Facets<'a, T>) -> bool
    where
        T: Iterator<Item = &'a str> + Clone,
    {
        holds(self.positions, facets.position)
            && holds(self.revisions, facets.revision)
            && holds(self.recorded, facets.recorded_at.as_nanos())
            && self.correlation.is_none_or(|id| id == facets.correlation)
            && self
                .entity
                .as_ref()
                .is_none_or(|entity| entity.fits(facets.entity))
            && self
                .scope
                .as_ref()
                .is_none_or(|scope| scope.fits(facets.scope))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.fits(facets.kind)))
            && self
                .tags
                .iter()
                .all(|tag| facets.tags.clone().any(|own| own == &**tag))
    }
}

/// What a region can be asked about an event.
#[derive(Debug, Clone)]
pub(crate) struct Facets<'a, T> {
    /// Names are compared as bytes, of which no one needs to know again that they are UTF-8.
    pub(crate) entity: &'a [u8],
    pub(crate) scope: &'a [u8],
    pub(crate) kind: &'a [u8],
    pub(crate) tags: T,
    pub(crate) correlation: CorrelationId,
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) recorded_at: Timestamp,
}

fn holds((first, last): (u64, u64), number: u64) -> bool {
    first <= number && number <= last
}

/// Turns any range into one with both ends included.
fn inclusive<T>(range: &impl RangeBounds<T>, number: impl Fn(&T) -> u64) -> (u64, u64) {
    let first = match range.start_bound() {
        Bound::Included(first) => Some(number(first)),
        Bound::Excluded(before) => number(before).checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let last = match range.end_bound() {
        Bound::Included(last) => Some(number(last)),
        Bound::Excluded(after) => number(after).checked_sub(1),
        Bound::Unbounded => Some(u64::MAX),
    };
    first
        .zip(last)
        .filter(|(first, last)| first <= last)
        .unwrap_or(NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::event::id::EventId;

    const STORY: CorrelationId = CorrelationId::from_bytes([7; 16]);

    /// Asks about an `order.placed` of `order:1` in `shop/eu`, tagged `a` and `b`, at position 5 and revision 2.
    fn fits(region: &Region) -> bool {
        region.check().unwrap();
        region.matches(&Facets {
            entity: b"order:1",
            scope: b"shop/eu",
            kind: b"order.placed",
            tags: ["a", "b"].into_iter(),
            correlation: STORY,
            position: 5,
            revision: 2,
            recorded_at: Timestamp::from_secs(100),
        })
    }

    #[test]
    fn a_region_without_terms_means_everything() {
        assert!(fits(&Region::all()));
        assert_eq!(Region::all(), Region::default());
    }

    #[test]
    fn an_exact_name_fits_itself_and_a_prefix_what_begins_with_it() {
        for region in [
            Region::entity("order:1"),
            Region::entity_prefix("order:"),
            Region::entity_prefix("order:1"),
            Region::entity_prefix(""),
            Region::all().scope("shop/eu"),
            Region::all().scope_prefix("shop/"),
            Region::all().kind("order.placed"),
            Region::all().kind_prefix("order."),
        ] {
            assert!(fits(&region), "{region:?}");
        }
        for region in [
            Region::entity("order:"),
            Region::entity("order:11"),
            Region::entity_prefix("order:12"),
            Region::all().scope("shop"),
            Region::all().scope_prefix("eu"),
            Region::all().kind("order"),
            Region::all().kind_prefix("placed"),
        ] {
            assert!(!fits(&region), "{region:?}");
        }
    }

    #[test]
    fn kinds_mean_any_and_tags_mean_all() {
        assert!(fits(&Region::all().kind("order.paid").kind("order.placed")));
        assert!(fits(
            &Region::all().kind("stock.taken").kind_prefix("order.")
        ));
        assert!(!fits(
            &Region::all().kind("order.paid").kind_prefix("stock.")
        ));
        assert!(fits(&Region::all().tag("b").tag("a")));
        assert!(!fits(&Region::all().tag("a").tag("c")));
    }

    #[test]
    fn terms_of_different_axes_must_all_hold() {
        let region = Region::entity("order:1")
            .scope("shop/eu")
            .kind("order.placed")
            .tag("a");
        assert!(fits(&region));
        assert!(!fits(&region.scope("shop/us")));
    }

    #[test]
    fn correlation_is_the_story_or_its_first_event() {
        assert!(fits(&Region::all().correlation(STORY)));
        assert!(fits(
            &Region::all().correlation(EventId::from_bytes([7; 16]))
        ));
        assert!(!fits(
            &Region::all().correlation(CorrelationId::from_bytes([8; 16]))
        ));
    }

    #[test]
    fn ranges_take_every_kind_of_bound() {
        for region in [
            Region::all().positions::<u64>(..),
            Region::all().positions(5..6),
            Region::all().positions(5..=5),
            Region::all().positions((Bound::Excluded(4), Bound::Unbounded)),
            Region::all().revisions(..=2),
            Region::all().positions(Position::new(5)..),
            Region::all().revisions(Revision::new(2)..=Revision::new(2)),
            Region::all().recorded(Timestamp::from_secs(100)..),
        ] {
            assert!(fits(&region), "{region:?}");
        }
        for region in [
            Region::all().positions(6..),
            Region::all().positions(..5),
            Region::all().positions(5..5),
            Region::all().revisions(3..),
            Region::all().revisions(..0),
            Region::all().revisions((Bound::Excluded(u64::MAX), Bound::Unbounded)),
            Region::all().recorded(..Timestamp::from_secs(100)),
        ] {
            assert!(!fits(&region), "{region:?}");
        }
    }

    #[test]
    fn an_empty_range_reads_as_empty() {
        #[expect(clippy::reversed_empty_ranges, reason = "callers may write one")]
        let region = Region::all().positions(9..3);
        let (first, last) = region.position_range();
        assert!(first > last);
    }

    #[test]
    fn names_are_checked_late_and_as_argument() {
        for region in [
            Region::entity(""),
            Region::entity("e".repeat(513)),
            Region::entity_prefix("e".repeat(513)),
            Region::all().scope("a\nb"),
            Region::all().scope_prefix("s".repeat(513)),
            Region::all().kind("a..b"),
            Region::all().kind_prefix("k".repeat(129)),
            Region::all().tag("t".repeat(257)),
        ] {
            assert_eq!(region.check().unwrap_err().kind(), StoreErrorKind::Argument);
        }
    }

    #[test]
    fn thirty_two_kinds_and_tags_pass_and_one_more_does_not() {
        let kinds = |count: usize| {
            (0..count).fold(Region::all(), |region, at| region.kind(format!("k{at}")))
        };
        let tags = |count: usize| {
            (0..count).fold(Region::all(), |region, at| region.tag(format!("t{at}")))
        };
        assert!(kinds(32).check().is_ok() && tags(32).check().is_ok());
        assert!(kinds(33).check().is_err() && tags(33).check().is_err());
        assert!(
            tags(32).tag("t0").check().is_ok(),
            "a tag given twice counts once"
        );
    }

    #[test]
    fn a_condition_refuses_ranges() {
        assert!(Region::entity("order:1").tag("a").check_condition().is_ok());
        assert!(Region::all().positions::<u64>(..).check_condition().is_ok());
        for region in [
            Region::all().positions(1..),
            Region::all().revisions(..9),
            Region::all().recorded(Timestamp::from_secs(1)..),
            Region::entity(""),
        ] {
            let error = region.check_condition().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Argument);
        }
    }
}
