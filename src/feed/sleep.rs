//! Lets a thread wait for new events through the same bell as a task: its waker unparks it.
//!
//! Nobody sleeps who has not looked once more after enrolling. The sleeper's thread runs it, and whoever wakes it.

use std::task::{Wake, Waker};
use std::time::Instant;

use crate::engine::front::Listener;
use crate::error::{Result, StoreError};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, Thread};

/// A sleeping thread, and whether it was called.
struct Sleeper {
    thread: Thread,
    /// Publishes nothing: what the sleeper is called for, it looks up itself.
    called: AtomicBool,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.called.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Waits until `ready` has something; `None` when the deadline passes first.
///
/// # Errors
/// What `ready` says; `Closed` once the store is closed and `ready` has nothing.
pub(super) fn sleep_until<T>(
    listener: &mut Listener,
    deadline: Option<Instant>,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    if let Some(found) = ready()? {
        return Ok(Some(found));
    }
    loop {
        let sleeper = Arc::new(Sleeper {
            thread: thread::current(),
            called: AtomicBool::new(false),
        });
        listener.listen(&Waker::from(Arc::clone(&sleeper)))?;
        if let Some(found) = look_again(listener, &mut ready)? {
            return Ok(Some(found));
        }
        while !sleeper.called.load(Ordering::Acquire) {
            let Some(deadline) = deadline else {
                thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                listener.stop();
                return ready();
            }
            thread::park_timeout(left);
        }
    }
}

/// Looks once more after enrolling. What was visible before the store was closed is still there to be read.
pub(super) fn look_again<T>(
    listener: &mut Listener,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let closed = listener.is_closed();
    let found = ready();
    if closed || !matches!(found, Ok(None)) {
        listener.stop();
    }
    match found {
        Ok(None) if closed => Err(StoreError::closed()),
        found => found,
    }
}
