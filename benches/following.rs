//! What asking and following cost: counts and names from the index, walks along causes, cursors behind a writer in this
//! process and in another, and appends beside many subscribers.
//!
//! `cargo bench --bench following [-- --events 1000000] [-- --quick]`; docs/benchmarks.md says what each line means.

#[expect(dead_code, reason = "shared with the other benchmarks")]
#[path = "support/facts.rs"]
mod facts;
#[expect(dead_code, reason = "shared with the other benchmarks")]
#[path = "support/measure.rs"]
mod measure;

use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use facts::{ENTITIES, Facts, KINDS, PAYLOAD_BYTES};
use measure::{grouped, number_option, rate, text_option, timed};
use quipu::prelude::*;

const SUBSCRIBERS: usize = 10_000;
const TURNS: usize = 5;
/// How many chains of causes are walked.
const CHAINS: u64 = 200;
/// The pause between two appends whose way to a follower is timed.
const PACE: Duration = Duration::from_millis(1);

fn main() {
    if let Some(path) = text_option("--write") {
        return write_at_a_pace(Path::new(&path), number_option("--count", 0));
    }
    let given = |name: &str| std::env::args().any(|word| word == name);
    let quick = given("--quick") || !given("--bench");
    let events = number_option("--events", if quick { 20_000 } else { 1_000_000 });
    let paced = if quick { 100 } else { 2_000 };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = directory.path().join("store");
    println!(
        "{} events of {PAYLOAD_BYTES} bytes in {} entities, 4 kinds, one tag, each caused by the one before it of its entity\n",
        grouped(events as f64),
        grouped(ENTITIES as f64),
    );
    build(&path, events);
    println!("| work | result | unit |\n|---|--:|---|");
    asking(&path, events);
    catching_up(&path);
    beside_subscribers(&path, paced);
    in_this_process(&path, paced);
    in_another_process(&path, paced);
}

fn line(work: &str, result: f64, unit: &str) {
    let result = if result < 100.0 {
        format!("{result:.2}")
    } else {
        grouped(result)
    };
    println!("| {work} | {result} | {unit} |");
}

/// Every event names the one before it of the same entity as its cause.
fn build(path: &Path, events: usize) {
    let store = Store::open(path).expect("the store opens");
    let facts = Facts::new();
    let mut last: std::collections::HashMap<String, EventId> = std::collections::HashMap::new();
    for from in (0..events).step_by(1_000) {
        let batch = (from..(from + 1_000).min(events)).fold(Batch::new(), |batch, index| {
            let fact = facts.fact(index);
            let at = Coordinate::new(fact.entity, fact.scope).expect("a coordinate");
            let kind = EventKind::new(fact.kind).expect("a kind");
            let id = store.new_id();
            let draft = EventDraft::new(&at, kind, &RawPayload::new(fact.payload))
                .tag(fact.tag)
                .event_id(id);
            batch.event(match last.insert(fact.entity.to_owned(), id) {
                Some(cause) => draft.caused_by(cause),
                None => draft,
            })
        });
        store.append_batch(batch).expect("a batch");
    }
    store.close().expect("the store closes");
}

fn asking(path: &Path, events: usize) {
    let store = Store::open(path).expect("the store opens");
    let view = store.view();
    micros("count of a kind", || {
        view.count(Query::kind(KINDS[1])).expect("a count")
    });
    micros("count of a tag", || {
        view.count(Query::tag("customer:42")).expect("a count")
    });
    let both = Region::entity_prefix("order:1000").kind(KINDS[1]);
    micros("count of a kind and an entity prefix", || {
        view.count(both.clone()).expect("a count")
    });
    micros("the first ten entities", || {
        view.entities("").expect("names").take(10).count()
    });
    let (time, names) = timed(|| view.entities("").expect("names").count());
    line("entities with counts", rate(names, time), "names/s");
    chains(&view, events as u64);
    store.close().expect("the store closes");
}

/// Walks along causes, from many events, so that not all is the first touch of an index.
fn chains(view: &View, last: u64) {
    let ids = |positions: RangeInclusive<u64>| -> Vec<EventId> {
        let at = |position| view.at(position).expect("a read").expect("an event").id();
        positions.map(at).collect()
    };
    let newest = ids(last - CHAINS + 1..=last).into_iter();
    let ancestors = newest.map(|id| view.walk_ancestors(id, usize::MAX).expect("a walk"));
    let (time, walked) = timed(|| ancestors.map(Iterator::count).sum());
    line("ancestors along a chain", rate(walked, time), "events/s");
    let oldest = ids(1..=CHAINS).into_iter();
    let descendants = oldest.map(|id| view.descendants(id, usize::MAX).expect("a walk"));
    let (time, walked) = timed(|| descendants.map(Iterator::count).sum());
    line("descendants along a chain", rate(walked, time), "events/s");
}

/// The median of many calls.
fn micros<T>(work: &str, ask: impl Fn() -> T) {
    let times = (0..101).map(|_| timed(&ask).0).collect();
    line(work, percentile(times, 50).as_secs_f64() * 1e6, "us");
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

fn catching_up(path: &Path) {
    let store = Store::open(path).expect("the store opens");
    for (work, query) in [
        ("cursor over everything", Query::all()),
        ("cursor over a kind", Query::kind(KINDS[1])),
    ] {
        let mut cursor = store.cursor(query).expect("a cursor");
        let (time, count) = timed(|| cursor.by_ref().map(payload_bytes).count());
        line(work, rate(count, time), "events/s");
    }
    store.close().expect("the store closes");
}

fn payload_bytes(event: quipu::Result<Event>) -> usize {
    let event = event.expect("an event");
    event.payload_bytes().expect("a payload").len()
}

/// Wakes the thread that polls all subscriptions.
struct Poller(thread::Thread, AtomicBool);

impl Wake for Poller {
    fn wake(self: Arc<Self>) {
        if !self.1.swap(true, Ordering::AcqRel) {
            self.0.unpark();
        }
    }
}

/// Appends by one thread with nobody waiting, and with many, each for an entity of its own; in turns, so that a slow
/// second of the disk meets both.
fn beside_subscribers(path: &Path, count: usize) {
    let store = Store::open(path).expect("the store opens");
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let time = || timed(|| append_reading(&store)).0;
        alone.extend((0..count / TURNS).map(|_| time()));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let polling = scope.spawn(|| poll_all(&store, &stop));
            while store.diagnostics().waiting < SUBSCRIBERS as u64 {
                thread::yield_now();
            }
            beside.extend((0..count / TURNS).map(|_| time()));
            stop.store(true, Ordering::Release);
            polling.thread().unpark();
        });
    }
    for (who, times) in [("nobody waiting", alone), ("10,000 subscribers", beside)] {
        for percent in [50, 99] {
            let time = percentile(times.clone(), percent).as_secs_f64() * 1e6;
            line(&format!("append, {who}, p{percent}"), time, "us");
        }
    }
    store.close().expect("the store closes");
}

fn append_reading(store: &Store) -> Receipt {
    let meter = Coordinate::new("meter:7", "plant").expect("a coordinate");
    let kind = EventKind::literal("meter.read");
    store.append(&meter, kind, &42).expect("an append")
}

fn poll_all(store: &Store, stop: &AtomicBool) {
    let poller = Arc::new(Poller(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&poller));
    let mut context = Context::from_waker(&waker);
    let mut all: Vec<Subscription> = (0..SUBSCRIBERS)
        .map(|n| {
            store
                .subscribe(Query::entity(format!("nobody:{n}")))
                .expect("a subscription")
        })
        .collect();
    while !stop.load(Ordering::Acquire) {
        poller.1.store(false, Ordering::Release);
        for subscription in &mut all {
            assert!(matches!(
                subscription.poll_recv(&mut context),
                Poll::Pending
            ));
        }
        while !poller.1.load(Ordering::Acquire) && !stop.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

/// From an append that returned to a cursor on another thread that has the event.
fn in_this_process(path: &Path, count: usize) {
    let store = Store::open(path).expect("the store opens");
    let mut cursor = store
        .cursor_from(Query::all(), Start::Now)
        .expect("a cursor");
    let (returned, received) = thread::scope(|scope| {
        let follower = scope.spawn(|| receive(&mut cursor, count));
        let returned: Vec<u64> = (0..count).map(|_| paced(&store)).collect();
        (returned, follower.join().expect("the follower ends"))
    });
    report("to a cursor in this process", &returned, &received);
    store.close().expect("the store closes");
}

/// The same, from a writer that is another process.
fn in_another_process(path: &Path, count: usize) {
    let store = Store::open_read_only(path).expect("the store opens for reading");
    let mut cursor = store
        .cursor_from(Query::all(), Start::Now)
        .expect("a cursor");
    let mut writer = start_writer(path, count);
    let received = receive(&mut cursor, count);
    let output = writer.wait_with_output_lines();
    let returned: Vec<u64> = output.iter().map(|n| n.parse().expect("a time")).collect();
    report("to a cursor in another process", &returned, &received);
    store.close().expect("the store closes");
}

fn paced(store: &Store) -> u64 {
    thread::sleep(PACE);
    append_reading(store);
    now()
}

/// When each event was there, in nanoseconds since 1970.
fn receive(cursor: &mut Cursor, count: usize) -> Vec<u64> {
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        assert!(
            cursor.wait(Duration::from_secs(60)).expect("a wait"),
            "nothing comes"
        );
        for event in cursor.by_ref() {
            event.expect("an event");
            times.push(now());
        }
    }
    times
}

fn report(work: &str, returned: &[u64], received: &[u64]) {
    let delays = returned.iter().zip(received);
    let delays: Vec<Duration> = delays
        .map(|(returned, received)| Duration::from_nanos(received.saturating_sub(*returned)))
        .collect();
    for percent in [50, 99] {
        let time = percentile(delays.clone(), percent).as_secs_f64() * 1e6;
        line(&format!("{work}, p{percent}"), time, "us");
    }
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::try_from(since.as_nanos()).expect("a clock before 2554")
}

/// A process that appends, and its output.
struct Writer(Child);

fn start_writer(path: &Path, count: usize) -> Writer {
    let own = std::env::current_exe().expect("this program");
    let mut command = Command::new(own);
    command
        .arg("--write")
        .arg(path)
        .args(["--count", &count.to_string()]);
    Writer(
        command
            .stdout(Stdio::piped())
            .spawn()
            .expect("a writer starts"),
    )
}

impl Writer {
    fn wait_with_output_lines(&mut self) -> Vec<String> {
        let output = self.0.stdout.take().expect("its output");
        let lines = BufReader::new(output)
            .lines()
            .map(|line| line.expect("a line"))
            .collect();
        assert!(
            self.0.wait().expect("it ends").success(),
            "the writer failed"
        );
        lines
    }
}

fn write_at_a_pace(path: &Path, count: usize) {
    let store = Store::open(path).expect("the store opens");
    let returned: Vec<u64> = (0..count).map(|_| paced(&store)).collect();
    store.close().expect("the store closes");
    let mut out = std::io::stdout().lock();
    for time in returned {
        writeln!(out, "{time}").expect("the parent listens");
    }
}
