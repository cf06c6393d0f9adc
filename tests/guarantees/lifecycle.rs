//! Lifecycle: closing closes for everyone and reports, dropping loses nothing, and nothing outlives the store.

use crate::support::child::{self, Role};
use crate::support::disk::TestDisk;
use crate::support::ruled::{Gate, Op, Ruled};
use crate::support::script::{self, KIND};
use quipu::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
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

fn waker(call: impl FnOnce() + Send + 'static) -> Waker {
    Arc::new(Call(Mutex::new(Some(Box::new(call))))).into()
}

fn poll<R>(ticket: &mut Ticket<R>, waker: &Waker) -> Poll<quipu::Result<R>>
where
    Ticket<R>: Future<Output = quipu::Result<R>> + Unpin,
{
    Pin::new(ticket).poll(&mut Context::from_waker(waker))
}

/// A store whose writer waits before each write to a segment while the gate is shut.
fn gated() -> (Store, TestDisk, Arc<Gate>) {
    let (memory, gate) = (TestDisk::new(), Arc::new(Gate::default()));
    let passed = Arc::clone(&gate);
    let disk = Ruled::new(memory.clone(), move |call| {
        if call.op == Op::Write && call.name.ends_with("1.seg") {
            passed.pass();
        }
        Ok(())
    });
    (
        Store::open_with(script::config(disk)).unwrap(),
        memory,
        gate,
    )
}

/// A submission that the writer holds at the gate, with a waker on it.
fn held(store: &Store, gate: &Gate, call: impl FnOnce() + Send + 'static) -> Ticket {
    gate.shut();
    let mut ticket = store
        .submit(&place(), KIND, &1, AppendOptions::new())
        .unwrap();
    gate.wait_for_someone();
    assert!(poll(&mut ticket, &waker(call)).is_pending());
    ticket
}

#[test]
fn a_handle_is_cheap_to_share() {
    fn is_handle<T: Clone + Send + Sync + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    is_handle::<Store>();
    is_sent::<Ticket>();
    is_sent::<Ticket<Vec<Receipt>>>();
    is_sent::<View>();
    is_sent::<Event>();
    assert_eq!(size_of::<Store>(), size_of::<usize>());
}

#[test]
fn closing_closes_for_all_clones_and_finishes_what_is_queued() {
    let (store, memory, gate) = gated();
    let other = store.clone();
    gate.shut();
    let tickets: Vec<Ticket> = (0..100)
        .map(|n| {
            store
                .submit(&place(), KIND, &n, AppendOptions::new())
                .unwrap()
        })
        .collect();
    gate.wait_for_someone();
    let closing = thread::spawn(move || store.close());
    gate.open();
    closing.join().unwrap().unwrap();
    for (index, ticket) in (1..).zip(tickets) {
        assert_eq!(ticket.wait().unwrap().position().get(), index);
    }
    let closed = |kind: StoreErrorKind| assert_eq!(kind, StoreErrorKind::Closed);
    closed(other.append(&place(), KIND, &1).unwrap_err().kind());
    closed(
        other
            .submit(&place(), KIND, &1, AppendOptions::new())
            .unwrap_err()
            .kind(),
    );
    closed(other.append_batch(Batch::new()).unwrap_err().kind());
    closed(other.at(1).unwrap_err().kind());
    closed(other.query(Query::all()).unwrap_err().kind());
    closed(other.sync().unwrap_err().kind());
    closed(other.close().unwrap_err().kind());
    let store = Store::open_with(script::config(memory)).unwrap();
    assert_eq!(store.head().position.get(), 100);
}

#[test]
fn what_was_read_stays_readable_after_the_close() {
    let store = Store::in_memory().unwrap();
    store.append(&place(), KIND, &"kept").unwrap();
    let (view, event) = (store.view(), store.at(1).unwrap().unwrap());
    let mut iterator = store.query(Query::all()).unwrap();
    store.close().unwrap();
    assert_eq!(
        view.at(1).unwrap().unwrap().payload::<&str>().unwrap(),
        "kept"
    );
    assert_eq!(event.payload::<&str>().unwrap(), "kept");
    assert_eq!(iterator.next().unwrap().unwrap().position().get(), 1);
}

#[test]
fn dropping_the_last_handle_loses_nothing() {
    let memory = TestDisk::new();
    let store = Store::open_with(script::config(memory.clone())).unwrap();
    let buffered = AppendOptions::new().durability(Durability::Buffered);
    let tickets: Vec<Ticket> = (0..50)
        .map(|n| store.submit(&place(), KIND, &n, buffered.clone()).unwrap())
        .collect();
    drop(tickets);
    drop(store);
    let store = Store::open_with(script::config(memory)).unwrap();
    assert_eq!(store.head().position.get(), 50);
}

/// The waker runs on the writer's own thread, which must not wait for itself.
#[test]
fn the_last_handle_may_be_dropped_in_a_waker() {
    let (store, memory, gate) = gated();
    let (tell, told) = mpsc::channel();
    let handle = Arc::new(Mutex::new(None));
    let in_waker = Arc::clone(&handle);
    let ticket = held(&store, &gate, move || {
        drop(in_waker.lock().unwrap().take());
        tell.send(thread::current().name().map(str::to_owned))
            .unwrap();
    });
    *handle.lock().unwrap() = Some(store);
    gate.open();
    assert_eq!(told.recv().unwrap().as_deref(), Some("quipu-writer"));
    assert!(ticket.is_done());
    let store = Store::open_with(script::config(memory)).unwrap();
    assert_eq!(store.head().position.get(), 1);
}

/// Found by reading: a waker that panicked ended the writer's thread, and later tickets were never answered.
#[test]
fn a_waker_that_panics_stops_nobody() {
    let (store, _, gate) = gated();
    let ticket = held(&store, &gate, || panic!("a test's panic in a waker"));
    let behind = store
        .submit(&place(), KIND, &2, AppendOptions::new())
        .unwrap();
    gate.open();
    assert_eq!(behind.wait().unwrap().position().get(), 2);
    assert_eq!(ticket.wait().unwrap().position().get(), 1);
    let later = store
        .submit(&place(), KIND, &3, AppendOptions::new())
        .unwrap();
    assert_eq!(later.wait().unwrap().position().get(), 3);
    store.close().unwrap();
}

/// Found by reading: an append in a waker runs on the writer's thread; with another caller waiting it queued itself and
/// waited for a writer that was itself.
#[test]
fn a_waker_may_append() {
    let (store, _, gate) = gated();
    let (tell, told) = mpsc::channel();
    let inner = store.clone();
    let waiting = Arc::new(AtomicUsize::new(0));
    let ticket = held(&store, &gate, move || {
        let receipt = inner.append(&place(), KIND, &"from the waker");
        tell.send(receipt.map(|r| r.position().get())).unwrap();
    });
    let callers: Vec<_> = (0..3)
        .map(|n| {
            let (store, waiting) = (store.clone(), Arc::clone(&waiting));
            thread::spawn(move || {
                waiting.fetch_add(1, SeqCst);
                store.append(&place(), KIND, &n).unwrap();
            })
        })
        .collect();
    while waiting.load(SeqCst) < 3 || store.diagnostics().queue_depth < 3 {
        thread::yield_now();
    }
    gate.open();
    let position = told.recv_timeout(std::time::Duration::from_secs(20));
    assert!(position.expect("the writer waits for itself").unwrap() > 1);
    for caller in callers {
        caller.join().unwrap();
    }
    ticket.wait().unwrap();
    assert_eq!(store.head().position.get(), 5);
}

#[test]
fn a_ticket_is_awaited_without_a_runtime_and_answers_once() {
    let (store, _, gate) = gated();
    let (tell, told) = mpsc::channel();
    let mut ticket = held(&store, &gate, move || tell.send(()).unwrap());
    assert!(ticket.poll_now().is_none());
    gate.open();
    told.recv().unwrap();
    let Poll::Ready(receipt) = poll(&mut ticket, Waker::noop()) else {
        panic!("woken, and not ready");
    };
    assert_eq!(receipt.unwrap().position().get(), 1);
    assert!(ticket.poll_now().unwrap().is_err(), "answered once");
}

/// This process runs other tests, whose threads and files come and go; a child has only its own.
#[test]
fn no_thread_and_no_file_outlives_the_store() {
    if let Some(path) = child::place_for("count") {
        let count = |of: &str| {
            std::fs::read_dir(format!("/proc/self/{of}"))
                .unwrap()
                .count()
        };
        let before = (count("task"), count("fd"));
        for round in 0..20 {
            let store = Store::open_with(StoreConfig::new(&path).segment_bytes(1 << 20)).unwrap();
            for _ in 0..2 {
                store.append(&place(), KIND, &"x".repeat(200_000)).unwrap();
            }
            assert!(count("task") > before.0 && count("fd") > before.1);
            match round % 2 {
                0 => store.close().unwrap(),
                _ => drop(store),
            }
        }
        let after = (count("task"), count("fd"));
        return child::tell(format_args!("{}", before == after));
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "lifecycle::no_thread_and_no_file_outlives_the_store";
    let mut child = Role::start(test, "count", &dir.path().join("store"));
    assert_eq!(child.hear().as_deref(), Some("true"));
}

#[test]
fn an_opening_that_fails_leaves_no_lock() {
    let memory = TestDisk::new();
    let disk = Ruled::new(memory.clone(), |call| match call.op {
        Op::Map => Err(std::io::ErrorKind::OutOfMemory.into()),
        _ => Ok(()),
    });
    Store::open_with(script::config(disk)).unwrap_err();
    Store::open_with(script::config(memory)).unwrap();
}
