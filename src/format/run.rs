//! A run: one filter and merged tables of names over several sealed segments (`docs/format.md`, section 10).
//!
//! A pure function of the segments' events, like the indexes that it merges.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader, put_u16, put_u32, put_u64};
use super::crc;
use super::sidx::{Axis16, BLOCK_BYTES, FILTER_BLOCK_BYTES, NameAxis, Probe, filter_bytes, place};

/// How many segments a run is for; the first run has segments 1 to 16, the next one 17 to 32.
pub(crate) const RUN_SEGMENTS: usize = 16;
/// Larger segments than lead to this much are few, and asked one by one: it bounds the memory that building takes.
pub(crate) const MAX_RUN_FILTER_BYTES: usize = 8 * 1024 * 1024;
/// A table that would be longer is left out, for the same reason.
pub(crate) const MAX_TABLE_BYTES: usize = 32 * 1024 * 1024;
/// The unit of checksums.
pub(crate) const PAGE_BYTES: usize = BLOCK_BYTES;
/// The bytes of one name's entry in a table.
pub(crate) const NAME_BYTES: usize = 16;
const NAME_AXES: usize = NameAxis::ALL.len();
/// Where the checksums of the pages begin.
const CHECKSUMS_AT: usize = 48 + 4 * RUN_SEGMENTS + 8 * NAME_AXES;
const MAX_FILTER_BLOCKS: usize = MAX_RUN_FILTER_BYTES / FILTER_BLOCK_BYTES;
/// As a number of names: there is no table.
const NO_TABLE: u32 = u32::MAX;
const MAGIC: [u8; 8] = *b"QPRUN\n\0\0";

/// What a run says of itself: whose it is, what it merges and how long its parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunHead {
    pub(crate) store_id: [u8; 16],
    /// The first of the numbers that it is for; the file of a number before it may stand for this one too.
    pub(crate) first_segment: u64,
    /// How many files bear one of the numbers.
    pub(crate) files: u32,
    /// The index checksum of each of the files, then zeros.
    pub(crate) merges: [u32; RUN_SEGMENTS],
    pub(crate) filter_blocks: u32,
    /// In the order of [`NameAxis::ALL`].
    pub(crate) tables: [Option<TableSize>; NAME_AXES],
}

/// How long a table of names is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableSize {
    pub(crate) names: u32,
    /// The bytes of all names, one behind the other.
    pub(crate) heap_bytes: u32,
}

impl TableSize {
    fn bytes(self) -> usize {
        NAME_BYTES * place(self.names) + place(self.heap_bytes)
    }
}

impl RunHead {
    /// The length of head and checksums with the zeros behind them: where the filter begins.
    pub(crate) fn bytes(&self) -> usize {
        (CHECKSUMS_AT + 4 * self.pages()).next_multiple_of(PAGE_BYTES)
    }

    pub(crate) fn filter_bytes(&self) -> usize {
        place(self.filter_blocks) * FILTER_BLOCK_BYTES
    }

    /// How many pages have checksums: those of filter and tables.
    pub(crate) fn pages(&self) -> usize {
        (self.filter_bytes() + self.tables_bytes()).div_ceil(PAGE_BYTES)
    }

    /// The length of all tables.
    pub(crate) fn tables_bytes(&self) -> usize {
        self.tables
            .iter()
            .flatten()
            .map(|table| table.bytes())
            .sum()
    }

    /// Where the table of an axis begins, and its size; `None` if there is none.
    pub(crate) fn table(&self, axis: NameAxis) -> Option<(usize, TableSize)> {
        let (before, rest) = self.tables.split_at(axis.place());
        let size = (*rest.first()?)?;
        let before: usize = before.iter().flatten().map(|table| table.bytes()).sum();
        Some((self.bytes() + self.filter_bytes() + before, size))
    }

    /// Writes head and checksums into the space before the filter.
    fn encode(&self, file: &mut [u8]) {
        let (space, body) = file.split_at_mut(self.bytes());
        let mut out = Vec::with_capacity(space.len());
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, 0);
        out.extend_from_slice(&self.store_id);
        put_u64(&mut out, self.first_segment);
        put_u32(&mut out, self.filter_blocks);
        put_u32(&mut out, self.files);
        for checksum in self.merges {
            put_u32(&mut out, checksum);
        }
        for table in self.tables {
            put_u32(&mut out, table.map_or(NO_TABLE, |table| table.names));
            put_u32(&mut out, table.map_or(0, |table| table.heap_bytes));
        }
        for page in body.chunks(PAGE_BYTES) {
            put_u32(&mut out, crc::plain(&[page]));
        }
        out.resize(space.len(), 0);
        let checksum = crc::plain(&[&out[..12], &out[16..]]);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        space.copy_from_slice(&out);
    }

    /// Reads the head of a whole file, whose length it must tell; what the checksums are of is checked page by page.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(file);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Corrupt("not a run"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(DecodeError::Unsupported("a run of a newer format"));
        }
        let checksum = reader.u32()?;
        let (store_id, first_segment) = (reader.array()?, reader.u64()?);
        let (filter_blocks, files) = (reader.u32()?, reader.u32()?);
        let mut merges = [0; RUN_SEGMENTS];
        for merged in &mut merges {
            *merged = reader.u32()?;
        }
        let mut tables = [None; NAME_AXES];
        for table in &mut tables {
            let (names, heap_bytes) = (reader.u32()?, reader.u32()?);
            *table = (names != NO_TABLE).then_some(TableSize { names, heap_bytes });
        }
        let head = Self {
            store_id,
            first_segment,
            files,
            merges,
            filter_blocks,
            tables,
        };
        let too_long = |table: &TableSize| {
            place(table.names) > MAX_TABLE_BYTES / NAME_BYTES || table.bytes() > MAX_TABLE_BYTES
        };
        if !(1..=MAX_FILTER_BLOCKS).contains(&place(filter_blocks))
            || tables.iter().flatten().any(too_long)
            || file.len() != head.bytes() + head.filter_bytes() + head.tables_bytes()
        {
            return Err(DecodeError::Corrupt("a run of another length"));
        }
        if crc::plain(&[&file[..12], &file[16..head.bytes()]]) != checksum {
            return Err(DecodeError::Corrupt("a run's head does not hold"));
        }
        Ok(head)
    }

    /// Whether a page of filter and tables is as it was written; `file` is the whole file, its head read before.
    pub(crate) fn page_holds(&self, file: &[u8], page: usize) -> bool {
        let line = CHECKSUMS_AT + 4 * page;
        let start = self.bytes() + page * PAGE_BYTES;
        let end = file.len().min(start + PAGE_BYTES);
        let (expected, page) = (file.get(line..line + 4), file.get(start..end));
        page.is_some_and(|page| expected == Some(&crc::plain(&[page]).to_le_bytes()))
    }
}

/// The length of the file of a run over so many keys with tables of so many bytes; `None` when a run would be too long.
pub(crate) fn run_bytes(keys: u64, tables_bytes: u64) -> Option<u64> {
    let filter = place(blocks_for(keys)?) * FILTER_BLOCK_BYTES;
    let body = filter as u64 + tables_bytes;
    let checksums = 4 * body.div_ceil(PAGE_BYTES as u64);
    Some((CHECKSUMS_AT as u64 + checksums).next_multiple_of(PAGE_BYTES as u64) + body)
}

fn blocks_for(keys: u64) -> Option<u32> {
    let blocks = filter_bytes(keys) / FILTER_BLOCK_BYTES as u64;
    let blocks = u32::try_from(blocks).ok()?.max(1);
    (place(blocks) <= MAX_FILTER_BLOCKS).then_some(blocks)
}

/// Where a name stands in the files that a run merges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bearers {
    /// How many events bear it.
    pub(crate) events: u32,
    /// The last of these, counted from the first event of the files.
    pub(crate) last: u32,
    /// Bit n: the n-th file has some.
    pub(crate) files: u16,
}

impl Bearers {
    /// Reads the entry of a name, and where its name ends in the heap.
    pub(crate) fn decode(entry: &[u8]) -> Result<(Self, u32), DecodeError> {
        let mut reader = Reader::new(entry);
        let end = reader.u32()?;
        let (events, last) = (reader.u32()?, reader.u32()?);
        let files = reader.u16()?;
        reader.reserved::<2>()?;
        reader.finish()?;
        Ok((
            Self {
                events,
                last,
                files,
            },
            end,
        ))
    }
}

/// A table of names as it is gathered, in byte order.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    entries: Vec<u8>,
    heap: Vec<u8>,
}

impl TableBuilder {
    /// Adds the next name; says whether the table is not too long.
    pub(crate) fn push(&mut self, name: &str, bearers: Bearers) -> bool {
        self.heap.extend_from_slice(name.as_bytes());
        let Ok(end) = u32::try_from(self.heap.len()) else {
            return false;
        };
        put_u32(&mut self.entries, end);
        put_u32(&mut self.entries, bearers.events);
        put_u32(&mut self.entries, bearers.last);
        put_u16(&mut self.entries, bearers.files);
        put_u16(&mut self.entries, 0);
        self.entries.len() + self.heap.len() <= MAX_TABLE_BYTES
    }

    /// How many names there are.
    pub(crate) fn names(&self) -> u64 {
        (self.entries.len() / NAME_BYTES) as u64
    }

    fn size(&self) -> Option<TableSize> {
        Some(TableSize {
            names: u32::try_from(self.entries.len() / NAME_BYTES).ok()?,
            heap_bytes: u32::try_from(self.heap.len()).ok()?,
        })
    }
}

/// Gathers the parts of a run.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    head: RunHead,
    filter: Vec<u8>,
    tables: Vec<u8>,
}

impl RunBuilder {
    /// Makes room for `keys`, each counted as often as a segment has it; `None` when a run would be too long.
    pub(crate) fn new(head: RunHead, keys: u64) -> Option<Self> {
        let head = RunHead {
            filter_blocks: blocks_for(keys)?,
            tables: [None; NAME_AXES],
            ..head
        };
        Some(Self {
            head,
            filter: vec![0; head.filter_bytes()],
            tables: Vec::new(),
        })
    }

    /// Adds a key to the filter.
    pub(crate) fn add(&mut self, axis: Axis16, key: &[u8; 16]) {
        let probe = Probe::new(axis, key, self.head.filter_blocks);
        let at = probe.offset();
        probe.set(&mut self.filter[at..at + FILTER_BLOCK_BYTES]);
    }

    /// Adds the table of an axis; called in the order of [`NameAxis::ALL`].
    pub(crate) fn put_table(&mut self, axis: NameAxis, table: &TableBuilder) {
        self.head.tables[axis.place()] = table.size();
        self.tables.extend_from_slice(&table.entries);
        self.tables.extend_from_slice(&table.heap);
    }

    /// The bytes of the file.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut file = vec![0; self.head.bytes()];
        file.reserve_exact(self.filter.len() + self.tables.len());
        file.extend_from_slice(&self.filter);
        file.extend_from_slice(&self.tables);
        self.head.encode(&mut file);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_may_be_so_long_and_no_longer() {
        let mut table = TableBuilder::default();
        let name = "n".repeat(1024 - NAME_BYTES);
        for _ in 0..MAX_TABLE_BYTES / 1024 {
            assert!(table.push(&name, Bearers::default()));
        }
        assert!(!table.push("", Bearers::default()));
    }
}
