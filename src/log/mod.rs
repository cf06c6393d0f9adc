//! Where the bytes live: segments, the tail that grows, and how a damaged or cut tail is judged.

pub(crate) mod active;
pub(crate) mod apply;
pub(crate) mod event;
pub(crate) mod files;
pub(crate) mod hashes;
pub(crate) mod lengths;
pub(crate) mod look;
#[cfg(test)]
pub(crate) mod merged;
pub(crate) mod output;
pub(crate) mod plan;
pub(crate) mod proof;
pub(crate) mod rewrite;
pub(crate) mod scan;
pub(crate) mod seal;
pub(crate) mod segment;

#[cfg(test)]
pub(crate) mod stubbing;
