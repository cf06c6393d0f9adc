//! A reader beside a writer that appends, rotates, closes, is killed and comes back.

use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::support::script::{self, KIND};
use crate::{Reader, Writer, is_alike};
use quipu::prelude::*;

/// What a random writer did so far.
struct World {
    disk: TestDisk,
    writer: Option<Writer>,
    sent: usize,
    /// The last position that was said to be durable.
    durable: u64,
}

impl World {
    fn new() -> Self {
        let disk = TestDisk::new();
        let writer = Some(Writer::open(&disk));
        Self {
            disk,
            writer,
            sent: 0,
            durable: 0,
        }
    }

    fn store(&self) -> &Store {
        &self.writer.as_ref().unwrap().store
    }

    fn act(&mut self, dice: &mut Dice) {
        match dice.below(24) {
            0 => {
                self.writer.take().unwrap().kill();
                self.come_back();
            }
            1 => {
                self.writer.take().unwrap().store.close().unwrap();
                self.come_back();
            }
            2 => {
                self.store().sync().unwrap();
                self.durable = self.store().head().position.get();
            }
            _ => self.append(dice),
        }
    }

    /// All that an opening shows is durable, and the hint says so.
    fn come_back(&mut self) {
        self.writer = Some(Writer::open(&self.disk));
        self.durable = self.store().head().position.get();
        self.sent = usize::try_from(self.durable).unwrap();
    }

    fn append(&mut self, dice: &mut Dice) {
        let unit = script::units(dice, 1)[0];
        let batch = script::batch_of(&unit, self.sent);
        let receipts = self.store().append_batch(batch).unwrap();
        self.sent += unit.events;
        for receipt in receipts.iter().filter(|receipt| receipt.durable()) {
            self.durable = self.durable.max(receipt.position().get());
        }
    }

    /// The reader shows all that was said to be durable, nothing that is not there, and answers as the writer does.
    fn check(&self, reader: &Reader, what: &str) -> u64 {
        let view = reader.view();
        let shown = view.position();
        assert!(shown.get() >= self.durable, "{what}: {shown:?}");
        let writer = self.store().view().at_position(shown).unwrap();
        is_alike(&view, &writer, what);
        shown.get()
    }
}

#[test]
fn readers_show_the_durable_prefix_whatever_the_writer_does() {
    for seed in 0..6 {
        println!("seed {seed}");
        let mut dice = Dice::new(seed);
        let mut world = World::new();
        let early = Reader::open(world.disk.clone()).unwrap();
        let mut readers = vec![early];
        let mut shown = 0;
        for step in 0..120 {
            world.act(&mut dice);
            let what = format!("seed {seed}, step {step}");
            if dice.one_in(8) {
                let position = world.check(&readers[0], &what);
                assert!(position >= shown, "{what}: it went back");
                shown = position;
            }
            if dice.one_in(30) {
                readers.push(Reader::open(world.disk.clone()).unwrap());
                world.check(&readers[readers.len() - 1], &what);
            }
        }
        for reader in &readers {
            world.check(reader, &format!("seed {seed}, at the end"));
        }
        assert!(world.store().stats().segments > 2, "it rotated");
    }
}

fn place() -> Coordinate {
    Coordinate::new("e:1", "here").unwrap()
}

fn append(store: &Store, bytes: usize, durability: Durability) -> u64 {
    let how = AppendOptions::new().durability(durability);
    let receipt = store.append_with_options(&place(), KIND, &"x".repeat(bytes), how);
    receipt.unwrap().position().get()
}

#[test]
fn buffered_events_are_shown_after_their_sync_and_not_before() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk).store;
    let reader = Reader::open(disk.clone()).unwrap();
    append(&writer, 10, Durability::Sync);
    assert_eq!(reader.view().position().get(), 1);
    for n in 2..6 {
        append(&writer, 10, Durability::Buffered);
        assert_eq!(writer.head().position.get(), n, "the writer's own readers");
        assert_eq!(reader.view().position().get(), 1);
    }
    let late = Reader::open(disk.clone()).unwrap();
    assert_eq!(late.view().position().get(), 1);
    writer.sync().unwrap();
    assert_eq!(reader.view().position().get(), 5);
    assert_eq!(late.view().position().get(), 5);
}

/// A reader that was asked for nothing else told of the moment when it was opened, for as long as it lived.
#[test]
fn a_readers_figures_are_those_of_now() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk).store;
    let reader = Reader::open(disk.clone()).unwrap();
    append(&writer, 10, Durability::Sync);
    assert_eq!(reader.store.stats().head, writer.head());
    append(&writer, 10, Durability::Sync);
    assert_eq!(reader.store.diagnostics().stats.head, writer.head());
}

/// What stands behind the durable end may still be cut: it must not even be looked at.
#[test]
fn a_refresh_reads_nothing_behind_the_durable_end() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk).store;
    let reader = Reader::open(disk.clone()).unwrap();
    reader.deeds.lock().unwrap().ends.clear();
    append(&writer, 100, Durability::Sync);
    let end = writer.stats().log_bytes;
    append(&writer, 100, Durability::Buffered);
    assert_eq!(reader.view().position().get(), 1);
    let ends = reader.deeds.lock().unwrap().ends.clone();
    let read = ends["segments/0000000001.seg"];
    assert!((4097..=end).contains(&read), "{read} of {end}");
}

#[test]
fn a_small_refresh_takes_few_calls_however_long_the_log_is() {
    let disk = TestDisk::new();
    let writer = Writer::open(&disk).store;
    for _ in 0..40 {
        append(&writer, 90_000, Durability::Buffered);
    }
    writer.sync().unwrap();
    let reader = Reader::open(disk.clone()).unwrap();
    let calls = || reader.deeds.lock().unwrap().calls;
    let before = calls();
    for _ in 0..1000 {
        let position = append(&writer, 100, Durability::Sync);
        assert_eq!(reader.store.head().position.get(), position);
    }
    let busy = calls() - before;
    // The hint and the group are read; the hint is opened; once or twice there is a new segment.
    assert!((3000..3100).contains(&busy), "{busy} calls");
    let before = calls();
    for _ in 0..1000 {
        assert_eq!(reader.store.head(), writer.head());
    }
    assert_eq!(calls() - before, 2000, "the hint is opened and read");
}

/// A view taken before the segments were sealed, cut and replaced by their footers goes on to answer.
#[test]
fn views_outlive_rotation_sealing_closing_and_reopening() {
    let disk = TestDisk::new();
    let mut writer = Writer::open(&disk).store;
    let reader = Reader::open(disk.clone()).unwrap();
    let mut views = Vec::new();
    for round in 0..60 {
        append(&writer, 90_000, Durability::Sync);
        views.push(reader.view());
        if round % 20 == 19 {
            writer.close().unwrap();
            writer = Writer::open(&disk).store;
        }
    }
    let last = writer.view();
    assert!(writer.stats().segments > 4, "{:?}", writer.stats());
    for view in views {
        let then = last.at_position(view.position()).unwrap();
        is_alike(&view, &then, "a view of before");
    }
}

/// Closing cut the file to its log, and the next writer lengthens it beyond what the reader has mapped.
#[test]
fn a_reader_of_a_closed_store_follows_the_next_writer() {
    let disk = TestDisk::new();
    let mut last = 0;
    for round in 0..4 {
        let writer = Writer::open(&disk).store;
        for _ in 0..3 {
            last = append(&writer, 10_000 * (round + 1), Durability::Sync);
        }
        writer.close().unwrap();
        let reader = Reader::open(disk.clone()).unwrap();
        assert_eq!(reader.view().position().get(), last);
        let early = reader.view();
        let writer = Writer::open(&disk).store;
        for _ in 0..8 {
            append(&writer, 100, Durability::Sync);
            append(&writer, 30_000 * round, Durability::Sync);
            is_alike(&reader.view(), &writer.view(), &format!("round {round}"));
        }
        let then = writer.view().at_position(early.position()).unwrap();
        is_alike(&early, &then, "a view of before");
        writer.close().unwrap();
    }
}

/// A program that opens a store for one event each time left a map and an index behind in every follower, so that the
/// follower of a year of them ran out of maps.
#[test]
fn writers_that_come_and_go_cost_a_reader_no_layer_each() {
    let disk = TestDisk::new();
    let layers = |view: &View| {
        let shown = format!("{view:?}");
        let digits = shown.split("layers: ").nth(1).unwrap();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().unwrap()
    };
    append(&Writer::open(&disk).store, 100, Durability::Sync);
    let reader = Reader::open(disk.clone()).unwrap();
    let mut views = Vec::new();
    for _ in 0..40 {
        let writer = Writer::open(&disk).store;
        append(&writer, 3000, Durability::Sync);
        writer.close().unwrap();
        views.push(reader.view()); // it maps the file as long as the log is
    }
    assert!(layers(&reader.view()) <= 2, "{:?}", reader.view());
    let last = reader.view();
    for view in views {
        let then = last.at_position(view.position()).unwrap();
        is_alike(&view, &then, "a view of before");
    }
}

/// More than the indexes of two full segments here, and less than those of one round.
const MOST_HEAP_BYTES: u64 = 100_000;

/// The indexes of full segments do not stay in memory once the writer has sealed them.
#[test]
fn memory_does_not_grow_with_the_log() {
    let disk = TestDisk::new();
    let mut writer = Writer::open(&disk).store;
    let reader = Reader::open(disk.clone()).unwrap();
    let mut heap = Vec::new();
    for _ in 0..4 {
        for round in 0..3000 {
            append(&writer, 1000, Durability::Sync);
            if round % 10 == 0 {
                reader.view();
            }
        }
        // Closing waits until all are sealed; the reader sees it when the log enters the next segment.
        writer.close().unwrap();
        writer = Writer::open(&disk).store;
        let segments = writer.stats().segments;
        while writer.stats().segments == segments {
            append(&writer, 90_000, Durability::Sync);
        }
        append(&writer, 1000, Durability::Sync);
        reader.view();
        heap.push(reader.store.stats().index_heap_bytes);
    }
    let stats = reader.store.stats();
    assert!(stats.segments > 16, "{stats:?}");
    let most = heap.iter().max().unwrap();
    assert!(*most < MOST_HEAP_BYTES, "{heap:?}");
}
