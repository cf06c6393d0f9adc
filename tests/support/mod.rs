//! What several tests share: disks that fail on purpose, a clock to set, scripted histories, child processes.
#![allow(dead_code, clippy::unwrap_used, clippy::cast_possible_truncation)]

pub mod child;
pub mod cuts;
pub mod dice;
pub mod power;
pub mod ruled;
pub mod script;
pub mod times;
