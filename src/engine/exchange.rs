//! Puts a file that was written for a range of segments in the place of the files of that range, while others read.
//!
//! One write of the manifest switches: before it the old files are the log, after it the new one. Views keep what they
//! have; an old file is removed when the last of them that lists it is gone. It runs on the thread that compacts, one
//! range at a time, and takes the writer's turn for one write of the hint.

use crate::engine::chain;
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::format::manifest::{Manifest, Replaced};
use crate::index::layer::Layer;
use crate::index::layers::{Layers, put_sealed};
use crate::log::files::{SegmentFile, read_manifest, write_manifest};
use crate::log::segment::Segment;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// A number that no file and no manifest of the store has had.
pub(crate) fn next_generation(engine: &Engine) -> u64 {
    engine.generations.fetch_add(1, Ordering::Relaxed) + 1
}

/// Puts the sealed file of `entry` in the place of those that it stands for; `digest_before` is the running digest
/// before its first event. Returns those segments, whose files [`remove_all`] removes.
///
/// The file must be durable under its name. Runs that are stale by it deny nothing until upkeep is asked to merge.
///
/// # Errors
/// `Argument` when the range does not consist of whole sealed files, or the file does not hold their events. `Io` when
/// the manifest could not be written: the old files are still the log, and the new one may be removed.
/// `OutcomeUnknown` when the manifest was written and may not be durable: the new file must stay where it is, as the
/// next opening may want it.
pub(crate) fn replace_segments(
    engine: &Engine,
    entry: SealedEntry,
    digest_before: [u8; 32],
) -> Result<Vec<Arc<Segment>>> {
    let replaced = Replaced {
        first: entry.first,
        last: entry.number,
        generation: entry.generation,
    };
    let mut manifest = engine.manifest.lock();
    check(&engine.sealed.lock(), &replaced, &entry)?;
    let mut ranges = manifest.replaced.clone();
    ranges.retain(|range| range.last < replaced.first || replaced.last < range.first);
    let place = ranges.partition_point(|range| range.last < replaced.first);
    ranges.insert(place, replaced);
    let next = Manifest {
        generation: next_generation(engine),
        replaced: ranges,
        ..manifest.clone()
    };
    if let Err(error) = write_manifest(&*engine.disk, &next) {
        return Err(unwritten(engine, &manifest, error));
    }
    *manifest = next;
    let layer = chain::layer_of(&engine.disk, &entry, digest_before);
    let gone = show(engine, &replaced, entry, Arc::new(layer));
    drop(manifest);
    // Told of before anything is removed: a reader that finds a file gone looks for this.
    announce(engine);
    Ok(gone
        .iter()
        .map(|layer| Arc::clone(layer.segment()))
        .collect())
}

/// Removes the files of replaced segments that nobody uses any more; the others stay in the list.
pub(crate) fn remove_unused(replaced: &mut Vec<Arc<Segment>>) {
    for segment in std::mem::take(replaced) {
        match Arc::try_unwrap(segment) {
            Ok(unused) => unused.remove(),
            Err(used) => replaced.push(used),
        }
    }
}

/// Removes the files of replaced segments, those in use when the last view that lists them is gone.
pub(crate) fn remove_all(engine: &Engine, mut replaced: Vec<Arc<Segment>>) {
    remove_unused(&mut replaced);
    for segment in replaced {
        // Views may outlive the store, and the next one that opens it removes the file.
        if let Err(error) = segment.map() {
            tracing::warn!(file = segment.name(), %error, "a replaced file that is in use was not mapped");
        }
        segment.doom(&engine.lock);
    }
}

/// The files of a range, told by their entries, must be whole, and the new file must continue and be continued as they
/// are.
fn check(sealed: &[SealedEntry], replaced: &Replaced, entry: &SealedEntry) -> Result<()> {
    let refused = |what: &str| {
        let name = SegmentFile::from(replaced).name();
        Err(StoreError::argument(format!("{name} {what}")))
    };
    let old = in_range(sealed, replaced);
    let (Some(first), Some(last)) = (old.first(), old.last()) else {
        return refused("stands for no sealed segment");
    };
    let adjoin = old.windows(2).all(|two| two[0].number + 1 == two[1].first);
    if (first.first, last.number) != (replaced.first, replaced.last) || !adjoin {
        return refused("does not stand for whole files");
    }
    let end = |e: &SealedEntry| {
        let group = (e.last_group_sequence, e.last_group_checksum);
        (e.last_position, e.last_recorded, e.digest, group)
    };
    let begins_alike = entry.first_position == first.first_position;
    if !begins_alike || end(entry) != end(last) || entry.generation == 0 {
        return refused("does not hold the events of its range");
    }
    Ok(())
}

fn in_range<'a>(sealed: &'a [SealedEntry], range: &Replaced) -> &'a [SealedEntry] {
    let from = sealed.partition_point(|entry| entry.number < range.first);
    let to = sealed.partition_point(|entry| entry.number <= range.last);
    sealed.get(from..to).unwrap_or_default()
}

/// What became of a manifest whose write failed.
fn unwritten(engine: &Engine, manifest: &Manifest, error: StoreError) -> StoreError {
    match read_manifest(&*engine.disk) {
        Ok(Some(there)) if there == *manifest => error,
        _ => StoreError::outcome_unknown(
            "replacing segments: the manifest may or may not be durable; what it names stays until the store is opened again",
        )
        .with_source(error),
    }
}

/// Shows readers the new layer; returns those that it replaces.
fn show(
    engine: &Engine,
    replaced: &Replaced,
    entry: SealedEntry,
    layer: Arc<Layer>,
) -> Vec<Arc<Layer>> {
    let mut sealed = engine.sealed.lock();
    let mut published = engine.front.published.write();
    let old_bytes: u64 = in_range(&sealed, replaced).iter().map(|e| e.log_end).sum();
    published.full_bytes = published.full_bytes + entry.log_end - old_bytes;
    sealed.retain(|entry| !replaced.contains(entry.number));
    let place = sealed.partition_point(|entry| entry.number < replaced.first);
    sealed.insert(place, entry);
    let mut all = published.layers.all.clone();
    let in_range = |layer: &&Arc<Layer>| replaced.contains(layer.segment().number());
    let gone = all.iter().filter(in_range).cloned().collect();
    put_sealed(&mut all, layer);
    published.layers = Layers::new(all, published.layers.runs.clone());
    drop(published);
    drop(sealed);
    runs::take_in(engine);
    gone
}

/// Tells readers in other processes that another manifest is in force, without waiting for an append.
fn announce(engine: &Engine) {
    let mut writer = engine.turn.lock();
    let generation = engine.manifest.lock().generation;
    if let Err(error) = writer.hint.announce(generation) {
        tracing::warn!(%error, "the durable hint was not written");
    }
    engine.tell_standing();
}
