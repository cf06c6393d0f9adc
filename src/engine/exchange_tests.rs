//! Files are exchanged while others read: views, readers in other processes, openings and crashes around it.

use crate::engine::dying::Dying;
use crate::engine::load;
use crate::engine::open::{open, open_read_only};
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::engine::small::{Small, config, put_in_place, settle, write_replacement};
use crate::error::{Result, StoreErrorKind};
use crate::event::query::Query;
use crate::format::checkpoint::SealedEntry;
use crate::format::golden::Random;
use crate::format::manifest::{MAX_GENERATION, Manifest};
use crate::log::files::{SegmentFile, write_manifest};
use crate::sync::Arc;

fn replace(engine: &Engine, first: u64, last: u64) -> Result<()> {
    put_in_place(engine, &write_replacement(engine, first, last))?;
    // As a compaction does at its end.
    runs::renew(engine);
    Ok(())
}

fn has(small: &Small, number: u64) -> bool {
    small.segments().contains(&SegmentFile::original(number))
}

/// An open store with `sealed` sealed segments.
fn filled(sealed: u64) -> (Small, Arc<Engine>) {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, sealed + 1);
    settle(&engine, usize::try_from(sealed).unwrap());
    (small, engine)
}

/// A manifest that named the highest number of all made the next one overflow.
#[test]
fn where_generations_end_nothing_is_exchanged_and_the_store_stays_whole() {
    let (small, engine) = filled(3);
    engine.close().unwrap();
    let last = Manifest {
        generation: MAX_GENERATION,
        ..small.manifest()
    };
    write_manifest(&small.disk, &last).unwrap();
    let engine = small.open();
    let error = replace(&engine, 1, 2).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    small.check(&engine.front.last_view());
    engine.close().unwrap();
    small.check_everywhere(&small.open());
}

#[test]
fn views_go_on_across_an_exchange_and_files_go_with_the_last_of_them() {
    let (mut small, engine) = filled(20);
    let before = engine.front.last_view();
    let log_bytes = engine.stats().log_bytes;
    replace(&engine, 2, 9).unwrap();
    assert!((2..=9).all(|number| has(&small, number)));
    small.check(&before);
    small.check_everywhere(&engine);
    let groups = 2 * 72_u64;
    assert!(engine.stats().log_bytes.abs_diff(log_bytes) < 8 * 4096 + groups);
    let between = engine.front.last_view();
    replace(&engine, 1, 9).unwrap();
    drop(before);
    assert!((2..=9).all(|number| !has(&small, number)));
    let middle = SegmentFile {
        first: 2,
        number: 9,
        generation: 2,
    };
    assert!(has(&small, 1) && small.segments().contains(&middle));
    small.check(&between);
    drop(between);
    settle(&engine, 12);
    small.fill(&engine, 23);
    settle(&engine, 14);
    small.check_everywhere(&engine);
    let named = engine.manifest.lock().clone();
    assert_eq!(small.manifest(), named);
    small.check_all_named(&named);
    engine.close().unwrap();
    small.check_opened();
}

#[test]
fn a_view_that_outlives_the_store_removes_nothing() {
    let (small, engine) = filled(6);
    let view = engine.front.last_view();
    replace(&engine, 1, 4).unwrap();
    engine.close().unwrap();
    drop(engine);
    assert!(has(&small, 1));
    // The same names again, in a directory that is another store's by now.
    let (other, second) = filled(3);
    second.close().unwrap();
    for name in ["segments/0000000001.seg", "segments/0000000002.seg"] {
        small.put(name, &other.bytes(name).unwrap());
    }
    drop(view);
    assert!(has(&small, 1) && has(&small, 2));
    let engine = small.open();
    assert!(!has(&small, 1), "the next opening removes it");
    small.check_everywhere(&engine);
    engine.close().unwrap();
}

#[test]
fn a_view_goes_on_when_another_opening_removes_its_files() {
    let (small, engine) = filled(6);
    let view = engine.front.last_view();
    replace(&engine, 1, 4).unwrap();
    engine.close().unwrap();
    let engine = small.open();
    assert!(!has(&small, 1));
    small.check(&view);
    engine.close().unwrap();
}

#[test]
fn a_view_from_before_the_writer_started_again_keeps_its_files() {
    let (small, engine) = filled(6);
    let view = engine.front.last_view();
    load::reload(&engine, &mut engine.turn.lock()).unwrap();
    replace(&engine, 1, 4).unwrap();
    assert!(has(&small, 1));
    small.check(&view);
    drop(view);
    assert!(!has(&small, 1));
    small.check_everywhere(&engine);
    engine.close().unwrap();
}

#[test]
fn a_reader_beside_the_writer_takes_an_exchange_in_without_an_append() {
    let (mut small, engine) = filled(20);
    let beside = small.reader().unwrap();
    let before = beside.view().unwrap();
    replace(&engine, 3, 17).unwrap();
    assert!(!has(&small, 3), "nobody in this process needs it");
    small.check(&before);
    let after = beside.view().unwrap();
    let layers = |view: &crate::index::view::View| view.picture().layers.all.len();
    assert!(layers(&after) < layers(&before) - 10);
    small.check(&after);
    small.check(&before);
    assert_eq!(beside.stats(0).log_bytes, engine.stats().log_bytes);
    small.fill(&engine, 23);
    replace(&engine, 1, 18).unwrap();
    replace(&engine, 19, 20).unwrap();
    small.check(&beside.view().unwrap());
    small.check_to_read();
    small.check(&engine.front.last_view());
    engine.close().unwrap();
    small.check(&beside.view().unwrap());
}

#[test]
fn a_reader_that_lags_behind_an_exchange_reads_on() {
    // What it has read ends inside the range, at its end, in the segment behind it, or long before it.
    for (read, first, last) in [(5, 2, 9), (9, 2, 9), (10, 2, 9), (3, 8, 12), (12, 12, 12)] {
        let (mut small, engine) = filled(read);
        let beside = small.reader().unwrap();
        let before = beside.view().unwrap();
        small.fill(&engine, 16);
        settle(&engine, 15);
        replace(&engine, first, last).unwrap();
        assert!(before.position() <= beside.view().unwrap().position());
        small.check(&beside.view().unwrap());
        small.check(&before);
        engine.close().unwrap();
    }
}

#[test]
fn a_range_that_is_not_whole_or_a_file_of_other_events_is_refused() {
    let (small, engine) = filled(8);
    replace(&engine, 3, 5).unwrap();
    let written = write_replacement(&engine, 1, 2);
    let wrong = |change: fn(&mut SealedEntry)| {
        let mut other = written;
        change(&mut other.0);
        let error = put_in_place(&engine, &other).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    };
    wrong(|entry| entry.number = 4);
    wrong(|entry| entry.number = 1);
    wrong(|entry| (entry.first, entry.number) = (9, 9));
    wrong(|entry| (entry.first, entry.number) = (20, 30));
    wrong(|entry| entry.generation = 0);
    wrong(|entry| entry.digest[3] ^= 1);
    wrong(|entry| entry.last_group_checksum ^= 1);
    wrong(|entry| entry.first_position += 1);
    small.check_everywhere(&engine);
    put_in_place(&engine, &written).unwrap();
    small.check_everywhere(&engine);
    engine.close().unwrap();
}

#[test]
fn a_crash_at_any_call_of_an_exchange_leaves_the_old_files_or_the_new() {
    let (whole, engine) = filled(5);
    engine.close().unwrap();
    let (mut old, mut new) = (0, 0);
    for calls in 0.. {
        let small = whole.copied();
        let dying = Dying::new(&small.disk);
        let engine = open(config(dying.clone())).unwrap();
        settle(&engine, 5);
        let written = write_replacement(&engine, 2, 4);
        dying.dies_after(calls);
        let done = put_in_place(&engine, &written);
        let dead = dying.is_dead();
        small.check_everywhere(&engine);
        dying.dies_after(0);
        let _ = engine.close();
        let named = small.manifest();
        match (named.replaced.is_empty(), &done) {
            (true, Err(error)) => assert_eq!(error.kind(), StoreErrorKind::Io, "{error}"),
            (false, Err(error)) => assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown),
            (true, Ok(())) => panic!("it is not replaced"),
            (false, Ok(())) => {}
        }
        match named.replaced.is_empty() {
            true => old += 1,
            false => new += 1,
        }
        small.check_to_read();
        let engine = small.open();
        small.check_everywhere(&engine);
        small.check_all_named(&named);
        engine.close().unwrap();
        if !dead {
            break;
        }
    }
    assert!(old >= 3 && new >= 2, "{old} old, {new} new");
}

#[test]
fn a_manifest_that_may_not_be_durable_takes_its_generation_with_it() {
    let (small, engine) = filled(5);
    engine.close().unwrap();
    let dying = Dying::new(&small.disk);
    let engine = open(config(dying.clone())).unwrap();
    settle(&engine, 5);
    let written = write_replacement(&engine, 2, 4);
    // Everything but the sync of the directory.
    dying.fails_at("sync_dir");
    let error = put_in_place(&engine, &written).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown, "{error}");
    dying.fails_at("nothing");
    assert!((1..=5).all(|number| has(&small, number)));
    replace(&engine, 1, 4).unwrap();
    let generations: Vec<_> = small
        .segments()
        .iter()
        .map(|file| file.generation)
        .collect();
    let is_later = |generation: &u64| *generation > written.0.generation + 1;
    assert!(
        generations.contains(&written.0.generation) && generations.iter().any(is_later),
        "{generations:?}"
    );
    small.check_everywhere(&engine);
    engine.close().unwrap();
    small.check_opened();
}

/// Exchanges, appends, openings and readers in any order.
#[test]
fn whatever_is_exchanged_everything_reads_as_before() {
    let mut random = Random::from_clock();
    for _ in 0..4 {
        let (mut small, mut engine) = filled(4);
        let mut beside = small.reader().unwrap();
        let mut held = Vec::new();
        for _ in 0..25 {
            match random.below(8) {
                0..3 => {
                    let sealed = engine.sealed.lock().clone();
                    let from = random.below(sealed.len());
                    let to = from + random.below(sealed.len() - from);
                    replace(&engine, sealed[from].first, sealed[to].number).unwrap();
                }
                3 => {
                    let newest = engine.turn.lock().tip.mark.segment;
                    small.fill(&engine, newest + 1);
                }
                4 => {
                    // A closed store maps nothing for its views that a later one takes away.
                    held.clear();
                    engine.close().unwrap();
                    engine = small.open();
                }
                5 => held.push(engine.front.last_view()),
                6 => held.push(beside.view().unwrap()),
                _ => {
                    held.truncate(random.below(3));
                    beside = small.reader().unwrap();
                }
            }
            small.check(&beside.view().unwrap());
        }
        held.iter().for_each(|view| small.check(view));
        held.clear();
        small.check_everywhere(&engine);
        engine.close().unwrap();
        let engine = small.open();
        let named = engine.manifest.lock().clone();
        small.check_all_named(&named);
        engine.close().unwrap();
    }
}

#[test]
fn exchanges_go_on_beside_appends_and_readers() {
    let (mut small, engine) = filled(8);
    let disk = small.disk.clone();
    let stop = crate::sync::atomic::AtomicBool::new(false);
    let is_over = || stop.load(crate::sync::atomic::Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut nth = 0;
            while !is_over() {
                let sealed = engine.sealed.lock().clone();
                let from = nth % sealed.len();
                let to = (from + nth % 5).min(sealed.len() - 1);
                replace(&engine, sealed[from].first, sealed[to].number).unwrap();
                nth += 3;
            }
        });
        scope.spawn(|| {
            let mut beside = open_read_only(config(disk.clone())).unwrap();
            let mut seen = 0;
            while !is_over() {
                let view = beside.view().unwrap();
                assert!(seen <= view.position().get());
                seen = view.position().get();
                let events = view.query(Query::all()).unwrap();
                let found = events.map(|event| event.unwrap().position().get());
                assert!(found.eq(1..=seen));
                if seen % 3 == 0 {
                    beside = open_read_only(config(disk.clone())).unwrap();
                }
            }
        });
        small.fill(&engine, 30);
        stop.store(true, crate::sync::atomic::Ordering::SeqCst);
    });
    small.check_everywhere(&engine);
    engine.close().unwrap();
    small.check_opened();
}
