//! Any of several regions.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::Result;
use crate::event::id::CorrelationId;
use crate::event::name;
use crate::event::region::{Facets, Region};

/// Which events are meant: those of any of its regions.
///
/// ```
/// use quipu::{Query, Region};
///
/// let query = Query::kind("order.placed").or(Region::entity("stock:7").scope("shop"));
/// assert_ne!(query, Query::all());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    regions: Vec<Region>,
}

impl Query {
    /// Means all events.
    #[must_use]
    pub fn all() -> Self {
        Region::all().into()
    }

    /// Means the events of one entity.
    #[must_use]
    pub fn entity(name: impl AsRef<str>) -> Self {
        Region::entity(name).into()
    }

    /// Means the events of all entities whose names begin with `prefix`.
    #[must_use]
    pub fn entity_prefix(prefix: impl AsRef<str>) -> Self {
        Region::entity_prefix(prefix).into()
    }

    /// Means the events of one scope.
    #[must_use]
    pub fn scope(name: impl AsRef<str>) -> Self {
        Region::all().scope(name).into()
    }

    /// Means the events of one kind.
    #[must_use]
    pub fn kind(kind: impl AsRef<str>) -> Self {
        Region::all().kind(kind).into()
    }

    /// Means the events whose kinds begin with `prefix`, as in `order.`.
    #[must_use]
    pub fn kind_prefix(prefix: impl AsRef<str>) -> Self {
        Region::all().kind_prefix(prefix).into()
    }

    /// Means the events with a tag.
    #[must_use]
    pub fn tag(tag: impl AsRef<str>) -> Self {
        Region::all().tag(tag).into()
    }

    /// Means the events of one story.
    #[must_use]
    pub fn correlation(id: impl Into<CorrelationId>) -> Self {
        Region::all().correlation(id).into()
    }

    /// Widens the query by one region.
    #[must_use]
    pub fn or(mut self, region: impl Into<Region>) -> Self {
        self.regions.push(region.into());
        self
    }

    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_count()?;
        self.regions.iter().try_for_each(Region::check)
    }

    /// Refuses, beyond `check`, what a condition must not depend on.
    pub(crate) fn check_condition(&self) -> Result<()> {
        self.check_count()?;
        self.regions.iter().try_for_each(Region::check_condition)
    }

    fn check_count(&self) -> Result<()> {
        name::check_count(
            "regions in a query",
            self.regions.len(),
            name::MAX_QUERY_REGIONS,
        )
    }

    pub(crate) fn matches<'a, T>(&self, facets: &Facets<'a, T>) -> bool
    where
        T: Iterator<Item = &'a str> + Clone,
    {
        self.regions.iter().any(|region| region.matches(facets))
    }
}

impl From<Region> for Query {
    fn from(region: Region) -> Self {
        Self {
            regions: vec![region],
        }
    }
}
