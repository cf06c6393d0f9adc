//! The caller's side of a write: prepare, look up, queue, and take the writer's turn when nobody else wants it.

use std::time::Duration;

use crate::engine::answers::{Answers, Ids};
use crate::engine::group::Submission;
use crate::engine::shared::Engine;
use crate::engine::ticket::{Outcome, Pending, Responder};
use crate::engine::turn::{take_turn, tell};
use crate::error::{Result, StoreError};
use crate::event::batch::{Batch, BatchLimits};
use crate::sync::atomic::Ordering;

/// How a full queue is met.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Wait as long as the setting says.
    Setting,
    /// Do not wait.
    None,
}

/// Counts a caller for as long as it is in an append.
struct Caller<'a>(&'a Engine);

impl<'a> Caller<'a> {
    fn enter(engine: &'a Engine) -> Self {
        engine.callers.fetch_add(1, Ordering::Relaxed);
        Self(engine)
    }

    fn is_alone(&self) -> bool {
        self.0.callers.load(Ordering::Relaxed) == 1
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.callers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Appends a batch and waits for what becomes of it.
    pub(crate) fn append(&self, batch: Batch) -> Outcome {
        let caller = Caller::enter(self);
        let pending = self.enqueue(batch, Patience::Setting)?;
        if caller.is_alone() || self.is_writer_thread() {
            self.commit_as_caller(&pending);
        }
        if !self.queue.is_empty() || !pending.is_done() {
            self.wake_writer();
        }
        pending.wait()
    }

    /// Queues a batch for the writer's thread.
    pub(crate) fn submit(&self, batch: Batch, patience: Patience) -> Result<Pending> {
        let pending = self.enqueue(batch, patience)?;
        self.wake_writer();
        Ok(pending)
    }

    /// Takes turns until this caller has its answer, unless somebody else has the turn. A waker that appends runs on the
    /// writer's thread, which nobody else relieves.
    fn commit_as_caller(&self, pending: &Pending) {
        while !pending.is_done() {
            let turn = match self.is_writer_thread() {
                true => Some(self.turn.lock()),
                false => self.turn.try_lock(),
            };
            let Some(mut writer) = turn else { return };
            let waiting = take_turn(self, &mut writer);
            drop(writer);
            tell(waiting);
        }
        if self.unsynced.load(Ordering::Acquire) {
            self.wake_writer();
        }
    }

    fn is_writer_thread(&self) -> bool {
        let writer = self.writer_thread.get().map(std::thread::Thread::id);
        writer == Some(std::thread::current().id())
    }

    fn enqueue(&self, batch: Batch, patience: Patience) -> Result<Pending> {
        self.check_writable()?;
        let limits = BatchLimits {
            payload_bytes: self.config.max_payload_bytes,
            events: self.config.max_batch_events,
            bytes: self.config.max_batch_bytes,
        };
        let batch = batch.prepare(&limits)?;
        let ids = Ids::new(&batch, || *self.front.new_id().as_bytes());
        let answers = Answers::find(&batch, &ids, &self.front.last_view().picture())?;
        let durability = batch.durability.unwrap_or(self.config.durability);
        let size_bound = batch
            .events
            .iter()
            .map(|event| event.size_bound() as u64)
            .sum();
        let (responder, pending) = Responder::pair();
        self.push(
            Submission {
                batch,
                ids,
                answers,
                durability,
                size_bound,
                responder,
            },
            patience,
        )?;
        Ok(pending)
    }

    /// Holds the gate open while it pushes, so that a close waits for it and then finds it in the queue.
    fn push(&self, submission: Submission, patience: Patience) -> Result<()> {
        let open = self.open.read();
        if !*open {
            return Err(StoreError::closed());
        }
        let wait = match patience {
            Patience::Setting => self.config.queue_wait,
            Patience::None => Duration::ZERO,
        };
        let full = match self.queue.try_send(submission) {
            Ok(()) => return Ok(()),
            Err(flume::TrySendError::Full(submission)) if !wait.is_zero() => submission,
            Err(_) => return Err(self.busy()),
        };
        self.wake_writer();
        self.queue.send_timeout(full, wait).map_err(|_| self.busy())
    }

    fn busy(&self) -> StoreError {
        StoreError::busy(format!(
            "the queue holds {} submissions already (queue_capacity); nothing was written, try again later",
            self.config.queue_capacity
        ))
    }
}
