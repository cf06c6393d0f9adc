//! The durable hint: what is known to be on stable storage (`docs/format.md`, section 7).
//!
//! Two slots in pages of their own are written in turn, so that a cut write spoils only one.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader};
use super::crc;

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 64;
/// Bytes of the file.
pub(crate) const HINT_BYTES: usize = 2 * SLOT_PAGE_BYTES;

const SLOT_PAGE_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"QPHINT\n\0";

/// How the store was left when a slot was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// It was in use.
    Running,
    /// It was closed, and all that was written is durable.
    Clean,
}

/// One slot of the hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Number of the write, from 1.
    pub(crate) generation: u64,
    /// Number of the segment.
    pub(crate) segment: u64,
    /// End offset in it that is known durable.
    pub(crate) end_offset: u64,
    /// Last position before that end, 0 if there is none.
    pub(crate) last_position: u64,
    /// Checksum of the last group before that end, 0 if there is none.
    pub(crate) group_checksum: u32,
    /// Whether the store was closed.
    pub(crate) shutdown: Shutdown,
    /// The generation of the manifest that was in force, so that readers see that it changed.
    pub(crate) manifest_generation: u64,
}

impl Slot {
    /// Where in the file this slot is written: even generations first, odd ones second.
    pub(crate) fn offset(&self) -> u64 {
        (self.generation % 2) * SLOT_PAGE_BYTES as u64
    }

    /// The slot's bytes.
    pub(crate) fn encode(&self, store_id: &[u8; 16]) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..32].copy_from_slice(&self.segment.to_le_bytes());
        out[32..40].copy_from_slice(&self.end_offset.to_le_bytes());
        out[40..48].copy_from_slice(&self.last_position.to_le_bytes());
        out[48..52].copy_from_slice(&self.group_checksum.to_le_bytes());
        out[52] = u8::from(self.shutdown == Shutdown::Clean);
        out[56..64].copy_from_slice(&self.manifest_generation.to_le_bytes());
        let checksum = crc::plain(&[store_id, &out[16..]]);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads one slot from the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8], store_id: &[u8; 16]) -> Result<Self, DecodeError> {
        let bytes = Reader::new(bytes).array::<SLOT_BYTES>()?;
        let mut reader = Reader::new(&bytes);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Corrupt("this is no hint"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(DecodeError::Unsupported(
                "the hint's format version is unknown",
            ));
        }
        if reader.u32()? != crc::plain(&[store_id, &bytes[16..]]) {
            return Err(DecodeError::Corrupt("hint checksum"));
        }
        Ok(Self {
            generation: reader.u64()?,
            segment: reader.u64()?,
            end_offset: reader.u64()?,
            last_position: reader.u64()?,
            group_checksum: reader.u32()?,
            shutdown: read_shutdown(&mut reader)?,
            manifest_generation: reader.u64()?,
        })
    }

    /// Of the file's two slots the valid one with the higher generation.
    ///
    /// If neither is valid, tells why: that one is of a newer format before that one is damaged.
    pub(crate) fn newest(file: &[u8], store_id: &[u8; 16]) -> Result<Self, DecodeError> {
        let first = Self::decode(file, store_id);
        let second = Self::decode(file.get(SLOT_PAGE_BYTES..).unwrap_or_default(), store_id);
        match (first, second) {
            (Ok(first), Ok(second)) if second.generation > first.generation => Ok(second),
            (Ok(slot), _) | (_, Ok(slot)) => Ok(slot),
            (Err(DecodeError::Corrupt(_)), error) => error,
            (error, _) => error,
        }
    }
}

fn read_shutdown(reader: &mut Reader<'_>) -> Result<Shutdown, DecodeError> {
    match reader.u32()? {
        0 => Ok(Shutdown::Running),
        1 => Ok(Shutdown::Clean),
        _ => Err(DecodeError::Corrupt(
            "the hint's closing mark is neither 0 nor 1",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden::{self, STORE_ID};

    fn decode(bytes: &[u8]) -> Result<Slot, DecodeError> {
        Slot::decode(bytes, &STORE_ID)
    }

    fn file(slots: &[Slot]) -> Vec<u8> {
        let mut file = vec![0; HINT_BYTES];
        for slot in slots {
            let at = usize::try_from(slot.offset()).unwrap();
            file[at..at + SLOT_BYTES].copy_from_slice(&slot.encode(&STORE_ID));
        }
        file
    }

    fn generation(generation: u64) -> Slot {
        Slot {
            generation,
            ..golden::slot()
        }
    }

    #[test]
    fn slot_reads_back() {
        let running = Slot {
            shutdown: Shutdown::Running,
            ..golden::slot()
        };
        assert_eq!(decode(&running.encode(&STORE_ID)), Ok(running));
        assert_eq!(
            decode(&golden::slot().encode(&STORE_ID)),
            Ok(golden::slot())
        );
    }

    #[test]
    fn slot_damage_is_seen() {
        golden::assert_damage_is_seen(&golden::slot().encode(&STORE_ID), decode);
        golden::assert_garbage_is_refused(b"QPHINT\n\0\x01\0\0\0", 100, decode);
    }

    #[test]
    fn slot_of_another_store_is_refused() {
        assert!(Slot::decode(&golden::slot().encode(&STORE_ID), &[0; 16]).is_err());
    }

    #[test]
    fn newer_version_is_unsupported() {
        let mut bytes = golden::slot().encode(&STORE_ID);
        bytes[8] = 2;
        assert!(matches!(decode(&bytes), Err(DecodeError::Unsupported(_))));
    }

    #[test]
    fn unknown_closing_mark_is_refused() {
        for at in [52, 53] {
            let mut bytes = golden::slot().encode(&STORE_ID);
            bytes[at] = 2;
            let checksum = crc::plain(&[&STORE_ID, &bytes[16..]]);
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
            assert!(
                matches!(decode(&bytes), Err(DecodeError::Corrupt(_))),
                "byte {at}"
            );
        }
    }

    #[test]
    fn newest_is_the_valid_slot_with_the_higher_generation() {
        for (first, second) in [(6, 7), (8, 7)] {
            let both = file(&[generation(first), generation(second)]);
            let newest = Slot::newest(&both, &STORE_ID).unwrap();
            assert_eq!(newest.generation, first.max(second));
        }
    }

    #[test]
    fn cut_slot_leaves_the_other() {
        let mut both = file(&[generation(6), generation(7)]);
        both[SLOT_PAGE_BYTES + 20] ^= 1;
        assert_eq!(Slot::newest(&both, &STORE_ID), Ok(generation(6)));
        assert_eq!(
            Slot::newest(&both[..SLOT_BYTES], &STORE_ID),
            Ok(generation(6))
        );
    }

    #[test]
    fn file_without_a_valid_slot_says_why() {
        let corrupt = Slot::newest(&file(&[]), &STORE_ID);
        assert!(matches!(corrupt, Err(DecodeError::Corrupt(_))));
        let mut newer = file(&[generation(6)]);
        newer[8] = 2;
        assert!(matches!(
            Slot::newest(&newer, &STORE_ID),
            Err(DecodeError::Unsupported(_))
        ));
        assert!(Slot::newest(&[], &STORE_ID).is_err());
    }
}
