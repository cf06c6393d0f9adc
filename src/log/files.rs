//! The names of the files in a store's directory and the small ones among them, read and written whole.
//!
//! A name is made of numbers of ours alone; nothing that a caller chose ever becomes part of a path. The thread that
//! opens the store reads the small files; from then on the hint is the turn's.

use std::io::ErrorKind;

use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::format::codec::DecodeError;
use crate::format::hint::{HINT_BYTES, Shutdown, Slot};
use crate::format::manifest::{Manifest, Replaced};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, DiskFile, read_exact_at, replace, write_all_at};
use crate::log::scan::Tip;
use crate::sync::Arc;

pub(crate) const MANIFEST: &str = "manifest";
/// What will be the manifest of a copy, while the files that it names are brought.
pub(crate) const UNFINISHED: &str = "manifest.part";
/// What is said of a directory that has that file and no manifest, and what to do.
pub(crate) const UNFINISHED_COPY: &str = "it holds a copy that is not finished; take the snapshot again, or ask for the restore again, into the same directory, or name another one";
pub(crate) const SEGMENTS: &str = "segments";
pub(crate) const HINT: &str = "hint";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const LOCK: &str = "lock";

/// A manifest, hint or checkpoint longer than this is not one of ours.
pub(crate) const MAX_SMALL_FILE_BYTES: u64 = 1 << 30;

/// The file of a segment, or of a range of segments that compaction wrote anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    /// The first segment that it stands for.
    pub(crate) first: u64,
    /// The last one, whose number is in its header.
    pub(crate) number: u64,
    /// Which of all replacements ever written it is, from 1; 0 of a segment as it was appended.
    pub(crate) generation: u64,
}

impl SegmentFile {
    /// The file that segment `number` was appended to.
    pub(crate) const fn original(number: u64) -> Self {
        Self {
            first: number,
            number,
            generation: 0,
        }
    }

    /// The file that holds segment `number` as the manifest says.
    pub(crate) fn holding(manifest: &Manifest, number: u64) -> Self {
        let range = manifest.range_of(number);
        range.map_or(Self::original(number), Self::from)
    }

    /// The file with this name in the folder of segments.
    pub(crate) fn parse(name: &str, extension: &str) -> Option<Self> {
        let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
        let numbers: Vec<u64> = stem
            .split('-')
            .map(|digits| digits.parse().ok())
            .collect::<Option<_>>()?;
        let file = match *numbers.as_slice() {
            [number] => Self::original(number),
            [first, number, generation] if generation > 0 => Self {
                first,
                number,
                generation,
            },
            _ => return None,
        };
        let sound = 0 < file.first && file.first <= file.number && file.stem() == stem;
        sound.then_some(file)
    }

    pub(crate) fn is_replacement(self) -> bool {
        self.generation > 0
    }

    /// Whether it is the file that this header stands in.
    pub(crate) fn has(self, header: &SegmentHeader) -> bool {
        header.number == self.number
            && header.replaces_first == self.first
            && header.is_replacement() == self.is_replacement()
    }

    pub(crate) fn name(self) -> String {
        format!("{SEGMENTS}/{}.seg", self.stem())
    }

    /// The file that replaces its footer when that is damaged.
    pub(crate) fn side_index_name(self) -> String {
        format!("{SEGMENTS}/{}.sidx", self.stem())
    }

    /// The file that keeps what a cut took away.
    pub(crate) fn torn_name(self, attempt: u32) -> String {
        format!("{SEGMENTS}/{}.torn-{attempt}", self.stem())
    }

    fn stem(self) -> String {
        let (first, number, generation) = (self.first, self.number, self.generation);
        match generation {
            0 => format!("{number:010}"),
            _ => format!("{first:010}-{number:010}-{generation:06}"),
        }
    }
}

impl From<&Replaced> for SegmentFile {
    fn from(range: &Replaced) -> Self {
        Self {
            first: range.first,
            number: range.last,
            generation: range.generation,
        }
    }
}

impl From<&SealedEntry> for SegmentFile {
    fn from(entry: &SealedEntry) -> Self {
        Self {
            first: entry.first,
            number: entry.number,
            generation: entry.generation,
        }
    }
}

/// The name of the file that segment `number` was appended to.
pub(crate) fn segment_name(number: u64) -> String {
    SegmentFile::original(number).name()
}

pub(crate) fn run_name(first: u64, last: u64) -> String {
    format!("{SEGMENTS}/{first:010}-{last:010}.run")
}

/// Whether a name is that of a run, of whatever segments.
pub(crate) fn is_run_name(name: &str) -> bool {
    let stem = name
        .strip_prefix(SEGMENTS)
        .and_then(|name| name.strip_suffix(".run"));
    stem.and_then(|stem| stem.strip_prefix('/')?.split_once('-'))
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        .is_some_and(|(first, last)| run_name(first, last) == name)
}

/// Turns what a decoder found into an error with its place and advice.
pub(crate) fn decode_error(file: &str, offset: u64, error: &DecodeError) -> StoreError {
    match error {
        DecodeError::Corrupt(what) => StoreError::corrupt(format!(
            "{file} at byte {offset}: {what}; restore this file from a copy"
        )),
        DecodeError::Unsupported(what) => StoreError::unsupported(format!(
            "{file} at byte {offset}: {what}; open the store with a newer version of quipu"
        )),
    }
}

/// The whole of a small file, or `None` if there is none.
pub(crate) fn read_small(disk: &dyn Disk, name: &str) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(name, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(format_args!("opening {name}"), e)),
    };
    read_whole(&*file, name).map(Some)
}

fn read_whole(file: &dyn DiskFile, name: &str) -> Result<Vec<u8>> {
    let fail = |e| StoreError::io(format_args!("reading {name}"), e);
    let len = file.len().map_err(fail)?;
    if len > MAX_SMALL_FILE_BYTES {
        return Err(StoreError::corrupt(format!(
            "{name} is {len} bytes long, which no {name} is; restore it from a copy"
        )));
    }
    let len = usize::try_from(len).map_err(|_| {
        StoreError::unsupported(format!(
            "{name} is {len} bytes long, too long for this machine"
        ))
    })?;
    let mut bytes = vec![0; len];
    read_exact_at(file, &mut bytes, 0).map_err(fail)?;
    Ok(bytes)
}

pub(crate) fn read_manifest(disk: &dyn Disk) -> Result<Option<Manifest>> {
    let Some(bytes) = read_small(disk, MANIFEST)? else {
        return Ok(None);
    };
    Manifest::decode(&bytes)
        .map(Some)
        .map_err(|e| decode_error(MANIFEST, 0, &e))
}

pub(crate) fn write_manifest(disk: &dyn Disk, manifest: &Manifest) -> Result<()> {
    write_manifest_as(disk, MANIFEST, manifest)
}

/// Writes a manifest under a name; one that could not be read again is refused.
pub(crate) fn write_manifest_as(disk: &dyn Disk, name: &str, manifest: &Manifest) -> Result<()> {
    manifest.check().map_err(|e| decode_error(name, 0, &e))?;
    replace(disk, name, &manifest.encode())
        .map_err(|e| StoreError::io(format_args!("writing {name}"), e))
}

/// What the hint says; `None`, with a warning, when there is none or no slot of it is valid.
pub(crate) fn read_hint(disk: &dyn Disk, store_id: &[u8; 16]) -> Result<Option<Slot>> {
    let Some(bytes) = read_small(disk, HINT)? else {
        return Ok(None);
    };
    if bytes.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    match Slot::newest(&bytes, store_id) {
        Ok(slot) => Ok(Some(slot)),
        Err(DecodeError::Corrupt(why)) => {
            tracing::warn!(why, "the durable hint proves nothing");
            Ok(None)
        }
        Err(error) => Err(decode_error(HINT, 0, &error)),
    }
}

/// The durable hint: evidence of what was acknowledged, written after each sync and before the callers are told.
#[derive(Debug)]
pub(crate) struct HintFile {
    file: Arc<dyn DiskFile>,
    store_id: [u8; 16],
    generation: u64,
    /// The manifest in force.
    manifest_generation: u64,
    /// The newest slot in the file, if one is valid.
    newest: Option<Slot>,
}

impl HintFile {
    /// Opens the hint for writing, making it if it is not there; `newest` is the newest valid slot.
    pub(crate) fn open(disk: &dyn Disk, manifest: &Manifest, newest: Option<Slot>) -> Result<Self> {
        let fail = |e| StoreError::io(format_args!("opening {HINT}"), e);
        let file = match disk.open(HINT, Access::Write) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                replace(disk, HINT, &[0; HINT_BYTES]).map_err(fail)?;
                disk.open(HINT, Access::Write).map_err(fail)?
            }
            Err(e) => return Err(fail(e)),
        };
        Ok(Self {
            file,
            store_id: manifest.store_id,
            generation: newest.map_or(0, |slot| slot.generation),
            manifest_generation: manifest.generation,
            newest,
        })
    }

    /// Writes over the older slot that `tip` is durable. It is not synced: it can only be late, never early.
    pub(crate) fn write(&mut self, tip: &Tip, shutdown: Shutdown) -> std::io::Result<()> {
        self.put(Slot {
            generation: 0,
            segment: tip.mark.segment,
            end_offset: tip.mark.offset,
            last_position: tip.position,
            group_checksum: tip.checksum,
            shutdown,
            manifest_generation: 0,
        })
    }

    /// Tells readers that another manifest is in force, and of the log what was told last.
    pub(crate) fn announce(&mut self, manifest_generation: u64) -> std::io::Result<()> {
        self.manifest_generation = manifest_generation;
        let Some(newest) = self.newest else {
            return Ok(());
        };
        self.put(Slot {
            shutdown: Shutdown::Running,
            ..newest
        })
    }

    /// Whether readers know which manifest is in force.
    pub(crate) fn is_announced(&self) -> bool {
        let announced = self.newest.map(|slot| slot.manifest_generation);
        announced == Some(self.manifest_generation)
    }

    fn put(&mut self, slot: Slot) -> std::io::Result<()> {
        self.generation += 1;
        let slot = Slot {
            generation: self.generation,
            manifest_generation: self.manifest_generation,
            ..slot
        };
        write_all_at(&*self.file, &slot.encode(&self.store_id), slot.offset())
            .map_err(|e| e.source)?;
        self.newest = Some(slot);
        Ok(())
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_runs() {
        assert!(is_run_name(&run_name(17, 32)));
        for other in [
            "segments/17-32.run",
            "segments/0000000017.run",
            "0000000017-0000000032.run",
            "segments/0000000017-0000000032.seg",
        ] {
            assert!(!is_run_name(other), "{other}");
        }
    }

    #[test]
    fn only_our_own_names_are_segments() {
        let replacement = SegmentFile {
            first: 3,
            number: 12,
            generation: 1_000_007,
        };
        for (name, file) in [
            ("0000000012.seg", SegmentFile::original(12)),
            ("0000000003-0000000012-1000007.seg", replacement),
        ] {
            assert_eq!(SegmentFile::parse(name, "seg"), Some(file));
            assert_eq!(file.name(), format!("{SEGMENTS}/{name}"));
            assert_eq!(SegmentFile::parse(name, "sidx"), None);
        }
        for other in [
            "12.seg",
            "0000000000.seg",
            "000000012a.seg",
            "+000000012.seg",
            "0000000012.sidx",
            "00000000012.seg",
            "0000000012seg",
            "0000000003-0000000012.seg",
            "0000000003-0000000012-000000.seg",
            "0000000003-0000000012-7.seg",
            "0000000013-0000000012-000007.seg",
            "0000000000-0000000012-000007.seg",
            "0000000003-0000000012-000007-000008.seg",
        ] {
            assert_eq!(SegmentFile::parse(other, "seg"), None, "{other}");
        }
    }
}
