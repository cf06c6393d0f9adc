//! Looks at what lies in the directory: which segments, what their headers say, and what follows the last valid group.
//!
//! Looking changes nothing. A read error is an error here, never the end of the log. Runs on the thread that opens the
//! store; a header is also read where an index is made.

use std::io::ErrorKind;

use crate::error::{Result, StoreError};
use crate::format::codec::DecodeError;
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, DiskFile, read_exact_at};
use crate::log::files::{SEGMENTS, decode_error, parse_segment_name, segment_name};
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
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

/// The segment files in order; their numbers begin with 1 and none is missing.
pub(crate) fn list_segments(disk: &dyn Disk) -> Result<Vec<Listed>> {
    let entries = disk
        .list(SEGMENTS)
        .map_err(|e| StoreError::io(format_args!("listing {SEGMENTS}"), e))?;
    let mut segments = Vec::new();
    for entry in entries {
        let Some(number) = parse_segment_name(&entry.name) else {
            continue;
        };
        if !entry.is_file {
            return Err(StoreError::corrupt(format!(
                "{} is not a regular file",
                segment_name(number)
            )));
        }
        segments.push(Listed {
            number,
            bytes: entry.bytes,
        });
    }
    segments.sort_unstable_by_key(|s| s.number);
    match first_missing(segments.iter().map(|s| s.number)) {
        None => Ok(segments),
        Some(number) => Err(StoreError::corrupt(format!(
            "{} is missing; restore it from a copy",
            segment_name(number)
        ))),
    }
}

/// The header of a segment; `None` when it is absent, zero or torn.
///
/// # Errors
/// `Unsupported` for a newer format, `Corrupt` for a valid header of another segment or store.
pub(crate) fn read_header(
    disk: &dyn Disk,
    listed: Listed,
    store_id: &[u8; 16],
) -> Result<Option<SegmentHeader>> {
    let name = segment_name(listed.number);
    let file = open(disk, &name, Access::Read)?;
    if listed.bytes < GROUPS_START {
        return Ok(None);
    }
    let mut page = vec![0; usize::try_from(GROUPS_START).unwrap_or_default()];
    read_exact_at(&*file, &mut page, 0)
        .map_err(|e| StoreError::io(format_args!("reading {name}"), e))?;
    let header = match SegmentHeader::decode(&page) {
        Ok(header) => header,
        Err(DecodeError::Corrupt(_)) => return Ok(None),
        Err(error) => return Err(decode_error(&name, 0, &error)),
    };
    if header.store_id != *store_id || header.number != listed.number {
        return Err(StoreError::corrupt(format!(
            "{name} says that it is segment {} of {}; put the right file in its place",
            header.number,
            if header.store_id == *store_id {
                "this store"
            } else {
                "another store"
            },
        )));
    }
    Ok(Some(header))
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
        let file = disk.open(&segment_name(1), Access::CreateNew).unwrap();
        assert_eq!(file.write_at(page, 0).unwrap(), page.len());
        let listed = Listed {
            number: 1,
            bytes: page.len() as u64,
        };
        read_header(&disk, listed, &golden::STORE_ID)
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
