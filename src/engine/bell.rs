//! The bell: whoever waits for new events enrols here, and the feed's thread wakes them all.
//!
//! The hand-over that loses no wake-up: a waiter enrols, *then* looks once more; a publisher publishes, *then* asks
//! whether anyone is enrolled. The fences between make one of them see the other. `tests/handover.rs` runs this very
//! file through every interleaving. Enrolling is the waiter's thread, ringing the publisher's, serving the feed's.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, OnceLock};

/// After so many the ringer offers its processor to others: it may have taken it from the writer that rang.
const WAKES_IN_A_ROW: usize = 64;

/// Who waits, and the thread that wakes them.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// How many are enrolled; ordered against what they wait for by the fences.
    enrolled: AtomicUsize,
    waiters: Mutex<Waiters>,
    /// The thread that wakes the enrolled, once anyone has waited.
    ringer: OnceLock<Thread>,
}

#[derive(Debug, Default)]
struct Waiters {
    last: u64,
    /// In the order of their numbers, so that a run can be had again.
    wakers: BTreeMap<u64, Waker>,
}

impl Bell {
    /// Names the thread that [`Bell::ring`] unparks; the first one named stays.
    pub(crate) fn set_ringer(&self, thread: Thread) {
        let _ = self.ringer.set(thread);
    }

    /// Enrols a waiter under `number`, or under a new one; the waiter must then look once more before it sleeps.
    pub(crate) fn enrol(&self, number: Option<u64>, waker: &Waker) -> u64 {
        // The waker is the caller's code: cloned before and dropped after the lock is held.
        let waker = waker.clone();
        let (number, _replaced) = {
            let mut waiters = self.waiters.lock();
            let number = number.unwrap_or_else(|| {
                waiters.last += 1;
                waiters.last
            });
            let replaced = waiters.wakers.insert(number, waker);
            self.enrolled.store(waiters.wakers.len(), Ordering::Relaxed);
            (number, replaced)
        };
        fence(Ordering::SeqCst);
        number
    }

    /// Takes a waiter out that no longer waits.
    pub(crate) fn withdraw(&self, number: u64) {
        let _withdrawn = {
            let mut waiters = self.waiters.lock();
            let withdrawn = waiters.wakers.remove(&number);
            self.enrolled.store(waiters.wakers.len(), Ordering::Relaxed);
            withdrawn
        };
    }

    /// Tells the ringer's thread if anyone waits; to be called after publishing. Its cost does not grow with them.
    pub(crate) fn ring(&self) {
        if self.enrolled() > 0 {
            self.wake_ringer();
        }
    }

    /// Unparks the ringer's thread, if there is one.
    pub(crate) fn wake_ringer(&self) {
        if let Some(thread) = self.ringer.get() {
            thread.unpark();
        }
    }

    /// How many are enrolled, ordered after everything that this thread did before.
    pub(crate) fn enrolled(&self) -> usize {
        fence(Ordering::SeqCst);
        self.enrolled.load(Ordering::Relaxed)
    }

    /// Takes everyone out and has each woken.
    pub(crate) fn wake_all(&self, wake: impl Fn(Waker)) {
        let wakers = {
            let mut waiters = self.waiters.lock();
            self.enrolled.store(0, Ordering::Relaxed);
            std::mem::take(&mut waiters.wakers)
        };
        for (woken, waker) in wakers.into_values().enumerate() {
            if woken % WAKES_IN_A_ROW == WAKES_IN_A_ROW - 1 {
                thread::yield_now();
            }
            wake(waker);
        }
    }

    /// The ringer's whole work: wakes everyone whenever `look` sees something else than it told before, until closed.
    ///
    /// `told` is what was visible before anyone could enrol: seen only now, it could be what a waiter sleeps for. `look`
    /// says `None` when it cannot see. `rest` sleeps until the bell is rung; it is told for how long nothing was new. What
    /// is published between a look and the rest after it ends that rest.
    pub(crate) fn serve(
        &self,
        mut told: u64,
        is_closed: impl Fn() -> bool,
        look: impl Fn() -> Option<u64>,
        wake: impl Fn(Waker),
        rest: impl Fn(Duration),
    ) {
        let mut told_at = Instant::now();
        while !is_closed() {
            let news = match look() {
                Some(seen) if seen == told => false,
                Some(seen) => {
                    (told, told_at) = (seen, Instant::now());
                    true
                }
                // Those who wait look themselves, and meet what is wrong.
                None => self.enrolled() > 0,
            };
            match news {
                true => self.wake_all(&wake),
                false => rest(told_at.elapsed()),
            }
        }
    }
}
