//! A key table of a SIDX: sorted (16-byte key, row) pairs, searched in place.
//!
//! Any thread reads; the bytes never change.

use crate::error::Result;
use crate::format::sidx::Section;
use crate::index::sidx::{Sidx, number};
use crate::index::sorted::partition;

/// One key table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs<'a> {
    sidx: &'a Sidx,
    section: &'a Section,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(sidx: &'a Sidx, section: &'a Section) -> Self {
        Self { sidx, section }
    }

    /// The first row under `key`.
    pub(super) fn find(&self, key: &[u8; 16]) -> Result<Option<u32>> {
        let Some(key) = self.without_prefix(key) else {
            return Ok(None);
        };
        let index = self.first(|other| other < key)?;
        if index == self.section.count || self.key(index)? != key {
            return Ok(None);
        }
        self.row(index).map(Some)
    }

    /// All rows under `key`.
    pub(super) fn range(&self, key: &[u8; 16]) -> Result<KeyRange<'a>> {
        let (first, end) = match self.without_prefix(key) {
            Some(key) => (
                self.first(|other| other < key)?,
                self.first(|other| other <= key)?,
            ),
            None => (0, 0),
        };
        Ok(KeyRange {
            pairs: *self,
            first,
            len: end.saturating_sub(first),
        })
    }

    /// Checks order and rows of the whole table.
    pub(super) fn check(&self) -> Result<()> {
        let mut before = None;
        for index in 0..self.section.count {
            let pair = (self.key(index)?, self.row(index)?);
            if before.is_some_and(|before| pair <= before) {
                return Err(self
                    .sidx
                    .corrupt(self.section.offset, "a key table is not sorted"));
            }
            before = Some(pair);
        }
        Ok(())
    }

    /// Shows every key to `visit`.
    pub(super) fn each_key(&self, mut visit: impl FnMut(&[u8; 16]) -> Result<()>) -> Result<()> {
        (0..self.section.count).try_for_each(|index| visit(&self.whole_key(index)?))
    }

    /// The first and the last key, if there is one.
    pub(super) fn ends(&self) -> Result<Option<[[u8; 16]; 2]>> {
        let Some(last) = self.section.count.checked_sub(1) else {
            return Ok(None);
        };
        Ok(Some([self.whole_key(0)?, self.whole_key(last)?]))
    }

    fn whole_key(&self, index: u32) -> Result<[u8; 16]> {
        let mut key = self.section.prefix;
        let rest = self.key(index)?;
        key[16 - rest.len()..].copy_from_slice(rest);
        Ok(key)
    }

    /// What is left of a key that begins as all keys here do.
    fn without_prefix<'k>(&self, key: &'k [u8; 16]) -> Option<&'k [u8]> {
        let (prefix, rest) = key.split_at_checked(usize::from(self.section.prefix_bytes))?;
        (self.section.prefix.get(..prefix.len()) == Some(prefix)).then_some(rest)
    }

    fn first(&self, is_before: impl Fn(&[u8]) -> bool) -> Result<u32> {
        let found = partition(self.section.count, |index| self.key(index), is_before)?;
        self.sidx.ordered(self.section.offset, found)
    }

    /// Key (without the shared prefix) and row of a pair.
    fn pair(&self, index: u32) -> Result<(&'a [u8], &'a [u8])> {
        let bytes = self.section.pair_bytes();
        let at = self.section.offset + u64::from(index) * bytes as u64;
        let pair = self.sidx.bytes(at, bytes)?;
        Ok(pair.split_at(bytes - usize::from(self.section.width)))
    }

    fn key(&self, index: u32) -> Result<&'a [u8]> {
        Ok(self.pair(index)?.0)
    }

    fn row(&self, index: u32) -> Result<u32> {
        let (_, bytes) = self.pair(index)?;
        let row = number(bytes);
        if row < self.sidx.rows() {
            return Ok(row);
        }
        Err(self
            .sidx
            .corrupt(self.section.offset, "a key leads to a row past the last"))
    }
}

/// The rows under one key, ascending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRange<'a> {
    pairs: Pairs<'a>,
    first: u32,
    len: u32,
}

impl KeyRange<'_> {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The row at `index`, which is below [`KeyRange::len`].
    pub(crate) fn nth(&self, index: u32) -> Result<u32> {
        if index >= self.len {
            let at = self.pairs.section.offset;
            return Err(self.pairs.sidx.corrupt(at, "a key has fewer rows"));
        }
        self.pairs.row(self.first + index)
    }
}
