//! Runs over whole groups of sealed files: which there are to be, and making those that are missing.
//!
//! Making is the upkeep thread's; it is done group by group, so that a full segment never waits for long. A run that
//! cannot be made is done without.

use crate::engine::shared::Engine;
use crate::engine::upkeep::Job;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::format::run::{RUN_SEGMENTS, RunHead};
use crate::index::layer::open_side_index;
use crate::index::run::Run;
use crate::index::run_build;
use crate::index::sidx::Sidx;
use crate::io::{Disk, replace};
use crate::log::files::{SEGMENTS, SegmentFile, is_run_name};
use crate::log::segment::Segment;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// One run for each group of sealed files that is whole and more than one; none is opened.
///
/// Groups go by number, so that a file which stands for many moves no other into another group.
pub(crate) fn over(
    disk: &Arc<dyn Disk>,
    store_id: &[u8; 16],
    sealed: &[SealedEntry],
) -> Vec<Arc<Run>> {
    let mut runs = Vec::new();
    let mut rest = sealed;
    while let Some(first) = rest.first() {
        let (start, end) = group_of(first.number);
        let (files, behind) = rest.split_at(rest.partition_point(|entry| entry.number <= end));
        if files.len() > 1 && is_whole((start, end), files, behind.first()) {
            let mut merges = [0; RUN_SEGMENTS];
            for (merged, entry) in merges.iter_mut().zip(files) {
                *merged = entry.index_checksum;
            }
            let expected = RunHead {
                store_id: *store_id,
                first_segment: start,
                files: u32::try_from(files.len()).expect("a group has at most 16 numbers"),
                merges,
                filter_blocks: 0,
                tables: [None; 4],
            };
            let files = files.iter().map(SegmentFile::from).collect();
            runs.push(Arc::new(Run::new(disk, expected, files)));
        }
        rest = behind;
    }
    runs
}

/// The first and the last number of a segment's group.
fn group_of(number: u64) -> (u64, u64) {
    let size = RUN_SEGMENTS as u64;
    let start = (number - 1) / size * size + 1;
    (start, start + (size - 1))
}

/// Whether every number of a group is in these files or the one behind; a segment that could not be sealed is missing
/// in the list until the store is opened again.
fn is_whole((start, end): (u64, u64), files: &[SealedEntry], behind: Option<&SealedEntry>) -> bool {
    let mut expected = None;
    for entry in files {
        if entry.first != expected.unwrap_or(entry.first.min(start)) {
            return false;
        }
        expected = Some(entry.number + 1);
    }
    expected == Some(end + 1) || behind.is_some_and(|entry| Some(entry.first) == expected)
}

/// The runs that were `found`, of which those that are known stay.
pub(crate) fn keep_known(found: &mut [Arc<Run>], known: &[Arc<Run>]) {
    let first = |run: &Arc<Run>| run.expected().first_segment;
    for run in found {
        if let Ok(place) = known.binary_search_by_key(&first(run), first)
            && let Some(same) = known.get(place).filter(|known| known.is_like(run))
        {
            *run = Arc::clone(same);
        }
    }
}

/// Takes in which runs there are to be now, and asks for those that are missing.
pub(crate) fn renew(engine: &Engine) {
    take_in(engine);
    engine.send(Job::Merge(0));
}

/// Takes in which runs there are to be now; one that is missing denies nothing.
pub(crate) fn take_in(engine: &Engine) {
    let sealed = engine.sealed.lock();
    let mut published = engine.front.published.write();
    let mut runs = over(&engine.disk, &engine.store_id, &sealed);
    keep_known(&mut runs, &published.layers.runs);
    published.layers = published.layers.with_runs(runs);
}

/// Makes the run of a group unless it is usable, then asks for the next group; behind the last one, takes away what is
/// left of groups that have a run no longer.
pub(crate) fn merge(engine: &Engine, group: usize) {
    if engine.stopping.load(Ordering::Acquire) {
        return;
    }
    // Not the layers: segments that they list would not be removed meanwhile.
    let runs = engine.front.published.read().layers.runs.clone();
    let Some(run) = runs.get(group) else {
        return remove_others(&*engine.disk, &runs);
    };
    if !run.is_usable()
        && let Err(error) = make(engine, run)
    {
        tracing::warn!(file = run.name(), %error, "a run was not made");
    }
    engine.send(Job::Merge(group + 1));
}

fn make(engine: &Engine, run: &Run) -> Result<()> {
    let Some(bytes) = build(engine, run)? else {
        return Ok(());
    };
    replace(&*engine.disk, &run.name(), &bytes)
        .map_err(|e| StoreError::io(format_args!("writing {}", run.name()), e))?;
    let made = Run::new(&engine.disk, run.expected(), run.files().to_vec());
    let mut published = engine.front.published.write();
    let mut runs = published.layers.runs.clone();
    // Its files may have been replaced meanwhile, and then it is stale before it is used.
    if let Some(place) = runs.iter_mut().find(|place| place.is_like(&made)) {
        *place = Arc::new(made);
        published.layers = published.layers.with_runs(runs);
    }
    Ok(())
}

/// The bytes of a run; `None` if its files are so large that it would be too long, or not there any more, or the store
/// is closing.
pub(super) fn build(engine: &Engine, run: &Run) -> Result<Option<Vec<u8>>> {
    let mut indexes = Vec::with_capacity(RUN_SEGMENTS);
    for (file, checksum) in run.files().iter().zip(run.expected().merges) {
        let sealed = engine.sealed.lock();
        let entry = sealed.iter().find(|e| SegmentFile::from(*e) == *file);
        let Some(entry) = entry.copied() else {
            return Ok(None);
        };
        drop(sealed);
        let index = index_of(engine, &entry)?;
        if index.checksum() != checksum {
            return Err(StoreError::corrupt(format!(
                "the index of {} is not the one that the store was opened with; open it again",
                file.name()
            )));
        }
        indexes.push(Arc::new(index));
    }
    let go_on = || !engine.stopping.load(Ordering::Acquire);
    run_build::build(run.expected(), &indexes, &go_on)
}

/// The index of a sealed segment; not the one that readers share, so that what nobody asks is not left mapped.
fn index_of(engine: &Engine, entry: &SealedEntry) -> Result<Sidx> {
    let (store_id, file) = (entry.store_id, SegmentFile::from(entry));
    open_side_index(&*engine.disk, &store_id, file).or_else(|_| {
        let segment = Segment::sealed(Arc::clone(&engine.disk), store_id, file);
        let map = Arc::clone(segment.map()?);
        let end = map.len();
        Sidx::open_at_end(map, end, &store_id, file.number, &segment.name())
    })
}

/// Removes the files of runs that there are not to be any more.
pub(crate) fn remove_others(disk: &dyn Disk, runs: &[Arc<Run>]) {
    let names: Vec<_> = runs.iter().map(|run| run.name()).collect();
    let files = disk.list(SEGMENTS).unwrap_or_default().into_iter();
    for name in files.map(|entry| format!("{SEGMENTS}/{}", entry.name)) {
        if is_run_name(&name)
            && !names.contains(&name)
            && let Err(error) = disk.remove(&name)
        {
            tracing::warn!(file = name, %error, "a run that is not used was not removed");
        }
    }
}

/// Removes the files that were found damaged and are not made again, so that the next opening makes them.
pub(crate) fn remove_damaged(engine: &Engine) {
    let layers = Arc::clone(&engine.front.published.read().layers);
    for run in layers.runs.iter().filter(|run| run.is_damaged()) {
        if let Err(error) = engine.disk.remove(&run.name()) {
            tracing::warn!(file = run.name(), %error, "a damaged run was not removed");
        }
    }
}
