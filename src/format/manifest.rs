//! The manifest: which store this is, and which files are its log (`docs/format.md`, section 2).
//!
//! Written whole and renamed into place; the version is read before the checksum, so that a newer
//! format is told apart from damage.

use super::FORMAT_VERSION;
use super::codec::{DecodeError, Reader, put_u32, put_u64};
use super::crc;

const MAGIC: [u8; 8] = *b"QPMANIF\n";
/// The required feature that an end stands behind the lineage, which a reader may not overlook.
const FEATURE_END: u64 = 1;
const FIXED_BYTES: u64 = 64;
const REPLACED_BYTES: u64 = 24;
const LINEAGE_BYTES: u64 = 56;
const END_BYTES: u64 = 80;
const CHECKSUM_BYTES: u64 = 4;
/// No store writes so many manifests and files; what counts on from here does not overflow.
pub(crate) const MAX_GENERATION: u64 = u64::MAX / 2;

/// A range of segments that compaction wrote anew into one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// Number of the first segment of the range.
    pub(crate) first: u64,
    /// Number of the last segment of the range.
    pub(crate) last: u64,
    /// Which of all files that were ever written for a range; part of the file's name.
    pub(crate) generation: u64,
}

impl Replaced {
    pub(crate) fn contains(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
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

/// Where a snapshot ends, until it is opened for writing: what lies behind it in the files does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotEnd {
    /// The last segment.
    pub(crate) segment: u64,
    /// End offset in it of the last group.
    pub(crate) offset: u64,
    /// The last position.
    pub(crate) position: u64,
    /// Sequence of the last group.
    pub(crate) sequence: u64,
    /// Last recorded time.
    pub(crate) recorded_at: u64,
    /// The running digest after the last position.
    pub(crate) digest: [u8; 32],
    /// The checksum that the next group continues.
    pub(crate) checksum: u32,
}

/// What the file `manifest` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The random id of the store.
    pub(crate) store_id: [u8; 16],
    /// When the store was made, in nanoseconds.
    pub(crate) created_at: u64,
    /// Grows with every write of the manifest, from 1.
    pub(crate) generation: u64,
    /// Ranges replaced by compaction, in order.
    pub(crate) replaced: Vec<Replaced>,
    /// Earlier stores, oldest first.
    pub(crate) lineage: Vec<Lineage>,
    /// Only in a snapshot that was not opened for writing yet.
    pub(crate) end: Option<SnapshotEnd>,
}

impl Manifest {
    /// Up to which position files with this store id belong to the log; `None` of a stranger's.
    pub(crate) fn reach_of(&self, store_id: &[u8; 16]) -> Option<u64> {
        if self.store_id == *store_id {
            return Some(u64::MAX);
        }
        let earlier = self.lineage.iter().find(|l| l.store_id == *store_id)?;
        Some(earlier.position)
    }

    /// The replaced range that a segment is in.
    pub(crate) fn range_of(&self, number: u64) -> Option<&Replaced> {
        let at = self.replaced.partition_point(|range| range.last < number);
        self.replaced.get(at).filter(|range| range.contains(number))
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("a manifest has few entries");
        let (replaced, lineage) = (count(self.replaced.len()), count(self.lineage.len()));
        let features = self.end.map_or(0, |_| FEATURE_END);
        let length = file_bytes(replaced, lineage, features);
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(
            &mut out,
            u32::try_from(length).expect("a manifest is far below 4 GiB"),
        );
        put_u64(&mut out, features);
        out.extend_from_slice(&self.store_id);
        put_u64(&mut out, self.created_at);
        put_u64(&mut out, self.generation);
        put_u32(&mut out, replaced);
        put_u32(&mut out, lineage);
        for range in &self.replaced {
            put_u64(&mut out, range.first);
            put_u64(&mut out, range.last);
            put_u64(&mut out, range.generation);
        }
        for earlier in &self.lineage {
            out.extend_from_slice(&earlier.store_id);
            put_u64(&mut out, earlier.position);
            out.extend_from_slice(&earlier.digest);
        }
        if let Some(end) = &self.end {
            end.encode(&mut out);
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
        let features = reader.u64()?;
        if features & !FEATURE_END != 0 {
            return Err(DecodeError::Unsupported(
                "the store requires a feature that is unknown",
            ));
        }
        let manifest = Self::read(&mut reader, features, bytes.len() as u64)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn read(reader: &mut Reader<'_>, features: u64, length: u64) -> Result<Self, DecodeError> {
        let store_id = reader.array()?;
        let created_at = reader.u64()?;
        let generation = reader.u64()?;
        let (replaced, lineage) = (reader.u32()?, reader.u32()?);
        // Only now do the counts fit the bytes that are there, so that nothing is read by them before.
        if file_bytes(replaced, lineage, features) != length {
            return Err(DecodeError::Corrupt(
                "the manifest's counts do not fit its length",
            ));
        }
        let replaced = (0..replaced)
            .map(|_| read_replaced(reader))
            .collect::<Result<_, _>>()?;
        let lineage = (0..lineage)
            .map(|_| read_lineage(reader))
            .collect::<Result<_, _>>()?;
        let end = match features & FEATURE_END {
            0 => None,
            _ => Some(SnapshotEnd::read(reader)?),
        };
        Ok(Self {
            store_id,
            created_at,
            generation,
            replaced,
            lineage,
            end,
        })
    }

    /// Whether its numbers can be; one that is written without would not be read again.
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        let generations = 1..=MAX_GENERATION;
        let mut before = 0;
        for range in &self.replaced {
            let sound = before < range.first
                && range.first <= range.last
                && generations.contains(&range.generation);
            // What comes next has a number too.
            if !sound || range.last == u64::MAX {
                return Err(DecodeError::Corrupt("a replaced range is out of range"));
            }
            before = range.last;
        }
        let sound = generations.contains(&self.generation);
        if !sound || self.end.is_some_and(|end| end.segment < before.max(1)) {
            return Err(DecodeError::Corrupt(
                "the manifest's numbers are out of range",
            ));
        }
        Ok(())
    }
}

fn file_bytes(replaced: u32, lineage: u32, features: u64) -> u64 {
    FIXED_BYTES
        + REPLACED_BYTES * u64::from(replaced)
        + LINEAGE_BYTES * u64::from(lineage)
        + END_BYTES * (features & FEATURE_END)
        + CHECKSUM_BYTES
}

fn check_checksum(bytes: &[u8]) -> Result<(), DecodeError> {
    match bytes.split_last_chunk::<4>() {
        Some((covered, stored)) if crc::plain(&[covered]) == u32::from_le_bytes(*stored) => Ok(()),
        _ => Err(DecodeError::Corrupt("manifest checksum")),
    }
}

fn read_replaced(reader: &mut Reader<'_>) -> Result<Replaced, DecodeError> {
    Ok(Replaced {
        first: reader.u64()?,
        last: reader.u64()?,
        generation: reader.u64()?,
    })
}

fn read_lineage(reader: &mut Reader<'_>) -> Result<Lineage, DecodeError> {
    Ok(Lineage {
        store_id: reader.array()?,
        position: reader.u64()?,
        digest: reader.array()?,
    })
}

impl SnapshotEnd {
    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.segment);
        put_u64(out, self.offset);
        put_u64(out, self.position);
        put_u64(out, self.sequence);
        put_u64(out, self.recorded_at);
        out.extend_from_slice(&self.digest);
        put_u32(out, self.checksum);
        put_u32(out, 0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let end = Self {
            segment: reader.u64()?,
            offset: reader.u64()?,
            position: reader.u64()?,
            sequence: reader.u64()?,
            recorded_at: reader.u64()?,
            digest: reader.array()?,
            checksum: reader.u32()?,
        };
        reader.reserved::<4>()?;
        Ok(end)
    }
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
        let opened = Manifest {
            end: None,
            ..golden::manifest()
        };
        assert_eq!(Manifest::decode(&opened.encode()), Ok(opened.clone()));
        let young = Manifest {
            replaced: Vec::new(),
            lineage: Vec::new(),
            ..opened
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
            let read = rewritten(|bytes| bytes[byte] = 2);
            assert!(matches!(read, Err(DecodeError::Unsupported(_))), "{read:?}");
        }
    }

    #[test]
    fn counts_that_do_not_fit_the_length_are_refused() {
        for at in [56, 60] {
            let read = rewritten(|bytes| bytes[at..at + 4].fill(0xff));
            assert!(matches!(read, Err(DecodeError::Corrupt(_))), "{read:?}");
        }
    }

    #[test]
    fn a_feature_bit_without_its_end_is_refused() {
        let read = rewritten(|bytes| bytes[16] = 0);
        assert!(matches!(read, Err(DecodeError::Corrupt(_))), "{read:?}");
        let opened = Manifest {
            end: None,
            ..golden::manifest()
        };
        let mut bytes = opened.encode();
        bytes.truncate(bytes.len() - 4);
        bytes[16] = 1;
        let checksum = crc::plain(&[&bytes]);
        put_u32(&mut bytes, checksum);
        let read = Manifest::decode(&bytes);
        assert!(matches!(read, Err(DecodeError::Corrupt(_))), "{read:?}");
    }

    #[test]
    fn ranges_and_numbers_that_cannot_be_are_refused() {
        let range = |first, last, generation| Replaced {
            first,
            last,
            generation,
        };
        let read = |replaced: Vec<Replaced>, generation| {
            let manifest = Manifest {
                replaced,
                generation,
                ..golden::manifest()
            };
            Manifest::decode(&manifest.encode()).is_ok()
        };
        assert!(read(vec![range(1, 2, 5), range(4, 4, 6)], 7));
        for bad in [
            vec![range(0, 2, 1)],
            vec![range(3, 2, 1)],
            vec![range(1, 2, 0)],
            vec![range(1, 2, MAX_GENERATION + 1)],
            vec![range(1, 2, 1), range(2, 3, 2)],
            vec![range(3, 3, 1), range(1, 2, 2)],
            vec![range(1, u64::MAX, 1)],
            // Behind the snapshot's end.
            vec![range(1, 5, 1)],
        ] {
            assert!(!read(bad.clone(), 7), "{bad:?}");
        }
        assert!(read(vec![range(1, 2, MAX_GENERATION)], MAX_GENERATION));
        for generation in [0, MAX_GENERATION + 1, u64::MAX] {
            assert!(!read(Vec::new(), generation), "{generation}");
        }
    }

    #[test]
    fn a_segment_is_in_the_range_that_has_its_number() {
        let [low, high] = [(2, 3, 1), (5, 5, 2)].map(|(first, last, generation)| Replaced {
            first,
            last,
            generation,
        });
        let manifest = Manifest {
            replaced: vec![low, high],
            ..golden::manifest()
        };
        let found = [1, 2, 3, 4, 5, 6].map(|number| manifest.range_of(number).copied());
        let expected = [None, Some(low), Some(low), None, Some(high), None];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_earlier_store_counts_up_to_where_it_was_left() {
        let manifest = golden::manifest();
        assert_eq!(manifest.reach_of(&golden::STORE_ID), Some(u64::MAX));
        assert_eq!(manifest.reach_of(&[0xA0; 16]), Some(9));
        assert_eq!(manifest.reach_of(&[0xA2; 16]), None);
    }
}
