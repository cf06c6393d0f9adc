//! The hand-over between publisher, ringer and waiters, run through its interleavings under loom: nobody sleeps for ever.
//!
//! The files that ship are explored: `bell.rs` (enrolling, ringing, the ringer's loop) and `sleep.rs` (how a thread
//! waits); under them lie loom's primitives, from `sync` below. What `front.rs` adds, the listener and the start and end
//! of the ringer's thread, is written here once more. All schedules with one to three preemptions are tried, as many as
//! a few seconds allow (`LOOM_MAX_PREEMPTIONS` sets another bound); one after which somebody sleeps on is a deadlock.
//!
//! Where the model differs from the world: the number is published by an atomic with release order, which is weaker than
//! the lock around the picture. A thread's token is loom's `Notify`, since loom's own `park` forgets a token when the
//! thread then waits for a mutex; it also wakes once for nothing, as real threads may. A deadline has always passed:
//! loom has no clock. A watch tells each change and has no bound of a second, which would hide a lost one.
#![allow(dead_code, reason = "the shipped files have more than the model calls")]

#[path = "../src/engine/bell.rs"]
mod bell;
#[path = "../src/feed/sleep.rs"]
mod sleep;

use bell::Bell;
use engine::front::Listener;
use error::{Result, StoreError};
use loom::thread::JoinHandle;
use sleep::{look_again, sleep_until};
use std::task::{Wake, Waker};
use std::time::Instant;
use sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::thread::Thread;
use sync::{Arc, Mutex};

/// The seam of the crate, with loom's primitives behind the names.
mod sync {
    pub(crate) use std::sync::Arc;

    pub(crate) mod atomic {
        pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    }

    /// As `parking_lot` has it.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// Loom has none: one whose value is published by an atomic of its own.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        set: atomic::AtomicBool,
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self {
                value: std::sync::OnceLock::new(),
                set: atomic::AtomicBool::new(false),
            }
        }
    }

    impl<T> OnceLock<T> {
        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.set.store(true, atomic::Ordering::Release);
            Ok(())
        }

        pub(crate) fn get(&self) -> Option<&T> {
            let set = self.set.load(atomic::Ordering::Acquire);
            self.value.get().filter(|_| set)
        }
    }

    pub(crate) mod thread {
        use super::Arc;
        use loom::sync::Notify;
        use std::time::Duration;

        /// A thread, as far as it is parked and unparked.
        #[derive(Clone, Debug)]
        pub(crate) struct Thread(Arc<Notify>);

        impl Thread {
            pub(crate) fn new() -> Self {
                Self(Arc::new(Notify::new()))
            }

            pub(crate) fn unpark(&self) {
                self.0.notify();
            }

            pub(crate) fn park(&self) {
                self.0.wait();
            }
        }

        loom::thread_local! {
            static OWN: Thread = Thread::new();
        }

        pub(crate) fn current() -> Thread {
            OWN.with(Clone::clone)
        }

        pub(crate) fn park() {
            current().park();
        }

        pub(crate) fn yield_now() {
            loom::thread::yield_now();
        }

        pub(crate) fn park_timeout(_: Duration) {
            unreachable!("deadlines have passed already");
        }
    }
}

mod error {
    pub(crate) type Result<T> = std::result::Result<T, StoreError>;

    #[derive(Debug, PartialEq)]
    pub(crate) struct StoreError;

    impl StoreError {
        pub(crate) fn closed() -> Self {
            Self
        }
    }
}

mod engine {
    pub(crate) mod front {
        use crate::error::Result;
        use crate::{Arc, Starts, Store, Waker};

        /// As in `front.rs`.
        pub(crate) struct Listener {
            store: Arc<Store>,
            number: Option<u64>,
        }

        impl Listener {
            pub(crate) fn new(store: &Arc<Store>) -> Self {
                Self {
                    store: Arc::clone(store),
                    number: None,
                }
            }

            pub(crate) fn listen(&mut self, waker: &Waker) -> Result<()> {
                if self.store.starts == Starts::Late {
                    self.store.start_ringer();
                }
                self.number = Some(self.store.bell.enrol(self.number, waker));
                if self.store.file.is_some() {
                    self.store.bell.wake_ringer();
                }
                Ok(())
            }

            pub(crate) fn is_closed(&self) -> bool {
                self.store.is_closed()
            }

            pub(crate) fn stop(&mut self) {
                if let Some(number) = self.number.take() {
                    self.store.bell.withdraw(number);
                }
            }
        }

        impl Drop for Listener {
            fn drop(&mut self) {
                self.stop();
            }
        }
    }
}

/// The hint that another process writes, and the watch that tells of it.
struct File {
    written: AtomicU64,
    told: Thread,
    interrupted: AtomicBool,
}

enum Feed {
    NotStarted,
    Running(JoinHandle<()>),
    Ended,
}

/// When the ringer's thread is started: by the first waiter, as in the world, costs the model many schedules.
#[derive(PartialEq)]
enum Starts {
    Early,
    Late,
}

/// What readers share; the number stands for the picture.
struct Store {
    starts: Starts,
    published: AtomicU64,
    file: Option<File>,
    bell: Bell,
    feed: Mutex<Feed>,
    closed: AtomicBool,
}

impl Store {
    fn new(starts: Starts, file: Option<File>) -> Arc<Self> {
        let store = Arc::new(Self {
            starts,
            published: AtomicU64::new(0),
            file,
            bell: Bell::default(),
            feed: Mutex::new(Feed::NotStarted),
            closed: AtomicBool::new(false),
        });
        if store.starts == Starts::Early {
            store.start_ringer();
        }
        store
    }

    fn written_here() -> Arc<Self> {
        Self::new(Starts::Early, None)
    }

    fn written_elsewhere() -> Arc<Self> {
        let file = File {
            written: AtomicU64::new(0),
            told: Thread::new(),
            interrupted: AtomicBool::new(false),
        };
        Self::new(Starts::Early, Some(file))
    }

    /// What the writer's turn does, in this process or the other.
    fn publish(&self, number: u64) {
        match &self.file {
            None => {
                self.published.store(number, Ordering::Release);
                self.bell.ring();
            }
            Some(file) => {
                file.written.store(number, Ordering::Release);
                file.told.unpark();
            }
        }
    }

    fn look(&self) -> u64 {
        let Some(file) = &self.file else {
            return self.published.load(Ordering::Acquire);
        };
        let written = file.written.load(Ordering::Acquire);
        if self.published.fetch_max(written, Ordering::AcqRel) < written {
            self.bell.ring();
        }
        written
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn start_ringer(self: &Arc<Self>) {
        let mut feed = self.feed.lock();
        if matches!(*feed, Feed::NotStarted) {
            let (store, thread) = (Arc::clone(self), Thread::new());
            let own = thread.clone();
            let told = self.published.load(Ordering::Acquire);
            let running = loom::thread::spawn(move || store.serve(told, &own));
            self.bell.set_ringer(thread);
            *feed = Feed::Running(running);
        }
    }

    fn serve(&self, told: u64, own: &Thread) {
        self.bell.serve(
            told,
            || self.is_closed(),
            || Some(self.look()),
            Waker::wake,
            |_| match &self.file {
                Some(file) if self.bell.enrolled() > 0 => {
                    if !file.interrupted.load(Ordering::Acquire) {
                        file.told.park();
                    }
                }
                _ => own.park(),
            },
        );
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let feed = std::mem::replace(&mut *self.feed.lock(), Feed::Ended);
        if let Feed::Running(thread) = feed {
            if let Some(file) = &self.file {
                file.interrupted.store(true, Ordering::Release);
                file.told.unpark();
            }
            self.bell.wake_ringer();
            thread.join().unwrap();
        }
        self.bell.wake_all(Waker::wake);
    }

    /// Closes once everyone else has ended, who must all have given their place back.
    fn end(&self, others: impl IntoIterator<Item = JoinHandle<()>>) {
        others.into_iter().for_each(|other| other.join().unwrap());
        self.close();
        assert_eq!(self.bell.enrolled(), 0);
    }

    fn ready(&self, number: u64) -> Result<Option<u64>> {
        let seen = self.look();
        Ok((seen >= number).then_some(seen))
    }
}

/// Waits as `Subscription::recv` does.
fn wait(store: &Store, listener: &mut Listener, number: u64) -> Result<u64> {
    let found = sleep_until(listener, None, || store.ready(number))?;
    Ok(found.expect("there is no deadline"))
}

fn waits_for(store: &Arc<Store>, numbers: &'static [u64]) -> JoinHandle<()> {
    let store = Arc::clone(store);
    loom::thread::spawn(move || {
        let mut listener = Listener::new(&store);
        for number in numbers {
            assert!(wait(&store, &mut listener, *number).unwrap() >= *number);
        }
    })
}

/// Runs through the schedules in which threads are interrupted at most so many times.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(model);
}

#[test]
fn a_waiter_hears_of_each_number() {
    explore(2, || {
        let store = Store::written_here();
        let waiter = waits_for(&store, &[1, 2]);
        store.publish(1);
        store.publish(2);
        store.end([waiter]);
    });
}

#[test]
fn the_first_waiter_starts_the_ringer_and_hears_of_what_is_published_meanwhile() {
    explore(3, || {
        let store = Store::new(Starts::Late, None);
        let waiter = waits_for(&store, &[1]);
        store.publish(1);
        store.end([waiter]);
    });
}

#[test]
fn two_waiters_hear_of_one_number() {
    explore(1, || {
        let store = Store::written_here();
        let waiters = [(); 2].map(|()| waits_for(&store, &[1]));
        store.publish(1);
        store.end(waiters);
    });
}

#[test]
fn closing_ends_a_wait_after_what_was_published_is_heard() {
    explore(2, || {
        let store = Store::written_here();
        let waiting = Arc::clone(&store);
        let waiter = loom::thread::spawn(move || {
            let mut listener = Listener::new(&waiting);
            assert_eq!(wait(&waiting, &mut listener, 1), Ok(1));
            assert_eq!(wait(&waiting, &mut listener, 2), Err(StoreError));
        });
        store.publish(1);
        store.close();
        waiter.join().unwrap();
        assert_eq!(store.bell.enrolled(), 0);
    });
}

/// Withdrawing races with the ringer that takes the same waiter out, and must not take the other's place away.
#[test]
fn a_wait_that_times_out_disturbs_nobody() {
    explore(2, || {
        let store = Store::written_here();
        let timed = Arc::clone(&store);
        let passed = loom::thread::spawn(move || {
            let mut listener = Listener::new(&timed);
            let deadline = Some(Instant::now());
            let found = sleep_until(&mut listener, deadline, || timed.ready(1));
            assert!(found.unwrap().is_none_or(|seen| seen == 1));
            assert_eq!(wait(&timed, &mut listener, 1), Ok(1));
        });
        let waiter = waits_for(&store, &[1]);
        store.publish(1);
        store.end([passed, waiter]);
    });
}

struct Task(Thread);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls as `Subscription::poll_recv` does.
fn poll(store: &Store, listener: &mut Listener, number: u64, waker: &Waker) -> Option<u64> {
    let ready = || store.ready(number);
    if let Some(found) = look_again(listener, ready).unwrap() {
        return Some(found);
    }
    listener.listen(waker).unwrap();
    look_again(listener, ready).unwrap()
}

#[test]
fn a_task_is_woken_though_another_is_dropped_while_it_is_enrolled() {
    explore(3, || {
        let store = Store::written_here();
        let polled = Arc::clone(&store);
        let task = loom::thread::spawn(move || {
            let mut dropped = Listener::new(&polled);
            poll(&polled, &mut dropped, 1, Waker::noop());
            let own = Thread::new();
            let waker = Waker::from(Arc::new(Task(own.clone())));
            let mut listener = Listener::new(&polled);
            while poll(&polled, &mut listener, 1, &waker).is_none() {
                drop(std::mem::replace(&mut dropped, Listener::new(&polled)));
                own.park();
            }
        });
        store.publish(1);
        store.end([task]);
    });
}

/// The ringer rests on the watch while somebody waits and parks while nobody does; the file may change at any time.
#[test]
fn a_follower_hears_of_what_another_process_writes() {
    explore(2, || {
        let store = Store::written_elsewhere();
        let waiter = waits_for(&store, &[1]);
        store.publish(1);
        store.end([waiter]);
    });
}

#[test]
fn closing_a_follower_ends_its_waits() {
    explore(3, || {
        let store = Store::written_elsewhere();
        let waiting = Arc::clone(&store);
        let waiter = loom::thread::spawn(move || {
            let mut listener = Listener::new(&waiting);
            assert_eq!(wait(&waiting, &mut listener, 1), Err(StoreError));
        });
        store.close();
        waiter.join().unwrap();
        assert_eq!(store.bell.enrolled(), 0);
    });
}
