//! A snapshot: a copy of a store at one position, made while writing goes on, that opens as a store of its own.
//!
//! The writer's turn is held for a moment, so that everything written is durable; what is copied after that never changes.
//! The copy counts once its manifest is replaced, at one stroke; until then the directory is what it was. Runs on the
//! thread that asks.

use std::fmt;
use std::time::{Duration, Instant};

use crate::engine::destination::{Destination, Left};
use crate::engine::front::Front;
use crate::engine::open;
use crate::engine::original::{Original, end_at};
use crate::engine::shared::{Engine, head_of};
use crate::engine::transfer::{
    Brought, Copying, Terms, Transfer, check_outside, copy_newest, show_report,
};
use crate::error::{Result, StoreError};
use crate::event::digest::Digest;
use crate::event::position::Position;
use crate::format::manifest::{Manifest, SnapshotEnd};
use crate::io::Disk;
use crate::options::{Control, Listening, Progress, StoreConfig, check_pace};
use crate::sync::Arc;

/// What the work is called where it is cancelled.
const WORK: &str = "snapshot";

/// How a snapshot is taken; everything has a default.
///
/// ```
/// use quipu::{Control, SnapshotOptions, Store};
///
/// # fn main() -> quipu::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("quipu-doc-snapshot-{}", std::process::id()));
/// let store = Store::in_memory()?;
/// let options = SnapshotOptions::new()
///     .bytes_per_second(50 * 1024 * 1024)
///     .progress(|progress| {
///         println!("{} of {} bytes", progress.done_bytes, progress.total_bytes);
///         Control::Continue
///     });
/// let report = store.snapshot_with(&folder, options)?;
/// assert_eq!(report.position, store.view().position());
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct SnapshotOptions {
    terms: Terms,
}

impl SnapshotOptions {
    /// The defaults: shared bytes where the file system can, as fast as it goes, and nobody is told.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How the bytes of sealed segments come to the snapshot; reflinks or copies by default.
    #[must_use]
    pub fn copying(mut self, copying: Copying) -> Self {
        self.terms.copying = copying;
        self
    }

    /// Copies and proves at most this many bytes a second, at least 1; as fast as it goes by default.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.terms.bytes_per_second = Some(bytes);
        self
    }

    /// Calls `callback` at the beginning, about every MiB and at the end; its answer may cancel the work.
    #[must_use]
    pub fn progress(mut self, callback: impl FnMut(Progress) -> Control + Send + 'static) -> Self {
        self.terms.listening = Listening::new(callback);
        self
    }
}

/// What a snapshot holds, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// The last position in it.
    pub position: Position,
    /// The running digest there.
    pub digest: Digest,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes of files that are shared with the store: reflinks and hard links.
    pub shared_bytes: u64,
    /// Bytes that an earlier snapshot or attempt had left there.
    pub kept_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for SnapshotReport {
    /// One line: how far it goes, how its bytes came there, and how long that took.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.copied_bytes, self.shared_bytes, self.kept_bytes];
        show_report(f, self.position, bytes, self.took)
    }
}

/// Copies the store of `front`, which `engine` writes unless it is open only for reading.
pub(crate) fn snapshot(
    front: &Front,
    engine: Option<&Engine>,
    disk: &Arc<dyn Disk>,
    mut options: SnapshotOptions,
) -> Result<SnapshotReport> {
    let started = Instant::now();
    check_pace(options.terms.bytes_per_second, WORK)?;
    check_outside(&*front.disk, &**disk)?;
    let mut is_first = true;
    let newest = || match engine {
        Some(engine) => Original::written(engine),
        None if std::mem::take(&mut is_first) => Original::read(front),
        // One that follows another process may not know yet of what was replaced.
        None => {
            let config = StoreConfig::on_disk(Arc::clone(&front.disk));
            Original::read(&*open::open_read_only(config)?)
        }
    };
    copy_newest(newest, |original| {
        take(&original, disk, &mut options, started)
    })
    .inspect(|_| {
        front.note_snapshot();
        if let Some(engine) = engine {
            engine.tell_snapshot();
        }
    })
}

fn take(
    original: &Original,
    disk: &Arc<dyn Disk>,
    options: &mut SnapshotOptions,
    started: Instant,
) -> Result<SnapshotReport> {
    let check = |manifest: Option<&Manifest>| check_same_store(original, &**disk, manifest);
    let mut destination = Destination::enter(Arc::clone(disk), check)?;
    if let Some(end) = check_history(original, &destination)? {
        destination.put_end(end)?;
    }
    let generation = (destination.manifest.as_ref()).map_or(0, |manifest| manifest.generation);
    let target = Manifest {
        generation: generation + 1,
        replaced: original.replaced(),
        end: Some(end_at(&original.tip)),
        ..original.manifest.clone()
    };
    let left = what_is_left(original, &destination)?;
    destination.begin(&target, left)?;
    let brought = Transfer::new(original, &destination, &mut options.terms, WORK).run(None)?;
    destination.finish(&target)?;
    let report = report_of(original, brought, started);
    tracing::info!(
        place = disk.describe(),
        position = report.position.get(),
        copied_bytes = report.copied_bytes,
        kept_bytes = report.kept_bytes,
        "a snapshot was taken"
    );
    Ok(report)
}

fn report_of(original: &Original, brought: Brought, started: Instant) -> SnapshotReport {
    let head = head_of(&original.tip);
    SnapshotReport {
        position: head.position,
        digest: head.digest,
        copied_bytes: brought.copied_bytes,
        shared_bytes: brought.shared_bytes,
        kept_bytes: brought.kept_bytes,
        took: started.elapsed(),
    }
}

/// Refuses the directory of another store, before its lock is asked for.
fn check_same_store(
    original: &Original,
    disk: &dyn Disk,
    manifest: Option<&Manifest>,
) -> Result<()> {
    match manifest {
        Some(manifest) if manifest.store_id != original.manifest.store_id => {
            Err(StoreError::argument(format!(
                "{} holds another store; name an empty directory, or an earlier snapshot of this one",
                disk.describe()
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses what is not an earlier snapshot of the same history; else where that ends.
fn check_history(original: &Original, destination: &Destination) -> Result<Option<SnapshotEnd>> {
    let refused = |what: &str| {
        Err(StoreError::argument(format!(
            "{} {what}; name an empty directory, or an earlier snapshot of this store",
            destination.disk.describe()
        )))
    };
    let Some(manifest) = &destination.manifest else {
        return Ok(None);
    };
    let Some(end) = destination.end()? else {
        return refused("was opened for writing and not closed: open and close it, and try again");
    };
    match original.continues(&end)? && manifest.lineage == original.manifest.lineage {
        true => Ok(Some(end)),
        false if end.position > original.tip.position => {
            refused("holds events that this store does not have")
        }
        false => refused("holds another history"),
    }
}

/// Whether the files of an interrupted snapshot can be gone on with.
fn what_is_left(original: &Original, destination: &Destination) -> Result<Left> {
    let Some(unfinished) = &destination.unfinished else {
        return Ok(Left::IsUsable);
    };
    let same = unfinished.store_id == original.manifest.store_id
        && unfinished.lineage == original.manifest.lineage;
    let usable = match &unfinished.end {
        Some(end) => same && original.continues(end)?,
        None => false,
    };
    match (usable, &destination.manifest) {
        (true, _) => Ok(Left::IsUsable),
        (false, Some(_)) => Ok(Left::IsAnother),
        (false, None) => Err(StoreError::argument(format!(
            "{} holds an unfinished copy of another history; name an empty directory",
            destination.disk.describe()
        ))),
    }
}
