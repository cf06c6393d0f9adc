//! Waiting for events: who is woken, who is not, what ends a wait, and what ten thousand that wait cost.

#[path = "waiting/crowd.rs"]
mod crowd;
#[cfg(feature = "async")]
#[path = "waiting/stream.rs"]
mod stream;
#[path = "support/mod.rs"]
mod support;

use quipu::io::MemoryDisk;
use quipu::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};
use support::ruled::{Gate, Op, Ruled};

const KIND: EventKind = EventKind::literal("lamp.lit");
/// Longer than anything here takes: whoever waits so long was forgotten.
const PATIENCE: Duration = Duration::from_secs(60);

fn lamp() -> Coordinate {
    Coordinate::new("lamp:1", "house").unwrap()
}

fn append(store: &Store, count: usize) {
    for number in 0..count {
        store.append(&lamp(), KIND, &number).unwrap();
    }
}

/// Returns once so many wait.
fn until_waiting(store: &Store, count: u64) {
    let started = Instant::now();
    while store.diagnostics().waiting != count {
        assert!(started.elapsed() < PATIENCE, "{:?}", store.diagnostics());
        thread::yield_now();
    }
}

fn is_closed<T: std::fmt::Debug>(result: quipu::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), StoreErrorKind::Closed);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn waker() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Returns once it was woken so often.
    fn until(&self, times: usize) {
        let started = Instant::now();
        while self.get() < times {
            assert!(started.elapsed() < PATIENCE, "woken {} times", self.get());
            thread::yield_now();
        }
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Calls a closure once when it is woken.
struct Call(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        let call = self.0.lock().unwrap().take();
        if let Some(call) = call {
            call();
        }
    }
}

fn calls(call: impl FnOnce() + Send + 'static) -> Waker {
    Arc::new(Call(Mutex::new(Some(Box::new(call))))).into()
}

fn poll(receiver: &mut Subscription, waker: &Waker) -> Poll<quipu::Result<Delivery>> {
    receiver.poll_recv(&mut Context::from_waker(waker))
}

fn position_of(delivery: Delivery) -> u64 {
    delivery.event().unwrap().position().get()
}

#[test]
fn a_wait_that_times_out_leaves_nobody_enrolled() {
    let store = Store::in_memory().unwrap();
    let mut cursor = store.cursor(Query::kind("lamp.dimmed")).unwrap();
    let mut receiver = store.subscribe(Query::kind("lamp.dimmed")).unwrap();
    append(&store, 3);
    for millis in [0, 1, 20] {
        let (timeout, started) = (Duration::from_millis(millis), Instant::now());
        assert!(!cursor.wait(timeout).unwrap());
        assert!(receiver.recv_timeout(timeout).unwrap().is_none());
        assert!(started.elapsed() >= timeout * 2);
        assert_eq!(store.diagnostics().waiting, 0);
    }
    assert_eq!(cursor.position().unwrap().position(), 3);
    assert!(cursor.next().is_none());
}

#[test]
fn waiting_threads_wake_for_what_matches_and_sleep_on_for_what_does_not() {
    let store = Store::in_memory().unwrap();
    let dimmed = EventKind::literal("lamp.dimmed");
    let mut cursor = store.cursor(Query::kind("lamp.dimmed")).unwrap();
    let mut receiver = store.subscribe(Query::kind("lamp.dimmed")).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(move || {
            assert!(cursor.wait(PATIENCE).unwrap());
            assert!(cursor.wait(Duration::ZERO).unwrap(), "it is still there");
            cursor.next().unwrap().unwrap().position().get()
        });
        let receives = scope.spawn(move || position_of(receiver.recv().unwrap()));
        for _ in 0..3 {
            until_waiting(&store, 2);
            append(&store, 1);
        }
        until_waiting(&store, 2);
        store.append(&lamp(), dimmed, &1).unwrap();
        assert_eq!(waits.join().unwrap(), 4);
        assert_eq!(receives.join().unwrap(), 4);
    });
    assert_eq!(store.diagnostics().waiting, 0);
}

fn each_ending(end: impl Fn(Store)) {
    let store = Store::in_memory().unwrap();
    append(&store, 2);
    let mut cursor = store.cursor(Query::all()).unwrap();
    let mut left = store.cursor(Query::all()).unwrap();
    let receiver = store.subscribe(Query::all()).unwrap();
    let mut iterated = store.subscribe(Query::all()).unwrap();
    let mut polled = store.subscribe(Query::all()).unwrap();
    let (woken, waker) = Count::waker();
    assert!(poll(&mut polled, &waker).is_pending());
    thread::scope(|scope| {
        let waits = scope.spawn(move || {
            assert_eq!(cursor.next_batch(5).unwrap().len(), 2);
            is_closed(cursor.wait(PATIENCE));
            is_closed(cursor.wait(PATIENCE));
            assert!(cursor.next().is_none());
            assert_eq!(cursor.position().unwrap().position(), 2);
        });
        let receives = scope.spawn(move || {
            let mut receiver = receiver;
            is_closed(receiver.recv());
            is_closed(receiver.try_recv());
            is_closed(receiver.recv_timeout(PATIENCE));
        });
        let iterates = scope.spawn(move || assert!(iterated.next().is_none()));
        until_waiting(&store, 4);
        end(store);
        for thread in [waits, receives, iterates] {
            thread.join().unwrap();
        }
    });
    assert_eq!(woken.get(), 1);
    let Poll::Ready(closed) = poll(&mut polled, &waker) else {
        panic!("it waits for a store that is closed");
    };
    is_closed(closed);
    // What was there is read before the end is told.
    assert!(left.wait(PATIENCE).unwrap());
    assert_eq!(left.by_ref().count(), 2);
    is_closed(left.wait(PATIENCE));
}

#[test]
fn closing_the_store_ends_each_wait() {
    each_ending(|store| store.close().unwrap());
}

#[test]
fn dropping_the_last_handle_ends_each_wait() {
    each_ending(drop);
}

#[test]
fn what_is_appended_just_before_the_close_is_delivered() {
    for round in 0..200_usize {
        let store = Store::in_memory().unwrap();
        let mut cursor = store.cursor(Query::all()).unwrap();
        let receiver = store.subscribe(Query::all()).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(move || {
                let mut seen = 0;
                loop {
                    match cursor.wait(PATIENCE) {
                        Ok(more) => assert!(more && cursor.next().is_some()),
                        Err(_) => return seen,
                    }
                    seen += 1;
                }
            });
            let receives = scope.spawn(move || receiver.count());
            append(&store, round % 4);
            store.close().unwrap();
            assert_eq!(waits.join().unwrap(), round % 4);
            assert_eq!(receives.join().unwrap(), round % 4);
        });
    }
}

#[test]
fn a_task_is_woken_once_for_each_time_it_was_told_to_wait() {
    let store = Store::in_memory().unwrap();
    let mut receiver = store.subscribe(Query::all()).unwrap();
    let (woken, waker) = Count::waker();
    for round in 1..=20_usize {
        for _ in 0..500 {
            assert!(poll(&mut receiver, &waker).is_pending());
        }
        assert_eq!(
            store.diagnostics().waiting,
            1,
            "polling again takes no second place"
        );
        append(&store, 2);
        woken.until(round);
        assert_eq!((woken.get(), store.diagnostics().waiting), (round, 0));
        for _ in 0..2 {
            assert!(matches!(
                poll(&mut receiver, &waker),
                Poll::Ready(Ok(Delivery::Event(_)))
            ));
        }
    }
}

/// The thread that wakes took what it found when it started for news, and woke the first who waited for nothing.
#[test]
fn nobody_is_woken_for_what_was_there_before() {
    let store = Store::in_memory().unwrap();
    append(&store, 3);
    let mut receiver = store.subscribe(Query::all()).unwrap();
    let (woken, waker) = Count::waker();
    assert!(poll(&mut receiver, &waker).is_pending());
    let mut other = store.subscribe(Query::all()).unwrap();
    assert!(
        other
            .recv_timeout(Duration::from_millis(20))
            .unwrap()
            .is_none()
    );
    assert_eq!((woken.get(), store.diagnostics().waiting), (0, 1));
}

#[test]
fn a_task_that_moved_is_woken_where_it_was_polled_last() {
    let store = Store::in_memory().unwrap();
    let mut receiver = store.subscribe(Query::all()).unwrap();
    let ((first, before), (last, after)) = (Count::waker(), Count::waker());
    assert!(poll(&mut receiver, &before).is_pending());
    assert!(poll(&mut receiver, &after).is_pending());
    append(&store, 1);
    until_waiting(&store, 0);
    last.until(1);
    assert_eq!((first.get(), last.get()), (0, 1));
}

#[test]
fn a_task_that_is_dropped_while_it_waits_is_forgotten() {
    let store = Store::in_memory().unwrap();
    let (woken, waker) = Count::waker();
    for _ in 0..100 {
        let mut receiver = store.subscribe(Query::all()).unwrap();
        assert!(poll(&mut receiver, &waker).is_pending());
    }
    assert_eq!(store.diagnostics().waiting, 0);
    append(&store, 1);
    store.close().unwrap();
    assert_eq!(woken.get(), 0);
    assert_eq!(Arc::strong_count(&woken), 2, "nobody keeps its waker");
}

#[test]
fn a_waker_that_panics_leaves_the_others_woken() {
    let store = Store::in_memory().unwrap();
    let mut receivers: Vec<_> = (0..3)
        .map(|_| store.subscribe(Query::all()).unwrap())
        .collect();
    for round in 0..2 {
        let (woken, waker) = Count::waker();
        let panics = calls(|| panic!("a test's panic in a waker"));
        assert!(poll(&mut receivers[0], &waker).is_pending());
        assert!(poll(&mut receivers[1], &panics).is_pending());
        assert!(poll(&mut receivers[2], &waker).is_pending());
        match round {
            0 => append(&store, 1),
            _ => store.clone().close().unwrap(),
        }
        woken.until(2);
        for receiver in receivers.iter_mut().filter(|_| round == 0) {
            assert_eq!(position_of(receiver.recv().unwrap()), 1);
        }
    }
}

/// The waker runs on the thread that closing joins.
#[test]
fn a_waker_may_drop_the_last_handle() {
    let gate = Arc::new(Gate::default());
    let (passed, _opener) = (Arc::clone(&gate), gate.opener());
    let disk = Ruled::new(MemoryDisk::new(), move |call| {
        if call.op == Op::Write && call.name.ends_with(".seg") {
            passed.pass();
        }
        Ok(())
    });
    let store = Store::open_with(StoreConfig::on_disk(Arc::new(disk))).unwrap();
    let mut receiver = store.subscribe(Query::all()).unwrap();
    let mut behind = store.subscribe(Query::all()).unwrap();
    let slot: Arc<Mutex<Option<Store>>> = Arc::default();
    let (last, (tell, told)) = (Arc::clone(&slot), mpsc::channel());
    let waker = calls(move || {
        drop(last.lock().unwrap().take().expect("the last handle"));
        tell.send(thread::current().name().map(str::to_owned))
            .unwrap();
    });
    assert!(poll(&mut receiver, &waker).is_pending());
    gate.shut();
    let ticket = store
        .submit(&lamp(), KIND, &1, AppendOptions::new())
        .unwrap();
    gate.wait_for_someone();
    *slot.lock().unwrap() = Some(store);
    gate.open();
    ticket.wait().unwrap();
    let thread = told
        .recv_timeout(PATIENCE)
        .expect("it could not drop the handle");
    assert_eq!(thread.as_deref(), Some("quipu-feed"));
    assert_eq!(position_of(behind.recv().unwrap()), 1);
    is_closed(behind.recv());
    assert_eq!(position_of(receiver.recv().unwrap()), 1);
}
