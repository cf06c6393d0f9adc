//! What several tests share: disks that fail on purpose, a clock to set, scripted histories, child processes.
#![allow(dead_code)]

pub(crate) mod child;
pub(crate) mod cuts;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod dying;
pub(crate) mod ends;
pub(crate) mod files;
pub(crate) mod golden;
pub(crate) mod held;
pub(crate) mod places;
pub(crate) mod power;
pub(crate) mod ruled;
pub(crate) mod script;
pub(crate) mod stopped;
pub(crate) mod times;

/// A number that the environment says, so that a longer run needs no other code.
pub(crate) fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
}
