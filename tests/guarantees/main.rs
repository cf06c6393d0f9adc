//! The promises of `docs/guarantees.md`, one module each, through the public API alone.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../support/mod.rs"]
mod support;

mod recovery;
