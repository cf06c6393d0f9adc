//! A list of ascending rows in a SIDX, any of which is found by arithmetic.

use crate::error::Result;
use crate::format::sidx::CHUNK_ROWS;
use crate::index::sidx::Sidx;
use crate::index::sorted::partition;

/// The rows that bear one name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Postings<'a> {
    sidx: &'a Sidx,
    at: u64,
    count: u32,
    width: u8,
}

impl<'a> Postings<'a> {
    pub(super) fn new(sidx: &'a Sidx, at: u64, count: u32, width: u8) -> Self {
        Self {
            sidx,
            at,
            count,
            width,
        }
    }

    /// How many rows; 1 or more.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// The row at `index`, which is below [`Postings::len`].
    pub(crate) fn nth(&self, index: u32) -> Result<u32> {
        if index >= self.count {
            return Err(self.sidx.corrupt(self.at, "a list has fewer rows"));
        }
        let width = usize::from(self.width);
        let chunk_bytes = 4 + u64::from(CHUNK_ROWS - 1) * u64::from(self.width);
        let chunk = self.at + u64::from(index / CHUNK_ROWS) * chunk_bytes;
        let base = self.sidx.u32_at(chunk)?;
        let distance = match index % CHUNK_ROWS {
            0 => 0,
            place => {
                let at = chunk + 4 + u64::from(place - 1) * u64::from(self.width);
                let bytes = self.sidx.bytes(at, width)?;
                bytes
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
            }
        };
        base.checked_add(distance)
            .filter(|row| *row < self.sidx.rows())
            .ok_or_else(|| {
                self.sidx
                    .corrupt(chunk, "a list leads to a row past the last")
            })
    }

    /// The index of the first row that is `row` or later; [`Postings::len`] if there is none.
    pub(crate) fn lower_bound(&self, row: u32) -> Result<u32> {
        let found = partition(self.count, |index| self.nth(index), |other| other < row)?;
        self.sidx.ordered(self.at, found)
    }

    /// Checks that the rows ascend.
    pub(super) fn check(&self) -> Result<()> {
        let mut before = None;
        for index in 0..self.count {
            let row = self.nth(index)?;
            if before.is_some_and(|before| row <= before) {
                return Err(self.sidx.corrupt(self.at, "a list of rows is not sorted"));
            }
            before = Some(row);
        }
        Ok(())
    }
}
