//! The commit: one group from the queue to the disk to the readers, read from top to bottom.
//!
//! Runs in the writer's turn. The order is the promise: write, sync, hint, publish, and only then tell.

use std::time::Instant;

use crate::engine::group::{Desk, Group, Submission, Waiting, take_back_rows};
use crate::engine::rotate;
use crate::engine::shared::{Engine, head_of, poisoned};
use crate::engine::turn::{Durable, Writer, poison, refuse_all};
use crate::error::{Result, StoreError};
use crate::format::hint::Shutdown;
use crate::log::active::WriteFailure;
use crate::log::scan::Tip;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// A group takes no more submissions once it is this long, in bytes.
pub(crate) const GROUP_BYTES: u64 = 4 * 1024 * 1024;
/// A group takes at most this many submissions.
pub(crate) const GROUP_SUBMISSIONS: usize = 4096;
/// A clock this far behind the last event is warned of, in nanoseconds.
pub(crate) const CLOCK_DRIFT_WARNING: u64 = 60_000_000_000;

/// Commits one group of what is queued; returns whom to tell what.
pub(crate) fn commit_group(engine: &Engine, writer: &mut Writer) -> Vec<Waiting> {
    if engine.fault.get().is_some() {
        return refuse_all(engine, writer);
    }
    let mut group = gather(engine, writer);
    let result = write(engine, writer, &mut group).and_then(|()| sync(engine, writer, &mut group));
    match result {
        Ok(()) => {
            publish(engine, writer, &group);
            rotate::seal_what_is_ready(engine, writer);
            group.settle(writer.durable.position)
        }
        Err(error) => {
            writer.heads.roll_back(0);
            take_back_rows(&writer.live, writer.tip.position);
            group.fail(writer.durable.position, &error)
        }
    }
    .give_back_buffer(writer)
}

/// Drains the queue up to the bounds of a group, deciding and staging one submission after the other.
fn gather(engine: &Engine, writer: &mut Writer) -> Group {
    let mut group = Group::begin(writer.tip, std::mem::take(&mut writer.buffer));
    let now = read_clock(engine, writer);
    while group.waiting.len() < GROUP_SUBMISSIONS && group.bytes_with(0) < GROUP_BYTES {
        let Some(submission) = next(writer) else {
            break;
        };
        let needed = group.bytes_with(submission.size_bound);
        if !writer.active.has_room(group.start(), needed) {
            if group.events() > 0 {
                writer.held_back = Some(submission);
                break;
            }
            if let Err(error) = rotate::rotate(engine, writer, needed) {
                group.waiting.push(Waiting {
                    responder: submission.responder,
                    outcome: Err(error),
                });
                break;
            }
            group = group.moved_to(writer.tip);
        }
        add(engine, writer, &mut group, submission, now);
    }
    group
}

fn next(writer: &mut Writer) -> Option<Submission> {
    writer
        .held_back
        .take()
        .or_else(|| writer.incoming.try_recv().ok())
}

fn add(engine: &Engine, writer: &mut Writer, group: &mut Group, submission: Submission, now: u64) {
    let layers = Arc::clone(&engine.front.published.read().layers);
    let seed = writer.active.header.seed();
    let mut desk = Desk {
        layers: &layers,
        live: &writer.live,
        seed: &seed,
        heads: &mut writer.heads,
        now,
        durable: writer.durable.position,
    };
    group.add(submission, &mut desk);
}

fn read_clock(engine: &Engine, writer: &mut Writer) -> u64 {
    let now = engine.config.clock.now();
    let behind = writer.tip.recorded_at.saturating_sub(now);
    engine.meters.clock_behind(behind);
    if behind > CLOCK_DRIFT_WARNING && !writer.clock_warned {
        writer.clock_warned = true;
        tracing::warn!(
            behind_seconds = behind / 1_000_000_000,
            "the clock runs behind the last event"
        );
    }
    now
}

fn write(engine: &Engine, writer: &mut Writer, group: &mut Group) -> Result<()> {
    if group.events() == 0 {
        return Ok(());
    }
    group.finish(&writer.active.header.seed(), writer.durable.mark)?;
    match writer.active.write(&group.bytes, writer.tip.mark.offset) {
        Ok(()) => Ok(()),
        Err(WriteFailure::Full(error)) => {
            Err(StoreError::io("appending: nothing was written", error))
        }
        Err(WriteFailure::Unknown(error)) => Err(stop(engine, "a write failed", error)),
    }
}

fn sync(engine: &Engine, writer: &mut Writer, group: &mut Group) -> Result<()> {
    let unsynced = group.events() > 0 || writer.tip.mark > writer.durable.mark;
    if !unsynced || !group.wants_sync {
        return Ok(());
    }
    let tip = if group.events() > 0 {
        group.tip
    } else {
        writer.tip
    };
    sync_to(engine, writer, tip)
}

/// Makes the log durable up to `tip`, all of which is written.
///
/// After a sync that failed no other may follow: it could succeed over bytes that the kernel has dropped.
fn sync_to(engine: &Engine, writer: &mut Writer, tip: Tip) -> Result<()> {
    if let Some(why) = engine.fault.get() {
        return Err(poisoned(why));
    }
    let started = Instant::now();
    writer
        .active
        .file
        .sync_data()
        .map_err(|e| stop(engine, "a sync failed", e))?;
    engine.meters.synced(started.elapsed());
    writer.last_sync = Instant::now();
    writer.durable = Durable::of(&tip);
    if let Err(error) = writer.hint.write(&tip, Shutdown::Running) {
        engine.meters.hint_failed();
        tracing::warn!(%error, "the durable hint was not written");
    } else if !engine.hint_unsynced.swap(true, Ordering::AcqRel) {
        engine.wake_writer();
    }
    Ok(())
}

impl Engine {
    /// Makes everything written durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_writable()?;
        let mut writer = self.turn.lock();
        self.sync_now(&mut writer)
    }

    pub(crate) fn sync_now(&self, writer: &mut Writer) -> Result<()> {
        if writer.tip.mark > writer.durable.mark {
            sync_to(self, writer, writer.tip)?;
            let mut published = self.front.published.write();
            published.durable = writer.durable.position;
            drop(published);
            self.unsynced.store(false, Ordering::Release);
            self.tell_standing();
        }
        Ok(())
    }
}

/// Poisons the store: what is on the disk is not known.
pub(crate) fn stop(engine: &Engine, what: &str, error: std::io::Error) -> StoreError {
    poison(engine, &format!("{what} ({error})"));
    StoreError::outcome_unknown(format!(
        "{what}; the events may or may not be there: open the store again and look, or retry with an idempotency key"
    ))
    .with_source(error)
}

/// Lets readers see the group.
fn publish(engine: &Engine, writer: &mut Writer, group: &Group) {
    if group.events() > 0 {
        let expected = writer.tip.position + group.events() as u64;
        assert_eq!(group.tip.position, expected, "positions have no holes");
        writer.tip = group.tip;
        writer.heads.keep();
        engine
            .meters
            .committed(group.waiting.len(), group.events(), group.bytes.len());
    }
    let mut published = engine.front.published.write();
    assert!(
        writer.durable.position <= writer.tip.position
            && published.head.position.get() <= writer.tip.position,
        "what readers see never goes back, and nothing is durable that is not written"
    );
    published.head = head_of(&writer.tip);
    published.durable = writer.durable.position;
    published.end = writer.tip.mark.offset;
    drop(published);
    engine.front.ring();
    engine
        .unsynced
        .store(writer.tip.mark > writer.durable.mark, Ordering::Release);
    engine.tell_standing();
}

/// A group whose fate is known: whom to tell, and the buffer to use again.
struct Settled {
    waiting: Vec<Waiting>,
    buffer: Vec<u8>,
}

impl Settled {
    fn give_back_buffer(self, writer: &mut Writer) -> Vec<Waiting> {
        writer.buffer = self.buffer;
        self.waiting
    }
}

impl Group {
    /// Says of every receipt whether it is durable now.
    fn settle(mut self, durable: u64) -> Settled {
        for waiting in &mut self.waiting {
            if let Ok(receipts) = &mut waiting.outcome {
                receipts
                    .iter_mut()
                    .for_each(|r| r.durable = r.position.get() <= durable);
            }
        }
        Settled {
            waiting: self.waiting,
            buffer: self.bytes,
        }
    }

    /// Fails every submission whose answer depends on this group; answers about durable events stand.
    fn fail(mut self, durable: u64, error: &StoreError) -> Settled {
        for waiting in &mut self.waiting {
            let stands = match &mut waiting.outcome {
                Ok(receipts) => {
                    receipts.iter_mut().for_each(|r| r.durable = true);
                    receipts.iter().all(|r| r.position.get() <= durable)
                }
                Err(e) => e.in_the_way().iter().all(|position| *position <= durable),
            };
            if !stands {
                waiting.outcome = Err(error.duplicate());
            }
        }
        Settled {
            waiting: self.waiting,
            buffer: self.bytes,
        }
    }
}
