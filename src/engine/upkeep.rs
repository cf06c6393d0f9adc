//! The upkeep thread: makes the next segment ahead of need, seals the full ones behind and merges footers into runs.
//!
//! It never holds the writer's turn. A segment it cannot seal stays readable through its index in memory, and is
//! sealed by the next opening.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::chain;
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::error::Result;
use crate::format::run::RUN_SEGMENTS;
use crate::index::layer::Layer;
use crate::index::layers::put_sealed;
use crate::log::active::Spare;
use crate::log::files::SegmentFile;
use crate::log::seal;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How many full segments may wait to be sealed before the writer waits for upkeep: it bounds the memory of their
/// indexes.
pub(crate) const MAX_UNSEALED: usize = 4;

/// What upkeep is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Make the segment that will be needed next.
    Spare { number: u64, final_bytes: u64 },
    /// Give a full segment its footer.
    Seal(u64),
    /// Make the run of this group of sealed segments and those of all later groups, where they are missing.
    Merge(usize),
    /// End the thread.
    Stop,
}

/// The thread's whole work.
pub(crate) fn run(engine: &Engine, jobs: &flume::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Spare {
                number,
                final_bytes,
            } => engine
                .spare
                .fill(number, || Spare::make(&*engine.disk, number, final_bytes)),
            Job::Seal(number) => {
                match catch_unwind(AssertUnwindSafe(|| seal_one(engine, number))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(segment = number, %error, "a full segment was not sealed");
                    }
                    Err(_) => tracing::error!(segment = number, "sealing a segment panicked"),
                }
                // Whatever came of it: the writer may be waiting.
                engine.backlog.remove();
                engine.meters.sealing_ended();
            }
            Job::Merge(group) => {
                if catch_unwind(AssertUnwindSafe(|| runs::merge(engine, group))).is_err() {
                    tracing::error!(group, "making a run panicked; readers do without");
                }
            }
            Job::Stop => return runs::remove_damaged(engine),
        }
    }
}

fn seal_one(engine: &Engine, number: u64) -> Result<()> {
    let last_position = last_position_of(engine, number);
    let file = SegmentFile::original(number);
    let sealed = seal::seal(&*engine.disk, &engine.store_id, file, last_position)?;
    let entry = chain::entry_of(&engine.store_id, file, &sealed);
    let layer = chain::layer_of(&engine.disk, &entry, sealed.digest_before);
    engine.sealed.lock().push(entry);
    show_sealed(engine, Arc::new(layer));
    if number.is_multiple_of(RUN_SEGMENTS as u64) {
        runs::renew(engine);
    }
    engine.meters.sealed();
    Ok(())
}

/// Shows readers the layer of a segment that was just sealed.
fn show_sealed(engine: &Engine, layer: Arc<Layer>) {
    let mut published = engine.front.published.write();
    let mut layers = published.layers.all.clone();
    put_sealed(&mut layers, layer);
    published.layers = published.layers.with_all(layers);
}

/// Where a full segment ends, as the one after it says.
fn last_position_of(engine: &Engine, number: u64) -> u64 {
    let published = engine.front.published.read();
    let next = published
        .layers
        .all
        .iter()
        .find(|l| l.segment().number() > number);
    next.map_or(0, |layer| layer.first_position() - 1)
}

#[derive(Debug)]
enum SpareState {
    None,
    Making,
    Ready(Spare),
}

/// What is ready, and up to which segment the writer has gone: upkeep must never touch the writer's files.
#[derive(Debug)]
struct Spares {
    state: SpareState,
    begun: u64,
}

/// Where upkeep leaves the next segment for the writer.
#[derive(Debug)]
pub(crate) struct SpareSlot {
    spares: Mutex<Spares>,
    changed: Condvar,
}

impl SpareSlot {
    pub(crate) fn new() -> Self {
        let spares = Spares {
            state: SpareState::None,
            begun: 0,
        };
        Self {
            spares: Mutex::new(spares),
            changed: Condvar::new(),
        }
    }

    /// The spare, waited for if it is being made; `None` if there is none of this number, and then there never will be.
    pub(crate) fn take(&self, number: u64) -> Option<Spare> {
        let mut spares = self.settled();
        spares.begun = number;
        match std::mem::replace(&mut spares.state, SpareState::None) {
            SpareState::Ready(spare) if spare.number == number => Some(spare),
            _ => None,
        }
    }

    /// The spare that nobody needs any more.
    pub(crate) fn leftover(&self) -> Option<Spare> {
        match std::mem::replace(&mut self.settled().state, SpareState::None) {
            SpareState::Ready(spare) => Some(spare),
            _ => None,
        }
    }

    fn settled(&self) -> MutexGuard<'_, Spares> {
        let mut spares = self.spares.lock();
        while matches!(spares.state, SpareState::Making) {
            self.changed.wait(&mut spares);
        }
        spares
    }

    fn fill(&self, number: u64, make: impl FnOnce() -> std::io::Result<Spare>) {
        {
            let mut spares = self.spares.lock();
            if number <= spares.begun || !matches!(spares.state, SpareState::None) {
                return;
            }
            spares.state = SpareState::Making;
        }
        // Whatever comes of it: the writer may be waiting.
        let made = catch_unwind(AssertUnwindSafe(make))
            .unwrap_or_else(|_| Err(std::io::Error::other("making it panicked")));
        self.spares.lock().state = match made {
            Ok(spare) => SpareState::Ready(spare),
            Err(error) => {
                tracing::warn!(segment = number, %error, "the next segment was not made ahead");
                SpareState::None
            }
        };
        self.changed.notify_all();
    }
}

/// How many full segments wait to be sealed.
#[derive(Debug)]
pub(crate) struct Backlog {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: usize,
    /// How many have waited and do so no more, whatever came of them.
    over: usize,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self {
            counts: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn add(&self) {
        self.counts.lock().waiting += 1;
    }

    fn remove(&self) {
        let mut counts = self.counts.lock();
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.over += 1;
        self.changed.notify_all();
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.lock().waiting
    }

    /// Waits until those that are full now are sealed, or could not be; more may be full by then.
    pub(crate) fn wait_for_those_of_now(&self) {
        let mut counts = self.counts.lock();
        let all = counts.over + counts.waiting;
        while counts.over < all {
            self.changed.wait(&mut counts);
        }
    }

    pub(crate) fn wait_for_room(&self) {
        self.wait_below(MAX_UNSEALED);
    }

    pub(crate) fn wait_until_empty(&self) {
        self.wait_below(1);
    }

    fn wait_below(&self, bound: usize) {
        let mut counts = self.counts.lock();
        while counts.waiting >= bound {
            self.changed.wait(&mut counts);
        }
    }
}

impl Engine {
    /// Asks upkeep for something; after the store was stopped nobody listens, and nothing is needed.
    pub(crate) fn send(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}
