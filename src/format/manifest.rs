//! The manifest: which store this is and what was replaced (`docs/format.md`, section 2).
//!
//! Written whole and renamed into place; the version is read before the checksum, so that a newer
//! format is told apart from damage.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader, put_u32, put_u64};
use super::crc;

const MAGIC: [u8; 8] = *b"QPMANIF\n";
const FIXED_BYTES: u64 = 56;
const REPLACED_BYTES: u64 = 24;
const LINEAGE_BYTES: u64 = 56;
const CHECKSUM_BYTES: u64 = 4;

/// A range of segments that compaction wrote anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// Number of the first segment of the range.
    pub(crate) first: u64,
    /// Number of the last segment of the range.
    pub(crate) last: u64,
    /// Number of the segment that holds what was kept.
    pub(crate) replacement: u64,
}

/// Where this store's history left an earlier store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// The earlier store.
    pub(crate) store_id: [u8; 16],
    /// The last position that both share.
    pub(crate) position: u64,
    /// The running digest there.
    pub(crate) digest: [u8; 32],
}

/// What the file `manifest` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The random id of the store.
    pub(crate) store_id: [u8; 16],
    /// When the store was made, in nanoseconds.
    pub(crate) created_at: u64,
    /// Ranges replaced by compaction.
    pub(crate) replaced: Vec<Replaced>,
    /// Earlier stores, oldest first.
    pub(crate) lineage: Vec<Lineage>,
}

impl Manifest {
    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("a manifest has few entries");
        let (replaced, lineage) = (count(self.replaced.len()), count(self.lineage.len()));
        let length = file_bytes(replaced, lineage);
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(
            &mut out,
            u32::try_from(length).expect("a manifest is far below 4 GiB"),
        );
        put_u64(&mut out, 0);
        out.extend_from_slice(&self.store_id);
        put_u64(&mut out, self.created_at);
        put_u32(&mut out, replaced);
        put_u32(&mut out, lineage);
        for range in &self.replaced {
            put_u64(&mut out, range.first);
            put_u64(&mut out, range.last);
            put_u64(&mut out, range.replacement);
        }
        for earlier in &self.lineage {
            out.extend_from_slice(&earlier.store_id);
            put_u64(&mut out, earlier.position);
            out.extend_from_slice(&earlier.digest);
        }
        let checksum = crc::plain(&[&out]);
        put_u32(&mut out, checksum);
        out
    }

    /// Reads the whole file's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC {
            return Err(DecodeError::Corrupt("this is no manifest"));
        }
        if reader.u32()? != FORMAT_VERSION {
            return Err(DecodeError::Unsupported(
                "the store's format version is unknown",
            ));
        }
        if u64::from(reader.u32()?) != bytes.len() as u64 {
            return Err(DecodeError::Corrupt("the manifest's length is another"));
        }
        check_checksum(bytes)?;
        if reader.u64()? != 0 {
            return Err(DecodeError::Unsupported(
                "the store requires a feature that is unknown",
            ));
        }
        let store_id = reader.array()?;
        let created_at = reader.u64()?;
        let (replaced, lineage) = (reader.u32()?, reader.u32()?);
        // Only now do the counts fit the bytes that are there, so that nothing is read by them before.
        if file_bytes(replaced, lineage) != bytes.len() as u64 {
            return Err(DecodeError::Corrupt(
                "the manifest's counts do not fit its length",
            ));
        }
        let replaced = (0..replaced)
            .map(|_| read_replaced(&mut reader))
            .collect::<Result<_, _>>()?;
        let lineage = (0..lineage)
            .map(|_| read_lineage(&mut reader))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            store_id,
            created_at,
            replaced,
            lineage,
        })
    }
}

fn file_bytes(replaced: u32, lineage: u32) -> u64 {
    FIXED_BYTES
        + REPLACED_BYTES * u64::from(replaced)
        + LINEAGE_BYTES * u64::from(lineage)
        + CHECKSUM_BYTES
}

fn check_checksum(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes.split_last_chunk::<4>() {
        Some((covered, stored)) if crc::plain(&[covered]) == u32::from_le_bytes(*stored) => Ok(()),
        _ => Err(DecodeError::Corrupt("manifest checksum")),
    }
}

fn read_replaced(reader: &mut Reader<'_>) -> Result<Replaced, DecodeError> {
    let range = Replaced {
        first: reader.u64()?,
        last: reader.u64()?,
        replacement: reader.u64()?,
    };
    if range.first == 0 || range.first > range.last || range.replacement == 0 {
        return Err(DecodeError::Corrupt("a replaced range is out of range"));
    }
    Ok(range)
}

fn read_lineage(reader: &mut Reader<'_>) -> Result<Lineage, DecodeError> {
    Ok(Lineage {
        store_id: reader.array()?,
        position: reader.u64()?,
        digest: reader.array()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden;

    fn rewritten(change: impl FnOnce(&mut Vec<u8>)) -> Result<Manifest, DecodeError> {
        let mut bytes = golden::manifest().encode();
        bytes.truncate(bytes.len() - 4);
        change(&mut bytes);
        let checksum = crc::plain(&[&bytes]);
        put_u32(&mut bytes, checksum);
        Manifest::decode(&bytes)
    }

    #[test]
    fn manifest_reads_back() {
        assert_eq!(rewritten(|_| ()), Ok(golden::manifest()));
        let young = Manifest {
            replaced: Vec::new(),
            lineage: Vec::new(),
            ..golden::manifest()
        };
        assert_eq!(Manifest::decode(&young.encode()), Ok(young));
    }

    #[test]
    fn manifest_damage_is_seen() {
        golden::assert_damage_is_seen(&golden::manifest().encode(), Manifest::decode);
        golden::assert_garbage_is_refused(b"QPMANIF\n\x01\0\0\0", 300, Manifest::decode);
    }

    #[test]
    fn longer_manifest_is_refused() {
        let mut bytes = golden::manifest().encode();
        bytes.push(0);
        assert!(Manifest::decode(&bytes).is_err());
    }

    #[test]
    fn newer_version_is_unsupported_before_the_checksum_is_read() {
        let mut bytes = golden::manifest().encode();
        bytes[8] = 2;
        assert!(matches!(
            Manifest::decode(&bytes),
            Err(DecodeError::Unsupported(_))
        ));
    }

    #[test]
    fn unknown_feature_is_unsupported() {
        for byte in 16..24 {
            let read = rewritten(|bytes| bytes[byte] = 1);
            assert!(matches!(read, Err(DecodeError::Unsupported(_))), "{read:?}");
        }
    }

    #[test]
    fn counts_that_do_not_fit_the_length_are_refused() {
        for at in [48, 52] {
            let read = rewritten(|bytes| bytes[at..at + 4].fill(0xff));
            assert!(matches!(read, Err(DecodeError::Corrupt(_))), "{read:?}");
        }
    }

    #[test]
    fn replaced_range_that_ends_before_it_begins_is_refused() {
        assert!(matches!(
            rewritten(|bytes| bytes[56] = 4),
            Err(DecodeError::Corrupt(_))
        ));
    }
}
