//! Proves the groups of one segment file: checksums, chain, and the running digest folded anew from the events' hashes.
//!
//! It reads the file itself and no map of it, so that what is proven is what the disk gives. Runs on the thread that asks.

use std::io::ErrorKind;

use crate::error::{Result, StoreError};
use crate::event::hash::fold_digest;
use crate::format::frame::FrameHeader;
use crate::format::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use crate::format::record::{Kept, Record};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, DiskFile};
use crate::log::files::{SegmentFile, decode_error};
use crate::log::look::{self, Listed};
use crate::log::scan::{Scan, Step, Tip};
use crate::sync::Arc;

/// The header of a segment file of whatever store, and the length of the file.
///
/// # Errors
/// `NotFound` when the file is gone, `Corrupt` when it has no valid header.
pub(crate) fn header_of(disk: &dyn Disk, file: SegmentFile) -> Result<(SegmentHeader, u64)> {
    let name = file.name();
    let bytes = opened(disk, &name)?
        .len()
        .map_err(|e| StoreError::io(format_args!("asking for the length of {name}"), e))?;
    let header = look::header_in(disk, Listed { file, bytes })?;
    header.map(|header| (header, bytes)).ok_or_else(|| {
        StoreError::corrupt(format!(
            "{name} at byte 0 in {}: its header is damaged; restore the file from a copy",
            disk.describe()
        ))
    })
}

/// Opens a file of the log to read; one that is not there may have been replaced meanwhile.
pub(crate) fn opened(disk: &dyn Disk, name: &str) -> Result<Arc<dyn DiskFile>> {
    disk.open(name, Access::Read).map_err(|e| match e.kind() {
        ErrorKind::NotFound => StoreError::not_found(format!("{name} is not there")),
        ErrorKind::InvalidData => StoreError::corrupt(format!("{name}: {e}")),
        _ => StoreError::io(format_args!("opening {name}"), e),
    })
}

/// Proves the groups from `from` on up to event `last`; `done` is told the bytes of each.
///
/// # Errors
/// `Corrupt`, with file and offset, for a group that is not what was written or does not end with event `last`.
pub(crate) fn prove(
    disk: &dyn Disk,
    name: &str,
    header: &SegmentHeader,
    (from, last): (Tip, u64),
    mut done: impl FnMut(u64) -> Result<()>,
) -> Result<Tip> {
    let mut walk = Walk::begin(disk, name, header, from)?;
    while walk.scan.tip.position < last {
        let group = walk.step()?;
        let mut digest = walk.before.digest;
        walk.frames(&group, |_, kept| digest = fold_digest(&digest, &kept.hash))?;
        if digest != walk.scan.tip.digest {
            return Err(walk.damaged("the running digest is not that of the events"));
        }
        done(u64::from(group.length))?;
    }
    match walk.scan.tip.position == last {
        true => Ok(walk.scan.tip),
        false => Err(walk.damaged(&format!("event {last} does not end a group"))),
    }
}

/// Where the log of a segment is cut behind an event, and what must stand before the cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The state at the cut.
    pub(crate) tip: Tip,
    /// The group that ends there, written anew because it had more events, and its offset.
    pub(crate) group: Option<(u64, Vec<u8>)>,
}

/// Finds where event `last` ends in a segment, which has it, or ends with the one before the segment.
pub(crate) fn cut_behind(
    disk: &dyn Disk,
    name: &str,
    header: &SegmentHeader,
    last: u64,
) -> Result<Cut> {
    let mut walk = Walk::begin(disk, name, header, Tip::before(header))?;
    while walk.scan.tip.position < last {
        let group = walk.step()?;
        if group.last_position() > last {
            return walk.shortened(header, &group, last);
        }
    }
    Ok(Cut {
        tip: walk.scan.tip,
        group: None,
    })
}

/// A walk that knows what stood before the group it is at.
struct Walk<'a> {
    scan: Scan,
    before: Tip,
    name: String,
    header: &'a SegmentHeader,
    place: String,
}

impl<'a> Walk<'a> {
    fn begin(disk: &dyn Disk, name: &str, header: &'a SegmentHeader, from: Tip) -> Result<Self> {
        let mut scan = Scan::begin(opened(disk, name)?, name.to_owned(), header)?;
        scan.resume_at(from);
        Ok(Self {
            scan,
            before: from,
            name: name.to_owned(),
            header,
            place: disk.describe(),
        })
    }

    fn step(&mut self) -> Result<GroupHeader> {
        self.before = self.scan.tip;
        match self.scan.step()? {
            Step::Group(group) => Ok(group),
            Step::End { why, .. } => Err(self.damaged(why)),
        }
    }

    /// Names the group that was last looked at.
    fn damaged(&self, why: &str) -> StoreError {
        StoreError::corrupt(format!(
            "{} at byte {} in {}: {why}; restore the file from a copy",
            self.name, self.before.mark.offset, self.place
        ))
    }

    fn frames(&self, group: &GroupHeader, mut visit: impl FnMut(&[u8], &Kept)) -> Result<()> {
        let seed = self.header.seed();
        self.scan.frames(group, |offset, position, frame| {
            let record = Record::decode(frame, &seed, offset, position)
                .map_err(|e| decode_error(&self.name, offset, &e))?;
            visit(frame, &record.kept(frame, position));
            Ok(())
        })
    }

    /// The group at which the walk is with the events up to `last` alone: the same frames, another header and end.
    fn shortened(&self, header: &SegmentHeader, group: &GroupHeader, last: u64) -> Result<Cut> {
        let seed = header.seed();
        let (mut frames, mut sums) = (Vec::new(), Vec::new());
        let (mut digest, mut recorded_at) = (self.before.digest, self.before.recorded_at);
        self.frames(group, |frame, kept| {
            let Some(head) = FrameHeader::decode(frame)
                .ok()
                .filter(|_| kept.position <= last)
            else {
                return;
            };
            frames.extend_from_slice(frame);
            sums.push(head.head_crc);
            digest = fold_digest(&digest, &kept.hash);
            recorded_at = kept.recorded_at;
        })?;
        let around = GROUP_HEADER_BYTES + COMMIT_BYTES;
        let shorter = GroupHeader {
            length: u32::try_from(frames.len() + around).expect("a shorter group is no longer"),
            count: u32::try_from(sums.len()).expect("a shorter group has no more events"),
            ..*group
        };
        let head = shorter.encode(&seed);
        let mut sum = GroupSum::new(&seed, &head);
        sums.iter().for_each(|crc| sum.frame(*crc));
        let (commit, end) = Commit::seal(sum, last, digest);
        let mut tip = self.scan.tip;
        tip.mark.offset = shorter.end();
        tip.position = last;
        tip.checksum = header.continued_checksum(group.sequence, commit.checksum);
        tip.recorded_at = recorded_at;
        tip.digest = digest;
        let bytes = [head.as_slice(), &frames, &end].concat();
        Ok(Cut {
            tip,
            group: Some((group.offset, bytes)),
        })
    }
}
