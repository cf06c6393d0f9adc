//! How long the files beside one another in the folder of segments are, listed once.
//!
//! A value of that moment, which any thread may read. Who copies and who plans a compaction lists on its own thread.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::io::Disk;
use crate::log::files::{SEGMENTS, SegmentFile, is_run_name};

/// The lengths of the files, in bytes, by name.
#[derive(Debug)]
pub(crate) struct Lengths(BTreeMap<String, u64>);

impl Lengths {
    /// What there is; nothing if there is no folder.
    pub(crate) fn list(disk: &dyn Disk) -> Result<Self> {
        let entries = match disk.list(SEGMENTS) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|e| {
                StoreError::io(format_args!("listing {SEGMENTS} in {}", disk.describe()), e)
            })?,
        };
        let files = entries.into_iter().filter(|entry| entry.is_file);
        let named = files.map(|entry| (format!("{SEGMENTS}/{}", entry.name), entry.bytes));
        Ok(Self(named.collect()))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(crate) fn of(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    pub(crate) fn of_segment(&self, file: SegmentFile) -> Option<u64> {
        self.of(&file.name())
    }

    /// A sealed file, and the index beside it where its own is damaged.
    pub(crate) fn of_sealed(&self, entry: &SealedEntry) -> u64 {
        let beside = self.of(&SegmentFile::from(entry).side_index_name());
        entry.file_bytes + beside.unwrap_or(0)
    }

    /// All runs together.
    pub(crate) fn of_runs(&self) -> u64 {
        let runs = self.0.iter().filter(|(name, _)| is_run_name(name));
        runs.map(|(_, bytes)| bytes).sum()
    }

    /// The segment with the highest number.
    pub(crate) fn newest_segment(&self) -> Option<SegmentFile> {
        let segments = self.names().filter_map(|name| {
            let name = name.strip_prefix(SEGMENTS)?.strip_prefix('/')?;
            SegmentFile::parse(name, "seg")
        });
        segments.max_by_key(|file| file.number)
    }
}
