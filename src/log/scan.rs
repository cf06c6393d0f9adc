//! Walks the groups of one segment file, checking every checksum, and says where and how the walk ends.
//!
//! Opening, sealing and rebuilding an index all read a segment through this walk; it holds one window of bytes,
//! grown only to the largest group, and never believes a length that leaves the file. It belongs to the thread that
//! began it: the one that opens or closes the store, upkeep's, or that of a reader who met a damaged footer.

use crate::error::{Result, StoreError};
use crate::format::codec::{DecodeError, Reader};
use crate::format::crc::Seed;
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use crate::format::segment::{SEGMENT_PAGE_BYTES, SegmentHeader};
use crate::io::{DiskFile, read_upto_at};
use crate::log::files::decode_error;
use crate::sync::Arc;

/// Where the first group of a segment stands.
pub(crate) const GROUPS_START: u64 = SEGMENT_PAGE_BYTES as u64;
/// How much is read at once, in bytes; small enough to stay in the processor's cache until it is checked.
const WINDOW_BYTES: u64 = 256 * 1024;

/// A place in the log, ordered as the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// The state at the end of the log: all that the next group has to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) mark: Mark,
    pub(crate) position: u64,
    pub(crate) sequence: u64,
    pub(crate) checksum: u32,
    pub(crate) recorded_at: u64,
    pub(crate) digest: [u8; 32],
}

impl Tip {
    /// The state before the first segment.
    pub(crate) const NOTHING: Self = Self {
        mark: Mark {
            segment: 0,
            offset: 0,
        },
        position: 0,
        sequence: 0,
        checksum: 0,
        recorded_at: 0,
        digest: [0; 32],
    };

    /// The state before the first group of a segment.
    pub(crate) fn before(header: &SegmentHeader) -> Self {
        Self {
            mark: Mark {
                segment: header.number,
                offset: GROUPS_START,
            },
            position: header.first_position - 1,
            sequence: header.sequence_before,
            checksum: header.predecessor_checksum,
            recorded_at: header.recorded_before,
            digest: header.digest_before,
        }
    }
}

/// One step of the walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// A valid group that continues the one before.
    Group(GroupHeader),
    /// No such group stands at the tip's place.
    End {
        /// Why, when it is more than the end of the file.
        why: &'static str,
        /// The length that the group's own header gives, when that header is valid.
        extent: Option<u32>,
    },
}

/// The walk over one segment file.
#[derive(Debug)]
pub(crate) struct Scan {
    file: Arc<dyn DiskFile>,
    name: String,
    header: SegmentHeader,
    seed: Seed,
    file_bytes: u64,
    window: Vec<u8>,
    window_start: u64,
    /// Where the walk stands.
    pub(crate) tip: Tip,
    /// The furthest place that the groups so far say was durable when they were written.
    pub(crate) synced: Mark,
}

impl Scan {
    /// Begins behind the header of the segment `name`.
    pub(crate) fn begin(
        file: Arc<dyn DiskFile>,
        name: String,
        header: &SegmentHeader,
    ) -> Result<Self> {
        let file_bytes = file
            .len()
            .map_err(|e| StoreError::io(format_args!("asking for the length of {name}"), e))?;
        Ok(Self {
            file,
            name,
            header: *header,
            seed: header.seed(),
            file_bytes,
            window: Vec::new(),
            window_start: 0,
            tip: Tip::before(header),
            synced: Mark::default(),
        })
    }

    /// Continues from a tip that was reached before.
    pub(crate) fn resume_at(&mut self, tip: Tip) {
        self.tip = tip;
    }

    /// Takes byte `end` for the end of the file, so that nothing behind it is ever read.
    pub(crate) fn limit_to(&mut self, end: u64) {
        self.file_bytes = self.file_bytes.min(end);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Checks the group at the tip and steps over it.
    pub(crate) fn step(&mut self) -> Result<Step> {
        let at = self.tip.mark.offset;
        let header_bytes = GROUP_HEADER_BYTES as u64;
        if self.file_bytes < at + header_bytes {
            return Ok(Step::End {
                why: "the file ends",
                extent: None,
            });
        }
        let bytes = self.read(at, header_bytes)?;
        let mut head = [0; GROUP_HEADER_BYTES];
        head.copy_from_slice(bytes);
        let header = match GroupHeader::decode(&head, &self.seed, self.tip.mark.segment, at) {
            Ok(header) => header,
            Err(error) => return self.end(at, &error, None),
        };
        if header.sequence != self.tip.sequence + 1
            || header.first_position != self.tip.position + 1
            || header.previous_checksum != self.tip.checksum
        {
            return Ok(Step::End {
                why: "the group does not follow the one before it",
                extent: Some(header.length),
            });
        }
        if header.end() > self.file_bytes {
            return Ok(Step::End {
                why: "the file ends inside the group",
                extent: Some(header.length),
            });
        }
        match self.check(&header, &head)? {
            Ok(tip) => {
                self.tip = Tip {
                    checksum: self.header.continued_checksum(tip.sequence, tip.checksum),
                    ..tip
                };
                self.synced = self.synced.max(Mark {
                    segment: header.synced_segment,
                    offset: header.synced_offset,
                });
                Ok(Step::Group(header))
            }
            Err(error) => self.end(at, &error, Some(header.length)),
        }
    }

    /// Checks frames and commit of the group whose header was found valid.
    fn check(
        &mut self,
        header: &GroupHeader,
        head: &[u8; GROUP_HEADER_BYTES],
    ) -> Result<Result<Tip, DecodeError>> {
        let start = header.offset;
        self.read(start, u64::from(header.length))?;
        let seed = self.seed.clone();
        let Some(group) = self.in_window(start, u64::from(header.length)) else {
            return Ok(Err(DecodeError::Corrupt("the group is not in the window")));
        };
        Ok(check_group(
            &seed,
            header,
            head,
            group,
            self.tip.mark.segment,
        ))
    }

    fn end(&self, at: u64, error: &DecodeError, extent: Option<u32>) -> Result<Step> {
        match error {
            DecodeError::Corrupt(why) => Ok(Step::End { why, extent }),
            DecodeError::Unsupported(_) => Err(decode_error(&self.name, at, error)),
        }
    }

    /// Visits the frames of a group that [`Self::step`] just stepped over: offset, position, bytes.
    pub(crate) fn frames(
        &self,
        group: &GroupHeader,
        mut visit: impl FnMut(u64, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let bytes = self
            .in_window(group.offset, u64::from(group.length))
            .unwrap_or_default();
        let mut at = GROUP_HEADER_BYTES;
        for index in 0..u64::from(group.count) {
            let offset = group.offset + at as u64;
            let frame = frame_at(bytes, at).map_err(|e| decode_error(&self.name, offset, &e))?;
            visit(offset, group.first_position + index, frame)?;
            at += frame.len();
        }
        Ok(())
    }

    /// Brings the bytes into the window and lends them; the caller has checked that the file is long enough.
    pub(crate) fn read(&mut self, start: u64, len: u64) -> Result<&[u8]> {
        if self.in_window(start, len).is_none() {
            let want = len
                .max(WINDOW_BYTES)
                .min(self.file_bytes.saturating_sub(start));
            let want = usize::try_from(want).map_err(|_| {
                StoreError::unsupported("a group is larger than this machine can address")
            })?;
            // What was read with the header of a longer group is not read again.
            let known = match start == self.window_start {
                true => self.window.len().min(want),
                false => 0,
            };
            self.window.resize(want, 0);
            self.window_start = start;
            let rest = self.window.get_mut(known..).unwrap_or_default();
            // Sealing may cut off meanwhile what stands behind the log: the window is wanted, only `len` is needed.
            let read = read_upto_at(&*self.file, rest, start + known as u64).map_err(|e| {
                StoreError::io(format_args!("reading {} at byte {start}", self.name), e)
            })?;
            self.window.truncate(known + read);
        }
        self.in_window(start, len).ok_or_else(|| {
            StoreError::corrupt(format!(
                "{} ends before byte {}",
                self.name,
                start.saturating_add(len)
            ))
        })
    }

    fn in_window(&self, start: u64, len: u64) -> Option<&[u8]> {
        let from = usize::try_from(start.checked_sub(self.window_start)?).ok()?;
        let to = from.checked_add(usize::try_from(len).ok()?)?;
        self.window.get(from..to)
    }
}

/// The frame that begins `at` bytes into a group, as long as its header says.
fn frame_at(group: &[u8], at: usize) -> Result<&[u8], DecodeError> {
    let rest = group.get(at..).unwrap_or_default();
    let len = FrameHeader::decode(rest)?.frame_bytes();
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.get(..len))
        .ok_or(DecodeError::Corrupt("a frame is longer than its group"))
}

fn check_group(
    seed: &Seed,
    header: &GroupHeader,
    head: &[u8; GROUP_HEADER_BYTES],
    group: &[u8],
    segment: u64,
) -> Result<Tip, DecodeError> {
    let mut sum = GroupSum::new(seed, head);
    let mut at = GROUP_HEADER_BYTES;
    let mut last_recorded = 0;
    for index in 0..u64::from(header.count) {
        let frame = frame_at(group, at)?;
        let frame_header = FrameHeader::decode(frame)?;
        let offset = header.offset + at as u64;
        let frame_head = frame_header.head(frame, seed, offset, header.first_position + index)?;
        let payload = frame.get(frame_header.payload_at()..).unwrap_or_default();
        if seed.crc(&[payload]) != frame_header.payload_crc {
            return Err(DecodeError::Corrupt("payload checksum"));
        }
        last_recorded = recorded_at(frame_head)?;
        sum.frame(frame_header.head_crc);
        at += FRAME_HEADER_BYTES + frame_head.len() + payload.len();
    }
    let rest = group.get(at..).unwrap_or_default();
    if rest.len() != COMMIT_BYTES {
        return Err(DecodeError::Corrupt("the frames do not fill their group"));
    }
    let commit = Commit::decode(rest, sum)?;
    if commit.last_position != header.last_position() {
        return Err(DecodeError::Corrupt(
            "the commit record counts other events",
        ));
    }
    Ok(Tip {
        mark: Mark {
            segment,
            offset: header.end(),
        },
        position: commit.last_position,
        sequence: header.sequence,
        checksum: commit.checksum,
        recorded_at: last_recorded,
        digest: commit.digest,
    })
}

/// The recorded time in an event's or a stub's head.
fn recorded_at(head: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(head);
    reader.array::<16>()?;
    reader.u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::format::golden;
    use crate::io::{Access, Disk, Map, MemoryDisk};
    use std::io;

    /// A file whose reads fail.
    #[derive(Debug)]
    struct Unreadable(Arc<dyn DiskFile>);

    impl DiskFile for Unreadable {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Err(io::Error::other("a bad sector"))
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.0.write_at(bytes, offset)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn sync_all(&self) -> io::Result<()> {
            self.0.sync_all()
        }
        fn set_len(&self, bytes: u64) -> io::Result<()> {
            self.0.set_len(bytes)
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn map(&self, len: u64) -> io::Result<Map> {
            self.0.map(len)
        }
    }

    #[test]
    fn row_16_a_read_error_is_an_error_and_not_the_end_of_the_log() {
        let file = MemoryDisk::new().open("file", Access::CreateNew).unwrap();
        file.set_len(2 * GROUPS_START).unwrap();
        let walk = |file: Arc<dyn DiskFile>| {
            Scan::begin(file, String::from("file"), &golden::segment())?.step()
        };
        assert!(matches!(walk(Arc::clone(&file)), Ok(Step::End { .. })));
        let error = walk(Arc::new(Unreadable(file))).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Io, "{error}");
    }
}
