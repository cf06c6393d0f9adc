//! How the store looks as bytes: one structure per file, encode and decode together, no I/O.
//!
//! `docs/format.md` states the bytes; every file names its section. Decoders take any bytes: they
//! never panic and never allocate by a size that they read.

pub(crate) mod checkpoint;
pub(crate) mod codec;
pub(crate) mod crc;
pub(crate) mod frame;
#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod golden_index;
pub(crate) mod group;
pub(crate) mod hint;
mod kept;
mod lists;
pub(crate) mod manifest;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod segment;
pub(crate) mod sidx;
pub(crate) mod sidx_build;
pub(crate) mod stub;

/// The one version of every structure that this build reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
