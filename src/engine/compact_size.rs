//! How long the runs over a store's sealed files will be after a compaction, told from those and the indexes there are.
//!
//! Runs on the thread that plans or compacts.

use std::collections::BTreeMap;

use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::Result;
use crate::format::checkpoint::SealedEntry;
use crate::format::run::run_bytes;
use crate::log::files::SegmentFile;
use crate::log::lengths::Lengths;

/// How long the runs will be over these sealed files, of which those that are new have so many `keys`; `keys_of` knows
/// it of the others.
pub(super) fn runs_after(
    engine: &Engine,
    sealed: &[SealedEntry],
    keys: &BTreeMap<u64, u64>,
    lengths: &Lengths,
    keys_of: impl Fn(u64) -> Result<u64>,
) -> Result<u64> {
    let keys_of = |file: &SegmentFile| match keys.get(&file.number) {
        Some(keys) => Ok(*keys),
        None => keys_of(file.number),
    };
    let mut bytes = 0;
    for run in runs::over(&engine.disk, &engine.store_id, sealed) {
        let is_new = |file: &SegmentFile| keys.contains_key(&file.number);
        bytes += match run.files().iter().any(is_new) {
            true => run_bytes(run.files().iter().map(keys_of).sum::<Result<u64>>()?),
            false => lengths.of(&run.name()),
        }
        .unwrap_or(0);
    }
    Ok(bytes)
}
