//! What the store asks of the world: a disk, which is one directory, and a clock.
//!
//! [`RealDisk`] and [`MemoryDisk`] are the two disks that come with the crate. A program or a test that
//! wants another one, say one that fails on purpose, implements [`Disk`] and [`DiskFile`] around one of
//! them. Nothing here knows what a segment is.

mod clock;
mod disk;
mod exact;
mod map;
mod memory;
mod real;
mod replace;

pub use clock::{Clock, SystemClock};
pub use disk::{Access, Disk, DiskFile, DiskLock, Entry, LockError};
pub use map::Map;
pub use memory::MemoryDisk;
pub use real::RealDisk;

pub(crate) use exact::{WriteError, read_exact_at, write_all_at};
pub(crate) use replace::replace;

#[cfg(test)]
mod tests;
