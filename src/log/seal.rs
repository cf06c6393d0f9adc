//! Gives a full segment its footer, and makes a damaged one again from the frames.
//!
//! The index is a pure function of the segment's events, so that what is made again is the same byte for byte. Runs
//! on upkeep's thread, on the one that opens or closes the store, or on that of a reader who meets the damage.

use std::io;

use crate::error::{Result, StoreError};
use crate::format::record::{ParentList, Record, TagList};
use crate::format::segment::SegmentHeader;
use crate::format::sidx::{SidxFacts, SidxRow, TRAILER_BYTES, Trailer};
use crate::format::sidx_build::SidxBuilder;
use crate::io::{Access, Disk, read_exact_at, replace, write_in_pieces};
use crate::log::files::{SegmentFile, decode_error};
use crate::log::look::{Listed, header_in, open};
use crate::log::scan::{Scan, Step, Tip};

/// What a sealed segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) first_position: u64,
    pub(crate) last_position: u64,
    pub(crate) first_recorded: u64,
    pub(crate) last_recorded: u64,
    pub(crate) digest_before: [u8; 32],
    /// The length of the file, footer included; of a segment that is not sealed, the length found.
    pub(crate) file_bytes: u64,
    /// The checksum in the index's trailer.
    pub(crate) index_checksum: u32,
    pub(crate) tip: Tip,
}

/// How much is read before other threads are let by, in bytes: on a busy processor an append would wait for all of it.
const BYTES_BETWEEN_YIELDS: usize = 64 * 1024;
/// The alignment of a footer, in bytes.
const FOOTER_ALIGNMENT: u64 = 4096;

/// Where the footer of a segment begins whose last group ends at `log_end`.
pub(crate) fn footer_start(log_end: u64) -> u64 {
    log_end.next_multiple_of(FOOTER_ALIGNMENT)
}

/// Writes the footer behind the last group of a full segment and cuts the file behind it.
pub(crate) fn seal(
    disk: &dyn Disk,
    store_id: &[u8; 16],
    file: SegmentFile,
    last_position: u64,
) -> Result<Sealed> {
    let name = file.name();
    let fail = |e: io::Error| StoreError::io(format_args!("sealing {name}"), e);
    let (sealed, footer) = index_of(disk, store_id, file, last_position)?;
    let file = open(disk, &name, Access::Write)?;
    let start = footer_start(sealed.tip.mark.offset);
    let file_bytes = start + footer.len() as u64;
    write_in_pieces(&*file, &footer, start).map_err(fail)?;
    file.set_len(file_bytes).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    Ok(Sealed {
        file_bytes,
        ..sealed
    })
}

/// Makes the index of a sealed segment whose footer is damaged again, beside it.
pub(crate) fn write_side_index(
    disk: &dyn Disk,
    store_id: &[u8; 16],
    file: SegmentFile,
    last_position: u64,
) -> Result<Sealed> {
    let (sealed, footer) = index_of(disk, store_id, file, last_position)?;
    let name = file.side_index_name();
    replace(disk, &name, &footer).map_err(|e| StoreError::io(format_args!("writing {name}"), e))?;
    Ok(sealed)
}

/// Reads the groups of a segment, whose header has this store id, and builds the index over their events.
///
/// # Errors
/// `Corrupt` when the groups end before or behind `last_position`: an index over fewer events would deny the others,
/// and a footer would stand where they are.
pub(crate) fn index_of(
    disk: &dyn Disk,
    store_id: &[u8; 16],
    file: SegmentFile,
    last_position: u64,
) -> Result<(Sealed, Vec<u8>)> {
    let name = file.name();
    let opened = open(disk, &name, Access::Read)?;
    let bytes = opened
        .len()
        .map_err(|e| StoreError::io(format_args!("asking for the length of {name}"), e))?;
    let header = header_in(disk, Listed { file, bytes })?
        .filter(|header| header.store_id == *store_id)
        .ok_or_else(|| {
            StoreError::corrupt(format!(
                "{name} has no valid header of its store; restore the file from a copy"
            ))
        })?;
    let mut scan = Scan::begin(opened, name, &header)?;
    let mut indexer = Indexer::new(&header);
    let why = loop {
        match scan.step()? {
            Step::Group(group) => scan.frames(&group, |offset, position, frame| {
                with_row(file, offset, position, frame, |row| {
                    indexer.add(frame.len(), row);
                })
            })?,
            Step::End { why, .. } => break why,
        }
    };
    let (last, end) = (scan.tip.position, scan.tip.mark.offset);
    if last != last_position {
        return Err(StoreError::corrupt(format!(
            "{} at byte {end}: the groups end with event {last} and not {last_position} ({why}); restore the file from a copy",
            file.name()
        )));
    }
    indexer.finish(&header, scan.tip, bytes)
}

/// Whether nothing stands behind the log of a segment.
pub(crate) fn is_blank_after(disk: &dyn Disk, file: SegmentFile, log_end: u64) -> Result<bool> {
    let name = file.name();
    let fail = |e: io::Error| StoreError::io(format_args!("reading {name}"), e);
    let file = open(disk, &name, Access::Read)?;
    let bytes = file.len().map_err(fail)?;
    let mut window = vec![0; 64 * 1024];
    let mut at = log_end;
    while at < bytes {
        let len = usize::try_from(bytes - at)
            .unwrap_or(usize::MAX)
            .min(window.len());
        let part = window.get_mut(..len).unwrap_or_default();
        read_exact_at(&*file, part, at).map_err(fail)?;
        if part.iter().any(|b| *b != 0) {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Feeds frames to the index builder.
#[derive(Debug)]
pub(crate) struct Indexer {
    builder: SidxBuilder,
    first_recorded: Option<u64>,
    /// Bytes of frames since other threads were last let by.
    unyielded: usize,
}

impl Indexer {
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        Self {
            builder: SidxBuilder::new(header.first_position),
            first_recorded: None,
            unyielded: 0,
        }
    }

    /// Adds the row of the next event or stub, whose frame has so many bytes, and lets other threads by now and then.
    pub(crate) fn add(
        &mut self,
        frame_bytes: usize,
        row: SidxRow<'_, TagList<'_>, ParentList<'_>>,
    ) {
        self.unyielded += frame_bytes;
        if self.unyielded >= BYTES_BETWEEN_YIELDS {
            self.unyielded = 0;
            std::thread::yield_now();
        }
        self.push(row);
    }

    /// Adds the row of the next event or stub.
    pub(crate) fn push(&mut self, row: SidxRow<'_, TagList<'_>, ParentList<'_>>) {
        self.first_recorded.get_or_insert(row.recorded_at);
        self.builder.push(row);
    }

    pub(crate) fn finish(
        self,
        header: &SegmentHeader,
        tip: Tip,
        file_bytes: u64,
    ) -> Result<(Sealed, Vec<u8>)> {
        let mut sealed = Sealed {
            first_position: header.first_position,
            last_position: tip.position,
            first_recorded: self.first_recorded.unwrap_or(tip.recorded_at),
            last_recorded: tip.recorded_at,
            digest_before: header.digest_before,
            file_bytes,
            index_checksum: 0,
            tip,
        };
        let facts = SidxFacts {
            store_id: header.store_id,
            segment: header.number,
            log_end: tip.mark.offset,
            last_group_sequence: tip.sequence,
            last_group_checksum: tip.checksum,
            digest: tip.digest,
        };
        let index = self.builder.finish(facts);
        let trailer = index
            .last_chunk::<TRAILER_BYTES>()
            .map(|bytes| Trailer::decode(bytes));
        if let Some(Ok(trailer)) = trailer {
            sealed.index_checksum = trailer.checksum;
        }
        Ok((sealed, index))
    }
}

/// Reads one frame that a scan stepped over and lends it as a row of an index.
pub(crate) fn with_row<T>(
    file: SegmentFile,
    offset: u64,
    position: u64,
    frame: &[u8],
    take: impl FnOnce(SidxRow<'_, TagList<'_>, ParentList<'_>>) -> T,
) -> Result<T> {
    let record = Record::of_checked(frame, position)
        .map_err(|error| decode_error(&file.name(), offset, &error))?;
    Ok(take(record.row(frame, row_offset(file, offset)?)))
}

/// The offset of a frame as an index has it.
pub(crate) fn row_offset(file: SegmentFile, offset: u64) -> Result<u32> {
    u32::try_from(offset)
        .map_err(|_| StoreError::unsupported(format!("{} is longer than 4 GiB", file.name())))
}
