//! `quipu` is an embedded event store: a durable, conditional, idempotent log of events inside your process.
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod format;
pub(crate) mod index;
pub mod io;
pub(crate) mod sync;
