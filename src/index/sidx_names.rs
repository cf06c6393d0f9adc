//! A name dictionary of a SIDX: sorted names and the rows that bear each, searched in place.
//!
//! Any thread reads; the bytes never change.

use core::ops::Range;

use crate::error::Result;
use crate::format::sidx::{NAME_ENTRY_BYTES, Section, list_count, place};
use crate::index::postings::{List, Postings};
use crate::index::sidx::{Sidx, number};
use crate::index::sorted::partition;

/// One dictionary: entries, then the names' heap, then the postings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    sidx: &'a Sidx,
    section: &'a Section,
}

impl<'a> Names<'a> {
    pub(super) fn new(sidx: &'a Sidx, section: &'a Section) -> Self {
        Self { sidx, section }
    }

    /// The rows that bear `name`.
    pub(super) fn find(&self, name: &str) -> Result<Option<Postings<'a>>> {
        let name = name.as_bytes();
        let index = self.first(|other| other < name)?;
        if index == self.section.count {
            return Ok(None);
        }
        let entry = self.entry(index)?;
        if self.name(&entry)? != name {
            return Ok(None);
        }
        self.postings(&entry).map(Some)
    }

    /// The names that begin with `prefix`.
    pub(super) fn prefix(&self, prefix: &str) -> Result<NameRange<'a>> {
        let prefix = prefix.as_bytes();
        let first = self.first(|other| other < prefix)?;
        let end = self.first(|other| other < prefix || other.starts_with(prefix))?;
        Ok(NameRange {
            names: *self,
            first,
            len: end.saturating_sub(first),
        })
    }

    /// The name at `place`, which is below the number of names, and the rows that bear it.
    pub(super) fn nth(&self, place: u32) -> Result<(&'a str, Postings<'a>)> {
        let at = self.section.offset;
        if place >= self.section.count {
            return Err(self.sidx.corrupt(at, "a dictionary has fewer names"));
        }
        let entry = self.entry(place)?;
        let name = core::str::from_utf8(self.name(&entry)?)
            .map_err(|_| self.sidx.corrupt(at, "a name is not UTF-8"))?;
        Ok((name, self.postings(&entry)?))
    }

    /// Checks names, their order and every list.
    pub(super) fn check(&self) -> Result<()> {
        let all = self.prefix("")?;
        let mut before = None;
        for index in 0..self.section.count {
            let (name, postings) = all.nth(index)?;
            if before.is_some_and(|before| name <= before) {
                return Err(self
                    .sidx
                    .corrupt(self.section.offset, "names are not sorted"));
            }
            before = Some(name);
            postings.check()?;
        }
        self.check_ends()
    }

    /// Checks that names and lists fill the section from end to end.
    fn check_ends(&self) -> Result<()> {
        let entry = |index: u32| -> Result<(u32, u64)> {
            let at = self.entry_at(index);
            let lists = self.heap() + u64::from(self.section.heap_bytes);
            let list = lists + u64::from(self.sidx.number(at + 4, 4)?);
            Ok((self.sidx.number(at, 4)?, list))
        };
        let heap_bytes = self.section.heap_bytes;
        let first = (0, self.heap() + u64::from(heap_bytes));
        let end = (heap_bytes, self.section.offset + self.section.length);
        if entry(0)? == first && entry(self.section.count)? == end {
            return Ok(());
        }
        let at = self.section.offset;
        Err(self
            .sidx
            .corrupt(at, "names leave bytes of their section over"))
    }

    fn first(&self, is_before: impl Fn(&[u8]) -> bool) -> Result<u32> {
        let key = |index| self.name(&self.entry(index)?);
        let found = partition(self.section.count, key, is_before)?;
        self.sidx.ordered(self.section.offset, found)
    }

    /// The entry at `index`, read together with the next, where its name and its list end.
    fn entry(&self, index: u32) -> Result<Entry> {
        let at = self.entry_at(index);
        let bytes = self.sidx.bytes(at, 2 * NAME_ENTRY_BYTES)?;
        let [name_at, list_at, name_end, list_end] =
            core::array::from_fn(|n| number(&bytes[4 * n..4 * n + 4]));
        if name_at > name_end || list_at > list_end || name_end > self.section.heap_bytes {
            return Err(self.sidx.corrupt(at, "a name's entry is malformed"));
        }
        Ok(Entry {
            name: name_at..name_end,
            list: list_at..list_end,
        })
    }

    fn name(&self, entry: &Entry) -> Result<&'a [u8]> {
        let at = self.heap() + u64::from(entry.name.start);
        self.sidx
            .bytes(at, place(entry.name.end - entry.name.start))
    }

    fn postings(&self, entry: &Entry) -> Result<Postings<'a>> {
        let lists = self.heap() + u64::from(self.section.heap_bytes);
        let (at, end) = (
            lists + u64::from(entry.list.start),
            lists + u64::from(entry.list.end),
        );
        let bad = || self.sidx.corrupt(at, "a list of rows is malformed");
        if at == end || end > self.section.offset + self.section.length {
            return Err(bad());
        }
        let width = self.sidx.bytes(at, 1)?[0];
        let count = list_count(end - at - 1, width)
            // A list names a row once; the bound also holds every loop over it.
            .filter(|count| *count <= self.sidx.rows())
            .ok_or_else(bad)?;
        Ok(Postings::new(List::new(self.sidx, at + 1, count, width)))
    }

    /// Where the names begin, behind one entry more than there are names.
    fn heap(&self) -> u64 {
        self.entry_at(self.section.count) + NAME_ENTRY_BYTES as u64
    }

    fn entry_at(&self, index: u32) -> u64 {
        self.section.offset + u64::from(index) * NAME_ENTRY_BYTES as u64
    }
}

/// Where a name stands in the heap, and its list behind the heap.
struct Entry {
    name: Range<u32>,
    list: Range<u32>,
}

/// Neighbouring names in byte order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameRange<'a> {
    names: Names<'a>,
    first: u32,
    len: u32,
}

impl<'a> NameRange<'a> {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Their places in the dictionary.
    pub(crate) fn places(&self) -> Range<u32> {
        self.first..self.first + self.len
    }

    /// The name at `index`, which is below [`NameRange::len`], and the rows that bear it.
    pub(crate) fn nth(&self, index: u32) -> Result<(&'a str, Postings<'a>)> {
        let at = self.names.section.offset;
        if index >= self.len {
            return Err(self.names.sidx.corrupt(at, "a prefix has fewer names"));
        }
        self.names.nth(self.first + index)
    }
}
