//! What quipu costs: appends, opening, reads, and its footprint after reopening, on the disk that `target/` is on.
//!
//! `cargo bench --bench store [-- --events 1000000] [-- --quick]`; docs/benchmarks.md says what each line means.

#[path = "support/facts.rs"]
mod facts;
#[path = "support/measure.rs"]
mod measure;

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use facts::{ENTITIES, Fact, Facts, KINDS, PAYLOAD_BYTES, below, mix};
use measure::{grouped, median, number_option, rate, spread, text_option, timed};
use quipu::prelude::*;

/// The batches of the byte budget in docs/benchmarks.md.
const BUILD_BATCH: usize = 1_000;
const OPENINGS: usize = 5;
const READ_ENTITIES: usize = 2_000;
const GETS: usize = 20_000;

/// How much is done.
struct Plan {
    events: usize,
    one_by_one: usize,
    after_kill: usize,
}

fn main() {
    if let (Some(role), Some(path)) = (text_option("--child"), text_option("--store")) {
        return child(&role, Path::new(&path));
    }
    let plan = plan();
    let facts = Facts::new();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    println!(
        "{} events of {PAYLOAD_BYTES} bytes in {} entities, 4 kinds, one tag; every append durable",
        grouped(plan.events as f64),
        grouped(ENTITIES as f64),
    );
    println!("\n| work | result | unit |\n|---|--:|---|");
    appends(&plan, &facts, &directory.path().join("appends"));
    let path = directory.path().join("store");
    let ids = build(&plan, &facts, &path);
    let footprint = openings(&plan, &path);
    reads(&facts, &path, &ids);
    print_footprint(&footprint);
}

/// `cargo test --benches` runs this too, without `--bench`: then a quick look is enough.
fn plan() -> Plan {
    let given = |name: &str| std::env::args().any(|word| word == name);
    let quick = given("--quick") || !given("--bench");
    let events = number_option("--events", if quick { 20_000 } else { 1_000_000 });
    Plan {
        events,
        one_by_one: (events / 10).min(10_000),
        after_kill: (events / 10).min(50_000),
    }
}

fn line(work: &str, result: f64, unit: &str) {
    let result = if result < 100.0 {
        format!("{result:.2}")
    } else {
        grouped(result)
    };
    println!("| {work} | {result} | {unit} |");
}

/// Appends in the ways that callers do: by one, by many who meet, in batches.
fn appends(plan: &Plan, facts: &Facts, path: &Path) {
    let store = Store::open(path).expect("the store opens");
    let one = plan.one_by_one;
    let ways = [
        ("append, 1 thread", 1, 1, 0..one),
        ("append, 16 threads", 16, 1, one..one * 5),
        ("append, batches of 64, 1 thread", 1, 64, one * 5..one * 15),
        (
            "append, batches of 64, 4 threads",
            4,
            64,
            one * 15..one * 25,
        ),
    ];
    for (work, threads, step, range) in ways {
        let count = range.len();
        let write = |some: Range<usize>| append(&store, facts, some);
        let (time, _) = spread(threads, range, step, write);
        line(work, rate(count, time), "events/s");
    }
    store.close().expect("the store closes");
}

/// Fills the store that is opened and read from here on.
fn build(plan: &Plan, facts: &Facts, path: &Path) -> Vec<EventId> {
    let store = Store::open(path).expect("the store opens");
    let write = |some: Range<usize>| append(&store, facts, some);
    let (time, receipts) = spread(1, 0..plan.events, BUILD_BATCH, write);
    line(
        "append, batches of 1,000, 1 thread",
        rate(plan.events, time),
        "events/s",
    );
    let (time, closed) = timed(|| store.close());
    closed.expect("the store closes");
    line("close", milliseconds(time), "ms");
    receipts.iter().flatten().map(Receipt::id).collect()
}

fn append(store: &Store, facts: &Facts, range: Range<usize>) -> Vec<Receipt> {
    if range.len() == 1 {
        let fact = facts.fact(range.start);
        let (at, kind) = place(&fact);
        let options = AppendOptions::new().tag(fact.tag);
        let payload = RawPayload::new(fact.payload);
        return vec![
            store
                .append_with_options(&at, kind, &payload, options)
                .expect("an append"),
        ];
    }
    let batch = range.fold(Batch::new(), |batch, index| {
        let fact = facts.fact(index);
        let (at, kind) = place(&fact);
        batch.event(EventDraft::new(&at, kind, &RawPayload::new(fact.payload)).tag(fact.tag))
    });
    store.append_batch(batch).expect("a batch")
}

fn place(fact: &Fact<'_>) -> (Coordinate, EventKind) {
    let at = Coordinate::new(fact.entity, fact.scope).expect("a coordinate");
    (at, EventKind::new(fact.kind).expect("a kind"))
}

/// What a fresh process sees after opening the store.
struct Footprint {
    open_ms: f64,
    anonymous_bytes: Option<u64>,
    disk_bytes_per_event: f64,
}

/// Each opening is a process of its own, so that nothing of the building counts.
fn openings(plan: &Plan, path: &Path) -> Footprint {
    let disk_bytes_per_event = file_bytes(path) as f64 / plan.events as f64;
    let looks: Vec<(f64, Option<u64>)> = (0..OPENINGS).map(|_| look(path)).collect();
    let open_ms = median(&looks.iter().map(|look| look.0).collect::<Vec<f64>>());
    line("open after close", open_ms, "ms");
    let anonymous_bytes = looks.iter().filter_map(|look| look.1).max();
    let killed: Vec<f64> = (0..OPENINGS).map(|_| kill_and_look(plan, path)).collect();
    let work = format!(
        "open after kill, {} events in",
        grouped(plan.after_kill as f64)
    );
    line(&work, median(&killed), "ms");
    Footprint {
        open_ms,
        anonymous_bytes,
        disk_bytes_per_event,
    }
}

/// Opens in a child, which says how long it took and what memory it holds, and closes.
fn look(path: &Path) -> (f64, Option<u64>) {
    let (mut process, mut output) = start("look", path, 0);
    let words = one_line(&mut output);
    assert!(
        process.wait().expect("it ends").success(),
        "the child failed"
    );
    let (time, memory) = words.split_once(' ').expect("two words");
    (time.parse().expect("milliseconds"), memory.parse().ok())
}

/// Appends in a child, kills it without warning, and opens.
fn kill_and_look(plan: &Plan, path: &Path) -> f64 {
    let (mut process, mut output) = start("fill", path, plan.after_kill);
    assert_eq!(one_line(&mut output), "filled");
    process.kill().expect("it is running");
    process.wait().expect("it ends");
    look(path).0
}

fn start(role: &str, path: &Path, events: usize) -> (Child, BufReader<ChildStdout>) {
    let own = std::env::current_exe().expect("this program");
    let mut child = Command::new(own);
    child
        .args(["--child", role, "--events", &events.to_string(), "--store"])
        .arg(path);
    let mut process = child
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child starts");
    let output = process.stdout.take().expect("its output");
    (process, BufReader::new(output))
}

fn one_line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("the child speaks");
    line.trim().to_owned()
}

fn child(role: &str, path: &Path) {
    let (time, store) = timed(|| Store::open(path).expect("the store opens"));
    if role == "look" {
        let memory = anonymous_bytes().map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        println!("{} {memory}", milliseconds(time));
        store.close().expect("the store closes");
        return;
    }
    let events = number_option("--events", 0);
    let facts = Facts::new();
    spread(1, 0..events, 64, |some| append(&store, &facts, some));
    println!("filled");
    thread::sleep(Duration::from_secs(3_600));
}

fn reads(facts: &Facts, path: &Path, ids: &[EventId]) {
    let store = Store::open(path).expect("the store opens");
    let view = store.view();
    let names: Vec<&str> = (0..READ_ENTITIES as u64)
        .map(|n| facts.entity(below(mix(n ^ 0xe47), ENTITIES)))
        .collect();
    let (time, count) = timed(|| {
        names
            .iter()
            .map(|name| read(view.stream(name).expect("an entity")))
            .sum::<usize>()
    });
    line("entity read", rate(count, time), "events/s");
    let (time, count) = timed(|| read(view.query(Query::kind(KINDS[1])).expect("a kind")));
    line("query by kind", rate(count, time), "events/s");
    let (time, count) = timed(|| read(view.query(Query::all()).expect("everything")));
    line("scan", rate(count, time), "events/s");
    let wanted = (0..GETS as u64).map(|n| ids[below(mix(n ^ 0x1d), ids.len())]);
    let wanted: Vec<EventId> = wanted.collect();
    let (time, bytes) = timed(|| wanted.iter().map(|id| get(&view, *id)).sum::<usize>());
    assert_eq!(bytes, GETS * PAYLOAD_BYTES, "every id is found");
    line("get by id", rate(GETS, time), "gets/s");
}

/// Reads to the end, payloads checked.
fn read<'a>(events: impl Iterator<Item = quipu::Result<EventRef<'a>>>) -> usize {
    let bytes = events.map(|event| {
        let event = event.expect("an event");
        event.payload_bytes().expect("a payload").len()
    });
    bytes.sum::<usize>() / PAYLOAD_BYTES
}

fn get(view: &View, id: EventId) -> usize {
    let event = view.get(id).expect("a read").expect("an event of this id");
    event.payload_bytes().expect("a payload").len()
}

fn print_footprint(footprint: &Footprint) {
    println!("\n| footprint | result | bound |\n|---|--:|--:|");
    let memory = footprint.anonymous_bytes;
    let memory = memory.map_or("-".to_owned(), |n| {
        format!("{:.1} MiB", n as f64 / 1_048_576.0)
    });
    println!("| anonymous memory after opening | {memory} | 32 MiB |");
    println!("| opening | {:.2} ms | 20 ms |", footprint.open_ms);
    println!(
        "| on disk | {:.1} bytes/event | 420 |",
        footprint.disk_bytes_per_event
    );
}

/// `RssAnon` of this process, where the system tells it.
fn anonymous_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn file_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).expect("a directory of the store");
    let bytes = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("its size");
        if meta.is_dir() {
            file_bytes(&entry.path())
        } else {
            meta.len()
        }
    });
    bytes.sum()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
