//! A list of ascending numbers in a SIDX, any of which is found by arithmetic.
//!
//! Any thread reads; the bytes never change.

use crate::error::{Result, StoreError};
use crate::format::sidx::{CHUNK_ITEMS, list_bytes, place};
use crate::index::sidx::{Sidx, number};
use crate::index::sorted::partition;

/// Ascending numbers: a chunk's first in full, the others as distances from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    sidx: &'a Sidx,
    at: u64,
    count: u32,
    width: u8,
}

impl<'a> List<'a> {
    /// The list of `count` items whose first chunk begins at `at`.
    #[inline]
    pub(super) fn new(sidx: &'a Sidx, at: u64, count: u32, width: u8) -> Self {
        Self {
            sidx,
            at,
            count,
            width,
        }
    }

    /// The item at `index`.
    #[inline]
    pub(super) fn nth(&self, index: u32) -> Result<u32> {
        if index >= self.count {
            return Err(self.sidx.corrupt(self.at, "a list has fewer items"));
        }
        let chunk = u64::from(index / CHUNK_ITEMS) * list_bytes(CHUNK_ITEMS, self.width);
        let at = self.at + chunk;
        let width = usize::from(self.width);
        let bytes = self
            .sidx
            .bytes(at, 4 + place(index % CHUNK_ITEMS) * width)?;
        let (first, distances) = bytes.split_at(4);
        // The chunk's first item has no distance; no bytes are zero.
        let distance = &distances[distances.len().saturating_sub(width)..];
        number(first)
            .checked_add(number(distance))
            .ok_or_else(|| self.sidx.corrupt(at, "a list leads past any number"))
    }
}

/// The rows that bear one name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Postings<'a>(List<'a>);

impl<'a> Postings<'a> {
    pub(super) fn new(list: List<'a>) -> Self {
        Self(list)
    }

    /// How many rows; 1 or more.
    pub(crate) fn len(&self) -> u32 {
        self.0.count
    }

    /// Its bytes in the index, and that of its width.
    pub(super) fn bytes(&self) -> u64 {
        1 + list_bytes(self.0.count, self.0.width)
    }

    /// The row at `index`, which is below [`Postings::len`].
    pub(crate) fn nth(&self, index: u32) -> Result<u32> {
        let row = self.0.nth(index)?;
        if row < self.0.sidx.rows() {
            return Ok(row);
        }
        Err(self.corrupt("a list leads to a row past the last"))
    }

    /// The index of the first row that is `row` or later; [`Postings::len`] if there is none.
    pub(crate) fn lower_bound(&self, row: u32) -> Result<u32> {
        let found = partition(self.len(), |index| self.nth(index), |other| other < row)?;
        self.0.sidx.ordered(self.0.at, found)
    }

    /// Checks that the rows ascend.
    pub(super) fn check(&self) -> Result<()> {
        let mut before = None;
        for index in 0..self.len() {
            let row = self.nth(index)?;
            if before.is_some_and(|before| row <= before) {
                return Err(self.corrupt("a list of rows is not sorted"));
            }
            before = Some(row);
        }
        Ok(())
    }

    #[cold]
    fn corrupt(&self, what: &str) -> StoreError {
        self.0.sidx.corrupt(self.0.at, what)
    }
}
