//! The layout of SIDX bytes, the searchable index of one segment (`docs/format.md`, section 8).
//!
//! A pure function of the segment's events, so that a lost or damaged one can be built again byte for
//! byte. The header's directory holds the whole geometry: what it admits lies inside the body.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader, put_u16, put_u32, put_u64};
use super::crc;

/// The unit of checksums and of the index's place in a file.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// The fixed end of every SIDX, so that a sealed segment is readable from its end.
pub(crate) const TRAILER_BYTES: usize = 32;
/// Facts and directory, the first bytes of block 0.
pub(crate) const HEADER_BYTES: usize = FACTS_BYTES + SECTIONS * SECTION_BYTES;
/// Lists are kept in chunks of this many items.
pub(crate) const CHUNK_ITEMS: u32 = 32;
/// The bytes of one name's fixed entry; behind the last name's stands one more, where heap and lists end.
pub(crate) const NAME_ENTRY_BYTES: usize = 8;
/// The bytes of one block of the filter.
pub(crate) const FILTER_BLOCK_BYTES: usize = 64;
/// Bits that the filter spends on a key; with [`FILTER_PROBES`] about 3 of 100 absent keys pass.
pub(super) const FILTER_BITS_PER_KEY: usize = 8;
const FILTER_PROBES: usize = 6;
const FACTS_BYTES: usize = 128;
const SECTION_BYTES: usize = 48;
const SECTIONS: usize = 11;
const MAGIC: [u8; 8] = *b"QPSIDX\n\0";
const TRAILER_MAGIC: [u8; 8] = *b"QPSIDXE\n";

/// The sections, in the order in which they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Rows,
    Filter,
    Ids,
    Keys,
    Correlations,
    Children,
    Removed,
    Entities,
    Scopes,
    Kinds,
    Tags,
}

impl Part {
    pub(crate) const ALL: [Self; SECTIONS] = [
        Self::Rows,
        Self::Filter,
        Self::Ids,
        Self::Keys,
        Self::Correlations,
        Self::Children,
        Self::Removed,
        Self::Entities,
        Self::Scopes,
        Self::Kinds,
        Self::Tags,
    ];

    /// Its line in the directory.
    pub(super) const fn line(self) -> usize {
        match self {
            Self::Rows => 0,
            Self::Filter => 1,
            Self::Ids => 2,
            Self::Keys => 3,
            Self::Correlations => 4,
            Self::Children => 5,
            Self::Removed => 6,
            Self::Entities => 7,
            Self::Scopes => 8,
            Self::Kinds => 9,
            Self::Tags => 10,
        }
    }
}

/// Which names a list of rows is asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameAxis {
    Entity,
    Scope,
    Kind,
    Tag,
}

impl NameAxis {
    pub(crate) const ALL: [Self; 4] = [Self::Entity, Self::Scope, Self::Kind, Self::Tag];

    /// Its place in [`NameAxis::ALL`].
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::Entity => 0,
            Self::Scope => 1,
            Self::Kind => 2,
            Self::Tag => 3,
        }
    }

    pub(crate) const fn part(self) -> Part {
        match self {
            Self::Entity => Part::Entities,
            Self::Scope => Part::Scopes,
            Self::Kind => Part::Kinds,
            Self::Tag => Part::Tags,
        }
    }

    /// As what a filter holds the digests of its names.
    pub(crate) const fn digests(self) -> Axis16 {
        match self {
            Self::Entity => Axis16::Entity,
            Self::Scope => Axis16::Scope,
            Self::Kind => Axis16::Kind,
            Self::Tag => Axis16::Tag,
        }
    }
}

/// What a filter is asked about: an event's id, a key digest, the digest of a name, a parent's id, or a correlation other
/// than the event's own id. Only runs know scopes, kinds and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis16 {
    Id,
    Key,
    Entity,
    Parent,
    Correlation,
    Scope,
    Kind,
    Tag,
}

impl Axis16 {
    /// The key tables, and as what the filter holds their keys.
    pub(crate) const TABLES: [(Part, Self); 5] = [
        (Part::Ids, Self::Id),
        (Part::Keys, Self::Key),
        (Part::Correlations, Self::Correlation),
        (Part::Children, Self::Parent),
        (Part::Removed, Self::Entity),
    ];
}

/// What one event or stub adds to an index. Tags are a set: none twice.
#[derive(Debug, Clone)]
pub(crate) struct SidxRow<'a, T, P> {
    /// The frame's offset in the segment file.
    pub(crate) offset: u32,
    pub(crate) recorded_at: u64,
    pub(crate) id: [u8; 16],
    /// Empty for a stub, as are scope and kind: no query finds it.
    pub(crate) entity: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) tags: T,
    /// Counts only where it differs from the event's own id.
    pub(crate) correlation: Option<[u8; 16]>,
    /// The digest of the submission's idempotency key, in its first event.
    pub(crate) key: Option<[u8; 16]>,
    pub(crate) parents: P,
    /// Of a stub the digest of its entity, of an event `None`.
    pub(crate) removed: Option<[u8; 16]>,
}

/// Where in the log an index stands: what its rows alone do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidxFacts {
    pub(crate) store_id: [u8; 16],
    pub(crate) segment: u64,
    /// End of the last group that the index covers.
    pub(crate) log_end: u64,
    pub(crate) last_group_sequence: u64,
    pub(crate) last_group_checksum: u32,
    /// The running digest after the last row.
    pub(crate) digest: [u8; 32],
}

/// The header: facts, bounds and the directory of sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SidxHeader {
    pub(crate) facts: SidxFacts,
    pub(crate) first_position: u64,
    pub(crate) rows: u32,
    /// Recorded time of the first and the last row; 0 when there is none.
    pub(crate) first_recorded: u64,
    pub(crate) last_recorded: u64,
    pub(super) sections: [Section; SECTIONS],
}

/// One line of the directory. Offsets count from the start of the SIDX bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Rows, filter blocks, pairs or names.
    pub(crate) count: u32,
    /// Bytes of a dictionary's name heap.
    pub(crate) heap_bytes: u32,
    /// Leading bytes that all keys of a table share, and how many.
    pub(crate) prefix: [u8; 16],
    pub(crate) prefix_bytes: u8,
    /// Bytes of a row in a key table, of a distance in the rows.
    pub(crate) width: u8,
}

impl Section {
    /// The bytes of one pair of a key table.
    pub(crate) fn pair_bytes(&self) -> usize {
        16 - usize::from(self.prefix_bytes) + usize::from(self.width)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.offset);
        put_u64(out, self.length);
        put_u32(out, self.count);
        put_u32(out, self.heap_bytes);
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&[self.prefix_bytes, self.width]);
        put_u16(out, 0);
        put_u32(out, 0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let section = Self {
            offset: reader.u64()?,
            length: reader.u64()?,
            count: reader.u32()?,
            heap_bytes: reader.u32()?,
            prefix: reader.array()?,
            prefix_bytes: reader.u8()?,
            width: reader.u8()?,
        };
        reader.reserved::<6>()?;
        Ok(section)
    }

    /// Whether count and length agree, so that reading by count stays inside the section.
    fn is_sound(&self, part: Part, rows: u32) -> bool {
        let count = u64::from(self.count);
        match part {
            Part::Rows => {
                let listed = match rows {
                    0 => (self.length == 0 && self.width == 0).then_some(0),
                    _ => list_count(self.length, self.width),
                };
                self.count == rows && listed == Some(rows)
            }
            Part::Filter => self.length == FILTER_BLOCK_BYTES as u64 * count,
            Part::Ids | Part::Keys | Part::Correlations | Part::Children | Part::Removed => {
                self.prefix_bytes <= 16
                    && (1..=4).contains(&self.width)
                    && self.length == self.pair_bytes() as u64 * count
            }
            Part::Entities | Part::Scopes | Part::Kinds | Part::Tags => {
                NAME_ENTRY_BYTES as u64 * (count + 1) + u64::from(self.heap_bytes) <= self.length
            }
        }
    }
}

impl SidxHeader {
    pub(crate) fn section(&self, part: Part) -> &Section {
        &self.sections[part.line()]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, self.rows);
        out.extend_from_slice(&self.facts.store_id);
        put_u64(&mut out, self.facts.segment);
        put_u64(&mut out, self.first_position);
        put_u64(&mut out, self.facts.log_end);
        put_u64(&mut out, self.facts.last_group_sequence);
        put_u64(&mut out, self.first_recorded);
        put_u64(&mut out, self.last_recorded);
        out.extend_from_slice(&self.facts.digest);
        put_u32(&mut out, self.facts.last_group_checksum);
        out.extend_from_slice(&[0; 12]);
        for section in &self.sections {
            section.encode(&mut out);
        }
        debug_assert_eq!(out.len(), HEADER_BYTES);
        out
    }

    /// Reads the header of an index whose body has `body_bytes`; the block's checksum holds already.
    pub(crate) fn decode(bytes: &[u8], body_bytes: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Corrupt("not an index header"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(NEWER);
        }
        let rows = reader.u32()?;
        let (store_id, segment) = (reader.array()?, reader.u64()?);
        let first_position = reader.u64()?;
        let (log_end, last_group_sequence) = (reader.u64()?, reader.u64()?);
        let (first_recorded, last_recorded) = (reader.u64()?, reader.u64()?);
        let (digest, last_group_checksum) = (reader.array()?, reader.u32()?);
        reader.reserved::<12>()?;
        let mut sections = [Section::default(); SECTIONS];
        for section in &mut sections {
            *section = Section::decode(&mut reader)?;
        }
        let facts = SidxFacts {
            store_id,
            segment,
            log_end,
            last_group_sequence,
            last_group_checksum,
            digest,
        };
        let header = Self {
            facts,
            first_position,
            rows,
            first_recorded,
            last_recorded,
            sections,
        };
        header.check(body_bytes)?;
        Ok(header)
    }

    fn check(&self, body_bytes: u64) -> Result<(), DecodeError> {
        if self
            .first_position
            .checked_add(u64::from(self.rows))
            .is_none()
        {
            return Err(DecodeError::Corrupt("the index's positions overflow"));
        }
        let mut end = HEADER_BYTES as u64;
        for part in Part::ALL {
            let section = self.section(part);
            if section.offset != end.next_multiple_of(8) || !section.is_sound(part, self.rows) {
                return Err(DecodeError::Corrupt("the index's directory is not sound"));
            }
            end = section
                .offset
                .checked_add(section.length)
                .filter(|end| *end <= body_bytes)
                .ok_or(DecodeError::Corrupt(
                    "an index section is longer than the index",
                ))?;
        }
        Ok(())
    }
}

const NEWER: DecodeError = DecodeError::Unsupported("an index of a newer format");

/// The last bytes: how long the index is, whose it is, and the checksum of its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Body, checksum table and trailer together.
    pub(crate) total_bytes: u64,
    pub(crate) segment: u64,
    /// Names the whole index: CRC of store id, checksum table and the trailer's other bytes.
    pub(crate) checksum: u32,
}

impl Trailer {
    /// The trailer of an index with this checksum table, of four bytes a block.
    pub(super) fn new(store_id: &[u8; 16], segment: u64, table: &[u8]) -> Self {
        let blocks = table.len() as u64 / 4;
        let mut trailer = Self {
            total_bytes: blocks * (BLOCK_BYTES as u64 + 4) + TRAILER_BYTES as u64,
            segment,
            checksum: 0,
        };
        trailer.checksum = trailer.expected(store_id, table);
        trailer
    }

    /// The checksum that this trailer must have.
    pub(crate) fn expected(&self, store_id: &[u8; 16], table: &[u8]) -> u32 {
        let bytes = self.encode();
        crc::plain(&[store_id, table, &bytes[..12], &bytes[16..]])
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_BYTES);
        out.extend_from_slice(&TRAILER_MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, self.checksum);
        put_u64(&mut out, self.total_bytes);
        put_u64(&mut out, self.segment);
        out
    }

    /// Reads a trailer; whether its checksum holds is for [`Trailer::expected`] to say.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != TRAILER_MAGIC {
            return Err(DecodeError::Corrupt("no index ends here"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(NEWER);
        }
        let trailer = Self {
            checksum: reader.u32()?,
            total_bytes: reader.u64()?,
            segment: reader.u64()?,
        };
        reader.finish()?;
        if trailer.blocks() == 0 || trailer.total_bytes % BLOCK_TOTAL != TRAILER_BYTES as u64 {
            return Err(DecodeError::Corrupt(
                "an index's length is not one of whole blocks",
            ));
        }
        Ok(trailer)
    }

    /// How many blocks the body has.
    pub(crate) const fn blocks(&self) -> u64 {
        self.total_bytes / BLOCK_TOTAL
    }
}

/// What a block costs: itself and its line in the checksum table.
const BLOCK_TOTAL: u64 = BLOCK_BYTES as u64 + 4;

/// The bits of one key in the filter: a block and places in its 512 bits.
pub(crate) struct Probe {
    block: u32,
    bits: [u16; FILTER_PROBES],
}

impl Probe {
    /// Where `key` stands in a filter of `blocks`, which is not 0.
    pub(crate) fn new(axis: Axis16, key: &[u8; 16], blocks: u32) -> Self {
        let (low, high) = key.split_at(8);
        let half = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |sum, b| sum << 8 | u64::from(*b))
        };
        let tag = match axis {
            Axis16::Id => 1,
            Axis16::Key => 2,
            Axis16::Entity => 3,
            Axis16::Parent => 4,
            Axis16::Correlation => 5,
            Axis16::Scope => 6,
            Axis16::Kind => 7,
            Axis16::Tag => 8,
        };
        let hash = mix(mix(half(low).wrapping_add(tag)) ^ half(high));
        let block = ((hash >> 32) * u64::from(blocks)) >> 32;
        let mut places = mix(hash.wrapping_add(1));
        let bits = core::array::from_fn(|_| {
            let bit = u16::try_from(places & 511).expect("nine bits fit sixteen");
            places >>= 9;
            bit
        });
        Self {
            block: u32::try_from(block).expect("a share of a u32 fits one"),
            bits,
        }
    }

    /// Where its block begins in the filter.
    pub(crate) fn offset(&self) -> usize {
        place(self.block) * FILTER_BLOCK_BYTES
    }

    /// Whether its bits are set in its block.
    pub(crate) fn is_in(&self, block: &[u8]) -> bool {
        let is_set = |bit: u16| block[usize::from(bit / 8)] & (1 << (bit % 8)) != 0;
        self.bits.into_iter().all(is_set)
    }

    /// Sets its bits in its block.
    pub(super) fn set(&self, block: &mut [u8]) {
        for bit in self.bits {
            block[usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The length in bytes of a list of `count` items whose distances take `width` bytes.
pub(crate) fn list_bytes(count: u32, width: u8) -> u64 {
    let chunks = u64::from(count.div_ceil(CHUNK_ITEMS));
    4 * chunks + (u64::from(count) - chunks) * u64::from(width)
}

/// How many items a list of so many bytes has, `None` if there is no such list; undoes [`list_bytes`].
pub(crate) fn list_count(bytes: u64, width: u8) -> Option<u32> {
    if width == 0 {
        // Items ascend, so only a list of one has no distance.
        return (bytes == 4).then_some(1);
    }
    let chunk = list_bytes(CHUNK_ITEMS, width);
    let last = match bytes % chunk {
        0 => 0,
        rest => 1 + rest.checked_sub(4)? / u64::from(width),
    };
    let count = u32::try_from(bytes / chunk * u64::from(CHUNK_ITEMS) + last).ok()?;
    (count > 1 && width <= 4 && list_bytes(count, width) == bytes).then_some(count)
}

/// The length in bytes of the filter over so many keys.
pub(crate) fn filter_bytes(keys: u64) -> u64 {
    (keys * FILTER_BITS_PER_KEY as u64).div_ceil(FILTER_BLOCK_BYTES as u64 * 8)
        * FILTER_BLOCK_BYTES as u64
}

/// The length in bytes of an index whose sections, in their order, have these lengths.
pub(crate) fn index_bytes(sections: [u64; SECTIONS]) -> u64 {
    let body = sections
        .into_iter()
        .fold(HEADER_BYTES as u64, |end, section| {
            end.next_multiple_of(8) + section
        });
    body.div_ceil(BLOCK_BYTES as u64) * BLOCK_TOTAL + TRAILER_BYTES as u64
}

/// The bytes that `value` needs: 0 to 4.
pub(crate) fn width_of(value: u32) -> u8 {
    u8::try_from((u32::BITS - value.leading_zeros()).div_ceil(8)).expect("a u32 has four bytes")
}

/// A row, ordinal or count as an index into memory.
pub(crate) fn place(number: u32) -> usize {
    usize::try_from(number).expect("memory is addressed by 32 bits or more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_tells_its_count_by_its_length() {
        assert_eq!((list_bytes(1, 0), list_count(4, 0)), (4, Some(1)));
        for width in 1..=4 {
            let lengths: Vec<u64> = (2..200).map(|count| list_bytes(count, width)).collect();
            for (count, &bytes) in (2..).zip(&lengths) {
                assert_eq!(list_count(bytes, width), Some(count));
            }
            for bytes in (0..lengths[197]).filter(|bytes| !lengths.contains(bytes)) {
                assert_eq!(list_count(bytes, width), None, "{bytes} of width {width}");
            }
        }
        let absent = [(0, 0), (8, 0), (9, 5), (9, 255), (u64::MAX, 1)];
        assert!(
            absent
                .iter()
                .all(|&(bytes, width)| list_count(bytes, width).is_none())
        );
    }
}
