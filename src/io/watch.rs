//! Waiting for a file to change: what a follower of another process's store does while nothing happens.
//!
//! A wait may end early and for nothing; it never sleeps through a change for longer than its bound. One thread waits,
//! any thread interrupts.

use std::fmt::Debug;
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

/// The shortest pause: what a follower of a busy writer adds to the delay of an event.
const MIN_PAUSE: Duration = Duration::from_micros(100);
/// The longest pause: twenty looks a second at a small file.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// A pause is this part of the time that nothing has changed, so that it adds an eighth to any gap between events.
const PAUSE_SHARE: u32 = 8;

/// Waits for one file to change; got from [`Disk::watch`](super::Disk::watch).
///
/// ```
/// use std::time::Duration;
/// use quipu::io::{Disk, MemoryDisk};
///
/// let watch = MemoryDisk::new().watch("hint");
/// std::thread::scope(|threads| {
///     threads.spawn(|| watch.wait(Duration::ZERO)); // look, wait, look again ..
///     watch.interrupt();
/// });
/// ```
pub trait Watch: Send + Sync + Debug {
    /// Returns when the file may have changed since the last wait began, and at the latest after a second.
    ///
    /// `idle` is how long no change has been found. Where the system does not tell of changes, the wait is a share of it.
    fn wait(&self, idle: Duration);

    /// Ends the wait under way and all later ones at once.
    fn interrupt(&self);
}

/// A pause that grows with the time that nothing has changed: for disks that tell nothing.
#[derive(Debug, Default)]
pub(super) struct Pause {
    interrupted: Mutex<bool>,
    bell: Condvar,
}

impl Watch for Pause {
    fn wait(&self, idle: Duration) {
        let mut interrupted = self.interrupted.lock();
        if !*interrupted {
            self.bell.wait_for(&mut interrupted, pause_after(idle));
        }
    }

    fn interrupt(&self) {
        *self.interrupted.lock() = true;
        self.bell.notify_all();
    }
}

fn pause_after(idle: Duration) -> Duration {
    (idle / PAUSE_SHARE).clamp(MIN_PAUSE, MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    #[test]
    fn a_pause_is_a_share_of_the_idle_time_within_bounds() {
        let ms = Duration::from_millis;
        assert_eq!(pause_after(Duration::ZERO), MIN_PAUSE);
        assert_eq!(pause_after(ms(80)), ms(10));
        assert_eq!(pause_after(ms(400)), MAX_PAUSE);
        assert_eq!(pause_after(Duration::MAX), MAX_PAUSE);
    }

    #[test]
    fn interrupted_pauses_end_at_once_from_then_on() {
        let watch = Arc::new(Pause::default());
        let (ended, waits) = mpsc::channel();
        let waiting = Arc::clone(&watch);
        let thread = std::thread::spawn(move || {
            while !*waiting.interrupted.lock() {
                waiting.wait(Duration::MAX);
            }
            // Ten thousand pauses of their full length would take eight minutes.
            (0..10_000).for_each(|_| waiting.wait(Duration::MAX));
            ended.send(()).unwrap();
        });
        watch.interrupt();
        waits.recv_timeout(Duration::from_secs(20)).unwrap();
        thread.join().unwrap();
    }
}
