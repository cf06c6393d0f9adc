//! The memory map, and the only unsafe code of the crate.
//!
//! Contract: only bytes that nobody will change are borrowed: those below the visible mark, written once
//! before the mark passes them, and never cut. Another program that shortens a mapped file kills this one
//! (SIGBUS) and one that overwrites it changes bytes under a reader; the lock keeps only stores away.
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
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let region = Region(MmapOptions::new().len(len).map_raw_read_only(file)?);
        Ok(Map {
            region: Arc::new(region),
            len,
        })
    }

    /// Shows the first `len` bytes of `region`.
    pub(super) fn of_region(region: Arc<Region>, len: usize) -> Map {
        region.check(0, len);
        Map { region, len }
    }

    /// The length of the map in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    /// Borrows `len` bytes at `offset`; `None` when they are not all inside the map.
    ///
    /// Within a file's map but beyond its end, or above the visible mark, nothing may be borrowed.
    pub(crate) fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        start.checked_add(len).filter(|end| *end <= self.len)?;
        // SAFETY: a map is never longer than its region, which is mapped while `self` lives, and by the
        // contract above no one writes to them or cuts them off while they are borrowed.
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
        let (from, to) = (self.0.as_ptr(), buffer.as_mut_ptr());
        // SAFETY: checked to be inside the region; nothing else has `buffer`.
        unsafe { to.copy_from(from.add(start), buffer.len()) }
    }

    /// Copies `bytes` to `start`; the caller holds the file's lock alone, and no map lends these bytes.
    pub(super) fn write(&self, bytes: &[u8], start: usize) {
        self.check(start, bytes.len());
        let (from, to) = (bytes.as_ptr(), self.0.as_mut_ptr());
        // SAFETY: checked to be inside the region, which is anonymous and so writable: a file's region
        // is never written to; by the contract above no borrow of these bytes exists.
        unsafe { to.add(start).copy_from(from, bytes.len()) }
    }

    fn check(&self, start: usize, len: usize) {
        let end = start.checked_add(len);
        let inside = end.is_some_and(|end| end <= self.0.len());
        assert!(inside, "the memory disk stays inside its regions");
    }
}
