//! The names of the files in a store's directory and the small ones among them, read and written whole.
//!
//! A name is made of numbers of ours alone; nothing that a caller chose ever becomes part of a path. The thread that
//! opens the store reads the small files; from then on the hint is the turn's.

use std::io::ErrorKind;

use crate::error::{Result, StoreError};
use crate::format::codec::DecodeError;
use crate::format::hint::{HINT_BYTES, Shutdown, Slot};
use crate::format::manifest::Manifest;
use crate::io::{Access, Disk, DiskFile, read_exact_at, replace, write_all_at};
use crate::log::scan::Tip;
use crate::sync::Arc;

pub(crate) const MANIFEST: &str = "manifest";
pub(crate) const SEGMENTS: &str = "segments";
pub(crate) const HINT: &str = "hint";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const LOCK: &str = "lock";

/// A manifest, hint or checkpoint longer than this is not one of ours.
pub(crate) const MAX_SMALL_FILE_BYTES: u64 = 1 << 30;

pub(crate) fn segment_name(number: u64) -> String {
    format!("{SEGMENTS}/{number:010}.seg")
}

pub(crate) fn side_index_name(number: u64) -> String {
    format!("{SEGMENTS}/{number:010}.sidx")
}

pub(crate) fn run_name(first: u64, last: u64) -> String {
    format!("{SEGMENTS}/{first:010}-{last:010}.run")
}

pub(crate) fn torn_name(number: u64, attempt: u32) -> String {
    format!("{SEGMENTS}/{number:010}.torn-{attempt}")
}

/// The number in `0000000012.seg`, given without its folder.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0)
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
    replace(disk, MANIFEST, &manifest.encode())
        .map_err(|e| StoreError::io(format_args!("writing {MANIFEST}"), e))
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
}

impl HintFile {
    /// Opens the hint for writing, making it if it is not there; `generation` is that of the newest valid slot.
    pub(crate) fn open(disk: &dyn Disk, store_id: [u8; 16], generation: u64) -> Result<Self> {
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
            store_id,
            generation,
        })
    }

    /// Writes over the older slot that `tip` is durable. It is not synced: it can only be late, never early.
    pub(crate) fn write(&mut self, tip: &Tip, shutdown: Shutdown) -> std::io::Result<()> {
        self.generation += 1;
        let slot = Slot {
            generation: self.generation,
            segment: tip.mark.segment,
            end_offset: tip.mark.offset,
            last_position: tip.position,
            group_checksum: tip.checksum,
            shutdown,
            manifest_generation: 0,
        };
        write_all_at(&*self.file, &slot.encode(&self.store_id), slot.offset()).map_err(|e| e.source)
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_segments() {
        assert_eq!(parse_segment_name("0000000012.seg"), Some(12));
        for other in [
            "12.seg",
            "0000000000.seg",
            "000000012a.seg",
            "0000000012.sidx",
            "00000000012.seg",
        ] {
            assert_eq!(parse_segment_name(other), None, "{other}");
        }
    }
}
