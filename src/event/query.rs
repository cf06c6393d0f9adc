//! Any of several regions.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::Result;
use crate::event::id::CorrelationId;
use crate::event::name;
use crate::event::region::Region;

/// Which events are meant: those of any of its regions.
///
/// A query is built, or read from a text ([`Query::parse_at`] has the grammar), and prints as one that reads back.
/// Times that are relative, as in `since:2h`, become absolute when the text is read.
///
/// ```
/// use quipu::{Query, Region};
///
/// let recent = "kind:order.* since:2h".parse::<Query>()?;
/// assert_eq!(recent.to_string().parse::<Query>()?, recent);
///
/// let shop = "entity:order:17 or scope:shop tag:urgent".parse::<Query>()?;
/// let built = Query::entity("order:17").or(Region::all().scope("shop").tag("urgent"));
/// assert_eq!(shop, built);
/// # Ok::<(), quipu::StoreError>(())
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

    /// Narrows every region to revisions and recorded times from these on.
    pub(crate) fn narrowed(mut self, from_revision: u64, since: u64) -> Self {
        self.regions
            .iter_mut()
            .for_each(|region| region.narrow(from_revision, since));
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

    pub(crate) fn check_count(&self) -> Result<()> {
        name::check_count(
            "regions in a query",
            self.regions.len(),
            name::MAX_QUERY_REGIONS,
        )
    }
}

impl From<Region> for Query {
    fn from(region: Region) -> Self {
        Self {
            regions: vec![region],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_forms_equal_their_regions() {
        let story = CorrelationId::from_bytes([1; 16]);
        for (query, region) in [
            (Query::all(), Region::all()),
            (Query::entity("a"), Region::entity("a")),
            (Query::entity_prefix("a"), Region::entity_prefix("a")),
            (Query::scope("a"), Region::all().scope("a")),
            (Query::kind("a"), Region::all().kind("a")),
            (Query::kind_prefix("a"), Region::all().kind_prefix("a")),
            (Query::tag("a"), Region::all().tag("a")),
            (Query::correlation(story), Region::all().correlation(story)),
        ] {
            assert_eq!(query, Query::from(region));
        }
    }

    #[test]
    fn sixty_four_regions_pass_and_one_more_does_not() {
        let full = (1..64).fold(Query::all(), |query, _| query.or(Region::all()));
        assert_eq!(full.regions().len(), 64);
        assert!(full.check().is_ok() && full.check_condition().is_ok());
        let over = full.or(Region::all());
        assert!(over.check().is_err() && over.check_condition().is_err());
    }

    #[test]
    fn every_region_is_checked() {
        assert!(Query::all().or(Region::entity("")).check().is_err());
        let ranged = Query::all().or(Region::all().positions(1..));
        assert!(ranged.check().is_ok());
        assert!(ranged.check_condition().is_err());
    }
}
