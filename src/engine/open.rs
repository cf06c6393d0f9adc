//! Opens a store: check, lock, create or read, start the threads.
//!
//! Runs on the caller's thread; from the lock on, nobody else writes in the directory.

use std::io::ErrorKind;
use std::time::Instant;

use crate::engine::follow::Follower;
use crate::engine::front::Front;
use crate::engine::heads::Heads;
use crate::engine::load::{Loaded, load};
use crate::engine::meters::Meters;
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::engine::turn::{self, Durable, Writer};
use crate::engine::upkeep::{self, Backlog, Job, SpareSlot};
use crate::error::{Result, StoreError};
use crate::format::manifest::Manifest;
use crate::io::{Disk, DiskLock, LockError};
use crate::log::active::planned_bytes;
use crate::log::apply;
use crate::log::files::{
    HINT, HintFile, LOCK, MANIFEST, SEGMENTS, UNFINISHED, UNFINISHED_COPY, read_manifest,
    write_manifest,
};
use crate::log::look;
use crate::options::StoreConfig;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use crate::sync::{Arc, Mutex, OnceLock, RwLock};

/// Opens the store that the settings name, and creates it if there is none.
pub(crate) fn open(config: StoreConfig) -> Result<Arc<Engine>> {
    config.check()?;
    let disk = config.disk();
    let place = disk.describe();
    open_disk(config, disk).map_err(|error| error.in_place(&place))
}

fn open_disk(config: StoreConfig, disk: Arc<dyn Disk>) -> Result<Arc<Engine>> {
    let started = Instant::now();
    prepare(&*disk)?;
    let lock = take_lock(&*disk, LockFor::Writing)?;
    let manifest = match read_manifest(&*disk)? {
        Some(manifest) => manifest,
        None => create(&*disk, &config)?,
    };
    remove_unfinished(&*disk)?;
    let mut loaded = load(&disk, &manifest, &config)?;
    let manifest = without_end(&*disk, manifest, &mut loaded.hint)?;
    remove_unnamed(&*disk, &manifest);
    let report = (loaded.repairs, loaded.sealed.len(), loaded.tip.position);
    let engine = start(config, disk, manifest, lock, loaded)?;
    let (repairs, sealed, position) = report;
    tracing::info!(
        place = engine.disk.describe(),
        position,
        sealed_segments = sealed,
        cut_bytes = repairs.cut_bytes,
        rewritten_bytes = repairs.rewritten_bytes,
        indexed_events = repairs.indexed_events,
        took_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "the store is open"
    );
    Ok(engine)
}

/// Opens the store that the settings name for reading alone, and touches nothing.
pub(crate) fn open_read_only(config: StoreConfig) -> Result<Arc<Front>> {
    let started = Instant::now();
    config.check()?;
    let disk = config.disk();
    let (follower, published) =
        Follower::open(Arc::clone(&disk)).map_err(|error| error.in_place(&disk.describe()))?;
    tracing::info!(
        place = disk.describe(),
        position = published.head.position.get(),
        took_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "the store is open for reading"
    );
    Ok(Front::new(disk, config.clock, published, Some(follower)))
}

/// Makes the directory if there is none, and refuses one that is something else.
fn prepare(disk: &dyn Disk) -> Result<()> {
    make_directory(disk)?;
    refuse_strangers(disk)
}

pub(crate) fn make_directory(disk: &dyn Disk) -> Result<()> {
    disk.prepare().map_err(|e| match e.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => StoreError::argument(format!(
            "{} is not a directory; a store is one: name a directory, or one that does not exist yet",
            disk.describe()
        )),
        ErrorKind::InvalidInput => StoreError::argument(format!(
            "{:?} cannot be the path of a directory; name one",
            disk.describe()
        )),
        _ => StoreError::io(format_args!("opening {}", disk.describe()), e),
    })
}

/// Refuses a directory that has files and is no store.
fn refuse_strangers(disk: &dyn Disk) -> Result<()> {
    let entries = disk
        .list("")
        .map_err(|e| StoreError::io(format_args!("listing {}", disk.describe()), e))?;
    let ours = |name: &str| [LOCK, SEGMENTS].contains(&name) || name.ends_with(".tmp");
    let is_store = entries.iter().any(|entry| entry.name == MANIFEST);
    let Some(stranger) = entries
        .iter()
        .find(|entry| !ours(&entry.name))
        .filter(|_| !is_store)
    else {
        return Ok(());
    };
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if has(HINT) {
        return Err(StoreError::corrupt(format!(
            "{MANIFEST} is missing in {}; restore it from a copy",
            disk.describe()
        )));
    }
    if has(UNFINISHED) {
        return Err(StoreError::argument(format!(
            "{} is not a store: {UNFINISHED_COPY}",
            disk.describe()
        )));
    }
    Err(StoreError::argument(format!(
        "{} is not a store: it holds {:?} and no {MANIFEST}; name an empty directory, or one that does not exist yet",
        disk.describe(),
        stranger.name
    )))
}

/// What a directory is locked for, and so what to do when another has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LockFor {
    Writing,
    Copying,
}

pub(crate) fn take_lock(disk: &dyn Disk, purpose: LockFor) -> Result<Box<dyn DiskLock>> {
    disk.lock(std::process::id()).map_err(|error| match error {
        LockError::Held { owner } => {
            let is_own = owner == Some(std::process::id());
            let who = match owner {
                Some(own) if is_own => format!("process {own}, this one"),
                Some(other) => format!("process {other}"),
                None => "another process".to_owned(),
            };
            let advice = match purpose {
                LockFor::Copying => "name another directory, or wait until it is free",
                LockFor::Writing if is_own => "clone the handle that has it",
                LockFor::Writing => "close it there first",
            };
            StoreError::locked(format!(
                "{} is open for writing already, by {who}; {advice}",
                disk.describe()
            ))
        }
        LockError::Io(error) => StoreError::io(format_args!("locking {}", disk.describe()), error),
    })
}

/// Makes a new store: folders first, and the manifest last, whole and durable.
fn create(disk: &dyn Disk, config: &StoreConfig) -> Result<Manifest> {
    let fail = |e| StoreError::io(format_args!("creating the store in {}", disk.describe()), e);
    disk.create_dir(SEGMENTS).map_err(fail)?;
    let left = disk.list(SEGMENTS).map_err(fail)?;
    if let Some(file) = left.first() {
        return Err(StoreError::corrupt(format!(
            "{MANIFEST} is missing in {} and {SEGMENTS} holds {:?}; restore the {MANIFEST} from a copy",
            disk.describe(),
            file.name
        )));
    }
    let manifest = Manifest {
        store_id: config.clock.entropy(),
        created_at: config.clock.now(),
        generation: 1,
        replaced: Vec::new(),
        lineage: Vec::new(),
        end: None,
    };
    disk.sync_dir("").map_err(fail)?;
    write_manifest(disk, &manifest)?;
    tracing::info!(place = disk.describe(), "a store was created");
    Ok(manifest)
}

/// Makes a store of its own of a snapshot, now that nothing is left behind its end; only then may it grow.
fn without_end(disk: &dyn Disk, manifest: Manifest, hint: &mut HintFile) -> Result<Manifest> {
    if manifest.end.is_none() {
        return Ok(manifest);
    }
    let manifest = Manifest {
        generation: manifest.generation + 1,
        end: None,
        ..manifest
    };
    write_manifest(disk, &manifest)?;
    if let Err(error) = hint.announce(manifest.generation) {
        tracing::warn!(%error, "the durable hint was not written");
    }
    Ok(manifest)
}

/// Removes segments that the manifest does not name, once everything that it names was found: what compaction
/// replaced, and what it did not finish. One that cannot be removed is only in the way of space.
fn remove_unnamed(disk: &dyn Disk, manifest: &Manifest) {
    if let Err(error) = apply::remove_segments(disk, |file| !look::is_named(manifest, file)) {
        tracing::warn!(%error, "a file that is not part of the log was not removed");
    }
}

/// Removes writes that did not finish; nothing refers to them.
pub(crate) fn remove_unfinished(disk: &dyn Disk) -> Result<()> {
    for dir in ["", SEGMENTS] {
        let fail = |e| StoreError::io(format_args!("clearing up in {}", disk.describe()), e);
        for entry in disk.list(dir).map_err(fail)? {
            let unfinished = [".tmp", ".part"]
                .iter()
                .any(|end| entry.name.ends_with(end));
            if entry.is_file && unfinished {
                let name = if dir.is_empty() {
                    entry.name
                } else {
                    format!("{dir}/{}", entry.name)
                };
                disk.remove(&name).map_err(fail)?;
            }
        }
    }
    Ok(())
}

fn start(
    config: StoreConfig,
    disk: Arc<dyn Disk>,
    manifest: Manifest,
    lock: Box<dyn DiskLock>,
    loaded: Loaded,
) -> Result<Arc<Engine>> {
    let (queue, incoming) = flume::bounded(config.queue_capacity);
    let (jobs, todo) = flume::unbounded();
    let next = loaded.tip.mark.segment + 1;
    let planned = planned_bytes(next, config.segment_bytes);
    let store_id = manifest.store_id;
    let published = loaded.published(&disk, &store_id);
    let writer = Writer {
        incoming,
        held_back: None,
        active: loaded.active,
        live: loaded.live,
        tip: loaded.tip,
        durable: Durable::of(&loaded.tip),
        heads: Heads::new(loaded.tip.position),
        hint: loaded.hint,
        buffer: Vec::new(),
        unsealed: Vec::new(),
        last_sync: Instant::now(),
        restarts: 0,
        clock_warned: false,
    };
    runs::remove_others(&*disk, &published.layers.runs);
    let clock = Arc::clone(&config.clock);
    let front = Front::new(Arc::clone(&disk), clock, published, None);
    let meters = Meters::new(&disk.describe());
    let engine = Arc::new(Engine {
        config,
        disk,
        store_id,
        generations: AtomicU64::new(highest_generation(&manifest)),
        manifest: Mutex::new(manifest),
        front,
        queue,
        turn: Mutex::new(writer),
        open: RwLock::new(true),
        fault: OnceLock::new(),
        callers: AtomicUsize::new(0),
        unsynced: AtomicBool::new(false),
        hint_unsynced: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        writer_thread: OnceLock::new(),
        threads: Mutex::new(Vec::new()),
        compacting: AtomicBool::new(false),
        jobs,
        spare: SpareSlot::new(),
        sealed: Mutex::new(loaded.sealed),
        backlog: Backlog::new(),
        lock: Arc::new(Mutex::new(Some(lock))),
        meters,
    });
    engine.tell_standing();
    engine.send(Job::Spare {
        number: next,
        final_bytes: planned,
    });
    engine.send(Job::Merge(0));
    start_threads(&engine, todo)?;
    Ok(engine)
}

/// A copy's manifest counts anew, and names files that the original's numbers made.
fn highest_generation(manifest: &Manifest) -> u64 {
    let files = manifest.replaced.iter().map(|range| range.generation);
    files.fold(manifest.generation, u64::max)
}

fn start_threads(engine: &Arc<Engine>, todo: flume::Receiver<Job>) -> Result<()> {
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(|e| StoreError::io(format_args!("starting the thread {name}"), e))
    };
    let worker = Arc::clone(engine);
    let writer = spawn("quipu-writer", Box::new(move || turn::run(&worker)))?;
    let thread = writer.thread().clone();
    engine
        .writer_thread
        .set(thread)
        .map_err(|_| StoreError::argument("the writer runs already"))?;
    engine.threads.lock().push(writer);
    let worker = Arc::clone(engine);
    match spawn(
        "quipu-upkeep",
        Box::new(move || upkeep::run(&worker, &todo)),
    ) {
        Ok(upkeep) => engine.threads.lock().push(upkeep),
        Err(error) => {
            engine.stop_threads();
            return Err(error);
        }
    }
    Ok(())
}
