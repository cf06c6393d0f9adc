//! A run as it is asked: whether any of up to sixteen sealed files may hold a key, told by one filter.
//!
//! It is derived, and may be missing, stale or damaged: then it denies nothing. It says no only where its checksums
//! hold and it merges exactly the footers that it was made for. Any thread asks.

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::format::run::{PAGE_BYTES, RUN_SEGMENTS, RunHead};
use crate::format::sidx::{Axis16, FILTER_BLOCK_BYTES, Probe};
use crate::index::layer::{Layer, map_whole};
use crate::io::{Disk, Map};
use crate::log::files::{SegmentFile, decode_error, run_name};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, OnceLock};

/// What should be in the file, and the file once it was asked.
#[derive(Debug)]
pub(crate) struct Run {
    disk: Arc<dyn Disk>,
    expected: RunHead,
    files: Vec<SegmentFile>,
    /// `None` if there is no such file or it is not the one expected.
    filter: OnceLock<Option<Filter>>,
    /// Publishes nothing: a page was found that does not hold, so that the file is to be made again.
    damaged: AtomicBool,
}

/// What a run was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunCheck {
    Sound,
    /// Its checksums hold, and it says of a key that is there that it is not.
    Denies,
}

#[derive(Debug)]
struct Filter {
    map: Arc<Map>,
    head: RunHead,
    /// One bit for each page whose checksum held; like the blocks of a footer, pages never change.
    sound: Box<[AtomicU64]>,
}

impl Run {
    /// Nothing is opened yet.
    pub(crate) fn new(disk: &Arc<dyn Disk>, expected: RunHead, files: Vec<SegmentFile>) -> Self {
        Self {
            disk: Arc::clone(disk),
            expected,
            files,
            filter: OnceLock::new(),
            damaged: AtomicBool::new(false),
        }
    }

    /// What its head must say, but for the length of its filter.
    pub(crate) fn expected(&self) -> RunHead {
        self.expected
    }

    /// The files that it speaks of, which follow each other.
    pub(crate) fn files(&self) -> &[SegmentFile] {
        &self.files
    }

    /// Whether it is to be of the same files as another.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.expected == other.expected && self.files == other.files
    }

    pub(crate) fn name(&self) -> String {
        let first = self.expected.first_segment;
        run_name(first, first + (RUN_SEGMENTS as u64 - 1))
    }

    /// Whether the key may be in one of the segments; `false` is certain.
    pub(crate) fn may_contain(&self, axis: Axis16, key: &[u8; 16]) -> bool {
        let Some(filter) = self.filter() else {
            return true;
        };
        filter.may_contain(axis, key).unwrap_or_else(|| {
            if !self.damaged.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    file = self.name(),
                    "a run is damaged and will be made again"
                );
            }
            true
        })
    }

    /// Whether there is a file, as expected and as far as it was read sound.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_damaged() && self.filter().is_some()
    }

    /// Whether a part of the file was found damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads the file once more, whole, and asks it for every key of the segments that it merges; for a verification.
    ///
    /// One that is not there is sound: it denies nothing.
    pub(crate) fn check<'a>(
        &self,
        merged: impl Iterator<Item = &'a Arc<Layer>>,
    ) -> Result<RunCheck> {
        let filter = match self.open() {
            Ok(filter) => filter,
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(RunCheck::Sound),
            Err(error) => return Err(error),
        };
        let pages = filter.head.filter_bytes().div_ceil(PAGE_BYTES);
        if (0..pages).any(|page| filter.touch(page).is_none()) {
            return Err(StoreError::corrupt("a page of the filter does not hold"));
        }
        let mut denied = false;
        for layer in merged {
            let asked = layer.with(|index| {
                index.each_key(|axis, key| {
                    denied |= filter.may_contain(axis, key) == Some(false);
                    Ok(())
                })
            });
            if let Err(error) = asked {
                tracing::debug!(%error, "a footer that cannot be asked is reported where it stands");
            }
        }
        Ok(match denied {
            true => RunCheck::Denies,
            false => RunCheck::Sound,
        })
    }

    fn filter(&self) -> Option<&Filter> {
        if let Some(known) = self.filter.get() {
            return known.as_ref();
        }
        let found = self
            .open()
            .inspect_err(|error| tracing::debug!(%error, "a run is not there to be used"))
            .ok();
        self.filter.get_or_init(|| found).as_ref()
    }

    fn open(&self) -> Result<Filter> {
        let name = self.name();
        let map = map_whole(&*self.disk, &name)?;
        let head = RunHead::decode(whole(&map)).map_err(|e| decode_error(&name, 0, &e))?;
        let expected = RunHead {
            filter_blocks: head.filter_blocks,
            ..self.expected
        };
        if head != expected {
            return Err(StoreError::corrupt(format!(
                "{name} merges other footers; it will be made again"
            )));
        }
        let pages = head.filter_bytes().div_ceil(PAGE_BYTES);
        let sound = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Filter { map, head, sound })
    }
}

impl Filter {
    /// `None` when the page to look at does not hold.
    fn may_contain(&self, axis: Axis16, key: &[u8; 16]) -> Option<bool> {
        let probe = Probe::new(axis, key, self.head.filter_blocks);
        self.touch(probe.offset() / PAGE_BYTES)?;
        let at = (self.head.bytes() + probe.offset()) as u64;
        let block = self.map.slice(at, FILTER_BLOCK_BYTES)?;
        Some(probe.is_in(block))
    }

    /// Checks a page unless it was found sound before.
    fn touch(&self, page: usize) -> Option<()> {
        let (word, bit) = (self.sound.get(page / 64)?, 1 << (page % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            self.head.page_holds(whole(&self.map), page).then_some(())?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Some(())
    }
}

fn whole(map: &Map) -> &[u8] {
    let len = usize::try_from(map.len()).unwrap_or_default();
    map.slice(0, len).unwrap_or_default()
}
