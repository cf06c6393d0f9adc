//! One ascending list of rows, wherever it lies: all rows, a slice in memory, postings or key pairs in a footer.
//!
//! Lent by a layer to whichever thread asks, for the length of one question.

use std::ops::Range;

use crate::error::Result;
use crate::index::layer::Direction;
use crate::index::postings::Postings;
use crate::index::sidx_pairs::KeyRange;

/// An ascending list of rows.
#[derive(Clone, Copy)]
pub(crate) enum RowList<'a> {
    /// The rows `0..n`.
    All(u32),
    /// Rows of a live index.
    Slice(&'a [u32]),
    /// Rows of a name in a footer.
    Postings(Postings<'a>),
    /// Rows of a key in a footer.
    Keyed(KeyRange<'a>),
}

impl RowList<'_> {
    pub(crate) fn len(&self) -> u32 {
        match self {
            Self::All(rows) => *rows,
            Self::Slice(rows) => count(rows.len()),
            Self::Postings(list) => list.len(),
            Self::Keyed(list) => list.len(),
        }
    }

    /// The `nth` row; `nth` is below the length.
    pub(crate) fn nth(&self, nth: u32) -> Result<u32> {
        match self {
            Self::All(_) => Ok(nth),
            Self::Slice(rows) => Ok(rows.get(index(nth)).copied().unwrap_or(u32::MAX)),
            Self::Postings(list) => list.nth(nth),
            Self::Keyed(list) => list.nth(nth),
        }
    }

    /// The index of the first row that is not below `row`.
    pub(crate) fn lower_bound(&self, row: u32) -> Result<u32> {
        match self {
            Self::All(rows) => Ok(row.min(*rows)),
            Self::Slice(rows) => Ok(count(rows.partition_point(|r| *r < row))),
            Self::Postings(list) => list.lower_bound(row),
            Self::Keyed(list) => lower_bound_by(list.len(), row, |nth| list.nth(nth)),
        }
    }

    /// The last row below `end`.
    pub(crate) fn last_below(&self, end: u32) -> Result<Option<u32>> {
        let last = self.lower_bound(end)?.checked_sub(1);
        last.map(|last| self.nth(last)).transpose()
    }

    /// How many of its rows lie inside `low..high`.
    pub(crate) fn count_between(&self, low: u32, high: u32) -> Result<u32> {
        let end = match self.len().checked_sub(1) {
            None => return Ok(0),
            // Most lists are asked for as a whole.
            Some(last) if self.nth(last)? < high => last + 1,
            Some(_) => self.lower_bound(high)?,
        };
        let start = if low == 0 { 0 } else { self.lower_bound(low)? };
        Ok(end.saturating_sub(start))
    }

    /// Fills `page` with at most `most` rows inside `bounds`, nearest to the walk's start first.
    pub(crate) fn page(
        &self,
        bounds: Range<u32>,
        direction: Direction,
        most: u32,
        page: &mut Vec<u32>,
    ) -> Result<()> {
        page.clear();
        let (from, to) = (
            self.lower_bound(bounds.start)?,
            self.lower_bound(bounds.end)?,
        );
        match direction {
            Direction::Forward => {
                for nth in from..to.min(from.saturating_add(most)) {
                    page.push(self.nth(nth)?);
                }
            }
            Direction::Backward => {
                for nth in (from.max(to.saturating_sub(most))..to).rev() {
                    page.push(self.nth(nth)?);
                }
            }
        }
        Ok(())
    }
}

/// The index of the first of `len` ascending values that is not below `row`.
fn lower_bound_by(len: u32, row: u32, nth: impl Fn(u32) -> Result<u32>) -> Result<u32> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if nth(middle)? < row {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn index(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
