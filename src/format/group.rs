//! A group's header and commit record (`docs/format.md`, section 4).
//!
//! A group is one write: header, frames, commit record. The commit's checksum binds the header and
//! the head checksum of every frame, so a group is there whole or not at all.

use crc32fast::Hasher;

use super::codec::{DecodeError, Reader};
use super::crc::Seed;
use super::frame::FRAME_HEADER_BYTES;

/// Bytes of a group header.
pub(crate) const GROUP_HEADER_BYTES: usize = 72;
/// Bytes of a commit record.
pub(crate) const COMMIT_BYTES: usize = 52;

const GROUP_MAGIC: [u8; 4] = *b"GRUP";
const COMMIT_MAGIC: [u8; 4] = *b"CMIT";
const COMMIT_END: [u8; 4] = *b"KNOT";

/// What stands before the frames of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Number of the segment that holds the group.
    pub(crate) segment: u64,
    /// Where in the segment's file the group begins.
    pub(crate) offset: u64,
    /// Dense number of the group in the store, from 1.
    pub(crate) sequence: u64,
    /// Position of the first event.
    pub(crate) first_position: u64,
    /// Bytes of the whole group, header and commit included.
    pub(crate) length: u32,
    /// How many events.
    pub(crate) count: u32,
    /// Checksum of the previous group, 0 for the first of the store.
    pub(crate) previous_checksum: u32,
    /// Segment up to which all was known durable when the group was written.
    pub(crate) synced_segment: u64,
    /// Offset in that segment.
    pub(crate) synced_offset: u64,
}

impl GroupHeader {
    /// The header's bytes.
    pub(crate) fn encode(&self, seed: &Seed) -> [u8; GROUP_HEADER_BYTES] {
        let mut out = [0; GROUP_HEADER_BYTES];
        out[0..4].copy_from_slice(&GROUP_MAGIC);
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.first_position.to_le_bytes());
        out[40..44].copy_from_slice(&self.length.to_le_bytes());
        out[44..48].copy_from_slice(&self.count.to_le_bytes());
        out[48..52].copy_from_slice(&self.previous_checksum.to_le_bytes());
        out[56..64].copy_from_slice(&self.synced_segment.to_le_bytes());
        out[64..72].copy_from_slice(&self.synced_offset.to_le_bytes());
        let checksum = seed.crc(&[&out[8..]]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the header that stands at `offset` of segment `segment` from the front of `bytes`.
    pub(crate) fn decode(
        bytes: &[u8],
        seed: &Seed,
        segment: u64,
        offset: u64,
    ) -> Result<Self, DecodeError> {
        let bytes = Reader::new(bytes).array::<GROUP_HEADER_BYTES>()?;
        let mut reader = Reader::new(&bytes);
        if reader.array()? != GROUP_MAGIC {
            return Err(DecodeError::Corrupt("no group begins here"));
        }
        if reader.u32()? != seed.crc(&[&bytes[8..]]) {
            return Err(DecodeError::Corrupt("group header checksum"));
        }
        let header = Self::read(&mut reader)?;
        header.check(segment, offset)?;
        Ok(header)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let segment = reader.u64()?;
        let offset = reader.u64()?;
        let sequence = reader.u64()?;
        let first_position = reader.u64()?;
        let length = reader.u32()?;
        let count = reader.u32()?;
        let previous_checksum = reader.u32()?;
        reader.reserved::<4>()?;
        let synced_segment = reader.u64()?;
        let synced_offset = reader.u64()?;
        Ok(Self {
            segment,
            offset,
            sequence,
            first_position,
            length,
            count,
            previous_checksum,
            synced_segment,
            synced_offset,
        })
    }

    fn check(&self, segment: u64, offset: u64) -> Result<(), DecodeError> {
        if self.segment != segment || self.offset != offset {
            return Err(DecodeError::Corrupt("the group belongs to another place"));
        }
        let around = (GROUP_HEADER_BYTES + COMMIT_BYTES) as u64;
        let least = around + u64::from(self.count) * FRAME_HEADER_BYTES as u64;
        if self.count == 0 || u64::from(self.length) < least {
            return Err(DecodeError::Corrupt(
                "the group is too short for its events",
            ));
        }
        let last = self.first_position.checked_add(u64::from(self.count) - 1);
        let end = offset.checked_add(u64::from(self.length));
        // What comes next has a number too.
        let full = self.sequence == u64::MAX || last.is_none_or(|last| last == u64::MAX);
        if self.sequence == 0 || self.first_position == 0 || full || end.is_none() {
            return Err(DecodeError::Corrupt("the group's numbers are out of range"));
        }
        Ok(())
    }

    /// Position of the last event.
    pub(crate) fn last_position(&self) -> u64 {
        self.first_position
            .saturating_add(u64::from(self.count).saturating_sub(1))
    }

    /// The offset right behind the group.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }

    /// The offset of the group's commit record.
    #[cfg(test)]
    pub(crate) fn commit_offset(&self) -> u64 {
        self.end().saturating_sub(COMMIT_BYTES as u64)
    }
}

/// The group checksum while it is being computed: header first, then each frame in order.
#[derive(Debug, Clone)]
pub(crate) struct GroupSum(Hasher);

impl GroupSum {
    /// Begins with the group header's bytes.
    pub(crate) fn new(seed: &Seed, header: &[u8; GROUP_HEADER_BYTES]) -> Self {
        let mut hasher = seed.start();
        hasher.update(header);
        Self(hasher)
    }

    /// Adds the head checksum of the next frame.
    #[inline]
    pub(crate) fn frame(&mut self, head_crc: u32) {
        self.0.update(&head_crc.to_le_bytes());
    }

    fn finish(mut self, commit: &[u8]) -> u32 {
        self.0.update(commit);
        self.0.finalize()
    }
}

/// What stands behind the frames of a group and makes it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Position of the group's last event.
    pub(crate) last_position: u64,
    /// Running digest after it.
    pub(crate) digest: [u8; 32],
    /// Checksum of the whole group.
    pub(crate) checksum: u32,
}

impl Commit {
    /// Ends a group and returns the record and its bytes.
    pub(crate) fn seal(
        sum: GroupSum,
        last_position: u64,
        digest: [u8; 32],
    ) -> (Self, [u8; COMMIT_BYTES]) {
        let mut out = [0; COMMIT_BYTES];
        out[0..4].copy_from_slice(&COMMIT_MAGIC);
        out[4..12].copy_from_slice(&last_position.to_le_bytes());
        out[12..44].copy_from_slice(&digest);
        let checksum = sum.finish(&out[..44]);
        out[44..48].copy_from_slice(&checksum.to_le_bytes());
        out[48..52].copy_from_slice(&COMMIT_END);
        (
            Self {
                last_position,
                digest,
                checksum,
            },
            out,
        )
    }

    /// Reads the record from the front of `bytes`; `sum` holds the group's header and frames.
    pub(crate) fn decode(bytes: &[u8], sum: GroupSum) -> Result<Self, DecodeError> {
        let bytes = Reader::new(bytes).array::<COMMIT_BYTES>()?;
        let mut reader = Reader::new(&bytes);
        if reader.array()? != COMMIT_MAGIC {
            return Err(DecodeError::Corrupt("no commit record ends the group"));
        }
        let last_position = reader.u64()?;
        let digest = reader.array()?;
        let checksum = reader.u32()?;
        if reader.array()? != COMMIT_END {
            return Err(DecodeError::Corrupt("the commit record is cut"));
        }
        if checksum != sum.finish(&bytes[..44]) {
            return Err(DecodeError::Corrupt("group checksum"));
        }
        Ok(Self {
            last_position,
            digest,
            checksum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden;

    fn decode(bytes: &[u8]) -> Result<GroupHeader, DecodeError> {
        GroupHeader::decode(bytes, &golden::seed(), 1, 4096)
    }

    fn assert_out_of_range(change: impl FnOnce(&mut GroupHeader)) {
        let mut header = golden::group();
        change(&mut header);
        let bytes = header.encode(&golden::seed());
        let read = GroupHeader::decode(&bytes, &golden::seed(), 1, header.offset);
        assert!(matches!(read, Err(DecodeError::Corrupt(_))), "{read:?}");
    }

    #[test]
    fn group_header_reads_back() {
        assert_eq!(
            decode(&golden::group().encode(&golden::seed())),
            Ok(golden::group())
        );
    }

    #[test]
    fn group_header_damage_is_seen() {
        golden::assert_damage_is_seen(&golden::group().encode(&golden::seed()), decode);
        golden::assert_garbage_is_refused(b"GRUP", 200, decode);
    }

    #[test]
    fn group_of_another_place_is_refused() {
        let bytes = golden::group().encode(&golden::seed());
        assert!(GroupHeader::decode(&bytes, &golden::seed(), 2, 4096).is_err());
        assert!(GroupHeader::decode(&bytes, &golden::seed(), 1, 8192).is_err());
        let other_life = Seed::new(&golden::STORE_ID, &[0; 16], 1);
        assert!(GroupHeader::decode(&bytes, &other_life, 1, 4096).is_err());
    }

    #[test]
    fn group_numbers_out_of_range_are_refused() {
        assert_out_of_range(|header| header.count = 0);
        assert_out_of_range(|header| header.count = u32::MAX);
        assert_out_of_range(|header| header.length = 153);
        assert_out_of_range(|header| header.sequence = 0);
        assert_out_of_range(|header| header.first_position = 0);
        assert_out_of_range(|header| header.sequence = u64::MAX);
        assert_out_of_range(|header| header.first_position = u64::MAX);
        assert_out_of_range(|h| h.first_position = u64::MAX - u64::from(h.count) + 1);
        assert_out_of_range(|header| header.offset = u64::MAX);
    }

    #[test]
    fn set_reserved_bytes_are_refused() {
        let mut bytes = golden::group().encode(&golden::seed());
        bytes[52] = 1;
        let checksum = golden::seed().crc(&[&bytes[8..]]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(
            decode(&bytes),
            Err(DecodeError::Corrupt("reserved bytes are not zero"))
        );
    }

    #[test]
    fn commit_damage_is_seen() {
        let decode = |bytes: &[u8]| Commit::decode(bytes, golden::group_sum());
        golden::assert_damage_is_seen(&golden::commit().1, decode);
        golden::assert_garbage_is_refused(b"CMIT", 100, decode);
    }

    #[test]
    fn commit_of_other_frames_is_refused() {
        let header = golden::group().encode(&golden::seed());
        let (_, bytes) = golden::commit();
        let mut swapped = GroupSum::new(&golden::seed(), &header);
        swapped.frame(golden::second_frame().1);
        swapped.frame(golden::first_frame().1);
        assert_eq!(
            Commit::decode(&bytes, swapped),
            Err(DecodeError::Corrupt("group checksum"))
        );
    }
}
