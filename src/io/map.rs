//! The memory map, and the only unsafe code of the crate.
//!
//! Contract: whoever borrows bytes from a map knows that nobody will change them: in the store these are
//! the bytes below the visible mark, which are written once, before the mark passes them, and never cut.
//! Bytes above are never borrowed. Another program that shortens a mapped file kills this one (SIGBUS);
//! one that overwrites it changes bytes under a reader. The lock keeps other stores away, nothing more.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// The first bytes of a file as memory; got from [`DiskFile::map`](super::DiskFile::map).
///
/// It stays valid when the file is renamed, removed, lengthened or closed.
pub struct Map {
    region: Arc<Region>,
    len: usize,
}

impl Map {
    /// Maps a real file, which may still be shorter than `len`.
    pub(super) fn of_file(file: &File, len: u64) -> io::Result<Map> {
        let len = addressable(len)?;
        let region = Region(MmapOptions::new().len(len).map_raw_read_only(file)?);
        Ok(Map {
            region: Arc::new(region),
            len,
        })
    }

    /// Shows the first `len` bytes of `region`, which must have as many.
    pub(super) fn of_region(region: Arc<Region>, len: u64) -> io::Result<Map> {
        let len = addressable(len)?;
        if len > region.0.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Map { region, len })
    }

    /// Borrows `len` bytes at `offset`; `None` when they are not all inside the map.
    ///
    /// Within a file's map but beyond its end, or above the visible mark, nothing may be borrowed.
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len).filter(|end| *end <= self.len)?;
        debug_assert!(
            end <= self.region.0.len(),
            "a map is never longer than its region"
        );
        // SAFETY: start..start + len lies inside the region, which is mapped while `self` lives, and by
        // the contract above no one writes to these bytes or cuts them off while they are borrowed.
        Some(unsafe { std::slice::from_raw_parts(self.region.0.as_ptr().add(start), len) })
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} bytes)", self.len)
    }
}

/// A stretch of mapped memory. An anonymous one starts as zeros, which cost nothing until written.
pub(super) struct Region(MmapRaw);

impl Region {
    /// New zeros.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Region> {
        Ok(Region(MmapRaw::from(MmapMut::map_anon(bytes)?)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Copies from `start` to `buffer`; the caller holds the file's lock, so nothing writes meanwhile.
    pub(super) fn read(&self, buffer: &mut [u8], start: usize) {
        self.check(start, buffer.len());
        // SAFETY: checked to be inside the region; `buffer` is exclusive, so the two do not overlap.
        unsafe {
            buffer
                .as_mut_ptr()
                .copy_from(self.0.as_ptr().add(start), buffer.len())
        }
    }

    /// Copies `bytes` to `start`; the caller holds the file's lock alone, and no map lends these bytes.
    pub(super) fn write(&self, bytes: &[u8], start: usize) {
        self.check(start, bytes.len());
        // SAFETY: checked to be inside the region, which is only ever anonymous here and so writable; by
        // the contract above no borrow of these bytes exists.
        unsafe {
            self.0
                .as_mut_ptr()
                .add(start)
                .copy_from(bytes.as_ptr(), bytes.len())
        }
    }

    /// Copies the first `len` bytes over; the caller holds the file's lock alone, and `other` is new.
    pub(super) fn copy_to(&self, other: &Region, len: usize) {
        self.check(0, len);
        other.check(0, len);
        // SAFETY: checked to be inside both; the regions are two mappings and `other` has no map yet.
        unsafe { other.0.as_mut_ptr().copy_from(self.0.as_ptr(), len) }
    }

    fn check(&self, start: usize, len: usize) {
        let inside = start
            .checked_add(len)
            .is_some_and(|end| end <= self.0.len());
        assert!(inside, "the memory disk keeps every file inside its region");
    }
}

fn addressable(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput.into())
}
