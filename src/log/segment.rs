//! One segment's bytes for reading: mapped at first use, every frame checked on every read.
//!
//! Any thread may read; only bytes below the visible mark are ever asked for, but for the writer, which lends the
//! bytes it has staged and not yet written.

use std::io::{self, ErrorKind};
use std::sync::OnceLock;

use crate::error::{Result, StoreError};
use crate::format::crc::Seed;
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::record::{Kept, Record};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, DiskFile, DiskLock, Map, discard};
use crate::log::event::EventRef;
use crate::log::files::{SegmentFile, decode_error};
use crate::log::scan::GROUPS_START;
use crate::sync::{Arc, Mutex};

/// Frames that are encoded but not yet written: the group under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged<'a> {
    /// The segment that they will be written to.
    pub(crate) segment: u64,
    /// Their offset in it.
    pub(crate) start: u64,
    /// Their bytes.
    pub(crate) bytes: &'a [u8],
}

/// A segment file and its map.
#[derive(Debug)]
pub(crate) struct Segment {
    place: SegmentFile,
    store_id: [u8; 16],
    disk: Arc<dyn Disk>,
    mapped: OnceLock<Mapped>,
    /// Set once the manifest does not name the file any more, and nobody begins to use it.
    doomed: OnceLock<WriterLock>,
}

/// The writer's lock on the directory, while this process has it.
pub(crate) type WriterLock = Arc<Mutex<Option<Box<dyn DiskLock>>>>;

#[derive(Debug)]
struct Mapped {
    map: Arc<Map>,
    seed: Seed,
}

impl Segment {
    /// A sealed segment whose header names this store, mapped when it is first read.
    pub(crate) fn sealed(disk: Arc<dyn Disk>, store_id: [u8; 16], place: SegmentFile) -> Self {
        Self {
            place,
            store_id,
            disk,
            mapped: OnceLock::new(),
            doomed: OnceLock::new(),
        }
    }

    /// Removes the file once nobody uses it any more, if that is while the writer has its lock; else the next one
    /// that opens the store does.
    pub(crate) fn doom(&self, lock: &WriterLock) {
        // A second doom is the same one.
        let _ = self.doomed.set(Arc::clone(lock));
    }

    /// Removes the file, which nobody in this process uses any more, at a pace that leaves the disk to others.
    pub(crate) fn remove(mut self) {
        self.remove_by(discard);
    }

    fn remove_by(&mut self, remove: fn(&dyn Disk, &str) -> io::Result<()>) {
        // Not every system removes what is mapped.
        drop(self.mapped.take());
        for name in [self.place.name(), self.place.side_index_name()] {
            match remove(&*self.disk, &name) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(file = name, %error, "a replaced file was not removed");
                }
                _ => {}
            }
        }
    }

    /// The segment that grows: mapped at its final length from the start.
    pub(crate) fn active(
        disk: Arc<dyn Disk>,
        place: SegmentFile,
        file: &dyn DiskFile,
        header: &SegmentHeader,
        final_bytes: u64,
    ) -> Result<Self> {
        let segment = Self::sealed(disk, header.store_id, place);
        let map = Arc::new(
            file.map(final_bytes)
                .map_err(|e| segment.io("mapping", e))?,
        );
        let mapped = Mapped {
            map,
            seed: header.seed(),
        };
        segment
            .mapped
            .set(mapped)
            .map_err(|_| StoreError::argument("the segment is mapped already"))?;
        Ok(segment)
    }

    /// Its number; of a replacement, that of the last segment that it stands for.
    pub(crate) fn number(&self) -> u64 {
        self.place.number
    }

    pub(crate) fn place(&self) -> SegmentFile {
        self.place
    }

    pub(crate) fn store_id(&self) -> &[u8; 16] {
        &self.store_id
    }

    pub(crate) fn name(&self) -> String {
        self.place.name()
    }

    /// The event whose frame stands at `offset`, its head checked against that place and `position`.
    pub(crate) fn event<'a>(
        &'a self,
        offset: u64,
        position: u64,
        staged: Option<Staged<'a>>,
    ) -> Result<EventRef<'a>> {
        let kept = self.kept_event(offset, position, staged)?;
        kept.ok_or_else(|| {
            StoreError::not_found(format!("event {position} was removed by retention"))
        })
    }

    /// The same, `None` if retention left a stub there.
    pub(crate) fn kept_event<'a>(
        &'a self,
        offset: u64,
        position: u64,
        staged: Option<Staged<'a>>,
    ) -> Result<Option<EventRef<'a>>> {
        let mapped = self.mapped()?;
        let (frame, record) = self.record(mapped, offset, position, staged)?;
        Ok(match record {
            Record::Event(layout) => Some(EventRef::new(
                frame,
                layout,
                position,
                offset,
                self,
                &mapped.seed,
            )),
            Record::Stub(_) => None,
        })
    }

    /// What the event at `offset` and the stub that retention may have left there have in common.
    pub(crate) fn kept(
        &self,
        offset: u64,
        position: u64,
        staged: Option<Staged<'_>>,
    ) -> Result<Kept> {
        let (frame, record) = self.record(self.mapped()?, offset, position, staged)?;
        Ok(record.kept(frame, position))
    }

    fn record<'a>(
        &self,
        mapped: &'a Mapped,
        offset: u64,
        position: u64,
        staged: Option<Staged<'a>>,
    ) -> Result<(&'a [u8], Record)> {
        let frame = self.frame(mapped, offset, staged).ok_or_else(|| {
            StoreError::corrupt(format!(
                "{} at byte {offset}: the frame of event {position} is not inside the file; restore the file from a copy",
                self.name()
            ))
        })?;
        match Record::decode(frame, &mapped.seed, offset, position) {
            Ok(record) => Ok((frame, record)),
            Err(error) => Err(decode_error(&self.name(), offset, &error)),
        }
    }

    fn frame<'a>(
        &self,
        mapped: &'a Mapped,
        offset: u64,
        staged: Option<Staged<'a>>,
    ) -> Option<&'a [u8]> {
        if let Some(staged) = staged.filter(|s| s.segment == self.place.number && offset >= s.start)
        {
            let from = usize::try_from(offset - staged.start).ok()?;
            let rest = staged.bytes.get(from..)?;
            let len = FrameHeader::decode(rest).ok()?.frame_bytes();
            return rest.get(..usize::try_from(len).ok()?);
        }
        let header = mapped.map.slice(offset, FRAME_HEADER_BYTES)?;
        let len = FrameHeader::decode(header).ok()?.frame_bytes();
        mapped.map.slice(offset, usize::try_from(len).ok()?)
    }

    /// The bytes of a frame that was read before.
    pub(crate) fn known_frame(&self, offset: u64, len: usize) -> &[u8] {
        self.mapped
            .get()
            .and_then(|m| m.map.slice(offset, len))
            .unwrap_or_default()
    }

    /// The seed of its checksums, once it is mapped.
    pub(crate) fn known_seed(&self) -> Option<&Seed> {
        self.mapped.get().map(|m| &m.seed)
    }

    /// The map of the whole file.
    pub(crate) fn map(&self) -> Result<&Arc<Map>> {
        self.mapped().map(|m| &m.map)
    }

    fn mapped(&self) -> Result<&Mapped> {
        if let Some(mapped) = self.mapped.get() {
            return Ok(mapped);
        }
        let mapped = self.open()?;
        Ok(self.mapped.get_or_init(|| mapped))
    }

    /// Maps the file and checks that it is the segment that its name says; the descriptor is closed again.
    fn open(&self) -> Result<Mapped> {
        let name = self.name();
        let file = self
            .disk
            .open(&name, Access::Read)
            .map_err(|e| self.io("opening", e))?;
        let len = file
            .len()
            .map_err(|e| self.io("asking for the length of", e))?;
        let map = Arc::new(file.map(len).map_err(|e| self.io("mapping", e))?);
        let page = usize::try_from(GROUPS_START.min(len)).unwrap_or_default();
        let header = SegmentHeader::decode(map.slice(0, page).unwrap_or_default())
            .map_err(|e| decode_error(&name, 0, &e))?;
        if !self.place.has(&header) || header.store_id != self.store_id {
            return Err(StoreError::corrupt(format!(
                "{name} is segment {} of store {:02x?}; put the right file in its place",
                header.number, header.store_id
            )));
        }
        Ok(Mapped {
            map,
            seed: header.seed(),
        })
    }

    fn io(&self, doing: &str, source: std::io::Error) -> StoreError {
        StoreError::io(format_args!("{doing} {}", self.name()), source)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let Some(lock) = self.doomed.take() else {
            return;
        };
        let held = lock.lock();
        if held.is_some() {
            self.remove_by(|disk, name| disk.remove(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use crate::format::golden::{self, FIRST_AT, STORE_ID};
    use crate::io::MemoryDisk;
    use crate::log::files::SEGMENTS;

    /// A segment with one frame, whose byte `damaged` is turned, counted from the frame's end.
    fn segment_with(damaged: Option<usize>) -> Segment {
        let (mut frame, _) = golden::first_frame();
        if let Some(from_end) = damaged {
            let at = frame.len() - from_end;
            frame[at] ^= 1;
        }
        let disk = MemoryDisk::new();
        disk.create_dir(SEGMENTS).unwrap();
        let file = disk
            .open(&SegmentFile::original(1).name(), Access::CreateNew)
            .unwrap();
        for (bytes, offset) in [(golden::segment_page(), 0), (frame, FIRST_AT)] {
            assert_eq!(file.write_at(&bytes, offset).unwrap(), bytes.len());
        }
        Segment::sealed(Arc::new(disk), STORE_ID, SegmentFile::original(1))
    }

    #[test]
    fn row_12_the_read_that_meets_a_bad_frame_says_corrupt() {
        let read = |segment: &Segment| -> Result<usize> {
            let event = segment.event(FIRST_AT, 1, None)?;
            event.payload_bytes().map(<[u8]>::len)
        };
        let sound = segment_with(None);
        let payload = read(&sound).unwrap();
        for from_end in 1..=golden::first_frame().0.len() {
            let segment = segment_with(Some(from_end));
            let error = read(&segment).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{from_end}: {error}");
            let head_holds = segment.event(FIRST_AT, 1, None).is_ok();
            assert_eq!(head_holds, from_end <= payload, "{from_end}");
        }
    }
}
