//! What the store asks of the world: a disk, which is one directory, and a clock.
//!
//! [`RealDisk`] and [`MemoryDisk`] are the two disks that come with the crate. A program or a test that
//! wants another one, say one that fails on purpose, implements [`Disk`] and [`DiskFile`] around one of
//! them, and one that wants its own time implements [`Clock`]. Nothing here knows what a segment is.
//!
//! A disk does each thing once and reports what came of it:
//!
//! ```
//! use quipu::io::{Access, Disk, MemoryDisk};
//!
//! let disk = MemoryDisk::new();
//! let file = disk.open("note", Access::CreateNew)?;
//! file.write_at(b"knot", 0)?;
//! file.sync_data()?;
//! disk.sync_dir("")?;
//!
//! let mut bytes = [0; 4];
//! assert_eq!(disk.open("note", Access::Read)?.read_at(&mut bytes, 0)?, 4);
//! assert_eq!(&bytes, b"knot");
//! # Ok::<(), std::io::Error>(())
//! ```

mod clock;
mod copy;
mod discard;
mod disk;
mod exact;
mod map;
mod memory;
#[cfg(target_os = "linux")]
mod notify;
mod overlay;
mod priority;
mod real;
mod replace;
mod watch;

pub use clock::{Clock, SystemClock};
pub use disk::{Access, Disk, DiskFile, DiskLock, Entry, LockError, Sharing};
pub use map::Map;
pub use memory::MemoryDisk;
pub use real::RealDisk;
pub use watch::Watch;

pub(crate) use copy::{CopyError, Pace, copy_bytes};
pub(crate) use discard::discard;
pub(crate) use exact::{PIECE_BYTES, read_exact_at, read_upto_at, write_all_at, write_in_pieces};
pub(crate) use overlay::Overlay;
pub(crate) use priority::lower_priority;
pub(crate) use replace::{make_anew, remove_if_there, replace};

#[cfg(test)]
mod tests;
