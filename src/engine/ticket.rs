//! A ticket: the caller's end of a submission, to wait on, to poll, or to await without any runtime.
//!
//! Any thread may hold a ticket; the turn that commits the submission answers it exactly once, and a submission
//! that is dropped unanswered (the writer panicked) answers itself with `OutcomeUnknown`.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::receipt::Receipt;
use crate::sync::{Arc, Condvar, Mutex};

/// What a submission came to: one receipt for each of its events, in order.
pub(crate) type Outcome = Result<Vec<Receipt>>;

#[derive(Default)]
struct Slot {
    outcome: Option<Outcome>,
    answered: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Cell {
    slot: Mutex<Slot>,
    done: Condvar,
}

/// The writer's end: answers the ticket once.
pub(crate) struct Responder(Option<Arc<Cell>>);

impl Responder {
    pub(crate) fn pair() -> (Self, Pending) {
        let cell = Arc::new(Cell::default());
        (Self(Some(Arc::clone(&cell))), Pending(cell))
    }

    pub(crate) fn answer(mut self, outcome: Outcome) {
        if let Some(cell) = self.0.take()
            && let Some(waker) = settle(&cell, outcome)
        {
            wake(waker);
        }
    }
}

impl Drop for Responder {
    /// Dropped by a panic in the middle of a turn, which the waker may want for itself: it is woken after that.
    fn drop(&mut self) {
        if let Some(cell) = self.0.take()
            && let Some(waker) = settle(&cell, Err(unanswered()))
        {
            LATE.with_borrow_mut(|late| late.push(waker));
        }
    }
}

thread_local! {
    /// Whom this thread wakes once its turn is over.
    static LATE: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// Wakes those whose tickets went unanswered in the turn that this thread had.
pub(crate) fn wake_late() {
    LATE.take().into_iter().for_each(wake);
}

fn unanswered() -> StoreError {
    StoreError::new(
        StoreErrorKind::OutcomeUnknown,
        "the writer stopped before it answered; reopen the store and look for the events before trying again",
    )
}

/// Leaves the answer, and returns whom to wake.
fn settle(cell: &Cell, outcome: Outcome) -> Option<Waker> {
    let waker = {
        let mut slot = cell.slot.lock();
        slot.outcome = Some(outcome);
        slot.answered = true;
        slot.waker.take()
    };
    cell.done.notify_one();
    waker
}

/// It is the caller's code, on the writer's thread: if that ended, nobody would answer the others.
fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("a ticket's waker panicked");
    }
}

/// The caller's end, before it is given a type.
pub(crate) struct Pending(Arc<Cell>);

impl Pending {
    pub(crate) fn is_done(&self) -> bool {
        self.0.slot.lock().answered
    }

    pub(crate) fn wait(&self) -> Outcome {
        let mut slot = self.0.slot.lock();
        loop {
            if let Some(outcome) = take(&mut slot) {
                return outcome;
            }
            self.0.done.wait(&mut slot);
        }
    }

    fn wait_until(&self, deadline: Instant) -> Option<Outcome> {
        let mut slot = self.0.slot.lock();
        loop {
            if let Some(outcome) = take(&mut slot) {
                return Some(outcome);
            }
            if self.0.done.wait_until(&mut slot, deadline).timed_out() {
                return take(&mut slot);
            }
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut slot = self.0.slot.lock();
        if let Some(outcome) = take(&mut slot) {
            return Poll::Ready(outcome);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// The outcome, once; asked again after it was taken, a plain error instead of a wait without end.
fn take(slot: &mut Slot) -> Option<Outcome> {
    match slot.outcome.take() {
        Some(outcome) => Some(outcome),
        None if slot.answered => Some(Err(StoreError::argument(
            "this ticket's answer was already taken",
        ))),
        None => None,
    }
}

mod sealed {
    use super::{Receipt, Result, StoreError};

    /// What a ticket can turn its receipts into.
    pub trait Answer: Sized {
        fn from_receipts(receipts: Vec<Receipt>) -> Result<Self>;
    }

    impl Answer for Receipt {
        fn from_receipts(receipts: Vec<Receipt>) -> Result<Self> {
            let first = receipts.into_iter().next();
            first.ok_or_else(|| StoreError::argument("a batch of no events has no receipt"))
        }
    }

    impl Answer for Vec<Receipt> {
        fn from_receipts(receipts: Vec<Receipt>) -> Result<Self> {
            Ok(receipts)
        }
    }
}
use sealed::Answer;

/// A submission on its way: wait for its receipt, poll it, or `.await` it on any executor.
///
/// `Ticket` yields one [`Receipt`]; `Ticket<Vec<Receipt>>`, of a batch, one for each event. Dropping a ticket cancels
/// nothing: the events are written all the same.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let meter = Coordinate::new("meter:7", "plant:north")?;
/// let mut tickets = Vec::new();
/// for reading in 0..1000 {
///     tickets.push(store.submit(&meter, EventKind::literal("meter.read"), &reading, AppendOptions::new())?);
/// }
/// for ticket in tickets {
///     ticket.wait()?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "the append may fail; wait for the ticket or poll it"]
pub struct Ticket<R = Receipt> {
    pending: Pending,
    answer: PhantomData<fn() -> R>,
}

impl<R: Answer> Ticket<R> {
    pub(crate) fn new(pending: Pending) -> Self {
        Self {
            pending,
            answer: PhantomData,
        }
    }

    /// Waits until the submission is written, or refused.
    ///
    /// # Errors
    /// Whatever the append came to; see [`Store::append`](crate::Store::append).
    pub fn wait(self) -> Result<R> {
        self.pending.wait().and_then(R::from_receipts)
    }

    /// Waits at most `patience`; `None` if there is no answer yet.
    pub fn wait_timeout(&mut self, patience: Duration) -> Option<Result<R>> {
        let outcome = match Instant::now().checked_add(patience) {
            Some(deadline) => self.pending.wait_until(deadline),
            None => Some(self.pending.wait()),
        };
        outcome.map(|o| o.and_then(R::from_receipts))
    }

    /// The answer if there is one, without waiting.
    pub fn poll_now(&mut self) -> Option<Result<R>> {
        take(&mut self.pending.0.slot.lock()).map(|o| o.and_then(R::from_receipts))
    }

    /// Whether the answer has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.pending.is_done()
    }
}

impl<R: Answer> Future for Ticket<R> {
    type Output = Result<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.pending
            .poll(context)
            .map(|o| o.and_then(R::from_receipts))
    }
}

impl<R> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("done", &self.pending.is_done())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_responder_dropped_unanswered_says_that_the_outcome_is_unknown() {
        let (responder, pending) = Responder::pair();
        drop(responder);
        let kind = pending.wait().map_err(|e| e.kind());
        assert_eq!(kind.err(), Some(StoreErrorKind::OutcomeUnknown));
    }

    #[test]
    fn an_answer_is_given_once_and_a_second_question_does_not_hang() {
        let (responder, pending) = Responder::pair();
        responder.answer(Ok(Vec::new()));
        assert!(pending.wait().is_ok());
        assert!(pending.wait().is_err());
    }

    #[test]
    fn a_ticket_times_out_without_an_answer() {
        let (_responder, pending) = Responder::pair();
        let mut ticket: Ticket = Ticket::new(pending);
        assert!(ticket.wait_timeout(Duration::from_millis(1)).is_none());
        assert!(ticket.poll_now().is_none());
    }
}
