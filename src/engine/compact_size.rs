//! How long the runs over a store's sealed files will be after a compaction, told from those and the indexes there are.
//!
//! Runs on the thread that plans or compacts.

use std::collections::BTreeMap;

use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::Result;
use crate::format::checkpoint::SealedEntry;
use crate::format::run::run_bytes;
use crate::index::sidx::RunShare;
use crate::log::files::SegmentFile;
use crate::log::lengths::Lengths;

/// How long the runs will be over these sealed files, of which those that are new add these `shares`; `share_of` knows
/// it of the others. A merged table is taken to be as long as it is now, but no longer than what it is made of.
pub(super) fn runs_after(
    engine: &Engine,
    sealed: &[SealedEntry],
    shares: &BTreeMap<u64, RunShare>,
    lengths: &Lengths,
    share_of: impl Fn(u64) -> Result<RunShare>,
) -> Result<u64> {
    let share_of = |file: &SegmentFile| match shares.get(&file.number) {
        Some(share) => Ok(*share),
        None => share_of(file.number),
    };
    let now = engine.front.published.read().layers.runs.clone();
    let mut bytes = 0;
    for run in runs::over(&engine.disk, &engine.store_id, sealed) {
        let is_new = |file: &SegmentFile| shares.contains_key(&file.number);
        if !run.files().iter().any(is_new) {
            bytes += lengths.of(&run.name()).unwrap_or(0);
            continue;
        }
        let mut all = RunShare::default();
        for file in run.files() {
            let share = share_of(file)?;
            all.keys += share.keys;
            all.names_bytes += share.names_bytes;
        }
        let of_it = now.iter().find(|known| known.name() == run.name());
        let tables = of_it.map_or(0, |known| known.tables_bytes());
        bytes += run_bytes(all.keys, tables.min(all.names_bytes)).unwrap_or(0);
    }
    Ok(bytes)
}
