//! The promises of `docs/guarantees.md`, one module each, through the public API alone.

#[path = "../support/mod.rs"]
mod support;

mod atomicity;
mod causality;
mod conflict;
mod delivery;
mod durability;
mod honest_failure;
mod idempotency;
mod integrity;
mod isolation;
mod lifecycle;
mod limits;
mod order;
mod recovery;
mod retention;
