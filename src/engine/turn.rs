//! The writer's turn: who holds it commits groups, be it the writer's thread or a caller that is alone.
//!
//! Each atomic and lock is explained in `shared.rs`. A panic inside a turn is caught here: the store is poisoned, or
//! the writer starts again from what the disk says, as the restart policy wants.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::engine::commit::commit_group;
use crate::engine::group::{Submission, Waiting};
use crate::engine::heads::Heads;
use crate::engine::load;
use crate::engine::shared::{Engine, poisoned};
use crate::engine::ticket::wake_late;
use crate::index::layer::Layer;
use crate::log::active::Active;
use crate::log::files::HintFile;
use crate::log::scan::{Mark, Tip};
use crate::options::RestartPolicy;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// How long a store is idle before its durable hint is synced.
const IDLE_BEFORE_HINT_SYNC: Duration = Duration::from_secs(1);
/// How long the writer's thread sleeps when nothing is under way.
const IDLE: Duration = Duration::from_secs(3600);

/// Everything that only the holder of the turn may touch.
pub(crate) struct Writer {
    pub(crate) incoming: flume::Receiver<Submission>,
    /// Taken from the queue, but too large for the group under way.
    pub(crate) held_back: Option<Submission>,
    pub(crate) active: Active,
    pub(crate) live: Arc<Layer>,
    /// The end of the log as written.
    pub(crate) tip: Tip,
    /// The end of the log as known durable.
    pub(crate) durable: Durable,
    pub(crate) heads: Heads,
    pub(crate) hint: HintFile,
    /// The buffer of the last group.
    pub(crate) buffer: Vec<u8>,
    /// Full segments that wait until their successor is durable.
    pub(crate) unsealed: Vec<u64>,
    pub(crate) last_sync: Instant,
    pub(crate) restarts: u32,
    pub(crate) clock_warned: bool,
}

/// A durable place and the last position before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) mark: Mark,
    pub(crate) position: u64,
}

impl Durable {
    pub(crate) fn of(tip: &Tip) -> Self {
        Self {
            mark: tip.mark,
            position: tip.position,
        }
    }
}

/// Commits one group, and another if the segment ended in between; returns who is to be told what after the turn.
pub(crate) fn take_turn(engine: &Engine, writer: &mut Writer) -> Vec<Waiting> {
    let mut told = Vec::new();
    loop {
        match catch_unwind(AssertUnwindSafe(|| commit_group(engine, writer))) {
            Ok(waiting) => told.extend(waiting),
            Err(panic) => after_panic(engine, writer, &message_of(&*panic)),
        }
        // Nobody else would know of a submission that the queue no longer holds.
        if writer.held_back.is_none() {
            return told;
        }
    }
}

/// Tells every caller; the turn must be over, so that the next group does not wait for the waking.
pub(crate) fn tell(waiting: Vec<Waiting>) {
    for Waiting { responder, outcome } in waiting {
        responder.answer(outcome);
    }
    wake_late();
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn after_panic(engine: &Engine, writer: &mut Writer, message: &str) {
    tracing::error!(panic = message, "the writer panicked");
    let RestartPolicy::Limited { attempts } = engine.config.restart_policy else {
        return poison(engine, &format!("it panicked ({message})"));
    };
    if writer.restarts >= attempts {
        return poison(
            engine,
            &format!("it panicked ({message}) and used up its {attempts} restarts"),
        );
    }
    writer.restarts += 1;
    match catch_unwind(AssertUnwindSafe(|| load::reload(engine, writer))) {
        Ok(Ok(())) => tracing::warn!(restart = writer.restarts, "the writer starts again"),
        Ok(Err(error)) => poison(
            engine,
            &format!("it panicked ({message}) and did not recover: {error}"),
        ),
        Err(_) => poison(
            engine,
            &format!("it panicked ({message}) and again while it recovered"),
        ),
    }
}

/// Stops all writing until the store is opened again.
pub(crate) fn poison(engine: &Engine, why: &str) {
    if engine.fault.set(why.to_owned()).is_ok() {
        tracing::error!(why, "the store is poisoned");
        engine.meters.poisoned();
    }
}

/// Answers everything that waits, now that the writer refuses.
pub(crate) fn refuse_all(engine: &Engine, writer: &mut Writer) -> Vec<Waiting> {
    let why = engine.fault.get().map_or("", String::as_str);
    let held_back = writer.held_back.take();
    held_back
        .into_iter()
        .chain(writer.incoming.try_iter())
        .map(|submission| Waiting {
            responder: submission.responder,
            outcome: Err(poisoned(why)),
        })
        .collect()
}

/// The writer's thread: commits while there is something to commit, syncs what is buffered, sleeps.
pub(crate) fn run(engine: &Engine) {
    while !engine.stopping.load(Ordering::Acquire) {
        if !engine.queue.is_empty() {
            let waiting = take_turn(engine, &mut engine.turn.lock());
            tell(waiting);
        }
        let patience = sync_if_due(engine);
        if engine.queue.is_empty() {
            rest(engine, patience);
        }
    }
}

/// Sleeps until there is work; once the store has been idle for a while, makes the hint outlast a power cut.
fn rest(engine: &Engine, patience: Duration) {
    if !engine.hint_unsynced.load(Ordering::Acquire) {
        return std::thread::park_timeout(patience);
    }
    let (syncs, started) = (engine.meters.syncs(), Instant::now());
    std::thread::park_timeout(patience.min(IDLE_BEFORE_HINT_SYNC));
    let idle = started.elapsed() >= IDLE_BEFORE_HINT_SYNC
        && engine.queue.is_empty()
        && engine.meters.syncs() == syncs;
    if !idle || engine.stopping.load(Ordering::Acquire) || engine.unsynced.load(Ordering::Acquire) {
        return;
    }
    let writer = engine.turn.lock();
    engine.hint_unsynced.store(false, Ordering::Release);
    match catch_unwind(AssertUnwindSafe(|| writer.hint.sync())) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the durable hint was not synced"),
        Err(_) => tracing::error!("syncing the durable hint panicked"),
    }
}

/// Syncs what has been buffered for long enough; returns how long the rest may wait.
fn sync_if_due(engine: &Engine) -> Duration {
    let interval = engine.config.buffered_sync_interval;
    if !engine.unsynced.load(Ordering::Acquire) || engine.fault.get().is_some() {
        return IDLE;
    }
    let mut writer = engine.turn.lock();
    let waited = writer.last_sync.elapsed();
    if waited < interval {
        return interval - waited;
    }
    // A sync that fails poisons the store, and every later append says so.
    let synced = catch_unwind(AssertUnwindSafe(|| engine.sync_now(&mut writer)));
    if let Err(panic) = synced {
        after_panic(engine, &mut writer, &message_of(&*panic));
    }
    IDLE
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("tip", &self.tip)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}
