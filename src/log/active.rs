//! The segment that grows: made ahead, written group by group, synced.
//!
//! Only the holder of the writer's turn writes here. The file has its final length from the start; small groups go
//! into space that was zero-filled a step before, so that a sync changes no metadata, and large ones straight into
//! the hole, where one more metadata write for many events is cheaper than writing the space twice.

use std::io::{self, ErrorKind};

use crate::error::{Result, StoreError};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, DiskFile, write_all_at};
use crate::log::files::{SEGMENTS, SegmentFile, segment_name};
use crate::log::segment::Segment;
use crate::sync::Arc;

/// The size of the first segment in bytes; each next one is twice as long, up to the setting.
pub(crate) const FIRST_SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// How much is zero-filled at once, in bytes.
pub(crate) const FILL_STEP_BYTES: u64 = 256 * 1024;
/// A group of at least this many bytes is written without filling its space first.
const UNFILLED_GROUP_BYTES: u64 = 64 * 1024;
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// The final length of segment `number` when the setting is `segment_bytes`.
pub(crate) fn planned_bytes(number: u64, segment_bytes: u64) -> u64 {
    let doublings = u32::try_from(number.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(20);
    (FIRST_SEGMENT_BYTES << doublings).min(segment_bytes)
}

/// A new segment file, all zeros, that no header makes part of the log yet.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    pub(crate) final_bytes: u64,
    file: Arc<dyn DiskFile>,
    filled: u64,
}

impl Spare {
    /// Makes the file, fills its first step and makes its name durable.
    pub(crate) fn make(disk: &dyn Disk, number: u64, final_bytes: u64) -> io::Result<Self> {
        let name = segment_name(number);
        let file = disk.open(&name, Access::CreateNew)?;
        let mut spare = Self {
            number,
            final_bytes,
            file,
            filled: 0,
        };
        match spare.prepare(disk) {
            Ok(()) => Ok(spare),
            Err(error) => {
                // A spare that stays behind is all zeros; the next opening removes it.
                let _ = disk.remove(&name);
                Err(error)
            }
        }
    }

    /// Makes it long enough for a group that does not fit a usual segment.
    pub(crate) fn lengthen(&mut self, final_bytes: u64) -> io::Result<()> {
        if final_bytes > self.final_bytes {
            self.file.set_len(final_bytes)?;
            self.final_bytes = final_bytes;
        }
        Ok(())
    }

    fn prepare(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.file.set_len(self.final_bytes)?;
        self.filled = fill(disk, &*self.file, 0, self.final_bytes)?;
        self.file.sync_all()?;
        disk.sync_dir(SEGMENTS)
    }
}

/// Writes zeros for one step from `from`; returns where the filled space ends.
fn fill(disk: &dyn Disk, file: &dyn DiskFile, from: u64, final_bytes: u64) -> io::Result<u64> {
    if !disk.preallocates() {
        return Ok(final_bytes);
    }
    let len = FILL_STEP_BYTES.min(final_bytes.saturating_sub(from));
    let zeros = ZEROS
        .get(..usize::try_from(len).unwrap_or_default())
        .unwrap_or_default();
    write_all_at(file, zeros, from).map_err(|e| e.source)?;
    Ok(from + len)
}

/// How a group was not written.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// The disk is full, and nothing of the group stayed: the store can go on.
    Full(io::Error),
    /// What is on the disk is unknown.
    Unknown(io::Error),
}

/// The newest segment, open for writing.
#[derive(Debug)]
pub(crate) struct Active {
    disk: Arc<dyn Disk>,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) segment: Arc<Segment>,
    pub(crate) final_bytes: u64,
    /// How far its space was zero-filled.
    pub(crate) filled: u64,
}

impl Active {
    /// Makes a spare part of the log by writing its header; the first group's sync makes both durable.
    pub(crate) fn start(disk: Arc<dyn Disk>, spare: Spare, header: SegmentHeader) -> Result<Self> {
        let Spare {
            final_bytes,
            file,
            filled,
            number,
        } = spare;
        write_all_at(&*file, &header.encode(), 0).map_err(|e| {
            StoreError::io(
                format_args!("writing the header of {}", segment_name(number)),
                e.source,
            )
        })?;
        let segment = Arc::new(Segment::active(
            Arc::clone(&disk),
            SegmentFile::original(header.number),
            &*file,
            &header,
            final_bytes,
        )?);
        Ok(Self {
            disk,
            file,
            header,
            segment,
            final_bytes,
            filled,
        })
    }

    /// Goes on in a segment that was found; what follows `end` is zero or nothing, and as far as `filled` on the disk.
    pub(crate) fn reopen(
        disk: Arc<dyn Disk>,
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
        (end, filled): (u64, u64),
        planned: u64,
    ) -> Result<Self> {
        let fail = |e| {
            StoreError::io(
                format_args!("lengthening {}", segment_name(header.number)),
                e,
            )
        };
        // What follows the log is zeros: a file that someone lengthened is brought back to its plan.
        let final_bytes = planned.max(end);
        if file.len().map_err(fail)? != final_bytes {
            file.set_len(final_bytes).map_err(fail)?;
        }
        let segment = Arc::new(Segment::active(
            Arc::clone(&disk),
            SegmentFile::original(header.number),
            &*file,
            &header,
            final_bytes,
        )?);
        let filled = if disk.preallocates() {
            filled
        } else {
            final_bytes
        };
        Ok(Self {
            disk,
            file,
            header,
            segment,
            final_bytes,
            filled,
        })
    }

    pub(crate) fn has_room(&self, end: u64, group_bytes: u64) -> bool {
        end.checked_add(group_bytes)
            .is_some_and(|needed| needed <= self.final_bytes)
    }

    /// Writes one group at `at`, the end of the log.
    pub(crate) fn write(&mut self, group: &[u8], at: u64) -> std::result::Result<(), WriteFailure> {
        let end = at + group.len() as u64;
        while end > self.filled && (group.len() as u64) < UNFILLED_GROUP_BYTES {
            let from = self.filled.max(at);
            self.filled =
                fill(&*self.disk, &*self.file, from, self.final_bytes).map_err(nothing_written)?;
        }
        match write_all_at(&*self.file, group, at) {
            Ok(()) => {
                self.filled = self.filled.max(end);
                Ok(())
            }
            Err(e) if is_full(&e.source) => self.take_back(at, e.written, e.source),
            Err(e) => Err(WriteFailure::Unknown(e.source)),
        }
    }

    /// Zeroes what a full disk let through of a group, in space that is its own by now.
    ///
    /// And syncs: of the group that is written here next, a power cut would else leave some sectors as this one had
    /// them, which is not how a torn write looks.
    fn take_back(
        &self,
        at: u64,
        written: usize,
        full: io::Error,
    ) -> std::result::Result<(), WriteFailure> {
        let mut done = 0;
        while done < written {
            let len = ZEROS.len().min(written - done);
            let zeros = ZEROS.get(..len).unwrap_or_default();
            if let Err(e) = write_all_at(&*self.file, zeros, at + done as u64) {
                return Err(WriteFailure::Unknown(e.source));
            }
            done += len;
        }
        if written > 0 {
            self.file.sync_data().map_err(WriteFailure::Unknown)?;
        }
        Err(WriteFailure::Full(full))
    }
}

fn nothing_written(error: io::Error) -> WriteFailure {
    if is_full(&error) {
        WriteFailure::Full(error)
    } else {
        WriteFailure::Unknown(error)
    }
}

/// Whether the disk, a quota or a limit on file sizes is exhausted: something that may pass.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Map, MemoryDisk};
    use crate::sync::atomic::{AtomicBool, Ordering};

    /// A file on which ten bytes find room; it knows whether what it took is synced.
    #[derive(Debug)]
    struct Nearly(Arc<dyn DiskFile>, AtomicBool);

    impl DiskFile for Nearly {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            let room = 10_usize.saturating_sub(usize::try_from(offset).unwrap());
            self.1.store(false, Ordering::SeqCst);
            match bytes.len().min(room) {
                0 => Err(ErrorKind::StorageFull.into()),
                len => self.0.write_at(&bytes[..len], offset),
            }
        }
        fn sync_data(&self) -> io::Result<()> {
            self.1.store(true, Ordering::SeqCst);
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

    /// A full disk had taken a part of a group, which was zeroed and not synced. A power cut after the next group
    /// could leave sectors of both, and the opening refused them as damage that no crash explains.
    #[test]
    fn what_a_full_disk_let_through_is_gone_for_good() {
        let disk = MemoryDisk::new();
        let file = disk.open("file", Access::CreateNew).unwrap();
        let file = Arc::new(Nearly(file, AtomicBool::new(true)));
        let header = SegmentHeader {
            store_id: [1; 16],
            salt: [2; 16],
            number: 1,
            replaces_first: 1,
            replaces_last: 1,
            first_position: 1,
            digest_before: [0; 32],
            predecessor: 0,
            predecessor_checksum: 0,
            replaced_checksum: 0,
            sequence_before: 0,
            recorded_before: 0,
            replaced_sequence: 0,
        };
        let segment = Segment::active(
            Arc::new(disk.clone()),
            SegmentFile::original(1),
            &*file,
            &header,
            4096,
        )
        .unwrap();
        let mut active = Active {
            disk: Arc::new(disk),
            file: file.clone(),
            header,
            segment: Arc::new(segment),
            final_bytes: 4096,
            filled: 4096,
        };
        let failure = active.write(&[7; 30], 0);
        assert!(matches!(failure, Err(WriteFailure::Full(_))), "{failure:?}");
        let mut left = [1; 10];
        assert_eq!(file.read_at(&mut left, 0).unwrap(), 10);
        assert_eq!(left, [0; 10]);
        assert!(file.1.load(Ordering::SeqCst), "the zeros are not synced");
    }

    #[test]
    fn segments_double_up_to_the_setting() {
        let mib = 1024 * 1024;
        let sizes: Vec<u64> = (1..=8).map(|n| planned_bytes(n, 32 * mib) / mib).collect();
        assert_eq!(sizes, [8, 16, 32, 32, 32, 32, 32, 32]);
        assert_eq!(planned_bytes(u64::MAX, 32 * mib), 32 * mib);
    }
}
