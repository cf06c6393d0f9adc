//! A frame's header: lengths, kind and the two checksums (`docs/format.md`, section 5).
//!
//! The head checksum covers the frame's place (offset and position), its lengths and its head; the
//! payload has a checksum of its own, so that a head is read without touching the payload.

use super::codec::{DecodeError, Reader};
use super::crc::Seed;

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 15;
/// The bits of the kind; those above it in the same byte are the flags.
const KIND_BITS: u32 = 4;
/// The kind of an event's frame.
pub(crate) const KIND_EVENT: u8 = 1;
/// The kind of a stub's frame.
pub(crate) const KIND_STUB: u8 = 2;

/// What stands before a frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Checksum of place, lengths and head.
    pub(crate) head_crc: u32,
    /// Checksum of the payload.
    pub(crate) payload_crc: u32,
    /// Bytes of the payload.
    pub(crate) payload_len: u32,
    /// Bytes of the head.
    pub(crate) head_len: u16,
    /// Event or stub.
    pub(crate) kind: u8,
    /// Must-understand flags; none is known.
    pub(crate) flags: u8,
}

impl FrameHeader {
    /// Reads a header from the front of `frame` and checks nothing but that it is all there.
    #[inline]
    pub(crate) fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let bytes = Reader::new(frame).array::<FRAME_HEADER_BYTES>()?;
        let mut reader = Reader::new(&bytes);
        let (head_crc, payload_crc) = (reader.u32()?, reader.u32()?);
        let (payload_len, head_len) = (reader.u32()?, reader.u16()?);
        let kind_and_flags = reader.u8()?;
        Ok(Self {
            head_crc,
            payload_crc,
            payload_len,
            head_len,
            kind: kind_and_flags & ((1 << KIND_BITS) - 1),
            flags: kind_and_flags >> KIND_BITS,
        })
    }

    /// Bytes of the whole frame.
    #[inline]
    pub(crate) fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.head_len) + u64::from(self.payload_len)
    }

    /// Where the payload begins, counted from the frame header.
    #[inline]
    pub(crate) fn payload_at(&self) -> usize {
        FRAME_HEADER_BYTES + usize::from(self.head_len)
    }

    /// Returns the head if `frame` is whole and its head checksum proves this place.
    #[inline]
    pub(crate) fn head<'a>(
        &self,
        frame: &'a [u8],
        seed: &Seed,
        offset: u64,
        position: u64,
    ) -> Result<&'a [u8], DecodeError> {
        if self.frame_bytes() > frame.len() as u64 {
            return Err(DecodeError::Corrupt("the frame is longer than its place"));
        }
        let covered = frame.get(4..self.payload_at()).unwrap_or_default();
        if self.head_crc != head_crc(seed, offset, position, covered) {
            return Err(DecodeError::Corrupt("frame head checksum"));
        }
        if self.flags != 0 {
            return Err(DecodeError::Unsupported(
                "must-understand flags of a newer format",
            ));
        }
        Ok(covered.get(FRAME_HEADER_BYTES - 4..).unwrap_or_default())
    }
}

/// Writes a frame: the header, the head that `write_head` appends, and the payload.
///
/// Returns the head checksum, which the group's commit record covers.
#[inline]
pub(crate) fn encode_frame(
    out: &mut Vec<u8>,
    seed: &Seed,
    (offset, position): (u64, u64),
    kind: u8,
    payload: &[u8],
    write_head: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    write_head(out);
    let head_len = out.len() - start - FRAME_HEADER_BYTES;
    let head_len = u16::try_from(head_len).expect("the bounds on names keep a head under 64 KiB");
    let payload_len = u32::try_from(payload.len()).expect("a payload is far below 4 GiB");
    let header = &mut out[start..start + FRAME_HEADER_BYTES];
    header[4..8].copy_from_slice(&seed.crc(&[payload]).to_le_bytes());
    header[8..12].copy_from_slice(&payload_len.to_le_bytes());
    header[12..14].copy_from_slice(&head_len.to_le_bytes());
    header[14] = kind;
    let checksum = head_crc(seed, offset, position, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
    checksum
}

/// Appends a frame that was checked where it stood, as the one that stands at another place.
///
/// Returns the head checksum, which the group's commit record covers.
pub(crate) fn reseat(
    out: &mut Vec<u8>,
    seed: &Seed,
    (offset, position): (u64, u64),
    frame: &[u8],
) -> Result<u32, DecodeError> {
    let header = FrameHeader::decode(frame)?;
    let (start, payload_at) = (out.len(), header.payload_at());
    let Some((_, payload)) = frame.split_at_checked(payload_at) else {
        return Err(DecodeError::Corrupt("the frame is longer than its place"));
    };
    out.extend_from_slice(frame);
    let head = &mut out[start..start + payload_at];
    head[4..8].copy_from_slice(&seed.crc(&[payload]).to_le_bytes());
    let checksum = head_crc(seed, offset, position, &head[4..]);
    head[..4].copy_from_slice(&checksum.to_le_bytes());
    Ok(checksum)
}

#[inline]
fn head_crc(seed: &Seed, offset: u64, position: u64, covered: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&offset.to_le_bytes());
    place[8..].copy_from_slice(&position.to_le_bytes());
    let mut hasher = seed.start();
    hasher.update(&place);
    hasher.update(covered);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden::{self, FIRST_AT};
    use crate::format::record::Record;

    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Record, DecodeError> {
        let mut frame = golden::first_frame().0;
        change(&mut frame);
        golden::reseal(&mut frame, FIRST_AT, 1);
        Record::decode(&frame, &golden::seed(), FIRST_AT, 1)
    }

    #[test]
    fn frame_of_another_place_is_refused() {
        let (frame, _) = golden::first_frame();
        for (offset, position) in [(FIRST_AT + 1, 1), (FIRST_AT, 2), (1, FIRST_AT)] {
            let read = Record::decode(&frame, &golden::seed(), offset, position);
            assert_eq!(read, Err(DecodeError::Corrupt("frame head checksum")));
        }
        let other_segment = Seed::new(&golden::STORE_ID, &[0x5A; 16], 2);
        assert!(Record::decode(&frame, &other_segment, FIRST_AT, 1).is_err());
    }

    #[test]
    fn unknown_kind_and_flag_are_unsupported_only_with_a_valid_checksum() {
        for byte in [0, 3, 0x0f, 0x11, 0x21, 0x81, 0x12, 0xf0, 0xff] {
            let read = resealed(|frame| frame[14] = byte);
            assert!(
                matches!(read, Err(DecodeError::Unsupported(_))),
                "{byte:02x}: {read:?}"
            );

            let mut damaged = golden::first_frame().0;
            damaged[14] = byte;
            let read = Record::decode(&damaged, &golden::seed(), FIRST_AT, 1);
            assert!(
                matches!(read, Err(DecodeError::Corrupt(_))),
                "{byte:02x}: {read:?}"
            );
        }
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused() {
        let mut frame = golden::first_frame().0;
        frame[8..14].fill(0xff);
        let header = FrameHeader::decode(&frame).unwrap();
        assert_eq!(header.frame_bytes(), 15 + 0xffff + 0xffff_ffff);
        assert!(Record::decode(&frame, &golden::seed(), FIRST_AT, 1).is_err());
    }

    #[test]
    fn a_frame_that_is_put_elsewhere_reads_there_as_it_was_and_only_there() {
        for frame in [golden::first_frame().0, golden::stub_frame()] {
            let was = Record::decode(&frame, &golden::seed(), FIRST_AT, 1).unwrap();
            let seed = Seed::new(&golden::STORE_ID, &[0x5A; 16], 2);
            let mut out = vec![7; 3];
            let crc = reseat(&mut out, &seed, (9000, 1), &frame).unwrap();
            let moved = &out[3..];
            assert_eq!(crc, FrameHeader::decode(moved).unwrap().head_crc);
            let is = Record::decode(moved, &seed, 9000, 1).unwrap();
            assert_eq!(is.row(moved, 0).id, was.row(&frame, 0).id);
            assert_eq!(moved[8..], frame[8..], "only the checksums are others");
            if let Record::Event(layout) = is {
                assert!(layout.check_payload(moved, &seed));
            }
            assert!(Record::decode(moved, &golden::seed(), FIRST_AT, 1).is_err());
            assert!(reseat(&mut out, &seed, (1, 1), &frame[..20]).is_err());
        }
    }

    #[test]
    fn bytes_behind_the_frame_do_not_matter() {
        let mut bytes = golden::first_frame().0;
        let alone = Record::decode(&bytes, &golden::seed(), FIRST_AT, 1);
        bytes.extend([0xff; 100]);
        assert_eq!(Record::decode(&bytes, &golden::seed(), FIRST_AT, 1), alone);
    }
}
