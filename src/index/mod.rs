//! Which events: searchable footers of sealed segments and the index of the newest events.

pub(crate) mod candidates;
pub(crate) mod clues;
pub(crate) mod count;
pub(crate) mod explain;
pub(crate) mod going;
pub(crate) mod layer;
pub(crate) mod layers;
pub(crate) mod live;
pub(crate) mod merged_size;
pub(crate) mod names;
pub(crate) mod picture;
pub(crate) mod postings;
pub(crate) mod read_options;
pub(crate) mod retention;
pub(crate) mod row_list;
pub(crate) mod run;
pub(crate) mod run_build;
pub(crate) mod sidx;
pub(crate) mod sidx_names;
pub(crate) mod sidx_pairs;
mod sorted;
pub(crate) mod view;
pub(crate) mod walk;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
pub(crate) mod emptied_tests;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
