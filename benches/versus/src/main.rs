//! quipu beside tephra 0.4 and a plain file writer: the same work, interleaved in one run, as ratios.
//!
//! `cargo run --release --manifest-path benches/versus/Cargo.toml -- [--events 1000000] [--rounds 3] [--dir PATH]`

#[path = "../../support/facts.rs"]
mod facts;
#[path = "../../support/measure.rs"]
mod measure;
mod on_file;
mod on_quipu;
mod on_tephra;
mod peer;
mod table;

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use facts::{Fact, Facts, KINDS, PAYLOAD_BYTES, below, mix};
use measure::{grouped, number_option, rate, spread, text_option, timed};
use peer::{Peer, Tally};
use table::Table;

const BATCH: usize = 64;
/// In how many turns a piece of appending is done.
const SLICES: usize = 10;
const READ_ENTITIES: usize = 2_000;
const GETS: usize = 20_000;

/// How the events are shared out over the ways to append them.
struct Plan {
    facts: Facts,
    events: usize,
    one_by_one: usize,
    by_sixteen: usize,
}

/// One contestant in one round.
struct Lane {
    peer: Box<dyn Peer>,
    ids: Vec<[u8; 16]>,
}

fn main() {
    let events = number_option("--events", 1_000_000);
    let rounds = number_option("--rounds", 3);
    let one_by_one = (events / 10).min(10_000);
    let by_sixteen = (events / 10).min(40_000);
    let plan = Plan {
        facts: Facts::new(),
        events,
        one_by_one,
        by_sixteen,
    };
    let default_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/target/stores");
    let base = text_option("--dir").unwrap_or_else(|| default_dir.to_owned());
    std::fs::create_dir_all(&base).expect("the directory for the stores");
    print_plan(&plan, rounds, &base);
    let mut table = Table::default();
    for round in 0..rounds {
        let directory = tempfile::tempdir_in(&base).expect("a directory for this round");
        run_round(&plan, round, directory.path(), &mut table);
        eprintln!("round {} of {rounds} done", round + 1);
    }
    table.print();
}

fn print_plan(plan: &Plan, rounds: usize, base: &str) {
    println!(
        "{} events of {PAYLOAD_BYTES} bytes in {} entities, 4 kinds, one tag; stores under {base}",
        grouped(plan.events as f64),
        grouped(facts::ENTITIES as f64),
    );
    println!(
        "{rounds} rounds in turn, medians; every append is durable when it returns; a ratio above 1 means that quipu is faster",
    );
    println!(
        "one by one is a slice: {} events by 1 thread, {} by 16; batches of {BATCH} by 1 and by 4 threads write half of the rest each",
        grouped(plan.one_by_one as f64),
        grouped(plan.by_sixteen as f64),
    );
}

/// Each piece of work goes round all contestants before the next; who begins changes with the round.
fn run_round(plan: &Plan, round: usize, directory: &Path, table: &mut Table) {
    let peers: [Box<dyn Peer>; 3] = [
        Box::new(on_quipu::OnQuipu::new(&directory.join("quipu"))),
        Box::new(on_tephra::OnTephra::new(&directory.join("tephra"))),
        Box::new(on_file::OnFile::new(&directory.join("file"), plan.events)),
    ];
    let mut lanes = peers.map(|peer| Lane {
        peer,
        ids: Vec::new(),
    });
    let order = [round % 3, (round + 1) % 3, (round + 2) % 3];
    let first = plan.one_by_one;
    let second = first + plan.by_sixteen;
    let third = second + (plan.events - second) / 2;
    let appends = [
        ("append, 1 thread", 1, 0..first, 1),
        ("append, 16 threads", 16, first..second, 1),
        ("append, batches of 64, 1 thread", 1, second..third, BATCH),
        (
            "append, batches of 64, 4 threads",
            4,
            third..plan.events,
            BATCH,
        ),
    ];
    for (work, threads, range, step) in appends {
        let rates = append_in_turn(plan, &mut lanes, order, (threads, range, step));
        for lane in order {
            table.add(work, "events/s", lane, Some(rates[lane]));
        }
    }
    for lane in order {
        table.add(
            "reopen and one get",
            "opens/s",
            lane,
            reopen(&mut lanes[lane]),
        );
    }
    table.check_same_events(lanes.iter().map(|lane| lane.peer.scan()), plan.events);
    type Read = fn(&Plan, &Lane) -> Option<f64>;
    let reads: [(&'static str, &'static str, Read); 4] = [
        ("entity read", "events/s", read_entities),
        ("query by kind", "events/s", read_kind),
        ("scan", "events/s", read_all),
        ("get by id", "gets/s", read_ids),
    ];
    for (work, unit, read) in reads {
        for lane in order {
            table.add(work, unit, lane, read(plan, &lanes[lane]));
        }
    }
    for (lane, name) in ["quipu", "tephra"].into_iter().enumerate() {
        lanes[lane].peer.close();
        let bytes = table::allocated_bytes(&directory.join(name)) as f64 / plan.events as f64;
        table.add("disk, closed", "bytes/event", lane, Some(bytes));
    }
}

/// Appends slice by slice, each contestant in turn, so that a slow second of the disk meets all of them.
fn append_in_turn(
    plan: &Plan,
    lanes: &mut [Lane; 3],
    order: [usize; 3],
    (threads, range, step): (usize, Range<usize>, usize),
) -> [f64; 3] {
    let slice = range
        .len()
        .div_ceil(SLICES)
        .next_multiple_of(threads * step);
    let mut times = [Duration::ZERO; 3];
    for from in range.clone().step_by(slice) {
        let part = from..(from + slice).min(range.end);
        for lane in order {
            times[lane] += append(plan, &mut lanes[lane], threads, part.clone(), step);
        }
    }
    times.map(|time| rate(range.len(), time))
}

fn append(
    plan: &Plan,
    lane: &mut Lane,
    threads: usize,
    range: Range<usize>,
    step: usize,
) -> Duration {
    let peer = &lane.peer;
    let (time, ids) = spread(threads, range, step, |some| {
        let facts: Vec<Fact<'_>> = some.map(|index| plan.facts.fact(index)).collect();
        peer.append(&facts)
    });
    lane.ids.extend(ids.into_iter().flatten());
    time
}

/// Opening, up to the first answer: a lazy open that pays at the first read gains nothing here.
fn reopen(lane: &mut Lane) -> Option<f64> {
    lane.peer.close();
    let id = lane.ids.first().copied().unwrap_or_default();
    let peer = &mut lane.peer;
    let (time, tally) = timed(|| peer.open().and_then(|()| peer.get(id)));
    tally.map(|_| rate(1, time))
}

fn read_entities(plan: &Plan, lane: &Lane) -> Option<f64> {
    let names = (0..READ_ENTITIES as u64).map(|n| below(mix(n ^ 0xe47), facts::ENTITIES));
    let names: Vec<&str> = names.map(|index| plan.facts.entity(index)).collect();
    let total = |sum: Option<Tally>, name: &&str| Some(sum?.merge(lane.peer.entity(name)?));
    let (time, tally) = timed(|| names.iter().fold(Some(Tally::default()), total));
    Some(rate(tally?.events, time))
}

fn read_kind(_: &Plan, lane: &Lane) -> Option<f64> {
    let (time, tally) = timed(|| lane.peer.kind(KINDS[1]));
    Some(rate(tally?.events, time))
}

fn read_all(_: &Plan, lane: &Lane) -> Option<f64> {
    let (time, tally) = timed(|| lane.peer.scan());
    Some(rate(tally?.events, time))
}

fn read_ids(_: &Plan, lane: &Lane) -> Option<f64> {
    if lane.ids.is_empty() {
        return None;
    }
    let ids = (0..GETS as u64).map(|n| lane.ids[below(mix(n ^ 0x1d), lane.ids.len())]);
    let ids: Vec<[u8; 16]> = ids.collect();
    let total = |sum: Tally, id: &[u8; 16]| sum.merge(lane.peer.get(*id).unwrap_or_default());
    let (time, tally) = timed(|| ids.iter().fold(Tally::default(), total));
    assert_eq!(tally.events, GETS, "every id is found once");
    Some(rate(GETS, time))
}
