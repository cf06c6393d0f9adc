//! Two processes on one store: one appends, the other follows, and both are shown side by side.
//!
//! `cargo run --example follow` starts the two itself and says at the end whether they saw the same.
//! By hand, in two terminals: `-- --append PATH` in the first and `-- --read PATH` in the second.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use quipu::prelude::*;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const STEPS: [EventKind; 5] = [
    EventKind::literal("order.placed"),
    EventKind::literal("order.paid"),
    EventKind::literal("order.packed"),
    EventKind::literal("order.shipped"),
    EventKind::literal("order.delivered"),
];
const CLOSED: EventKind = EventKind::literal("shop.closed"); // nothing comes after it
const ORDERS: usize = 8;
const PAUSES_MS: [u64; 7] = [0, 5, 0, 300, 20, 0, 250];

const PATIENCE: Duration = Duration::from_secs(20);
const SCOPE: &str = "shop:berlin";
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/examples/follow.quipu");
const COLUMN: usize = 36;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => side_by_side(),
        ["--append", path] => append(path),
        ["--read", path] => read(path),
        _ => Err("usage: follow [--append PATH | --read PATH]".into()),
    }
}

/// The writer: the lives of some orders at an uneven pace, each event durable before it is printed.
fn append(path: &str) -> Result<()> {
    let store = Store::open(path)?;
    let mut pauses = PAUSES_MS.iter().cycle();
    let mut appended = 0;
    let mut append = |entity: &str, kind: &EventKind| -> Result<()> {
        let place = Coordinate::new(entity, SCOPE)?;
        let receipt = store.append(&place, kind.clone(), &appended)?;
        println!("{:>5} {entity} {kind}", receipt.position());
        appended += 1;
        Ok(())
    };
    for order in 1..=ORDERS {
        for step in &STEPS {
            append(&format!("order:{order}"), step)?;
            thread::sleep(Duration::from_millis(*pauses.next().unwrap_or(&0)));
        }
    }
    append("shop", &CLOSED)?;
    println!("end {} {appended}", store.head().digest);
    store.close()?;
    Ok(())
}

/// The follower: a read-only store beside the writer's, and a cursor that catches up and then waits for more.
fn read(path: &str) -> Result<()> {
    let store = Store::open_read_only(path)?;
    let mut cursor = store.cursor(Query::scope(SCOPE))?;
    let mut delays = Vec::new();
    let mut closed = false;
    while !closed {
        if !cursor.wait(PATIENCE)? {
            return Err("the shop is open, and nothing happens; where is the writer?".into());
        }
        for event in cursor.by_ref() {
            let event = event?;
            // Recorded before it is written: the delay holds the writer's sync, too.
            let recorded = SystemTime::from(event.recorded_at());
            let delay = SystemTime::now()
                .duration_since(recorded)
                .unwrap_or_default();
            let delay = delay.as_secs_f64() * 1e3;
            let (position, entity, kind) = (event.position(), event.entity(), event.kind());
            println!("{position:>5} {entity} {kind}, {delay:.1} ms");
            closed = kind == CLOSED.as_str();
            delays.push(delay);
        }
    }
    delays.sort_by(f64::total_cmp);
    let (count, digest) = (delays.len(), store.head().digest);
    let (median, longest) = (delays[count / 2], delays[count - 1]);
    println!("end {digest} {count} {median:.1} {longest:.1}");
    store.close()?;
    Ok(())
}

/// Runs this program again in both roles and compares how they ended.
fn side_by_side() -> Result<()> {
    std::fs::remove_dir_all(PATH).ok();
    println!(
        "{:<COLUMN$}| followed, and how long after it was recorded",
        "appended"
    );
    let mut writer = start("--append")?;
    let first = writer.next().ok_or("the writer did not start")?;
    let follower = start("--read")?; // now that there is a store

    let wrote = thread::spawn(|| {
        let lines = [first].into_iter().chain(writer);
        show(lines, |line| println!("{line:<COLUMN$}|"))
    });
    let read = thread::spawn(|| show(follower, |line| println!("{:<COLUMN$}| {line}", "")));
    let wrote = wrote.join().expect("showing lines does not panic");
    let read = read.join().expect("showing lines does not panic");

    let [digest, appended] = &wrote[..] else {
        return Err("the writer failed".into());
    };
    let [seen, followed, median, longest] = &read[..] else {
        return Err("the follower failed".into());
    };
    println!(
        "\n{appended} events appended, {followed} followed; delay: median {median} ms, longest {longest} ms"
    );
    if (appended, digest) != (followed, seen) {
        return Err(format!("the writer ended at {digest}, the follower at {seen}").into());
    }
    println!("both ended at {digest}");
    Ok(())
}

/// A process in a role, as the lines that it prints.
fn start(role: &str) -> Result<impl Iterator<Item = String> + Send + use<>> {
    let program = std::env::current_exe()?;
    let child = Command::new(program)
        .args([role, PATH])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.ok_or("the pipe was asked for")?;
    Ok(BufReader::new(out).lines().map_while(std::io::Result::ok))
}

/// Shows lines as they come; the words behind `end` are kept for the summary.
fn show(lines: impl Iterator<Item = String>, print: impl Fn(&str)) -> Vec<String> {
    let mut end = Vec::new();
    for line in lines {
        match line.strip_prefix("end ") {
            Some(words) => end = words.split(' ').map(str::to_owned).collect(),
            None => print(&line),
        }
    }
    end
}
