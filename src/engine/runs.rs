//! Runs over whole groups of sealed segments: which there are to be, and making those that are missing.
//!
//! Making is the upkeep thread's; it is done group by group, so that a full segment never waits for long. A run that
//! cannot be made is done without.

use crate::engine::shared::Engine;
use crate::engine::upkeep::Job;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::format::run::{RUN_SEGMENTS, RunBuilder, RunHead};
use crate::index::layer::open_side_index;
use crate::index::run::Run;
use crate::index::sidx::Sidx;
use crate::io::{Disk, replace};
use crate::log::files::SegmentFile;
use crate::log::segment::Segment;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// One run for each whole group at the start of the sealed segments; none is opened.
pub(crate) fn over(
    disk: &Arc<dyn Disk>,
    store_id: &[u8; 16],
    sealed: &[SealedEntry],
) -> Vec<Arc<Run>> {
    let (groups, _) = sealed.as_chunks::<RUN_SEGMENTS>();
    let mut runs = Vec::with_capacity(groups.len());
    for group in groups {
        // A segment that could not be sealed is missing in the list, until the store is opened again.
        if group[RUN_SEGMENTS - 1].number != ((runs.len() + 1) * RUN_SEGMENTS) as u64 {
            break;
        }
        let expected = RunHead {
            store_id: *store_id,
            first_segment: group[0].number,
            merges: group.each_ref().map(|entry| entry.index_checksum),
            filter_blocks: 0,
        };
        runs.push(Arc::new(Run::new(disk, expected)));
    }
    runs
}

/// Takes in the group that the last seal completed.
pub(crate) fn extend(engine: &Engine) {
    let found = over(&engine.disk, &engine.store_id, &engine.sealed.lock());
    let mut published = engine.front.published.write();
    let runs = &published.layers.runs;
    let new = found.iter().skip(runs.len());
    let runs = runs.iter().chain(new).cloned().collect();
    published.layers = published.layers.with_runs(runs);
    engine.send(Job::Merge(0));
}

/// Makes the run of a group unless it is usable, then asks for the next group.
pub(crate) fn merge(engine: &Engine, group: usize) {
    let run = engine
        .front
        .published
        .read()
        .layers
        .runs
        .get(group)
        .cloned();
    let Some(run) = run.filter(|_| !engine.stopping.load(Ordering::Acquire)) else {
        return;
    };
    if !run.is_usable()
        && let Err(error) = make(engine, group, run.expected())
    {
        tracing::warn!(file = run.name(), %error, "a run was not made");
    }
    engine.send(Job::Merge(group + 1));
}

fn make(engine: &Engine, group: usize, head: RunHead) -> Result<()> {
    let Some(bytes) = build(engine, head)? else {
        return Ok(());
    };
    let run = Run::new(&engine.disk, head);
    replace(&*engine.disk, &run.name(), &bytes)
        .map_err(|e| StoreError::io(format_args!("writing {}", run.name()), e))?;
    let mut published = engine.front.published.write();
    let mut runs = published.layers.runs.clone();
    if let Some(place) = runs.get_mut(group) {
        *place = Arc::new(run);
    }
    published.layers = published.layers.with_runs(runs);
    Ok(())
}

/// The bytes of a run; `None` if the segments are so large that it would be too long, or the store is closing.
pub(super) fn build(engine: &Engine, head: RunHead) -> Result<Option<Vec<u8>>> {
    let mut indexes = Vec::with_capacity(RUN_SEGMENTS);
    for (number, checksum) in (head.first_segment..).zip(head.merges) {
        let entry = engine
            .sealed
            .lock()
            .iter()
            .find(|e| e.number == number)
            .copied();
        let entry =
            entry.ok_or_else(|| StoreError::corrupt("a run names a segment that is gone"))?;
        let index = index_of(engine, &entry)?;
        if index.checksum() != checksum {
            return Err(StoreError::corrupt(format!(
                "the index of segment {number} is not the one that the store was opened with; open it again"
            )));
        }
        indexes.push(index);
    }
    let keys = indexes.iter().map(Sidx::key_count).sum();
    let Some(mut builder) = RunBuilder::new(head, keys) else {
        return Ok(None);
    };
    for index in &indexes {
        if engine.stopping.load(Ordering::Acquire) {
            return Ok(None);
        }
        index.each_key(|axis, key| {
            builder.add(axis, key);
            Ok(())
        })?;
    }
    Ok(Some(builder.finish()))
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

/// Removes the files that were found damaged and are not made again, so that the next opening makes them.
pub(crate) fn remove_damaged(engine: &Engine) {
    let layers = Arc::clone(&engine.front.published.read().layers);
    for run in layers.runs.iter().filter(|run| run.is_damaged()) {
        if let Err(error) = engine.disk.remove(&run.name()) {
            tracing::warn!(file = run.name(), %error, "a damaged run was not removed");
        }
    }
}
