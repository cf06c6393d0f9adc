//! A segment's header page (`docs/format.md`, section 3).
//!
//! It names the segment, what it follows and the salt of its checksums.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader};
use super::crc::{self, Seed};

/// Bytes of the header; the rest of its page is zero.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 160;
/// Bytes of the header page; the first group begins behind it.
pub(crate) const SEGMENT_PAGE_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"QPSEGMT\n";

/// What stands before the groups of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store that the segment belongs to.
    pub(crate) store_id: [u8; 16],
    /// Random, so that bytes of an earlier file never pass.
    pub(crate) salt: [u8; 16],
    /// Number of the segment, from 1.
    pub(crate) number: u64,
    /// First number of the range that it replaces, its own if none.
    pub(crate) replaces_first: u64,
    /// Last number of that range, its own if none.
    pub(crate) replaces_last: u64,
    /// Position of its first event.
    pub(crate) first_position: u64,
    /// Running digest before it.
    pub(crate) digest_before: [u8; 32],
    /// The segment before it, 0 if none.
    pub(crate) predecessor: u64,
    /// Checksum of the last group before it, 0 if none.
    pub(crate) predecessor_checksum: u32,
    /// Of a replacement: the checksum of the last group of the range as it was, which the next segment continues.
    pub(crate) replaced_checksum: u32,
    /// Sequence of the last group before it, 0 if none.
    pub(crate) sequence_before: u64,
    /// Last recorded time before it, 0 if none.
    pub(crate) recorded_before: u64,
    /// Of a replacement: the sequence of the last group of the range; else 0.
    pub(crate) replaced_sequence: u64,
}

impl SegmentHeader {
    /// The header's bytes; zeros follow to the end of the page.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.store_id);
        out[32..48].copy_from_slice(&self.salt);
        out[48..56].copy_from_slice(&self.number.to_le_bytes());
        out[56..64].copy_from_slice(&self.replaces_first.to_le_bytes());
        out[64..72].copy_from_slice(&self.replaces_last.to_le_bytes());
        out[72..80].copy_from_slice(&self.first_position.to_le_bytes());
        out[80..112].copy_from_slice(&self.digest_before);
        out[112..120].copy_from_slice(&self.predecessor.to_le_bytes());
        out[120..124].copy_from_slice(&self.predecessor_checksum.to_le_bytes());
        out[124..128].copy_from_slice(&self.replaced_checksum.to_le_bytes());
        out[128..136].copy_from_slice(&self.sequence_before.to_le_bytes());
        out[136..144].copy_from_slice(&self.recorded_before.to_le_bytes());
        out[152..160].copy_from_slice(&self.replaced_sequence.to_le_bytes());
        let checksum = crc::plain(&[&out[16..]]);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the header page from the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (header, rest) = Reader::new(bytes)
            .bytes(SEGMENT_PAGE_BYTES)?
            .split_first_chunk::<SEGMENT_HEADER_BYTES>()
            .ok_or(DecodeError::Corrupt("the segment header is cut"))?;
        let mut reader = Reader::new(header);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Corrupt("this is no segment"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(DecodeError::Unsupported(
                "the segment's format version is unknown",
            ));
        }
        if reader.u32()? != crc::plain(&[&header[16..]]) {
            return Err(DecodeError::Corrupt("segment header checksum"));
        }
        if rest != [0; SEGMENT_PAGE_BYTES - SEGMENT_HEADER_BYTES] {
            return Err(DecodeError::Corrupt(
                "the rest of the segment's header page is not zero",
            ));
        }
        let header = Self::read(&mut reader)?;
        header.check()?;
        Ok(header)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let store_id = reader.array()?;
        let salt = reader.array()?;
        let number = reader.u64()?;
        let replaces_first = reader.u64()?;
        let replaces_last = reader.u64()?;
        let first_position = reader.u64()?;
        let digest_before = reader.array()?;
        let predecessor = reader.u64()?;
        let predecessor_checksum = reader.u32()?;
        let replaced_checksum = reader.u32()?;
        let sequence_before = reader.u64()?;
        let recorded_before = reader.u64()?;
        if reader.u64()? != 0 {
            return Err(DecodeError::Unsupported(
                "the segment requires a feature that is unknown",
            ));
        }
        let replaced_sequence = reader.u64()?;
        Ok(Self {
            store_id,
            salt,
            number,
            replaces_first,
            replaces_last,
            first_position,
            digest_before,
            predecessor,
            predecessor_checksum,
            replaced_checksum,
            sequence_before,
            recorded_before,
            replaced_sequence,
        })
    }

    fn check(&self) -> Result<(), DecodeError> {
        let numbered = self.replaces_first > 0 && self.first_position > 0;
        let ranged = self.replaces_first <= self.number && self.replaces_last == self.number;
        let as_replaced = match self.is_replacement() {
            true => self.replaced_sequence > self.sequence_before,
            false => self.replaces_first == self.number && self.replaced_checksum == 0,
        };
        // What comes next has a number too.
        let full = [self.number, self.first_position, self.sequence_before].contains(&u64::MAX)
            || self.replaced_sequence == u64::MAX;
        if !numbered || !ranged || !as_replaced || full {
            return Err(DecodeError::Corrupt(
                "the segment's numbers are out of range",
            ));
        }
        Ok(())
    }

    /// Whether it was written for a range of segments, and not appended to.
    pub(crate) fn is_replacement(&self) -> bool {
        self.replaced_sequence > 0
    }

    /// The checksum that is continued behind the group with this sequence and checksum.
    ///
    /// The groups of a replacement have new checksums, and what follows it continues the last of the old ones.
    pub(crate) fn continued_checksum(&self, sequence: u64, checksum: u32) -> u32 {
        match self.replaced_sequence == sequence {
            true => self.replaced_checksum,
            false => checksum,
        }
    }

    /// The CRC state that every checksum inside the segment continues from.
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(&self.store_id, &self.salt, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden;

    fn rewritten(change: impl FnOnce(&mut Vec<u8>)) -> Result<SegmentHeader, DecodeError> {
        let mut page = golden::segment_page();
        change(&mut page);
        let checksum = crc::plain(&[&page[16..SEGMENT_HEADER_BYTES]]);
        page[12..16].copy_from_slice(&checksum.to_le_bytes());
        SegmentHeader::decode(&page)
    }

    #[test]
    fn segment_header_reads_back() {
        assert_eq!(rewritten(|_| ()), Ok(golden::segment()));
        let replacement = golden::replacement();
        let mut page = replacement.encode().to_vec();
        page.resize(SEGMENT_PAGE_BYTES, 0);
        assert_eq!(SegmentHeader::decode(&page), Ok(replacement));
    }

    #[test]
    fn segment_header_damage_is_seen() {
        golden::assert_damage_is_seen(&golden::segment_page(), SegmentHeader::decode);
        golden::assert_garbage_is_refused(b"QPSEGMT\n\x01\0\0\0", 5000, SegmentHeader::decode);
    }

    #[test]
    fn newer_version_is_unsupported_before_the_checksum_is_read() {
        let mut page = golden::segment_page();
        page[8] = 2;
        page[100] = 1;
        assert!(matches!(
            SegmentHeader::decode(&page),
            Err(DecodeError::Unsupported(_))
        ));
    }

    #[test]
    fn unknown_feature_is_unsupported() {
        let read = rewritten(|page| page[151] = 0x80);
        assert!(matches!(read, Err(DecodeError::Unsupported(_))), "{read:?}");
    }

    /// A hand that could make the checksums anew gave a segment the last number of all, and the next one overflowed.
    #[test]
    fn a_number_without_a_next_one_is_refused() {
        for at in [48, 72, 128, 152] {
            let read = rewritten(|page| page[at..at + 8].fill(0xff));
            assert!(matches!(read, Err(DecodeError::Corrupt(_))), "byte {at}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for (at, byte) in [
            (124, 1),
            (48, 0),
            (48, 2),
            (56, 0),
            (56, 2),
            (64, 2),
            (72, 0),
        ] {
            let read = rewritten(|page| page[at] = byte);
            assert!(
                matches!(read, Err(DecodeError::Corrupt(_))),
                "byte {at}: {read:?}"
            );
        }
    }

    #[test]
    fn a_replacement_stands_for_a_range_that_ends_with_its_number_and_a_group() {
        let read = |change: fn(&mut SegmentHeader)| {
            let mut header = golden::replacement();
            change(&mut header);
            let mut page = header.encode().to_vec();
            page.resize(SEGMENT_PAGE_BYTES, 0);
            SegmentHeader::decode(&page).is_ok()
        };
        assert!(read(|_| ()));
        assert!(read(|header| header.replaces_first = 3));
        assert!(!read(|header| header.replaces_first = 4));
        assert!(!read(|header| header.replaces_last = 4));
        assert!(!read(|header| header.replaced_sequence = 0));
        assert!(!read(|header| header.sequence_before = 6));
    }

    #[test]
    fn what_follows_a_replacement_continues_the_last_group_as_it_was() {
        let header = golden::replacement();
        assert_eq!(header.continued_checksum(6, 1), 0xB0B1_B2B3);
        assert_eq!(header.continued_checksum(5, 1), 1);
        assert_eq!(golden::segment().continued_checksum(6, 1), 1);
    }
}
