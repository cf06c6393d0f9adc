//! Looks at what lies in the directory: which segments, what their headers say, and what follows the last valid group.
//!
//! Looking changes nothing. A read error is an error here, never the end of the log. Runs on the thread that opens the
//! store; a header is also read where an index is made.

use std::io::ErrorKind;

use crate::error::{Result, StoreError};
use crate::format::codec::DecodeError;
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::format::manifest::Manifest;
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, DiskFile, read_exact_at};
use crate::log::files::{SEGMENTS, SegmentFile, decode_error};
use crate::log::plan::{Rest, Shape, first_missing};
use crate::log::scan::{GROUPS_START, Mark, Scan};

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: u64 = 512;
/// How much of the tail is looked at at once, in bytes.
const LOOK_BYTES: u64 = 256 * 1024;
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// A segment file as the directory lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) file: SegmentFile,
    pub(crate) bytes: u64,
}

/// The segment files that the manifest names, in order; each number from 1 to the newest is in one of them.
pub(crate) fn list_segments(disk: &dyn Disk, manifest: &Manifest) -> Result<Vec<Listed>> {
    let entries = disk
        .list(SEGMENTS)
        .map_err(|e| StoreError::io(format_args!("listing {SEGMENTS}"), e))?;
    let mut segments = Vec::new();
    for entry in entries {
        let file = SegmentFile::parse(&entry.name, "seg");
        let Some(file) = file.filter(|file| is_named(manifest, *file)) else {
            continue;
        };
        if !entry.is_file {
            return Err(StoreError::corrupt(format!(
                "{} is not a regular file",
                file.name()
            )));
        }
        segments.push(Listed {
            file,
            bytes: entry.bytes,
        });
    }
    segments.sort_unstable_by_key(|s| s.file.number);
    let ranges = segments.iter().map(|s| (s.file.first, s.file.number));
    match first_missing(ranges, least_newest(manifest)) {
        None => Ok(segments),
        Some(number) => Err(StoreError::corrupt(format!(
            "{} is missing; restore it from a copy",
            SegmentFile::holding(manifest, number).name()
        ))),
    }
}

/// Whether a segment file belongs to the log.
pub(crate) fn is_named(manifest: &Manifest, file: SegmentFile) -> bool {
    SegmentFile::holding(manifest, file.number) == file
        && manifest.end.is_none_or(|end| file.number <= end.segment)
}

/// The segment that there must be at least.
fn least_newest(manifest: &Manifest) -> u64 {
    let replaced = manifest.replaced.last().map_or(0, |range| range.last);
    manifest.end.map_or(replaced, |end| end.segment)
}

/// The header of a segment; `None` when it is absent, zero or torn.
///
/// # Errors
/// `Unsupported` for a newer format, `Corrupt` for a valid header of another segment, of another store, or of an
/// earlier store behind the place where this one left it.
pub(crate) fn read_header(
    disk: &dyn Disk,
    listed: Listed,
    manifest: &Manifest,
) -> Result<Option<SegmentHeader>> {
    let Some(header) = header_in(disk, listed)? else {
        return Ok(None);
    };
    match manifest.reach_of(&header.store_id) {
        // One in which nothing was appended yet counts, too.
        Some(reach) if header.first_position - 1 <= reach => Ok(Some(header)),
        Some(reach) => Err(goes_beyond(listed.file, reach)),
        None => Err(is_other(listed.file, &header, "another store")),
    }
}

/// The header of a segment of whatever store.
pub(crate) fn header_in(disk: &dyn Disk, listed: Listed) -> Result<Option<SegmentHeader>> {
    let name = listed.file.name();
    let file = open(disk, &name, Access::Read)?;
    if listed.bytes < GROUPS_START {
        return Ok(None);
    }
    let mut page = vec![0; usize::try_from(GROUPS_START).unwrap_or_default()];
    read_exact_at(&*file, &mut page, 0)
        .map_err(|e| StoreError::io(format_args!("reading {name}"), e))?;
    match SegmentHeader::decode(&page) {
        Ok(header) if listed.file.has(&header) => Ok(Some(header)),
        Ok(header) => Err(is_other(listed.file, &header, "a store")),
        Err(DecodeError::Corrupt(_)) => Ok(None),
        Err(error) => Err(decode_error(&name, 0, &error)),
    }
}

fn is_other(file: SegmentFile, header: &SegmentHeader, store: &str) -> StoreError {
    let (first, last) = (header.replaces_first, header.number);
    let which = match header.is_replacement() {
        true => format!("a replacement of segments {first} to {last}"),
        false => format!("segment {last}"),
    };
    StoreError::corrupt(format!(
        "{} says that it is {which} of {store}; put the right file in its place",
        file.name()
    ))
}

/// A file has an earlier store's id, and events behind those that this store shares with it.
pub(crate) fn goes_beyond(file: SegmentFile, reach: u64) -> StoreError {
    StoreError::corrupt(format!(
        "{} is of another store, of which this one shares the events up to {reach} alone; put the right file in its place",
        file.name()
    ))
}

pub(crate) fn open(
    disk: &dyn Disk,
    name: &str,
    access: Access,
) -> Result<crate::sync::Arc<dyn DiskFile>> {
    disk.open(name, access).map_err(|e| match e.kind() {
        ErrorKind::InvalidData => StoreError::corrupt(format!("{name}: {e}")),
        _ => StoreError::io(format_args!("opening {name}"), e),
    })
}

/// Looks at what follows the last valid group, at which the scan stands; `extent` is the length that the header of
/// the first invalid group gives, when it can be read.
pub(crate) fn look_behind(
    scan: &mut Scan,
    header: &SegmentHeader,
    extent: Option<u32>,
) -> Result<Rest> {
    let end = scan.tip.mark.offset;
    let mut seen = Seen::default();
    let mut at = end;
    while at < scan.file_bytes() {
        let len = LOOK_BYTES.min(scan.file_bytes() - at);
        let window = scan.read(at, len)?;
        seen.take(window, at, end, header);
        if at + len >= scan.file_bytes() {
            break;
        }
        at += len - (GROUP_HEADER_BYTES as u64 - 1);
    }
    if seen.used_end <= end {
        return Ok(Rest::Blank);
    }
    let shape = if is_torn(scan, end, extent)? {
        Shape::Torn
    } else {
        Shape::Whole
    };
    Ok(Rest::Damaged {
        shape,
        later_groups: seen.later_groups,
        later_synced: seen.later_synced,
        used_end: seen.used_end,
    })
}

#[derive(Default)]
struct Seen {
    used_end: u64,
    later_groups: u32,
    later_synced: Mark,
    counted_to: u64,
}

impl Seen {
    /// Notes the last byte that is not zero and every valid group header behind `end`.
    fn take(&mut self, window: &[u8], at: u64, end: u64, header: &SegmentHeader) {
        if ZEROS.get(..window.len()) == Some(window) {
            return;
        }
        if let Some(last) = window.iter().rposition(|b| *b != 0) {
            self.used_end = self.used_end.max(at + last as u64 + 1);
        }
        let seed = header.seed();
        for (index, candidate) in window.windows(GROUP_HEADER_BYTES).enumerate() {
            let offset = at + index as u64;
            if offset <= end || offset < self.counted_to || !candidate.starts_with(b"GRUP") {
                continue;
            }
            if let Ok(group) = GroupHeader::decode(candidate, &seed, header.number, offset) {
                self.later_groups = self.later_groups.saturating_add(1);
                let synced = Mark {
                    segment: group.synced_segment,
                    offset: group.synced_offset,
                };
                self.later_synced = self.later_synced.max(synced);
                self.counted_to = offset + 1;
            }
        }
    }
}

/// Whether the first invalid group looks like a write that did not finish.
fn is_torn(scan: &mut Scan, start: u64, extent: Option<u32>) -> Result<bool> {
    let file_bytes = scan.file_bytes();
    let group_end = match extent {
        Some(len) => start.saturating_add(u64::from(len)),
        None if file_bytes - start < GROUP_HEADER_BYTES as u64 => return Ok(true),
        None => file_bytes,
    };
    if group_end > file_bytes {
        return Ok(true);
    }
    if extent.is_some() && scan.read(group_end - 1, 1)? == [0] {
        return Ok(true);
    }
    let mut from = start;
    while from < group_end {
        let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(group_end);
        if scan.read(from, to - from)?.iter().all(|b| *b == 0) {
            return Ok(true);
        }
        from = to;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::format::golden;
    use crate::io::MemoryDisk;

    fn header_in(page: &[u8]) -> Result<Option<SegmentHeader>> {
        let disk = MemoryDisk::new();
        disk.create_dir(SEGMENTS).unwrap();
        let file = SegmentFile::original(1);
        let opened = disk.open(&file.name(), Access::CreateNew).unwrap();
        assert_eq!(opened.write_at(page, 0).unwrap(), page.len());
        let bytes = page.len() as u64;
        super::header_in(&disk, Listed { file, bytes })
    }

    #[test]
    fn row_14_a_header_of_an_unknown_version_is_unsupported_and_not_half_made() {
        let mut page = golden::segment_page();
        assert_eq!(header_in(&page).unwrap(), Some(golden::segment()));
        page[8] += 1;
        let error = header_in(&page).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{error}");
        page[0] ^= 1;
        assert_eq!(header_in(&page).unwrap(), None, "a damaged page");
    }
}
