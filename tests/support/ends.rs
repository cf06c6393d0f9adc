//! A flag for threads that work until a test has seen enough, raised also when the test fails.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Raises the flag when it goes.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
