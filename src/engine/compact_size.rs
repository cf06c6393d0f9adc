//! How much of the disk a store's sealed files take, with what stands beside them, before a compaction and after.
//!
//! Lengths of files are asked of the directory once, and those of files to come are told from the indexes there are.
//! Runs on the thread that plans or compacts.

use std::collections::BTreeMap;

use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::format::run::run_bytes;
use crate::index::run::Run;
use crate::log::files::{SEGMENTS, SegmentFile, is_run_name};

/// The files that stand in the directory of segments, with their lengths in bytes.
pub(super) struct Lengths(BTreeMap<String, u64>);

impl Lengths {
    pub(super) fn of(engine: &Engine) -> Result<Self> {
        let fail = |e| StoreError::io(format_args!("listing {SEGMENTS}"), e);
        let entries = engine.disk.list(SEGMENTS).map_err(fail)?.into_iter();
        let names = entries.map(|entry| (format!("{SEGMENTS}/{}", entry.name), entry.bytes));
        Ok(Self(names.collect()))
    }

    /// A sealed file, and the index beside it where its own is damaged.
    pub(super) fn sealed(&self, entry: &SealedEntry) -> u64 {
        entry.file_bytes + self.file(&SegmentFile::from(entry).side_index_name())
    }

    /// The runs that there are.
    pub(super) fn runs(&self) -> u64 {
        let runs = self.0.iter().filter(|(name, _)| is_run_name(name));
        runs.map(|(_, bytes)| bytes).sum()
    }

    fn file(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// How long the runs will be over these sealed files, of which those that are new have so many `keys`; `keys_of` knows
/// it of the others.
pub(super) fn runs_after(
    engine: &Engine,
    sealed: &[SealedEntry],
    keys: &BTreeMap<u64, u64>,
    lengths: &Lengths,
    keys_of: impl Fn(u64) -> Result<u64>,
) -> Result<u64> {
    let mut bytes = 0;
    for run in runs::over(&engine.disk, &engine.store_id, sealed) {
        let is_new = |file: &SegmentFile| keys.contains_key(&file.number);
        bytes += match run.files().iter().any(is_new) {
            true => anew(&run, |number| match keys.get(&number) {
                Some(keys) => Ok(*keys),
                None => keys_of(number),
            })?,
            false => lengths.file(&run.name()),
        };
    }
    Ok(bytes)
}

fn anew(run: &Run, keys_of: impl Fn(u64) -> Result<u64>) -> Result<u64> {
    let files = run.files().iter();
    let keys = files
        .map(|file| keys_of(file.number))
        .sum::<Result<u64>>()?;
    Ok(run_bytes(keys).unwrap_or(0))
}
