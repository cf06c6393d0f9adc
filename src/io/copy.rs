//! Copies a part of one file to another, which may be on another disk, as fast as its caller allows.
//!
//! A copy is plain reads and writes, so that every disk can be on either side of it. The caller's thread does the work.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::disk::DiskFile;
use super::exact::{read_exact_at, write_all_at};

/// How much is copied at once, in bytes.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// How many chunks make up a second where the pace is set, so that whoever wants to stop is heard soon.
const CHUNKS_PER_SECOND: u64 = 8;

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Reading(io::Error),
    Writing(io::Error),
}

/// Holds work to a number of bytes a second.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    started: Instant,
    spent: u64,
}

impl Pace {
    /// As fast as it goes, or at this many bytes a second, of which zero counts as one.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.map(|bytes| bytes.max(1)),
            started: Instant::now(),
            spent: 0,
        }
    }

    /// How much to do before the next [`Pace::spend`], in bytes.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        let slice = self.bytes_per_second.map(|b| b / CHUNKS_PER_SECOND);
        slice.map_or(CHUNK_BYTES, |bytes| bytes.clamp(1, CHUNK_BYTES))
    }

    /// Notes that `bytes` were done, and sleeps until they may have been.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.note(bytes);
        std::thread::sleep(self.ahead());
    }

    /// Notes that `bytes` were done.
    pub(crate) fn note(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
    }

    /// How long it is until all that was done may have been.
    pub(crate) fn ahead(&self) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let nanos = u128::from(self.spent) * 1_000_000_000 / u128::from(rate);
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        due.saturating_sub(self.started.elapsed())
    }
}

/// Copies a range of bytes to the same place; `done` is told of each part and may end it.
pub(crate) fn copy_bytes<E: From<CopyError>>(
    from: &dyn DiskFile,
    to: &dyn DiskFile,
    range: Range<u64>,
    pace: &mut Pace,
    mut done: impl FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    let most = pace
        .chunk_bytes()
        .min(range.end.saturating_sub(range.start));
    let mut buffer = vec![0; usize::try_from(most).expect("a chunk is at most a mebibyte")];
    let mut at = range.start;
    while at < range.end {
        let len = most.min(range.end - at);
        let part = usize::try_from(len).expect("a part of a chunk is no longer than it");
        let part = buffer.get_mut(..part).unwrap_or_default();
        read_exact_at(from, part, at).map_err(CopyError::Reading)?;
        write_all_at(to, part, at).map_err(|error| CopyError::Writing(error.source))?;
        at += len;
        pace.spend(len);
        done(len)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Access, Disk, MemoryDisk};

    #[test]
    fn a_range_is_copied_to_its_own_place_and_told_in_parts() {
        let disk = MemoryDisk::new();
        let [from, to] = ["from", "to"].map(|name| disk.open(name, Access::CreateNew).unwrap());
        let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        write_all_at(&*from, &bytes, 0).unwrap();
        let mut parts = Vec::new();
        let mut pace = Pace::new(None);
        let copied = copy_bytes(&*from, &*to, 1000..2_500_000, &mut pace, |len| {
            parts.push(len);
            Ok::<(), CopyError>(())
        });
        copied.unwrap();
        assert_eq!(parts, [1 << 20, 1 << 20, 401_848]);
        let mut read = vec![1; 2_500_000];
        read_exact_at(&*to, &mut read, 0).unwrap();
        assert_eq!(read[..1000], [0; 1000]);
        assert_eq!(read[1000..], bytes[1000..2_500_000]);
        assert_eq!(to.len().unwrap(), 2_500_000);
    }

    #[test]
    fn a_pace_is_kept_over_parts_of_any_size() {
        let mut pace = Pace::new(Some(1_000_000));
        assert_eq!(pace.chunk_bytes(), 125_000);
        for bytes in [1, 49_999, 0, 50_000] {
            pace.spend(bytes);
        }
        assert!(pace.started.elapsed() >= Duration::from_millis(100));
        assert_eq!(Pace::new(Some(0)).chunk_bytes(), 1);
        assert_eq!(Pace::new(Some(u64::MAX)).chunk_bytes(), CHUNK_BYTES);
    }
}
