//! The face of the library as an outsider meets it: what may cross threads, tickets without a runtime, closing, telling.

#[path = "support/ruled.rs"]
mod ruled;

use quipu::io::MemoryDisk;
use quipu::prelude::*;
use quipu::{EventRefs, Events, Result};
use ruled::{Gate, Op, Ruled};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

const KIND: EventKind = EventKind::literal("thing.done");

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn submit(store: &Store, payload: &impl Payload) -> Ticket {
    store
        .submit(&place(), KIND, payload, AppendOptions::new())
        .unwrap()
}

fn is_send_and_static<T: Send + 'static>() {}
fn is_send_and_sync<T: Send + Sync + 'static>() {}
fn is_clone<T: Clone>() {}
fn is_send<T: Send>(_: &T) {}

#[test]
fn handles_views_iterators_and_tickets_cross_threads() {
    is_send_and_sync::<Store>();
    is_clone::<Store>();
    is_send_and_sync::<View>();
    is_clone::<View>();
    is_send_and_static::<Events>();
    is_send_and_static::<Event>();
    is_send_and_static::<Ticket>();
    is_send_and_static::<Ticket<Vec<Receipt>>>();
    is_send_and_sync::<EventRefs<'static>>();
    is_send_and_sync::<StoreError>();
    let store = Store::in_memory().unwrap();
    store.append(&place(), KIND, &0).unwrap();
    let view = store.view();
    let mut events = view.query(Query::all()).unwrap();
    is_send(&events);
    let event = events.next().unwrap().unwrap();
    is_send(&event);
    thread::scope(|scope| {
        scope.spawn(move || assert_eq!(event.payload::<i32>().unwrap(), 0));
    });
    let owned = store.query(Query::all()).unwrap();
    assert_eq!(thread::spawn(move || owned.count()).join().unwrap(), 1);
}

#[test]
fn an_error_is_as_wide_as_a_pointer() {
    assert_eq!(size_of::<StoreError>(), size_of::<usize>());
    assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
}

/// Unparks the thread that waits, and counts.
struct Alarm(Thread, AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// An executor of ten lines; returns how often it was woken, too.
fn block_on<T>(future: impl Future<Output = T>) -> (T, usize) {
    let alarm = Arc::new(Alarm(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&alarm));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (answer, alarm.1.load(Ordering::SeqCst));
        }
        thread::park();
    }
}

/// A store whose writer waits before the gate when it syncs its first segment.
fn gated() -> (Store, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let rule = Arc::clone(&gate);
    let disk = Ruled::new(MemoryDisk::new(), move |call| {
        if call.op == Op::Sync && call.name == "segments/0000000001.seg" {
            rule.pass();
        }
        Ok(())
    });
    let store = Store::open_with(StoreConfig::on_disk(Arc::new(disk))).unwrap();
    store.append(&place(), KIND, &0).unwrap();
    (store, gate)
}

#[test]
fn a_ticket_is_awaited_without_a_runtime() {
    let store = Store::in_memory().unwrap();
    let ((one, many), _) = block_on(async {
        let one = submit(&store, &1).await;
        let draft = EventDraft::new(&place(), KIND, &2);
        let batch = Batch::new().events([draft.clone(), draft]);
        (one, store.submit_batch(batch).unwrap().await)
    });
    assert_eq!(one.unwrap().position(), 1);
    assert_eq!(many.unwrap().len(), 2);
}

#[test]
fn a_waiting_future_is_woken_by_the_answer_and_by_the_last_waker_given() {
    let (store, gate) = gated();
    let _opener = gate.opener();
    gate.shut();
    let mut ticket = submit(&store, &1);
    gate.wait_for_someone();
    assert!(!ticket.is_done() && ticket.poll_now().is_none());
    let first = Arc::new(Alarm(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&first));
    for waker in [&waker, Waker::noop()] {
        let polled = pin!(&mut ticket).poll(&mut Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    let opener = thread::spawn(move || gate.open());
    let (receipt, woken) = block_on(ticket);
    opener.join().unwrap();
    assert!(receipt.unwrap().durable());
    assert!(woken <= 1);
    assert_eq!(first.1.load(Ordering::SeqCst), 0, "a forgotten waker");
}

#[test]
fn dropping_a_ticket_cancels_nothing() {
    let (store, gate) = gated();
    let _opener = gate.opener();
    gate.shut();
    for number in 1..=100 {
        drop(submit(&store, &number));
    }
    gate.open();
    store.append(&place(), KIND, &101).unwrap();
    let events = store.query(Query::all()).unwrap();
    let payloads: Vec<i32> = events.map(|e| e.unwrap().payload().unwrap()).collect();
    assert_eq!(payloads, (0..=101).collect::<Vec<_>>());
}

#[test]
fn dropping_the_store_finishes_what_was_submitted() {
    let disk = MemoryDisk::new();
    let open = || Store::open_with(StoreConfig::on_disk(Arc::new(disk.clone()))).unwrap();
    let store = open();
    let tickets: Vec<Ticket> = (0..500).map(|n| submit(&store, &n)).collect();
    drop(store);
    for (position, ticket) in (1..).zip(tickets) {
        let receipt = ticket.wait().unwrap();
        assert_eq!(receipt.position(), position);
        assert!(receipt.durable());
    }
    assert_eq!(open().head().position, 500);
}

#[test]
fn thousands_of_tickets_are_answered_in_order_and_share_groups() {
    let (store, gate) = gated();
    let _opener = gate.opener();
    gate.shut();
    let first = submit(&store, &0);
    gate.wait_for_someone();
    let tickets: Vec<Ticket> = (0..1000).map(|n| submit(&store, &n)).collect();
    gate.open();
    assert_eq!(first.wait().unwrap().position(), 2);
    let more: Vec<Ticket> = (0..9000).map(|n| submit(&store, &n)).collect();
    for (position, ticket) in (3..).zip(tickets.into_iter().chain(more)) {
        assert_eq!(ticket.wait().unwrap().position(), position);
    }
    let said = store.diagnostics();
    assert_eq!(said.events, 10_002);
    assert!(said.largest_group_events >= 1000, "{said:?}");
    assert!(said.syncs < 9_000, "{said:?}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Paid {
    by: String,
    cents: i64,
    note: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Change {
    Opened,
    Renamed(String),
    Moved { x: i8, y: u64 },
}

#[test]
fn payloads_are_anything_serialisable() {
    fn same<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(value: &T) {
        let store = Store::in_memory().unwrap();
        let receipt = store.append(&place(), KIND, value).unwrap();
        let event = store.get(receipt).unwrap().unwrap();
        assert_eq!(event.payload::<T>().unwrap(), *value);
        let view = store.view();
        let borrowed = view.at(1).unwrap().unwrap();
        assert_eq!(borrowed.payload::<T>().unwrap(), *value);
        let bytes = event.payload_bytes().unwrap().to_vec();
        assert_eq!(event.payload_len() as usize, bytes.len());
        store
            .append(&place(), KIND, &RawPayload::new(&bytes))
            .unwrap();
        let raw = store.at(2).unwrap().unwrap();
        assert_eq!(raw.payload_bytes().unwrap(), bytes);
    }
    let paid = Paid {
        by: "card".into(),
        cents: i64::MIN,
        note: Some(0.1),
    };
    same(&paid);
    same(&serde_json::json!({"a": [1, -2, 3.5, null, true], "b": {"ü": "🪢"}}));
    same(&Change::Opened);
    same(&Change::Renamed("x".into()));
    same(&Change::Moved { x: -1, y: u64::MAX });
    same(&());
    same(&Some(7_u8));
    same(&vec![("k".to_owned(), 1_u32)]);
    same(&BTreeMap::from([(1_u8, 'x')]));
}

#[test]
fn a_struct_is_a_map_with_named_fields() {
    let store = Store::in_memory().unwrap();
    let paid = Paid {
        by: "card".into(),
        cents: 1,
        note: None,
    };
    store.append(&place(), KIND, &paid).unwrap();
    let event = store.at(1).unwrap().unwrap();
    let value: serde_json::Value = event.payload().unwrap();
    let expected = serde_json::json!({"by": "card", "cents": 1, "note": null});
    assert_eq!(value, expected);
}

#[test]
fn an_owned_event_is_a_slice_of_the_map_and_outlives_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let text = "x".repeat(100_000);
    store.append(&place(), KIND, &text).unwrap();
    let event = store.at(1).unwrap().unwrap();
    let (clone, again) = (event.clone(), store.at(1).unwrap().unwrap());
    let view = store.view();
    let borrowed = view.at(1).unwrap().unwrap();
    let places: HashSet<*const u8> = [
        event.payload_bytes(),
        clone.payload_bytes(),
        again.payload_bytes(),
        borrowed.payload_bytes(),
    ]
    .map(|bytes| bytes.unwrap().as_ptr())
    .into();
    assert_eq!(places.len(), 1, "a payload was copied");
    let lent: &str = event.payload().unwrap();
    let bytes = event.payload_bytes().unwrap().as_ptr_range();
    assert!(
        bytes.contains(&lent.as_ptr()),
        "a decoded string was copied"
    );
    store.close().unwrap();
    assert_eq!(clone.payload::<&str>().unwrap(), text);
    assert_eq!(view.stream("thing:1").unwrap().count(), 1);
}

#[test]
fn an_iterator_ends_for_good_after_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for number in 0..10 {
        store.append(&place(), KIND, &number).unwrap();
    }
    store.close().unwrap();
    let path = dir.path().join("segments/0000000001.seg");
    let store = Store::open(dir.path()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let frames: Vec<usize> = (0..bytes.len() - 7)
        .filter(|at| bytes[*at..].starts_with(b"thing:1"))
        .collect();
    bytes[frames[4]] ^= 1;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[frames[4]..][..1], frames[4] as u64)
        .unwrap();
    let view = store.view();
    let mut owned = store.query(Query::all()).unwrap();
    let mut borrowed = view.query(Query::all()).unwrap();
    let kinds = |ok: bool| {
        if ok {
            None
        } else {
            Some(StoreErrorKind::Corrupt)
        }
    };
    for position in 1..=5 {
        let (event, lent) = (owned.next().unwrap(), borrowed.next().unwrap());
        assert_eq!(event.err().map(|e| e.kind()), kinds(position < 5));
        assert_eq!(lent.err().map(|e| e.kind()), kinds(position < 5));
    }
    for _ in 0..3 {
        assert!(owned.next().is_none() && borrowed.next().is_none());
    }
}

#[test]
fn close_closes_for_all_clones() {
    let store = Store::in_memory().unwrap();
    store.append(&place(), KIND, &0).unwrap();
    let (clone, view) = (store.clone(), store.view());
    let events = store.query(Query::all()).unwrap();
    store.close().unwrap();
    let draft = EventDraft::new(&place(), KIND, &1);
    let options = AppendOptions::new;
    let closed = [
        clone.append(&place(), KIND, &1).map(drop),
        clone.append_batch(Batch::new().event(draft)).map(drop),
        clone.submit(&place(), KIND, &1, options()).map(drop),
        clone.try_submit(&place(), KIND, &1, options()).map(drop),
        clone.get(EventId::from_bytes([0; 16])).map(drop),
        clone.at(1).map(drop),
        clone.stream("thing:1").map(drop),
        clone.query(Query::all()).map(drop),
        clone.view_at(1).map(drop),
        clone.view_at_time(Timestamp::from_secs(0)).map(drop),
        clone.revision("thing:1").map(drop),
        clone.receipt("k").map(drop),
        clone.sync(),
        clone.clone().close(),
    ];
    for (index, outcome) in closed.into_iter().enumerate() {
        let kind = outcome.map_err(|error| error.kind());
        assert_eq!(kind, Err(StoreErrorKind::Closed), "call {index}");
    }
    assert_eq!(events.count(), 1, "what was begun goes on");
    assert_eq!(view.revision("thing:1").unwrap(), 1);
    assert_eq!(clone.head().position, 1);
}

#[test]
fn closing_ends_every_waiter() {
    let (store, gate) = gated();
    let _opener = gate.opener();
    gate.shut();
    let tickets: Vec<Ticket> = (0..50).map(|n| submit(&store, &n)).collect();
    gate.wait_for_someone();
    let closer = thread::spawn({
        let store = store.clone();
        move || store.close()
    });
    gate.open();
    closer.join().unwrap().unwrap();
    for ticket in tickets {
        assert!(ticket.wait().unwrap().durable());
    }
}

#[test]
fn diagnostics_serialise() {
    let (store, gate) = gated();
    let _opener = gate.opener();
    let said = serde_json::to_value(store.diagnostics()).unwrap();
    assert_eq!(said["stats"]["head"]["position"], 1);
    assert_eq!(said["poisoned"], serde_json::Value::Null);
    for counted in ["events", "groups", "submissions", "syncs"] {
        assert_eq!(said[counted], 1, "{counted}");
    }
    assert!(said["bytes"].as_u64().unwrap() > 100);
    for named in [
        "sync_p50",
        "sync_p99",
        "clock_behind",
        "queue_depth",
        "place",
    ] {
        assert!(!said[named].is_null(), "{named} in {said}");
    }
    gate.shut();
    let ticket = submit(&store, &1);
    gate.wait_for_someone();
    let waiting = submit(&store, &2);
    assert_eq!(store.diagnostics().queue_depth, 1);
    gate.open();
    ticket.wait().unwrap();
    assert_eq!(
        waiting.wait().unwrap().to_string(),
        "position 3, revision 3, durable"
    );
}

/// Keeps each event that is told as one line of its fields.
#[derive(Clone, Default)]
struct Ears(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl tracing::Subscriber for Ears {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("quipu")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn opening_says_what_it_recovered_and_how_long_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for number in 0..3 {
        store.append(&place(), KIND, &number).unwrap();
    }
    store.close().unwrap();
    for derived in ["checkpoint", "hint"] {
        std::fs::remove_file(dir.path().join(derived)).unwrap();
    }
    let path = dir.path().join("segments/0000000001.seg");
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    std::io::Write::write_all(&mut &file, b"GRUPtorn").unwrap();
    let ears = Ears::default();
    let store = tracing::subscriber::with_default(ears.clone(), || {
        // A call that another test's thread meets first is noted as heard by nobody: meet it, then have that noted anew.
        drop(Store::in_memory().unwrap());
        tracing::callsite::rebuild_interest_cache();
        ears.0.lock().unwrap().clear();
        Store::open(dir.path())
    });
    assert_eq!(store.unwrap().head().position, 3);
    let told = ears.0.lock().unwrap().join("\n");
    for words in [
        "the store is open",
        "position=3",
        "cut_bytes=8",
        "indexed_events=3",
        "took_micros=",
    ] {
        assert!(told.contains(words), "{words} in\n{told}");
    }
}

#[test]
fn ids_made_by_the_store_are_new_and_ordered_by_time() {
    let store = Store::in_memory().unwrap();
    let ids: HashSet<EventId> = (0..10_000).map(|_| store.new_id()).collect();
    assert_eq!(ids.len(), 10_000);
    let receipt = store.append(&place(), KIND, &0).unwrap();
    assert_eq!(receipt.id().as_bytes()[6] >> 4, 7, "a UUID of version 7");
    let id = receipt.id();
    let millis = id.as_bytes()[..6]
        .iter()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let recorded = receipt.recorded_at().as_nanos() / 1_000_000;
    assert!(recorded.abs_diff(millis) < 60_000);
}

#[test]
fn a_reaction_names_its_cause_and_its_story() {
    let store = Store::in_memory().unwrap();
    let cause = store.append(&place(), KIND, &0).unwrap();
    let story = CorrelationId::from(cause.id());
    let effect = store
        .append_reaction(&place(), KIND, &1, story, cause)
        .unwrap();
    let event = store.get(effect).unwrap().unwrap();
    assert_eq!(event.causation(), Some(cause.id()));
    assert_eq!(event.correlation(), story);
    let told: Vec<u64> = store
        .query(Query::correlation(cause.id()))
        .unwrap()
        .map(|event| event.unwrap().position().get())
        .collect();
    assert_eq!(told, [1, 2]);
}

#[test]
fn handles_views_and_followers_print_as_one_short_line() {
    let store = Store::in_memory().unwrap();
    let secret = Coordinate::new("patient:1", "ward").unwrap();
    store
        .append(&secret, EventKind::literal("patient.came"), &1)
        .unwrap();
    let mut cursor = store.cursor(Query::tag("urgent")).unwrap();
    assert!(cursor.next().is_none());
    let subscription = store.subscribe(Query::tag("urgent")).unwrap();
    for text in [
        format!("{store:?}"),
        format!("{:?}", store.view()),
        format!("{cursor:?}"),
        format!("{subscription:?}"),
    ] {
        assert!(text.contains("position: 1"), "{text}");
        assert!(text.len() < 100 && !text.contains("patient"), "{text}");
    }
}
