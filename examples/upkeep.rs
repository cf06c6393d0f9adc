//! A night's upkeep: a retention, first as a dry run, compaction, a snapshot, a restore as a fork, and proof of all of it.
//!
//! `cargo run --release --example upkeep [-- FOLDER]`. Run it again: another day has gone by, compaction writes only the
//! files from which something goes, and the snapshot copies only what is new.

use indicatif::ProgressBar;
use quipu::prelude::*;
use quipu::{CompactionConfig, Control, Identity, Progress, RestoreOptions, Retention};
use quipu::{SnapshotOptions, Upto, VerifyOptions};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

const PLACED: EventKind = EventKind::literal("order.placed");
const VIEWED: EventKind = EventKind::literal("page.viewed");
const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/examples/upkeep.quipu-folder"
);
const MIB: u64 = 1024 * 1024;

fn main() -> quipu::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or(FOLDER.to_owned()));
    let [path, backup, fork] = ["store", "backup", "fork"].map(|name| folder.join(name));
    // Only full segments are compacted; small ones are full soon.
    let store = Store::open_with(StoreConfig::new(&path).segment_bytes(MIB))?;
    let left = a_day(&store)?;
    println!("a customer left at position {}", left.position());

    // Views of pages go but for the newest ten of each customer, and all that ended customers did.
    let views = Retention::kinds(["page.viewed"]).and(Retention::all_but_newest(10));
    let config = CompactionConfig::new().remove(views.or(Retention::tombstoned()));
    println!("dry run: {}", store.plan_compaction(&config)?);

    let bar = ProgressBar::new(0).with_message("compaction");
    let job = store.compact(config.bytes_per_second(200 * MIB))?; // on a thread of its own
    while !job.is_done() {
        draw(&bar, job.progress());
        sleep(Duration::from_millis(20));
    }
    println!("compaction: {} bytes freed", job.wait()?.freed_bytes());

    // What is gone is told as gone; its receipt is still there.
    match store.at(1) {
        Err(error) if error.kind() == StoreErrorKind::NotFound => println!("{error}"),
        other => println!("still there: {other:?}"),
    }
    println!("its receipt is: {}", store.receipt("view-0")?.is_some());

    // A whole copy the first time, then only what is new; the callback may stop it.
    let options = SnapshotOptions::new().bytes_per_second(200 * MIB);
    let taken = store.snapshot_with(&backup, options.progress(drawn("snapshot")))?;
    println!("snapshot {taken}");

    // The store as it was before the day's last event, out of the backup and beside the store as it is.
    let before = Upto::Position(Position::new(store.head().position.get() - 1));
    std::fs::remove_dir_all(&fork).ok(); // last night's
    let options = RestoreOptions::new().upto(before).identity(Identity::Fork);
    quipu::restore(&backup, &fork, options)?;
    let other = Store::open(&fork)?;
    let place = Coordinate::new("customer:other", "shop:berlin")?;
    other.append(&place, PLACED, &"another history")?;
    println!("the fork: {}", store.view().difference(&other.view())?);
    other.close()?;

    let found = store.verify_with(VerifyOptions::new().progress(drawn("verify")))?;
    println!("{found}\n\n{}", store.diagnostics());
    store.close()
}

/// Four customers come and look around; one of them leaves for good.
fn a_day(store: &Store) -> quipu::Result<Receipt> {
    let day = store.head().position.get();
    let customers =
        (0..4).map(|nth| Coordinate::new(format!("customer:{day}-{nth}"), "shop:berlin"));
    let customers = customers.collect::<quipu::Result<Vec<_>>>()?;
    let mut tickets = Vec::new();
    for serial in day..day + 20_000 {
        let customer = &customers[usize::try_from(serial % 4).unwrap_or_default()];
        let kind = if serial % 10 == 9 { PLACED } else { VIEWED };
        let options = AppendOptions::new().idempotency_key(format!("view-{serial}"));
        tickets.push(store.submit(customer, kind, &"x".repeat(200), options)?);
    }
    for ticket in tickets {
        ticket.wait()?;
    }
    store.tombstone(customers[3].entity())
}

/// A callback that draws how far the work has come; a flag that Ctrl-C sets could make it answer [`Control::Cancel`].
fn drawn(what: &'static str) -> impl FnMut(Progress) -> Control + Send + 'static {
    let bar = ProgressBar::new(0).with_message(what);
    move |progress| {
        draw(&bar, progress);
        Control::Continue
    }
}

fn draw(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total_bytes);
    bar.set_position(progress.done_bytes);
}
