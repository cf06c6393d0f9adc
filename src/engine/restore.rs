//! A restore: a store made of a snapshot, or of any other store, up to a place in its history.
//!
//! It keeps the store's id, or forks: then it is another store from there on, and its manifest says which history it
//! shares up to where. The original is only read. Nothing counts before the manifest, which is written last. Runs on the
//! thread that asks.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::destination::{Destination, Left};
use crate::engine::open;
use crate::engine::original::{Original, end_at};
use crate::engine::rotate::header_after;
use crate::engine::shared::head_of;
use crate::engine::transfer::{Brought, Terms, Transfer, check_outside, copy_newest, show_report};
use crate::error::{Result, StoreError};
use crate::event::digest::Digest;
use crate::event::position::Position;
use crate::event::timestamp::Timestamp;
use crate::format::manifest::{Lineage, Manifest};
use crate::format::segment::SEGMENT_PAGE_BYTES;
use crate::io::{Clock, Disk, RealDisk, SystemClock, replace};
use crate::log::files::segment_name;
use crate::log::proof::{self, Cut};
use crate::log::scan::{GROUPS_START, Mark, Tip};
use crate::options::{Control, Listening, Progress, StoreConfig, check_pace};
use crate::sync::Arc;

/// What the work is called where it is cancelled.
const WORK: &str = "restore";

/// Up to where a store is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Upto {
    /// All of it.
    #[default]
    End,
    /// This position; inside a batch, the end of the one before.
    Position(Position),
    /// All that was recorded then or before; nothing, and so an empty store, if everything came later.
    Time(Timestamp),
}

/// Which store a restored one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// The same: it takes the place of the original, which must not be written any more.
    #[default]
    SameStore,
    /// Another one, with an id of its own, that shares the original's history up to there.
    Fork,
}

/// How a store is restored; everything has a default.
///
/// ```
/// use quipu::{Identity, RestoreOptions, Upto, Position};
///
/// let options = RestoreOptions::new().upto(Upto::Position(Position::new(1042))).identity(Identity::Fork);
/// # let _ = options;
/// ```
#[derive(Debug, Default)]
pub struct RestoreOptions {
    upto: Upto,
    identity: Identity,
    terms: Terms,
}

impl RestoreOptions {
    /// The defaults: all of it, as the same store, as fast as it goes, and nobody is told.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Up to where; all of it by default.
    #[must_use]
    pub fn upto(mut self, upto: Upto) -> Self {
        self.upto = upto;
        self
    }

    /// Which store it is afterwards; the same by default.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
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

/// What a restored store holds, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The last position in it.
    pub position: Position,
    /// The running digest there.
    pub digest: Digest,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Bytes of files that are shared with the original: reflinks.
    pub shared_bytes: u64,
    /// Bytes that an earlier attempt had left there.
    pub kept_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for RestoreReport {
    /// One line: how far it goes, how its bytes came there, and how long that took.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.copied_bytes, self.shared_bytes, self.kept_bytes];
        show_report(f, self.position, bytes, self.took)
    }
}

/// Makes a store in the empty directory `dest` of the snapshot or store in `from`, up to a place in its history.
///
/// `from` is only read, and may be written by another process meanwhile: then it is restored as far as it is durable. An
/// interrupted restore is gone on with when it is asked for again; see `docs/backup.md` for the whole picture.
///
/// ```
/// use quipu::prelude::*;
/// use quipu::{RestoreOptions, Upto};
///
/// # fn main() -> quipu::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("quipu-doc-restore-{}", std::process::id()));
/// # let (store_path, earlier_path) = (folder.join("store"), folder.join("earlier"));
/// let store = Store::open(&store_path)?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// let lit = store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// store.append(&lamp, EventKind::literal("lamp.broken"), &())?;
/// store.close()?;
///
/// let upto = RestoreOptions::new().upto(Upto::Position(lit.position()));
/// quipu::restore(&store_path, &earlier_path, upto)?;
/// assert_eq!(Store::open(&earlier_path)?.view().revision("lamp:1")?, 1);
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `NotFound` when `from` is no store; `Argument` when `dest` holds something else or lies inside `from`, and for a
/// position above the last one; `Locked` while `dest` is used; `Corrupt`, naming the file, when `from` is damaged;
/// `Cancelled`; `Io` as the system says.
pub fn restore(
    from: impl AsRef<Path>,
    dest: impl AsRef<Path>,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    restore_from(
        StoreConfig::new(from),
        Arc::new(RealDisk::new(dest)),
        options,
    )
}

/// As [`restore`], between disks of the caller's.
///
/// # Errors
/// As [`restore`].
pub fn restore_on_disks(
    from: Arc<dyn Disk>,
    dest: Arc<dyn Disk>,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    restore_from(StoreConfig::on_disk(from), dest, options)
}

fn restore_from(
    from: StoreConfig,
    dest: Arc<dyn Disk>,
    mut options: RestoreOptions,
) -> Result<RestoreReport> {
    let started = Instant::now();
    check_pace(options.terms.bytes_per_second, WORK)?;
    check_outside(&*from.disk(), &*dest)?;
    let newest = || Original::read(&*open::open_read_only(from.clone())?);
    copy_newest(newest, |original| {
        make(original, &dest, &mut options, started)
    })
}

fn make(
    mut original: Original,
    dest: &Arc<dyn Disk>,
    options: &mut RestoreOptions,
    started: Instant,
) -> Result<RestoreReport> {
    let cut = cut_to(&mut original, options.upto)?;
    let mut destination = Destination::enter(Arc::clone(dest), |_| Ok(()))?;
    let target = target_of(&original, &destination, options.identity)?;
    destination.begin(&target, Left::IsUsable)?;
    let brought = match cut {
        Some(cut) => {
            Transfer::new(&original, &destination, &mut options.terms, WORK).run(Some(cut))?
        }
        None => begin_anew(&*destination.disk, target.store_id)?,
    };
    destination.finish(&target)?;
    let head = head_of(&original.tip);
    tracing::info!(
        place = destination.disk.describe(),
        position = head.position.get(),
        "a store was restored"
    );
    Ok(RestoreReport {
        position: head.position,
        digest: head.digest,
        copied_bytes: brought.copied_bytes,
        shared_bytes: brought.shared_bytes,
        kept_bytes: brought.kept_bytes,
        took: started.elapsed(),
    })
}

/// Shortens the original to the place that is asked for; `None` if nothing is left of it.
fn cut_to(original: &mut Original, upto: Upto) -> Result<Option<Cut>> {
    let view = match upto {
        Upto::End => original.view.clone(),
        Upto::Position(position) => original.view.at_position(position)?,
        Upto::Time(time) => original.view.at_time(time)?,
    };
    let last = view.position().get();
    original.parts.retain(|part| part.first <= last);
    let Some(part) = original.parts.last_mut() else {
        original.tip = Tip {
            mark: Mark {
                segment: 1,
                offset: GROUPS_START,
            },
            ..Tip::NOTHING
        };
        return Ok(None);
    };
    let (header, _) = proof::header_of(&*original.disk, part.file)?;
    let cut = proof::cut_behind(&*original.disk, &part.file.name(), &header, last)?;
    (part.last, part.digest) = (last, *view.digest_at(view.position())?.as_bytes());
    part.is_sealed = false;
    original.tip = cut.tip;
    Ok(Some(cut))
}

/// The first segment of a store in which nothing is.
fn begin_anew(disk: &dyn Disk, store_id: [u8; 16]) -> Result<Brought> {
    let header = header_after(&Tip::NOTHING, store_id, SystemClock.entropy());
    let mut page = header.encode().to_vec();
    page.resize(SEGMENT_PAGE_BYTES, 0);
    let name = segment_name(1);
    replace(disk, &name, &page).map_err(|e| StoreError::io(format_args!("writing {name}"), e))?;
    Ok(Brought::default())
}

/// The manifest of the restored store, which goes on with an interrupted restore to the same place.
fn target_of(
    original: &Original,
    destination: &Destination,
    identity: Identity,
) -> Result<Manifest> {
    let refused = |what: &str| {
        Err(StoreError::argument(format!(
            "{} holds {what}",
            destination.disk.describe()
        )))
    };
    if destination.manifest.is_some() {
        return refused("a store already; name an empty directory");
    }
    let target = Manifest {
        generation: 1,
        replaced: original.replaced(),
        lineage: lineage_of(original, identity),
        end: Some(end_at(&original.tip)),
        ..original.manifest.clone()
    };
    let Some(unfinished) = &destination.unfinished else {
        return Ok(match identity {
            Identity::SameStore => target,
            Identity::Fork => Manifest {
                store_id: SystemClock.entropy(),
                created_at: SystemClock.now(),
                ..target
            },
        });
    };
    let is_same = unfinished.store_id == original.manifest.store_id;
    let goes_on = match &unfinished.end {
        Some(end) => original.continues(end)?,
        None => false,
    };
    if is_same != (identity == Identity::SameStore)
        || unfinished.lineage != target.lineage
        || !goes_on
    {
        return refused(
            "an unfinished copy of something else; ask for the same restore again, or name an empty directory",
        );
    }
    Ok(Manifest {
        store_id: unfinished.store_id,
        created_at: unfinished.created_at,
        ..target
    })
}

/// The histories that the restored store shares with earlier ones, each no further than it goes itself.
fn lineage_of(original: &Original, identity: Identity) -> Vec<Lineage> {
    let end = &original.tip;
    let shared_with = |store_id| Lineage {
        store_id,
        position: end.position,
        digest: end.digest,
    };
    // None is left out, be it of a later place: what it compacted of the shared history names it.
    let earlier = original.manifest.lineage.iter();
    let earlier = earlier.map(|earlier| match earlier.position < end.position {
        true => *earlier,
        false => shared_with(earlier.store_id),
    });
    let mut lineage: Vec<_> = earlier.collect();
    if identity == Identity::Fork {
        lineage.push(shared_with(original.manifest.store_id));
    }
    lineage
}
