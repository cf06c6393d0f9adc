//! How long the runs over a store's sealed files will be after a compaction, told from those and the indexes there are.
//!
//! Runs on the thread that plans or compacts.

use std::collections::BTreeMap;

use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::Result;
use crate::format::checkpoint::SealedEntry;
use crate::format::run::run_bytes;
use crate::index::run::Run;
use crate::index::sidx::RunShare;
use crate::log::files::SegmentFile;
use crate::log::lengths::Lengths;

/// How long the runs will be over these sealed files, of which those that are new add these `shares`; `share_now` knows
/// what the files that there are add. Merged tables shrink as what they are made of does where as many files are merged
/// as now, and are else taken to be as long as now.
pub(super) fn runs_after(
    engine: &Engine,
    sealed: &[SealedEntry],
    shares: &BTreeMap<u64, RunShare>,
    lengths: &Lengths,
    share_now: impl Fn(u64) -> Result<RunShare>,
) -> Result<u64> {
    let share_after = |number| match shares.get(&number) {
        Some(share) => Ok(*share),
        None => share_now(number),
    };
    let now = engine.front.published.read().layers.runs.clone();
    let mut bytes = 0;
    for run in runs::over(&engine.disk, &engine.store_id, sealed) {
        let is_new = |file: &SegmentFile| shares.contains_key(&file.number);
        if !run.files().iter().any(is_new) {
            bytes += lengths.of(&run.name()).unwrap_or(0);
            continue;
        }
        let after = share_of_all(&run, share_after)?;
        let known = now.iter().find(|known| known.name() == run.name());
        let tables = match known {
            Some(known) if known.files().len() == run.files().len() => {
                let before = share_of_all(known, &share_now)?;
                scaled(known.tables_bytes(), before.names_bytes, after.names_bytes)
            }
            // Fewer files repeat fewer names, of which a table has each once.
            Some(known) => known.tables_bytes().min(after.names_bytes),
            None => 0,
        };
        bytes += run_bytes(after.keys, tables).unwrap_or(0);
    }
    Ok(bytes)
}

fn share_of_all(run: &Run, share_of: impl Fn(u64) -> Result<RunShare>) -> Result<RunShare> {
    let mut all = RunShare::default();
    for file in run.files() {
        let share = share_of(file.number)?;
        all.keys += share.keys;
        all.names_bytes += share.names_bytes;
    }
    Ok(all)
}

/// What shrinks as something else does.
fn scaled(bytes: u64, before: u64, after: u64) -> u64 {
    let bytes = u128::from(bytes) * u128::from(after) / u128::from(before.max(1));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
