//! A name dictionary of a SIDX: sorted names and the rows that bear each, searched in place.

use crate::error::Result;
use crate::format::codec::Reader;
use crate::format::sidx::{NAME_ENTRY_BYTES, Section, postings_bytes};
use crate::index::postings::Postings;
use crate::index::sidx::Sidx;
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
        Ok(())
    }

    fn first(&self, is_before: impl Fn(&[u8]) -> bool) -> Result<u32> {
        let key = |index| self.name(&self.entry(index)?);
        let found = partition(self.section.count, key, is_before)?;
        self.sidx.ordered(self.section.offset, found)
    }

    fn entry(&self, index: u32) -> Result<Entry> {
        let at = self.section.offset + u64::from(index) * NAME_ENTRY_BYTES as u64;
        let bytes = self.sidx.bytes(at, NAME_ENTRY_BYTES)?;
        Entry::decode(bytes).ok_or_else(|| self.sidx.corrupt(at, "a name's entry is malformed"))
    }

    fn name(&self, entry: &Entry) -> Result<&'a [u8]> {
        let end = u64::from(entry.name_offset) + u64::from(entry.name_bytes);
        if end > u64::from(self.section.heap_bytes) {
            return Err(self
                .sidx
                .corrupt(self.section.offset, "a name is outside its heap"));
        }
        let at = self.heap() + u64::from(entry.name_offset);
        self.sidx.bytes(at, usize::from(entry.name_bytes))
    }

    fn postings(&self, entry: &Entry) -> Result<Postings<'a>> {
        let at =
            self.heap() + u64::from(self.section.heap_bytes) + u64::from(entry.postings_offset);
        let end = at + postings_bytes(entry.count, entry.width);
        // A list names a row once; the bound also holds every loop over it.
        if end > self.section.offset + self.section.length || entry.count > self.sidx.rows() {
            return Err(self
                .sidx
                .corrupt(at, "a list of rows is outside its section"));
        }
        Ok(Postings::new(self.sidx, at, entry.count, entry.width))
    }

    fn heap(&self) -> u64 {
        self.section.offset + u64::from(self.section.count) * NAME_ENTRY_BYTES as u64
    }
}

/// The fixed part of a name.
struct Entry {
    name_offset: u32,
    name_bytes: u16,
    width: u8,
    postings_offset: u32,
    count: u32,
}

impl Entry {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (name_offset, name_bytes) = (reader.u32().ok()?, reader.u16().ok()?);
        let width = reader.u8().ok()?;
        reader.reserved::<1>().ok()?;
        let (postings_offset, count) = (reader.u32().ok()?, reader.u32().ok()?);
        // Rows ascend, so only a list of one has no distance.
        let sound = count > 0 && width <= 4 && (width == 0) == (count == 1);
        sound.then_some(Self {
            name_offset,
            name_bytes,
            width,
            postings_offset,
            count,
        })
    }
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

    /// The name at `index`, which is below [`NameRange::len`], and the rows that bear it.
    pub(crate) fn nth(&self, index: u32) -> Result<(&'a str, Postings<'a>)> {
        let at = self.names.section.offset;
        if index >= self.len {
            return Err(self.names.sidx.corrupt(at, "a prefix has fewer names"));
        }
        let entry = self.names.entry(self.first + index)?;
        let name = core::str::from_utf8(self.names.name(&entry)?)
            .map_err(|_| self.names.sidx.corrupt(at, "a name is not UTF-8"))?;
        Ok((name, self.names.postings(&entry)?))
    }
}
