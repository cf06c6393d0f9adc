//! A stub's frame: what stays of an event whose content was removed (`docs/format.md`, section 5).
//!
//! With the rest digest the kept fields still prove the event's hash.

use super::codec::{DecodeError, Reader, put_u64, put_varint};
use super::crc::Seed;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, KIND_STUB, encode_frame};
use super::kept::{
    BatchPlace, KeyDigests, StreamPlace, check_stub_parts, kept_parts, put_kept, put_stream,
    read_batch, read_key, read_stream,
};

/// Bytes of a stub's head but for revision, previous position, batch and key.
const FIXED_BYTES: usize = 16 + 8 + 32 + 1 + 16 + 32;

/// What a stub keeps of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StubFields {
    /// Event id.
    pub(crate) id: [u8; 16],
    /// Recorded time in nanoseconds.
    pub(crate) recorded_at: u64,
    /// Event hash.
    pub(crate) hash: [u8; 32],
    /// Digest of the entity.
    pub(crate) entity_digest: [u8; 16],
    /// Digest of everything removed.
    pub(crate) rest: [u8; 32],
    /// Revision and previous position.
    pub(crate) stream: StreamPlace,
    /// Index in and length of the batch.
    pub(crate) batch: BatchPlace,
    /// Key and content digests.
    pub(crate) key: Option<KeyDigests>,
}

impl StubFields {
    /// Appends the frame of a stub that stands at `offset` of its segment and at `position`.
    ///
    /// Returns the head checksum, which the group's commit record covers.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, seed: &Seed, offset: u64, position: u64) -> u32 {
        encode_frame(out, seed, (offset, position), KIND_STUB, &[], |out| {
            out.extend_from_slice(&self.id);
            put_u64(out, self.recorded_at);
            out.extend_from_slice(&self.hash);
            put_varint(out, kept_parts(self.batch, self.key));
            out.extend_from_slice(&self.entity_digest);
            out.extend_from_slice(&self.rest);
            put_stream(out, position, self.stream);
            put_kept(out, self.batch, self.key);
        })
    }

    /// How long the frame is, at `position`, that keeps these.
    pub(crate) fn frame_bytes(
        position: u64,
        stream: StreamPlace,
        batch: BatchPlace,
        key: Option<KeyDigests>,
    ) -> u64 {
        let mut varying = Vec::with_capacity(64);
        put_stream(&mut varying, position, stream);
        put_kept(&mut varying, batch, key);
        (FRAME_HEADER_BYTES + FIXED_BYTES + varying.len()) as u64
    }

    pub(super) fn read(
        header: &FrameHeader,
        head: &[u8],
        position: u64,
    ) -> Result<Self, DecodeError> {
        if header.payload_len != 0 {
            return Err(DecodeError::Corrupt("a stub has a payload"));
        }
        let reader = &mut Reader::new(head);
        let id = reader.array()?;
        let recorded_at = reader.u64()?;
        let hash = reader.array()?;
        let parts = reader.varint()?;
        check_stub_parts(parts)?;
        let stub = Self {
            id,
            recorded_at,
            hash,
            entity_digest: reader.array()?,
            rest: reader.array()?,
            stream: read_stream(reader, position)?,
            batch: read_batch(reader, parts)?,
            key: read_key(reader, parts)?,
        };
        reader.finish()?;
        Ok(stub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden::{self, FIRST_AT};
    use crate::format::record::Record;

    fn decode(frame: &[u8]) -> Result<Record, DecodeError> {
        Record::decode(frame, &golden::seed(), FIRST_AT, 1)
    }

    const PARTS_AT: usize = FRAME_HEADER_BYTES + 56;

    /// Reads the worked stub with other bytes in the place of the one at `at`.
    fn resealed(at: usize, bytes: &[u8]) -> Result<Record, DecodeError> {
        let mut frame = golden::stub_frame();
        frame.splice(at..=at, bytes.iter().copied());
        let head = u16::try_from(frame.len() - FRAME_HEADER_BYTES).unwrap();
        frame[12..14].copy_from_slice(&head.to_le_bytes());
        golden::reseal(&mut frame, FIRST_AT, 1);
        decode(&frame)
    }

    #[test]
    fn stub_reads_back() {
        assert_eq!(
            decode(&golden::stub_frame()),
            Ok(Record::Stub(golden::stub()))
        );
        let later = StubFields {
            stream: StreamPlace {
                revision: 700,
                previous_position: 3,
            },
            batch: BatchPlace::ALONE,
            key: None,
            ..golden::stub()
        };
        let mut frame = Vec::new();
        later.encode(&mut frame, &golden::seed(), 9000, 1000);
        let read = Record::decode(&frame, &golden::seed(), 9000, 1000);
        assert_eq!(read, Ok(Record::Stub(later)));
        let bytes = |stub: &StubFields, position| {
            StubFields::frame_bytes(position, stub.stream, stub.batch, stub.key)
        };
        assert_eq!(bytes(&later, 1000), frame.len() as u64);
        let worked = golden::stub_frame().len() as u64;
        assert_eq!(bytes(&golden::stub(), 1), worked);
    }

    #[test]
    fn stub_damage_is_seen() {
        golden::assert_damage_is_seen(&golden::stub_frame(), decode);
    }

    #[test]
    fn parts_of_a_newer_format_are_unsupported() {
        for byte in [0x07, 0x0d, 0x45] {
            let read = resealed(PARTS_AT, &[byte]);
            assert!(matches!(read, Err(DecodeError::Unsupported(_))), "{read:?}");
        }
        for parts in [[0x85, 0x01], [0x85, 0x08]] {
            let read = resealed(PARTS_AT, &parts);
            assert!(matches!(read, Err(DecodeError::Unsupported(_))), "{read:?}");
        }
    }

    #[test]
    fn stub_with_long_parts_or_a_payload_checksum_is_refused() {
        for (at, bytes) in [(PARTS_AT, &[0x85, 0][..]), (4, &[1])] {
            let read = resealed(at, bytes);
            assert!(
                matches!(read, Err(DecodeError::Corrupt(_))),
                "byte {at}: {read:?}"
            );
        }
        let mut frame = golden::stub_frame();
        frame[8] = 1;
        frame.push(0);
        golden::reseal(&mut frame, FIRST_AT, 1);
        assert_eq!(
            decode(&frame),
            Err(DecodeError::Corrupt("a stub has a payload"))
        );
    }
}
