//! A run: one filter over what can be looked up in several sealed segments (`docs/format.md`, section 10).
//!
//! A pure function of the segments' events, like the indexes that it merges.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader, put_u32, put_u64};
use super::crc;
use super::sidx::{Axis16, BLOCK_BYTES, FILTER_BLOCK_BYTES, Probe, filter_bytes, place};

/// How many segments a run is for; the first run has segments 1 to 16, the next one 17 to 32.
pub(crate) const RUN_SEGMENTS: usize = 16;
/// Larger segments than lead to this much are few, and asked one by one: it bounds the memory that building takes.
pub(crate) const MAX_RUN_FILTER_BYTES: usize = 8 * 1024 * 1024;
/// The filter's unit of checksums.
pub(crate) const PAGE_BYTES: usize = BLOCK_BYTES;
/// Where the checksums of the pages begin.
const TABLE_AT: usize = 48 + 4 * RUN_SEGMENTS;
const MAX_FILTER_BLOCKS: usize = MAX_RUN_FILTER_BYTES / FILTER_BLOCK_BYTES;
const MAGIC: [u8; 8] = *b"QPRUN\n\0\0";

/// What a run says of itself: whose it is, what it merges and how long its filter is.
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
}

impl RunHead {
    /// The length of head and table with the zeros behind them: where the filter begins.
    pub(crate) fn bytes(&self) -> usize {
        (TABLE_AT + 4 * self.filter_bytes().div_ceil(PAGE_BYTES)).next_multiple_of(PAGE_BYTES)
    }

    pub(crate) fn filter_bytes(&self) -> usize {
        place(self.filter_blocks) * FILTER_BLOCK_BYTES
    }

    /// Writes head and table into the space before the filter.
    fn encode(&self, file: &mut [u8]) {
        let (space, filter) = file.split_at_mut(self.bytes());
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
        for page in filter.chunks(PAGE_BYTES) {
            put_u32(&mut out, crc::plain(&[page]));
        }
        out.resize(space.len(), 0);
        let checksum = crc::plain(&[&out[..12], &out[16..]]);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        space.copy_from_slice(&out);
    }

    /// Reads the head of a whole file, whose length it must tell; what the table is of is checked page by page.
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
        let head = Self {
            store_id,
            first_segment,
            files,
            merges,
            filter_blocks,
        };
        if !(1..=MAX_FILTER_BLOCKS).contains(&place(filter_blocks))
            || file.len() != head.bytes() + head.filter_bytes()
        {
            return Err(DecodeError::Corrupt("a run of another length"));
        }
        if crc::plain(&[&file[..12], &file[16..head.bytes()]]) != checksum {
            return Err(DecodeError::Corrupt("a run's head does not hold"));
        }
        Ok(head)
    }

    /// Whether a page of the filter is as it was written; `file` is the whole file, its head read before.
    pub(crate) fn page_holds(&self, file: &[u8], page: usize) -> bool {
        let line = TABLE_AT + 4 * page;
        let start = self.bytes() + page * PAGE_BYTES;
        let end = file.len().min(start + PAGE_BYTES);
        let (expected, page) = (file.get(line..line + 4), file.get(start..end));
        page.is_some_and(|page| expected == Some(&crc::plain(&[page]).to_le_bytes()))
    }
}

/// The length of the file of a run over so many keys; `None` when a run would be too long.
pub(crate) fn run_bytes(keys: u64) -> Option<u64> {
    let head = RunHead {
        store_id: [0; 16],
        first_segment: 0,
        files: 0,
        merges: [0; RUN_SEGMENTS],
        filter_blocks: blocks_for(keys)?,
    };
    Some((head.bytes() + head.filter_bytes()) as u64)
}

fn blocks_for(keys: u64) -> Option<u32> {
    let blocks = filter_bytes(keys) / FILTER_BLOCK_BYTES as u64;
    let blocks = u32::try_from(blocks).ok()?.max(1);
    (place(blocks) <= MAX_FILTER_BLOCKS).then_some(blocks)
}

/// Fills the filter of a run, in the file that it will be.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    head: RunHead,
    file: Vec<u8>,
}

impl RunBuilder {
    /// Makes room for `keys`, each counted as often as a segment has it; `None` when a run would be too long.
    pub(crate) fn new(head: RunHead, keys: u64) -> Option<Self> {
        let head = RunHead {
            filter_blocks: blocks_for(keys)?,
            ..head
        };
        let file = vec![0; head.bytes() + head.filter_bytes()];
        Some(Self { head, file })
    }

    pub(crate) fn add(&mut self, axis: Axis16, key: &[u8; 16]) {
        let probe = Probe::new(axis, key, self.head.filter_blocks);
        let at = self.head.bytes() + probe.offset();
        probe.set(&mut self.file[at..at + FILTER_BLOCK_BYTES]);
    }

    /// The bytes of the file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.head.encode(&mut self.file);
        self.file
    }
}
