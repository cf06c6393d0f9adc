//! The one predicate over events: entity, scope, kinds, tags, correlation and ranges.
//!
//! Builders take anything; `check` refuses what could never be asked.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

use crate::error::{Result, StoreError};
use crate::event::id::CorrelationId;
use crate::event::name;
use crate::event::timestamp::Timestamp;

/// The range that holds every number, both ends included.
const EVERYTHING: (u64, u64) = (0, u64::MAX);
/// A range that holds nothing.
const NOTHING: (u64, u64) = (1, 0);

/// A name asked for as a whole or by its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Match {
    Exact(Arc<str>),
    Prefix(Arc<str>),
}

impl Match {
    pub(crate) fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(wanted) => name == &**wanted,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
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

    /// Narrows to a range of positions.
    #[must_use]
    pub fn positions(mut self, range: impl RangeBounds<u64>) -> Self {
        self.positions = inclusive(&range, |position| *position);
        self
    }

    /// Narrows to a range of revisions.
    #[must_use]
    pub fn revisions(mut self, range: impl RangeBounds<u64>) -> Self {
        self.revisions = inclusive(&range, |revision| *revision);
        self
    }

    /// Narrows to a range of recorded times.
    #[must_use]
    pub fn recorded(mut self, range: impl RangeBounds<Timestamp>) -> Self {
        self.recorded = inclusive(&range, |moment| moment.as_nanos());
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

    /// Tells whether an event with these facets is meant; cheap terms are looked at first.
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
    pub(crate) entity: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) kind: &'a str,
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
