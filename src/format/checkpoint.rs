//! The checkpoint: a derived image that makes opening fast (`docs/format.md`, section 9).

use core::ops::Range;

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader, put_u32, put_u64};
use super::crc;
use super::sidx::BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"QPCKPNT\n";
const FIXED_BYTES: usize = 136;
const ENTRY_BYTES: usize = 136;

/// Where the log stood, and every sealed segment, when the checkpoint was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) store_id: [u8; 16],
    pub(crate) active_segment: u64,
    /// End offset in the active segment up to which everything here counts.
    pub(crate) active_end: u64,
    pub(crate) last_position: u64,
    pub(crate) last_group_sequence: u64,
    pub(crate) last_group_checksum: u32,
    pub(crate) last_recorded: u64,
    pub(crate) digest: [u8; 32],
    /// In the order of their numbers.
    pub(crate) sealed: Vec<SealedEntry>,
}

/// What an opening needs to know of a sealed segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedEntry {
    /// The store that its header names: this one, or an earlier one of the lineage.
    pub(crate) store_id: [u8; 16],
    /// The first segment that its file stands for; its own number if it is no replacement.
    pub(crate) first: u64,
    pub(crate) number: u64,
    /// The generation of a replacement, else 0.
    pub(crate) generation: u64,
    pub(crate) first_position: u64,
    pub(crate) last_position: u64,
    pub(crate) file_bytes: u64,
    pub(crate) log_end: u64,
    pub(crate) last_group_checksum: u32,
    /// The checksum in its footer's trailer, which names the whole footer.
    pub(crate) index_checksum: u32,
    pub(crate) last_group_sequence: u64,
    pub(crate) first_recorded: u64,
    pub(crate) last_recorded: u64,
    /// The running digest after its last event.
    pub(crate) digest: [u8; 32],
}

impl Checkpoint {
    /// Writes the whole file; `index` is the active segment's SIDX, empty for none.
    pub(crate) fn encode(&self, index: &[u8]) -> Vec<u8> {
        let head_bytes = FIXED_BYTES + ENTRY_BYTES * self.sealed.len();
        let index_at = match index.len() {
            0 => 0,
            _ => head_bytes.next_multiple_of(BLOCK_BYTES),
        };
        let mut out = Vec::with_capacity(index_at.max(head_bytes) + index.len());
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, bounded(head_bytes));
        put_u32(&mut out, 0);
        put_u32(&mut out, bounded(self.sealed.len()));
        out.extend_from_slice(&self.store_id);
        put_u64(&mut out, self.active_segment);
        put_u64(&mut out, self.active_end);
        put_u64(&mut out, self.last_position);
        put_u64(&mut out, self.last_group_sequence);
        put_u64(&mut out, self.last_recorded);
        out.extend_from_slice(&self.digest);
        put_u64(&mut out, index_at as u64);
        put_u64(&mut out, index.len() as u64);
        put_u32(&mut out, self.last_group_checksum);
        put_u32(&mut out, 0);
        for entry in &self.sealed {
            entry.encode(&mut out);
        }
        let checksum = head_checksum(&out);
        out[16..20].copy_from_slice(&checksum.to_le_bytes());
        if !index.is_empty() {
            out.resize(index_at, 0);
            out.extend_from_slice(index);
        }
        out
    }

    /// Reads the head and its entries from the file's bytes, and where in them the index stands.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, Range<u64>), DecodeError> {
        let mut start = Reader::new(bytes);
        if start.array()? != MAGIC {
            return Err(DecodeError::Corrupt("not a checkpoint"));
        }
        if start.u32()? != FORMAT_VERSION {
            return Err(DecodeError::Unsupported("a checkpoint of a newer format"));
        }
        let length = usize::try_from(start.u32()?).unwrap_or(usize::MAX);
        let checksum = start.u32()?;
        let head = bytes
            .get(..length)
            .filter(|head| head.len() >= FIXED_BYTES)
            .ok_or(DecodeError::Corrupt(
                "the checkpoint's head has a wrong length",
            ))?;
        if head_checksum(head) != checksum {
            return Err(DecodeError::Corrupt(
                "the checkpoint's checksum does not hold",
            ));
        }
        let (checkpoint, index) = Self::decode_head(&mut Reader::new(&head[20..]))?;
        checkpoint.check()?;
        let end = index_end(head.len(), &index, bytes.len())?;
        Ok((checkpoint, index.start..end))
    }

    fn decode_head(reader: &mut Reader<'_>) -> Result<(Self, IndexPlace), DecodeError> {
        let count = reader.u32()?;
        let mut checkpoint = Self {
            store_id: reader.array()?,
            active_segment: reader.u64()?,
            active_end: reader.u64()?,
            last_position: reader.u64()?,
            last_group_sequence: reader.u64()?,
            last_recorded: reader.u64()?,
            digest: reader.array()?,
            last_group_checksum: 0,
            sealed: Vec::new(),
        };
        let index = IndexPlace {
            start: reader.u64()?,
            bytes: reader.u64()?,
        };
        checkpoint.last_group_checksum = reader.u32()?;
        reader.reserved::<4>()?;
        if reader.rest().len() as u64 != u64::from(count) * ENTRY_BYTES as u64 {
            return Err(DecodeError::Corrupt(
                "the checkpoint's head and its count disagree",
            ));
        }
        for _ in 0..count {
            checkpoint.sealed.push(SealedEntry::decode(reader)?);
        }
        Ok((checkpoint, index))
    }

    /// Checks that the sealed segments follow each other up to the active one.
    fn check(&self) -> Result<(), DecodeError> {
        let (mut number, mut position) = (0, None);
        for entry in &self.sealed {
            let follows =
                position.is_none_or(|last: u64| last.checked_add(1) == Some(entry.first_position));
            let ranged = number < entry.first && entry.first <= entry.number;
            // One may be empty: that in which an earlier store of the lineage had appended nothing yet.
            let counted = entry.first_position <= entry.last_position.saturating_add(1);
            if !ranged || !follows || !counted {
                return Err(OUT_OF_ORDER);
            }
            number = entry.number;
            position = Some(entry.last_position);
        }
        if self.active_segment <= number || position.is_some_and(|last| self.last_position < last) {
            return Err(OUT_OF_ORDER);
        }
        Ok(())
    }
}

const OUT_OF_ORDER: DecodeError =
    DecodeError::Corrupt("the checkpoint's segments are out of order");

struct IndexPlace {
    start: u64,
    bytes: u64,
}

fn index_end(head: usize, index: &IndexPlace, file: usize) -> Result<u64, DecodeError> {
    let expected = match index.bytes {
        0 => 0,
        _ => head.next_multiple_of(BLOCK_BYTES) as u64,
    };
    let end = index.start.checked_add(index.bytes);
    end.filter(|end| index.start == expected && *end <= file as u64)
        .ok_or(DecodeError::Corrupt(
            "the checkpoint's index is not where it should be",
        ))
}

/// CRC of the head without the four bytes that hold it.
fn head_checksum(head: &[u8]) -> u32 {
    crc::plain(&[&head[..16], &head[20..]])
}

fn bounded(count: usize) -> u32 {
    u32::try_from(count).expect("a store has far fewer than 2^25 segments")
}

impl SealedEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.store_id);
        put_u64(out, self.first);
        put_u64(out, self.number);
        put_u64(out, self.generation);
        put_u64(out, self.first_position);
        put_u64(out, self.last_position);
        put_u64(out, self.file_bytes);
        put_u64(out, self.log_end);
        put_u32(out, self.last_group_checksum);
        put_u32(out, self.index_checksum);
        put_u64(out, self.last_group_sequence);
        put_u64(out, self.first_recorded);
        put_u64(out, self.last_recorded);
        out.extend_from_slice(&self.digest);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            store_id: reader.array()?,
            first: reader.u64()?,
            number: reader.u64()?,
            generation: reader.u64()?,
            first_position: reader.u64()?,
            last_position: reader.u64()?,
            file_bytes: reader.u64()?,
            log_end: reader.u64()?,
            last_group_checksum: reader.u32()?,
            index_checksum: reader.u32()?,
            last_group_sequence: reader.u64()?,
            first_recorded: reader.u64()?,
            last_recorded: reader.u64()?,
            digest: reader.array()?,
        })
    }
}
