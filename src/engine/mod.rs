//! Who does the work: opening, the queue, the writer's turn, the commit, upkeep and closing.

pub(crate) mod answers;
pub(crate) mod bell;
pub(crate) mod chain;
pub(crate) mod close;
pub(crate) mod commit;
pub(crate) mod compact;
pub(crate) mod compact_config;
pub(crate) mod compact_plan;
mod compact_size;
pub(crate) mod decide;
pub(crate) mod destination;
pub(crate) mod exchange;
#[cfg(feature = "metrics")]
pub(crate) mod facade;
pub(crate) mod follow;
pub(crate) mod front;
pub(crate) mod group;
pub(crate) mod heads;
pub(crate) mod load;
pub(crate) mod meters;
pub(crate) mod open;
pub(crate) mod original;
pub(crate) mod restore;
pub(crate) mod rotate;
pub(crate) mod runs;
pub(crate) mod shared;
pub(crate) mod snapshot;
pub(crate) mod submit;
mod survey;
mod threads;
pub(crate) mod ticket;
pub(crate) mod tombstone;
pub(crate) mod transfer;
pub(crate) mod turn;
pub(crate) mod upkeep;

#[cfg(test)]
mod dying;
#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod exchange_tests;
#[cfg(test)]
mod replaced_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod small;
