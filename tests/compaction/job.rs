//! The job: beside appends, held back, stopped, refused, and what it leaves on the disk.

use crate::shop::{self, PLACED, VIEWED, compact, fill, filled, found, no_views};
use quipu::io::{Access, Disk, MemoryDisk, RealDisk};
use quipu::prelude::*;
use quipu::{
    CompactionConfig, EventRef, MIN_SEGMENT_BYTES, Result, Retention, RetentionMoment,
    RetentionPredicate,
};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

fn memory() -> Arc<dyn Disk> {
    Arc::new(MemoryDisk::new())
}

fn kind_of<T: std::fmt::Debug>(outcome: Result<T>) -> StoreErrorKind {
    outcome.expect_err("it must fail").kind()
}

fn files(disk: &Arc<dyn Disk>) -> Vec<String> {
    let entries = disk.list("segments").unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn views_and_cursors_that_are_held_go_on() {
    let disk = memory();
    let store = filled(&disk);
    let view = store.view();
    let before = found(&view, Query::all());
    let mut half_read = store.query(Query::all()).unwrap();
    let kept: Vec<Event> = half_read.by_ref().take(1_000).map(Result::unwrap).collect();
    let mut cursor = store.cursor(Query::all()).unwrap();
    for _ in 0..1_001 {
        cursor.next().unwrap().unwrap();
    }
    // Position 1,001 is a view of a page: its event goes, and the place stays.
    let saved = cursor.position().unwrap();
    compact(&store, no_views());
    assert_eq!(
        found(&view, Query::all()),
        before,
        "a view keeps what it shows"
    );
    assert!(view.at(2).unwrap().is_some());
    assert_eq!(half_read.count() + 1_000, 4_000);
    assert_eq!(kept[1].payload_bytes().unwrap().len(), 1_203);
    let left = found(&store.view(), Query::all());
    let behind: Vec<u64> = left
        .into_iter()
        .filter(|position| *position > 1_001)
        .collect();
    let rest = |cursor: Cursor, count: usize| -> Vec<u64> {
        let some = cursor.take(count);
        some.map(|event| event.unwrap().position().get()).collect()
    };
    assert!(rest(cursor, 2_999).into_iter().eq(1_002..=4_000));
    let again = store.cursor_from(Query::all(), saved).unwrap();
    assert!(rest(again, behind.len()) == behind);
}

#[test]
fn disk_space_and_descriptors_are_given_back_as_planned() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("store");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&path));
    let store = filled(&disk);
    let config = no_views();
    let plan = store.plan_compaction(&config).unwrap();
    let (before, open_before) = (blocks(&path), descriptors());
    let held = store.view();
    compact(&store, config);
    drop(held);
    let freed = i128::from(before) - i128::from(blocks(&path));
    let off = (freed - plan.freed_bytes()).abs();
    assert!(
        off * 10 <= plan.freed_bytes(),
        "{freed} bytes were freed; {plan}"
    );
    assert_eq!(descriptors(), open_before);
    let named = files(&disk)
        .iter()
        .filter(|name| name.ends_with(".seg"))
        .count();
    // The newest one and the one kept ready are no sealed ones.
    assert!(named as u64 <= plan.files_after + 2, "{:?}", files(&disk));
}

/// What `du` counts below `segments`.
fn blocks(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path.join("segments")).unwrap();
    let sealed = entries.map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512);
    sealed.sum()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn small_segments_are_merged_up_to_the_size_of_one() {
    let disk = memory();
    let store = filled(&disk);
    let before = found(&store.view(), Query::all());
    let segments = store.stats().segments;
    store.close().unwrap();
    let wide = StoreConfig::on_disk(Arc::clone(&disk)).segment_bytes(4 * MIN_SEGMENT_BYTES);
    let store = Store::open_with(wide.clone()).unwrap();
    let done = compact(&store, CompactionConfig::new());
    assert_eq!(
        (done.files_before, done.files_after),
        (segments - 1, 2),
        "{done}"
    );
    assert_eq!(done.events_removed, 0);
    assert!(
        store
            .plan_compaction(&CompactionConfig::new())
            .unwrap()
            .is_empty()
    );
    let none = CompactionConfig::new().merge_below(0);
    assert!(store.plan_compaction(&none).unwrap().is_empty());
    assert_eq!(found(&store.view(), Query::all()), before);
    let digest = store.head().digest;
    store.close().unwrap();
    let store = Store::open_with(wide).unwrap();
    assert_eq!(found(&store.view(), Query::all()), before);
    assert_eq!(store.head().digest, digest);
}

#[test]
fn appends_and_rotations_go_on_beside_a_compaction() {
    let disk = memory();
    let store = filled(&disk);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut appended = 0;
            // Bounded, so that a compaction that fails is told and not waited for.
            while appended < 2_000 || (appended < 20_000 && !done.load(Ordering::Relaxed)) {
                fill(&store, 50);
                appended += 50;
            }
            appended
        });
        for _ in 0..3 {
            compact(&store, no_views().bytes_per_second(20_000_000));
        }
        done.store(true, Ordering::Relaxed);
        let appended = writer.join().unwrap();
        assert_eq!(store.head().position.get(), 4_000 + appended as u64);
    });
    let orders = found(&store.view(), Query::kind(PLACED));
    let head = store.head();
    store.close().unwrap();
    let store = shop::open(&disk);
    assert_eq!(store.head(), head);
    compact(&store, no_views());
    assert_eq!(found(&store.view(), Query::kind(PLACED)), orders);
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_cancelled_compaction_leaves_what_it_switched_and_nothing_half_done() {
    let disk = memory();
    let store = filled(&disk);
    // Each segment by itself, so that there are several to switch.
    let apart = || no_views().merge_below(0);
    let before = store.plan_compaction(&apart()).unwrap();
    let job = store.compact(apart().bytes_per_second(3_000_000)).unwrap();
    let second = store.compact(apart());
    assert_eq!(kind_of(second), StoreErrorKind::Busy);
    let is_switched = |name: &String| name.ends_with(".seg") && name.contains('-');
    while !files(&disk).iter().any(is_switched) {
        std::thread::yield_now();
    }
    job.cancel();
    assert_eq!(kind_of(job.wait()), StoreErrorKind::Cancelled);
    assert!(
        files(&disk).iter().all(|name| !name.ends_with(".tmp")),
        "{:?}",
        files(&disk)
    );
    let left = store.plan_compaction(&apart()).unwrap();
    assert!(
        left.events_removed < before.events_removed,
        "the first range was switched"
    );
    assert!(left.events_removed > 0, "{left}");
    assert_eq!(compact(&store, apart()).events_removed, left.events_removed);
    let views = found(&store.view(), Query::kind(VIEWED));
    assert!(views.len() < 700, "only the newest segment keeps them");
}

#[test]
fn closing_the_store_ends_a_compaction() {
    let disk = memory();
    let store = filled(&disk);
    let job = store.compact(no_views().bytes_per_second(100_000)).unwrap();
    store.close().unwrap();
    assert_eq!(kind_of(job.wait()), StoreErrorKind::Closed);
    assert!(files(&disk).iter().all(|name| !name.ends_with(".tmp")));
    let store = shop::open(&disk);
    assert_eq!(found(&store.view(), Query::all()).len(), 4_000);
}

#[test]
fn damage_is_refused_and_stays_where_it_is() {
    let disk = memory();
    filled(&disk).close().unwrap();
    let name = "segments/0000000002.seg";
    let file = disk.open(name, Access::Write).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, 500_000).unwrap(), 1);
    assert_eq!(file.write_at(&[byte[0] ^ 1], 500_000).unwrap(), 1);
    let store = shop::open(&disk);
    let error = store.compact(no_views()).unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(name), "{error}");
    let names = files(&disk);
    assert!(names.iter().any(|other| name.ends_with(other)), "{names:?}");
    assert!(
        names.iter().all(|name| !name.ends_with(".tmp")),
        "{names:?}"
    );
}

#[test]
fn terms_that_cannot_be_are_refused() {
    let store = Store::in_memory().unwrap();
    for config in [
        CompactionConfig::new().bytes_per_second(0),
        CompactionConfig::new().min_freed_percent(101),
        CompactionConfig::new().remove(Retention::query(Query::entity(""))),
        CompactionConfig::new().remove(
            Retention::tombstoned()
                .and(Retention::kinds([""]))
                .or(Retention::all_but_newest(1).not()),
        ),
    ] {
        assert_eq!(
            kind_of(store.plan_compaction(&config)),
            StoreErrorKind::Argument
        );
        assert_eq!(kind_of(store.compact(config)), StoreErrorKind::Argument);
    }
}

/// What the caller decides by itself, one event at a time, until it fails.
#[derive(Debug)]
struct OfOrder(&'static str, StoreErrorKind);

impl RetentionPredicate for OfOrder {
    fn may_go(&self, event: &EventRef<'_>, moment: &RetentionMoment<'_>) -> Result<bool> {
        assert!(event.revision() <= moment.newest_revision(event)?);
        match self.1 {
            StoreErrorKind::Payload => event.payload::<u8>().map(|_| true),
            _ => Ok(event.entity() == self.0),
        }
    }
}

#[test]
fn a_predicate_of_the_callers_own_decides_and_may_fail() {
    let store = filled(&memory());
    let fails = CompactionConfig::new().remove(OfOrder("", StoreErrorKind::Payload));
    assert_eq!(
        kind_of(store.plan_compaction(&fails)),
        StoreErrorKind::Payload
    );
    let error = store.compact(fails).unwrap().wait();
    assert_eq!(kind_of(error), StoreErrorKind::Payload);
    let of_seven = CompactionConfig::new().remove(OfOrder("order:7", StoreErrorKind::Io));
    let done = compact(&store, of_seven);
    let left = found(&store.view(), Query::entity("order:7")).len() as u64;
    assert_eq!(done.events_removed + left, 80);
    assert!(left < 20, "only the newest segment keeps them");
    assert_eq!(store.revision("order:7").unwrap(), 80);
}

/// Lets everything go that a query finds, and counts how often it is asked for that.
#[derive(Debug)]
struct Found(Query, Arc<AtomicUsize>);

impl RetentionPredicate for Found {
    fn may_go(&self, _: &EventRef<'_>, _: &RetentionMoment<'_>) -> Result<bool> {
        Ok(true)
    }

    fn candidates(&self, _: Timestamp) -> Query {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.clone()
    }
}

/// A query that is refused wherever else it is asked was taken for one that finds nothing.
#[test]
fn candidates_are_asked_for_once_and_held_to_what_a_query_may_be() {
    let store = filled(&memory());
    let asked = Arc::default();
    let of = |query| CompactionConfig::new().remove(Found(query, Arc::clone(&asked)));
    let plan = store.plan_compaction(&of(Query::kind(PLACED))).unwrap();
    assert!(
        plan.events_removed > 1_000 && plan.files_before > 2,
        "{plan}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let nameless = || of(Query::entity(""));
    let refused = StoreErrorKind::Argument;
    assert_eq!(kind_of(store.plan_compaction(&nameless())), refused);
    assert_eq!(kind_of(store.compact(nameless()).unwrap().wait()), refused);
}

/// Has the last handle to the store that asks it, and lets it go when it is first asked; with dry runs between, has the
/// innermost do so.
#[derive(Debug)]
struct Closes {
    store: Mutex<Option<Store>>,
    dry_runs: usize,
    done: mpsc::Sender<()>,
}

impl RetentionPredicate for Closes {
    fn may_go(&self, _: &EventRef<'_>, _: &RetentionMoment<'_>) -> Result<bool> {
        let Some(store) = self.store.lock().unwrap().take() else {
            return Ok(true);
        };
        match self.dry_runs.checked_sub(1) {
            Some(dry_runs) => {
                let inner = Self {
                    store: Mutex::new(Some(store.clone())),
                    dry_runs,
                    done: self.done.clone(),
                };
                let outcome = store.plan_compaction(&CompactionConfig::new().remove(inner));
                assert_eq!(kind_of(outcome), StoreErrorKind::Closed);
            }
            None => {
                store.close().unwrap();
                self.done.send(()).unwrap();
            }
        }
        Ok(true)
    }
}

/// Those who ask are waited for by the thread that compacts. Closing waited for that one, and never ended.
#[test]
fn a_predicate_may_close_the_store_that_asks_it() {
    for dry_runs in [0, 1] {
        let store = filled(&memory());
        let (done, closed) = mpsc::channel();
        let closes = Closes {
            store: Mutex::new(Some(store.clone())),
            dry_runs,
            done,
        };
        let job = store.compact(CompactionConfig::new().remove(closes));
        drop(store);
        let closed = closed.recv_timeout(Duration::from_secs(20));
        closed.expect("it waits for itself");
        assert_eq!(kind_of(job.unwrap().wait()), StoreErrorKind::Closed);
    }
}

#[test]
fn a_segment_of_which_little_would_go_can_be_left_alone() {
    let store = filled(&memory());
    let little = CompactionConfig::new().remove(Retention::query(Query::entity("order:7")));
    assert!(!store.plan_compaction(&little).unwrap().is_empty());
    let worth = little.min_freed_percent(10);
    assert!(store.plan_compaction(&worth).unwrap().is_empty());
    assert!(
        !store
            .plan_compaction(&no_views().min_freed_percent(10))
            .unwrap()
            .is_empty()
    );
}

/// A view that was taken before a segment was full reads it through the map of the one who wrote it. That map took no
/// lock, so that the file was cut under it once it was replaced, and the read killed the process.
#[test]
fn a_view_from_before_a_segment_was_full_reads_it_after_it_was_replaced() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = StoreConfig::new(folder.path()).segment_bytes(4 * MIN_SEGMENT_BYTES);
    let mut store = Store::open_with(config.clone()).unwrap();
    for reopened in 0..2 {
        fill(&store, 2_000);
        if reopened > 0 {
            store.close().unwrap();
            store = Store::open_with(config.clone()).unwrap();
        }
        let view = store.view();
        let event = view.at(view.position()).unwrap().unwrap();
        let bytes = payload_bytes(&view);
        fill(&store, 4_000);
        let done = compact(&store, no_views().merge_below(0));
        assert!(done.events_removed > 0, "{done}");
        assert_eq!(payload_bytes(&view), bytes);
        assert_eq!(event.payload_bytes().unwrap().len(), 1_203);
    }
}

fn payload_bytes(view: &View) -> usize {
    let events = view.query(Query::all()).unwrap();
    events
        .map(|event| event.unwrap().payload_bytes().unwrap().len())
        .sum()
}

/// Who tries a retention on a small store had "nothing to do in 0 files" for an answer.
#[test]
fn a_plan_of_one_segment_says_why_there_is_nothing_to_do() {
    let store = Store::in_memory().unwrap();
    fill(&store, 100);
    let plan = store.plan_compaction(&no_views()).unwrap().to_string();
    assert!(plan.contains("once it is full"), "{plan}");
}
