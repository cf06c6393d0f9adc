//! Puts a file that compaction wrote in the place of those that it stands for, by one write of the manifest.
//!
//! Runs on the thread that compacts. The manifest's lock is held from the write until readers see the new file, so that a
//! writer that starts again reads the one or the other.

use crate::engine::chain;
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::Result;
use crate::format::checkpoint::SealedEntry;
use crate::format::manifest::Replaced;
use crate::io::Disk;
use crate::log::files::{SegmentFile, write_manifest};
use crate::sync::Arc;

/// Switches to the file of `entry`, which is whole and durable, and removes those that it replaces.
///
/// Views that show a replaced file have it mapped, and keep its bytes for as long as they live.
pub(crate) fn replace_segments(
    engine: &Engine,
    entry: &SealedEntry,
    digest_before: [u8; 32],
) -> Result<()> {
    let mut manifest = engine.manifest.lock();
    map_all(engine, entry)?;
    let mut next = manifest.clone();
    next.generation += 1;
    let apart = |range: &Replaced| range.last < entry.first || range.first > entry.number;
    next.replaced.retain(apart);
    let place = next
        .replaced
        .partition_point(|range| range.last < entry.first);
    let range = Replaced {
        first: entry.first,
        last: entry.number,
        generation: entry.generation,
    };
    next.replaced.insert(place, range);
    write_manifest(&*engine.disk, &next)?;
    *manifest = next;
    let old = switch(engine, entry, digest_before);
    drop(manifest);
    runs::renew(engine);
    remove(&*engine.disk, &old);
    Ok(())
}

/// Maps what views may still read once its file is gone.
fn map_all(engine: &Engine, entry: &SealedEntry) -> Result<()> {
    let layers = Arc::clone(&engine.front.published.read().layers);
    let range = entry.first..=entry.number;
    let mut old = layers
        .all
        .iter()
        .filter(|layer| range.contains(&layer.segment().number()));
    old.try_for_each(|layer| layer.segment().map().map(|_| ()))
}

/// Lets the checkpoint and readers know; returns what was replaced.
fn switch(engine: &Engine, entry: &SealedEntry, digest_before: [u8; 32]) -> Vec<SealedEntry> {
    let mut sealed = engine.sealed.lock();
    let from = sealed.partition_point(|other| other.number < entry.first);
    let to = sealed.partition_point(|other| other.number <= entry.number);
    let old: Vec<_> = sealed.splice(from..to, [*entry]).collect();
    drop(sealed);
    let old_bytes: u64 = old.iter().map(|entry| entry.log_end).sum();
    let layer = Arc::new(chain::layer_of(&engine.disk, entry, digest_before));
    let mut published = engine.front.published.write();
    let mut layers = published.layers.all.clone();
    let from = layers.partition_point(|other| other.segment().number() < entry.first);
    let to = layers.partition_point(|other| other.segment().number() <= entry.number);
    layers.splice(from..to, [layer]);
    published.full_bytes = published.full_bytes - old_bytes + entry.log_end;
    published.layers = published.layers.with_all(layers);
    old
}

/// Removes files that no manifest names any more; what cannot be removed goes with the next opening.
fn remove(disk: &dyn Disk, old: &[SealedEntry]) {
    for file in old.iter().map(SegmentFile::from) {
        for name in [file.name(), file.side_index_name()] {
            match disk.remove(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(file = name, %error, "a replaced file was not removed");
                }
                _ => {}
            }
        }
    }
}
