//! What a dry run foresees, against what the disk gives back.

use crate::support::dice::Dice;
use quipu::io::{Disk, MemoryDisk, RealDisk};
use quipu::prelude::*;
use quipu::{CompactionConfig, MIN_SEGMENT_BYTES, Retention};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const KINDS: [&str; 4] = ["order.placed", "order.paid", "page.viewed", "stock.moved"];
/// What a figure may be off by for each file: what a file system rounds up.
const BLOCK: i128 = 4096;

/// What the names of a store are like.
#[derive(Clone, Copy, Debug)]
enum Names {
    Few,
    Many,
    /// Every event has an entity and a tag of its own.
    Unique,
    /// Tags that are everywhere, others that come and go, and some for one event alone.
    Uneven,
}

/// How a store is filled.
struct Filling {
    names: Names,
    dice: Dice,
    /// Bytes of a payload, at the most.
    most: usize,
    /// How many events there are, and the newest of them.
    events: usize,
    ids: Vec<EventId>,
}

impl Filling {
    fn new(names: Names, seed: u64, most: usize) -> Self {
        println!("{names:?}, seed {seed}, payloads of up to {most} bytes");
        Self {
            names,
            dice: Dice::new(seed),
            most,
            events: 0,
            ids: Vec::new(),
        }
    }

    fn draft(&mut self, nth: usize) -> EventDraft {
        let dice = &mut self.dice;
        let (entity, tag) = match self.names {
            Names::Few => (dice.below(3), format!("t:{}", dice.below(3))),
            Names::Many => (dice.below(2_000), format!("customer:{}", dice.below(5_000))),
            Names::Unique => (nth, format!("request:{:032x}", dice.next())),
            Names::Uneven => match dice.below(3) {
                0 => (dice.below(9), "hot".to_owned()),
                1 => (nth / 50, format!("day:{}", nth / 300)),
                _ => (nth, format!("once:{nth}")),
            },
        };
        let place = Coordinate::new(format!("order:{entity}"), "shop").unwrap();
        let kind = EventKind::new(KINDS[dice.below(4)]).unwrap();
        let payload = "x".repeat(dice.below(self.most));
        let draft = EventDraft::new(&place, kind, payload.as_str()).tag(tag);
        match self.ids.is_empty() || !dice.one_in(3) {
            true => draft,
            false => draft.caused_by(self.ids[dice.below(self.ids.len())]),
        }
    }

    /// Appends `events` in segments of a mebibyte.
    fn fill(&mut self, disk: &Arc<dyn Disk>, events: usize) {
        let store = open(disk, MIN_SEGMENT_BYTES);
        let end = self.events + events;
        while self.events < end {
            let numbers = self.events..self.events + 100;
            self.events = numbers.end;
            let drafts: Vec<_> = numbers.map(|nth| self.draft(nth)).collect();
            let batch = Batch::new().events(drafts);
            let batch = batch.idempotency_key(format!("key:{}", self.events));
            let receipts = store.append_batch(batch).unwrap();
            self.ids = receipts.iter().map(Receipt::id).collect();
        }
        store.close().unwrap();
    }
}

fn open(disk: &Arc<dyn Disk>, segment_bytes: u64) -> Store {
    let config = StoreConfig::on_disk(Arc::clone(disk)).segment_bytes(segment_bytes);
    Store::open_with(config).unwrap()
}

/// The lengths of all files below a directory of a disk, and how many they are.
fn lengths(disk: &dyn Disk) -> (i128, i128) {
    let (mut bytes, mut files) = (0, 0);
    for folder in ["", "segments"] {
        let entries = disk.list(folder).unwrap().into_iter();
        for entry in entries.filter(|entry| entry.is_file) {
            bytes += i128::from(entry.bytes);
            files += 1;
        }
    }
    (bytes, files)
}

/// Opens, plans, compacts and closes; asserts that `measured` fell as was planned. Says by how much.
fn assert_foreseen(
    disk: &Arc<dyn Disk>,
    segment_bytes: u64,
    config: &CompactionConfig,
    measured: &dyn Fn() -> i128,
) -> i128 {
    // Closed before and after, so that the checkpoint, the segment made ahead and the runs are the same.
    open(disk, segment_bytes).close().unwrap();
    let (before, (_, files)) = (measured(), lengths(&**disk));
    let store = open(disk, segment_bytes);
    let plan = store.plan_compaction(config).unwrap();
    let done = store.compact(config.clone()).unwrap().wait().unwrap();
    store.close().unwrap();
    open(disk, segment_bytes).close().unwrap();
    let freed = before - measured();
    let planned = plan.freed_bytes();
    let told = done.freed_bytes();
    println!("planned {planned}, told {told}, freed {freed}");
    assert!((planned - told).abs() <= told.abs() / 20 + BLOCK, "{plan}");
    let off = (planned - freed).abs();
    assert!(off <= freed.abs() / 10 + BLOCK * files, "{off} off: {plan}");
    freed
}

fn policies(dice: &mut Dice) -> Vec<CompactionConfig> {
    let new = CompactionConfig::new;
    let one = Retention::kinds([KINDS[dice.below(4)]]);
    let newest = Retention::all_but_newest(dice.below(5) as u64);
    let tagged = Retention::query(Query::tag("hot"));
    let mut policies = vec![
        new(),
        new().remove(one.clone()).merge_below(0),
        new().remove(one),
        new().remove(newest.or(tagged)),
        new().remove(Retention::kinds(KINDS)).merge_below(0),
        new().remove(Retention::kinds(KINDS)),
    ];
    // Any of them first, then others on what it left and on what came since.
    for at in (1..policies.len()).rev() {
        policies.swap(at, dice.below(at + 1));
    }
    policies.truncate(3);
    policies
}

#[test]
fn a_compaction_frees_what_its_dry_run_says() {
    for (names, most) in [
        (Names::Few, 400),
        (Names::Many, 100),
        (Names::Unique, 100),
        (Names::Uneven, 600),
    ] {
        let seed = std::process::id().into();
        let mut filling = Filling::new(names, seed, most);
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        for config in policies(&mut filling.dice) {
            filling.fill(&disk, 9_000);
            println!("{config:?}");
            assert_foreseen(&disk, 8 * MIN_SEGMENT_BYTES, &config, &|| lengths(&*disk).0);
        }
    }
}

/// Merging many small segments frees names that stood in each: a plan that adds up the indexes foresees nearly nothing.
#[test]
fn a_merge_frees_what_its_dry_run_says() {
    for names in [Names::Few, Names::Many, Names::Unique, Names::Uneven] {
        let mut filling = Filling::new(names, 7, 2);
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        filling.fill(&disk, 40_000);
        let merge = CompactionConfig::new();
        let freed = assert_foreseen(&disk, 16 * MIN_SEGMENT_BYTES, &merge, &|| lengths(&*disk).0);
        let many = matches!(names, Names::Many);
        assert!(!many || freed > 400_000, "only {freed}");
    }
}

/// The run over sixteen segments goes with them when they become one, and the dry run knows.
#[test]
fn a_run_that_is_over_one_file_goes() {
    let mut filling = Filling::new(Names::Unique, 11, 100);
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    filling.fill(&disk, 100_000);
    let store = open(&disk, 32 * MIN_SEGMENT_BYTES);
    let run_bytes = || {
        let entries = disk.list("segments").unwrap().into_iter();
        let runs = entries.filter(|entry| entry.name.ends_with(".run"));
        runs.map(|entry| entry.bytes).sum::<u64>()
    };
    let start = Instant::now();
    let wait = |until: &dyn Fn(u64) -> bool| {
        while !until(run_bytes()) {
            assert!(start.elapsed() < Duration::from_secs(20), "upkeep is stuck");
            std::thread::yield_now();
        }
    };
    wait(&|bytes| bytes > 100_000);
    let before = run_bytes();
    let plan = store.plan_compaction(&CompactionConfig::new()).unwrap();
    assert_eq!((plan.run_bytes_before, plan.run_bytes_after), (before, 0));
    let job = store.compact(CompactionConfig::new()).unwrap();
    assert_eq!(job.wait().unwrap().files_after, 1);
    wait(&|bytes| bytes == 0);
}

/// Blocks of the file system that the files of a directory and of those in it take, in bytes.
#[cfg(unix)]
fn allocated(path: &Path) -> i128 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        bytes += match entry.file_type().unwrap().is_dir() {
            true => allocated(&entry.path()),
            false => i128::from(entry.metadata().unwrap().blocks()) * 512,
        };
    }
    bytes
}

/// As `du` counts.
#[cfg(unix)]
#[test]
fn a_disk_gives_back_what_the_dry_run_says() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("store");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&path));
    let mut filling = Filling::new(Names::Many, 3, 60);
    filling.fill(&disk, 20_000);
    let some = CompactionConfig::new().remove(Retention::kinds(&KINDS[..2]));
    for config in [CompactionConfig::new(), some] {
        let freed = assert_foreseen(&disk, 8 * MIN_SEGMENT_BYTES, &config, &|| allocated(&path));
        assert!(freed > 200_000, "only {freed}");
    }
}
