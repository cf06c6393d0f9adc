//! Compaction: writes sealed segments anew, fewer and without what retention lets go, while the store goes on.
//!
//! Runs on a thread of its own, `quipu-compact`, one at a time; it ends with the store. Each range of segments is switched
//! by itself as soon as its file is whole and durable, so that a crash, a cancel or a close leaves old or new.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::engine::chain;
use crate::engine::compact_config::CompactionConfig;
use crate::engine::compact_plan::{CompactionPlan, Task, Work, plan};
use crate::engine::exchange::{next_generation, remove_all, remove_unused, replace_segments};
use crate::engine::shared::Engine;
use crate::engine::threads;
use crate::engine::upkeep::Job;
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::position::Position;
use crate::index::picture::Picture;
use crate::index::view::View;
use crate::io::Pace;
use crate::log::files::SegmentFile;
use crate::log::rewrite::{Keeper, Range, rewrite, take_away};
use crate::log::seal::Sealed;
use crate::log::segment::Segment;
use crate::options::Progress;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};

/// How long a compaction that is held to a pace sleeps at once before it looks whether it is to stop.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A compaction under way on its own thread; it goes on when this is dropped.
pub struct CompactionJob {
    state: Arc<JobState>,
}

#[derive(Default)]
struct JobState {
    /// Publishes nothing but itself: the wish to stop.
    cancelled: AtomicBool,
    /// Publish how far it is; each alone.
    done_bytes: AtomicU64,
    done_events: AtomicU64,
    total_bytes: AtomicU64,
    total_events: AtomicU64,
    outcome: Mutex<Option<Result<CompactionPlan>>>,
    ended: Condvar,
}

impl CompactionJob {
    /// Waits until it has ended, and returns what it did, with the bytes that the files really have.
    ///
    /// # Errors
    /// `Cancelled` after [`CompactionJob::cancel`]; `Closed` when the store was closed meanwhile; `Corrupt` when a segment
    /// is damaged, which then stays as it is; `Io`; what the predicate returned. What was switched before stays.
    pub fn wait(self) -> Result<CompactionPlan> {
        let mut outcome = self.state.outcome.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            self.state.ended.wait(&mut outcome);
        }
    }

    /// How far it has come; everything is 0 until it has looked at every segment and asked about their events.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            done_bytes: of(&self.state.done_bytes),
            total_bytes: of(&self.state.total_bytes),
            done_events: of(&self.state.done_events),
            total_events: of(&self.state.total_events),
        }
    }

    /// Whether it has ended, so that [`CompactionJob::wait`] returns at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.outcome.lock().is_some()
    }

    /// Asks it to stop: what it has switched stays, what it has begun is taken away.
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for CompactionJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactionJob")
            .field("progress", &self.progress())
            .field("is_done", &self.is_done())
            .finish()
    }
}

impl Engine {
    /// What a compaction would do now.
    pub(crate) fn plan_compaction(&self, config: &CompactionConfig) -> Result<CompactionPlan> {
        self.check_open()?;
        config.check()?;
        plan(self, config, &|| self.check_open()).map(|work| work.plan)
    }
}

/// Starts a compaction on its own thread.
pub(crate) fn start(engine: &Arc<Engine>, config: CompactionConfig) -> Result<CompactionJob> {
    engine.check_writable()?;
    config.check()?;
    if engine.compacting.swap(true, Ordering::AcqRel) {
        return Err(StoreError::busy(
            "a compaction is under way already; wait for it, or cancel it",
        ));
    }
    let state = Arc::new(JobState::default());
    let (worker, told) = (Arc::clone(engine), Arc::clone(&state));
    let thread = std::thread::Builder::new()
        .name("quipu-compact".to_owned())
        .spawn(move || run(&worker, &config, &told));
    match thread {
        Ok(thread) => {
            let mut threads = engine.threads.lock();
            threads.retain(|thread| !thread.is_finished());
            threads.push(thread);
            Ok(CompactionJob { state })
        }
        Err(error) => {
            engine.compacting.store(false, Ordering::Release);
            Err(StoreError::io("starting the thread quipu-compact", error))
        }
    }
}

/// The thread's whole work.
fn run(engine: &Engine, config: &CompactionConfig, state: &JobState) {
    let outcome = caught(|| compact(engine, config, state));
    match &outcome {
        Ok(done) => tracing::info!(
            events_removed = done.events_removed,
            files = done.rewrites.len(),
            "a compaction is done"
        ),
        Err(error) => tracing::warn!(%error, "a compaction ended early"),
    }
    // Only now: after each range it would be the same runs again.
    engine.send(Job::Merge(0));
    engine.compacting.store(false, Ordering::Release);
    *state.outcome.lock() = Some(outcome);
    state.ended.notify_all();
}

fn compact(engine: &Engine, config: &CompactionConfig, state: &JobState) -> Result<CompactionPlan> {
    let Work { mut plan, tasks } = plan(engine, config, &|| go_on(engine, state))?;
    let total = |of: fn(&Task) -> u64| tasks.iter().map(of).sum();
    state
        .total_bytes
        .store(total(Task::log_bytes), Ordering::Relaxed);
    state
        .total_events
        .store(total(Task::events), Ordering::Relaxed);
    let crew = Crew {
        engine,
        state,
        tasks: &tasks,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        pace: Mutex::new(Pace::new(config.bytes_per_second)),
    };
    crew.work(&mut plan).map(|()| plan)
}

/// Does a part of the work; a panic in it is an error of the whole.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(StoreError::new(
            StoreErrorKind::OutcomeUnknown,
            "the compaction panicked; what it had switched stays, start it again",
        ))
    })
}

/// Whether the work may go on.
fn go_on(engine: &Engine, state: &JobState) -> Result<()> {
    if state.cancelled.load(Ordering::Relaxed) {
        return Err(stopped("it was cancelled"));
    }
    engine.check_writable()
}

fn stopped(why: &str) -> StoreError {
    let left = "what it had switched stays, start it again for the rest";
    StoreError::new(
        StoreErrorKind::Cancelled,
        format!("the compaction ended: {why}; {left}"),
    )
}

/// Writes files on several threads and switches to them on one.
struct Crew<'a> {
    engine: &'a Engine,
    state: &'a JobState,
    tasks: &'a [Task],
    /// The first task that nobody has begun; publishes nothing but itself.
    next: AtomicUsize,
    /// Whether no thread is to go on; publishes nothing but itself.
    failed: AtomicBool,
    pace: Mutex<Pace>,
}

/// A file that was written, and which task it was.
type Written = (usize, SegmentFile, Sealed);

impl Crew<'_> {
    /// Carries out every task, and says in the plan how long the files became.
    fn work(&self, plan: &mut CompactionPlan) -> Result<()> {
        let mut replaced = Vec::new();
        let outcome = self.write_and_switch(plan, &mut replaced);
        remove_all(self.engine, replaced);
        outcome
    }

    fn write_and_switch(
        &self,
        plan: &mut CompactionPlan,
        replaced: &mut Vec<Arc<Segment>>,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let (tell, written) = flume::bounded(1);
            threads::start(scope, "quipu-compact", self.tasks.len(), move || {
                self.write(&tell)
            })?;
            let mut outcome = Ok(());
            for written in written {
                let switched = written.and_then(|(index, file, sealed)| {
                    caught(|| {
                        replaced.extend(self.switch(file, &sealed)?);
                        plan.has_written(index, sealed.file_bytes);
                        remove_unused(replaced);
                        Ok(())
                    })
                });
                if let Err(error) = switched {
                    self.failed.store(true, Ordering::Relaxed);
                    // Those that end because of the first one are not the cause.
                    outcome = outcome.and(Err(error));
                }
            }
            outcome
        })
    }

    /// The whole work of one thread that writes.
    fn write(&self, tell: &flume::Sender<Result<Written>>) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = self.tasks.get(index) else {
                return;
            };
            let written = self.write_one(task);
            let failed = written.is_err();
            let written = written.map(|(file, sealed)| (index, file, sealed));
            if tell.send(written).is_err() || failed {
                return;
            }
        }
    }

    fn write_one(&self, task: &Task) -> Result<(SegmentFile, Sealed)> {
        self.go_on()?;
        let range = Range {
            sources: &task.sources,
            generation: next_generation(self.engine),
            store_id: self.engine.store_id,
            salt: self.engine.config.clock.entropy(),
        };
        let mut gate = Gate {
            crew: self,
            task,
            view: self.engine.front.last_view(),
        };
        let (disk, file) = (&*self.engine.disk, range.file());
        caught(|| rewrite(disk, &range, &mut gate))
            .inspect_err(|_| take_away(disk, file))
            .map(|sealed| (file, sealed))
    }

    fn switch(&self, file: SegmentFile, sealed: &Sealed) -> Result<Vec<Arc<Segment>>> {
        let entry = chain::entry_of(&self.engine.store_id, file, sealed);
        replace_segments(self.engine, entry, sealed.digest_before)
            .inspect_err(|error| give_up(self.engine, file, error))
    }

    fn go_on(&self) -> Result<()> {
        match self.failed.load(Ordering::Relaxed) {
            true => Err(stopped("it ended early elsewhere")),
            false => go_on(self.engine, self.state),
        }
    }
}

/// Removes a file that was not switched to, unless the manifest may name it after all.
fn give_up(engine: &Engine, file: SegmentFile, error: &StoreError) {
    if error.kind() != StoreErrorKind::OutcomeUnknown
        && let Err(error) = engine.disk.remove(&file.name())
    {
        tracing::warn!(file = file.name(), %error, "a file that is not used was not removed");
    }
}

/// Answers what the rewriting asks, and holds it back.
struct Gate<'a> {
    crew: &'a Crew<'a>,
    task: &'a Task,
    /// Of one range alone, so that the files of those before it are given back.
    view: View,
}

impl Gate<'_> {
    /// The store up to the end of the range: what an event names is before it, and of the index of the newest segment this
    /// thread must not keep the writer, who would wait for a thread of lower priority.
    fn picture(&self) -> Picture<'_> {
        let last = self.task.sources.last();
        Picture {
            upto: last.map_or(0, |entry| entry.last_position),
            ..self.view.picture()
        }
    }
}

impl Keeper for Gate<'_> {
    fn goes(&mut self, position: u64) -> bool {
        self.task.goes(position)
    }

    fn hash_at(&self, position: u64) -> Result<[u8; 32]> {
        let hash = self.view.hash_at(Position::new(position))?;
        Ok(*hash.as_bytes())
    }

    fn hash_of(&self, id: &[u8; 16]) -> Result<[u8; 32]> {
        let position = self.picture().position_of(id, 0)?;
        let position = position.ok_or_else(|| {
            StoreError::corrupt("a parent of an event is not in the store; run a verification")
        })?;
        self.hash_at(position)
    }

    fn went_through(&mut self, bytes: u64, events: u64) -> Result<()> {
        let Crew { state, pace, .. } = self.crew;
        state.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        state.done_events.fetch_add(events, Ordering::Relaxed);
        pace.lock().note(bytes);
        loop {
            self.crew.go_on()?;
            let pause = pace.lock().ahead();
            if pause.is_zero() {
                return Ok(());
            }
            std::thread::sleep(pause.min(LONGEST_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::open::open;
    use crate::event::batch::Batch;
    use crate::event::coordinate::Coordinate;
    use crate::event::draft::EventDraft;
    use crate::event::kind::EventKind;
    use crate::event::region::Region;
    use crate::index::retention::Retention;
    use crate::options::{MIN_SEGMENT_BYTES, StoreConfig};

    /// A thread that writes looked for parents in the newest segment, too. Put aside there, at a lower priority, it
    /// would have kept the writer waiting.
    #[test]
    fn a_compaction_never_waits_for_the_index_that_the_writer_fills() {
        let engine = open(StoreConfig::in_memory().segment_bytes(MIN_SEGMENT_BYTES)).unwrap();
        let place = Coordinate::new("e", "s").unwrap();
        let mut parent = None;
        for _ in 0..8 {
            let kind = EventKind::literal("thing.done");
            let mut draft = EventDraft::new(&place, kind, &"x".repeat(300_000));
            if let Some(id) = parent {
                draft = draft.caused_by(id);
            }
            let receipts = engine.append(Batch::new().event(draft)).unwrap();
            parent = receipts.last().map(|receipt| receipt.id());
        }
        while engine.backlog.len() > 0 {
            std::thread::yield_now();
        }
        let published = engine.front.published.read().clone();
        let newest = published.layers.all.last().and_then(|l| l.live_index());
        let filled = newest.unwrap().write();
        let gone = Retention::query(Region::all().positions(..=2));
        let job = start(&engine, CompactionConfig::new().remove(gone)).unwrap();
        let mut outcome = job.state.outcome.lock();
        let patience = Duration::from_secs(20);
        (job.state.ended).wait_while_for(&mut outcome, |outcome| outcome.is_none(), patience);
        drop(filled);
        let done = outcome.take().expect("it waits for the writer");
        assert_eq!(done.unwrap().events_removed, 2);
        drop(outcome);
        engine.close().unwrap();
    }
}
