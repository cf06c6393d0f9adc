//! The promises of `docs/guarantees.md`, one module each, through the public API alone.

#[path = "../support/mod.rs"]
mod support;

mod honest_failure;
mod integrity;
mod recovery;
