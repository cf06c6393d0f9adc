//! Writes replacements for tests: the events of whole segments, all kept, in one new file.
//!
//! The thread that tests runs it; the segments may be of a store that is open or closed.

use crate::error::Result;
use crate::format::checkpoint::SealedEntry;
use crate::io::{Access, Disk};
use crate::log::files::SegmentFile;
use crate::log::look::{self, Listed};
use crate::log::rewrite::{Keeper, Range, rewrite};
use crate::log::scan::{Scan, Step};
use crate::log::seal::Sealed;

/// Keeps everything.
struct All;

impl Keeper for All {
    fn goes(&mut self, _: u64) -> bool {
        false
    }
    fn hash_at(&self, _: u64) -> Result<[u8; 32]> {
        unreachable!("no stub is made")
    }
    fn hash_of(&self, _: &[u8; 16]) -> Result<[u8; 32]> {
        unreachable!("no stub is made")
    }
    fn went_through(&mut self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }
}

/// Copies the events of `files`, which follow each other, into one sealed file of this store.
pub(crate) fn merge(
    disk: &dyn Disk,
    files: &[SegmentFile],
    generation: u64,
    store_id: [u8; 16],
) -> Result<(SegmentFile, Sealed)> {
    let sources: Vec<_> = files
        .iter()
        .map(|file| entry_of(disk, *file))
        .collect::<Result<_>>()?;
    let range = Range {
        sources: &sources,
        generation,
        store_id,
        salt: [u8::try_from(generation % 251).unwrap(); 16],
    };
    Ok((range.file(), rewrite(disk, &range, &mut All)?))
}

/// What a checkpoint would say of a segment, but for its index.
fn entry_of(disk: &dyn Disk, file: SegmentFile) -> Result<SealedEntry> {
    let opened = look::open(disk, &file.name(), Access::Read)?;
    let bytes = opened.len().unwrap();
    let header = look::header_in(disk, Listed { file, bytes })?.expect("a header");
    let mut scan = Scan::begin(opened, file.name(), &header)?;
    while let Step::Group(_) = scan.step()? {}
    Ok(SealedEntry {
        store_id: header.store_id,
        first: file.first,
        number: file.number,
        generation: file.generation,
        first_position: header.first_position,
        last_position: scan.tip.position,
        file_bytes: bytes,
        log_end: scan.tip.mark.offset,
        last_group_checksum: scan.tip.checksum,
        index_checksum: 0,
        last_group_sequence: scan.tip.sequence,
        first_recorded: header.recorded_before,
        last_recorded: scan.tip.recorded_at,
        digest: scan.tip.digest,
    })
}
