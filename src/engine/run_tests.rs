//! Runs in a store: the same answers with and without them, whatever happened to their files.

use std::time::{Duration, Instant};

use crate::engine::chain;
use crate::engine::compact::start;
use crate::engine::compact_config::CompactionConfig;
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::engine::small::{Small, all_runs, parent_of, settle};
use crate::error::Result;
use crate::event::batch::Batch;
use crate::event::coordinate::Coordinate;
use crate::event::draft::EventDraft;
use crate::event::hash::{entity_digest, key_digest};
use crate::event::id::EventId;
use crate::event::kind::EventKind;
use crate::event::position::Position;
use crate::event::region::Region;
use crate::format::run::{Bearers, NAME_BYTES, PAGE_BYTES, RUN_SEGMENTS, RunHead};
use crate::format::sidx::{Axis16, NameAxis};
use crate::index::layers::put_sealed;
use crate::index::retention::Retention;
use crate::index::run::{ALL_FILES, Run};
use crate::index::view::View;
use crate::io::Disk;
use crate::log::files::SegmentFile;
use crate::log::merged::merge;
use crate::sync::Arc;

const RUNS: [&str; 2] = [
    "segments/0000000001-0000000016.run",
    "segments/0000000017-0000000032.run",
];

/// How many layers are asked for a key that is nowhere, on average.
fn layers_asked(engine: &Engine) -> usize {
    let layers = Arc::clone(&engine.front.published.read().layers);
    let asked = |number: u32| {
        let digest = key_digest(format!("nowhere:{number}").as_bytes());
        layers
            .that_may_hold(Axis16::Key, &digest, (0, u64::MAX))
            .count()
    };
    (0..100).map(asked).sum::<usize>() / 100
}

#[test]
fn lookups_agree_with_brute_force() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 20);
    let early = engine.front.last_view();
    small.fill(&engine, 41);
    settle(&engine, 40);
    small.check_everywhere(&engine);
    // A view from before the second run, and partly from before the first.
    small.check(&early);
    // 8 sealed ones and the live one, and seldom 16 that a filter let pass.
    let asked = layers_asked(&engine);
    assert!((9..=11).contains(&asked), "{asked} layers are asked");
    engine.close().unwrap();
}

#[test]
fn runs_are_made_when_a_store_without_them_opens_byte_for_byte() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 35);
    settle(&engine, 34);
    engine.close().unwrap();
    let made = RUNS.map(|name| small.bytes(name).unwrap());
    for name in RUNS {
        small.disk.remove(name).unwrap();
    }
    let engine = small.open();
    small.check(&engine.front.last_view());
    settle(&engine, 34);
    assert_eq!(RUNS.map(|name| small.bytes(name).unwrap()), made);
    small.check_everywhere(&engine);
    engine.close().unwrap();
}

#[test]
fn a_run_that_is_damaged_cut_or_of_other_segments_is_made_again() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 34);
    settle(&engine, 33);
    engine.close().unwrap();
    let [first, second] = RUNS.map(|name| small.bytes(name).unwrap());
    let flip = |at: usize| {
        let mut bytes = first.clone();
        bytes[at] ^= 1;
        bytes
    };
    let filter_at = 4096;
    let cut = first[..first.len() - 1].to_vec();
    let longer = [&first[..], &[0]].concat();
    for bad in [
        flip(0),
        flip(8),
        flip(50),
        flip(4095),
        cut,
        longer,
        second.clone(),
        Vec::new(),
    ] {
        small.put(RUNS[0], &bad);
        let engine = small.open();
        small.check(&engine.front.last_view());
        settle(&engine, 33);
        assert_eq!(small.bytes(RUNS[0]).unwrap(), first);
        small.check(&engine.front.last_view());
        engine.close().unwrap();
    }
    // Damage to the filter shows when it is asked. Then the run is not asked again; it is made again when upkeep
    // comes by, which may still be the first time, or else by the next opening.
    small.put(RUNS[0], &flip(filter_at));
    let engine = small.open();
    settle(&engine, 33);
    std::thread::sleep(Duration::from_millis(50));
    small.check(&engine.front.last_view());
    let left = (!all_runs(&engine)[0].is_damaged()).then(|| first.clone());
    engine.close().unwrap();
    assert_eq!(small.bytes(RUNS[0]), left);
    let engine = small.open();
    settle(&engine, 33);
    assert_eq!(small.bytes(RUNS[0]).unwrap(), first);
    engine.close().unwrap();
    assert_eq!(small.bytes(RUNS[1]).unwrap(), second);
}

#[test]
fn a_damaged_footer_delays_its_run_until_it_is_mended() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 18);
    settle(&engine, 17);
    engine.close().unwrap();
    let made = small.bytes(RUNS[0]);
    small.disk.remove(RUNS[0]).unwrap();
    let mut segment = small.bytes("segments/0000000003.seg").unwrap();
    let at = segment.len() - 4096;
    segment[at] ^= 1;
    small.put("segments/0000000003.seg", &segment);
    small.check_opened();
    let engine = small.open();
    settle(&engine, 17);
    small.check_everywhere(&engine);
    assert_eq!(small.bytes(RUNS[0]), made);
    engine.close().unwrap();
}

/// Whoever looks into the footer finds it damaged, and makes a side index.
#[test]
fn what_a_run_denies_or_lists_opens_no_footer_under_it() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 18);
    settle(&engine, 17);
    engine.close().unwrap();
    let mut segment = small.bytes("segments/0000000003.seg").unwrap();
    let at = segment.len() - 4096;
    segment[at] ^= 1;
    small.put("segments/0000000003.seg", &segment);
    let engine = small.open();
    settle(&engine, 17);
    let view = engine.front.last_view();
    let looked_into = || small.bytes("segments/0000000003.sidx").is_some();
    for nowhere in [
        Region::entity("nowhere"),
        Region::entity_prefix("nowhere"),
        Region::all().tag("nowhere"),
        Region::all().kind("no.kind"),
    ] {
        assert_eq!(view.query(nowhere.clone()).unwrap().count(), 0);
        assert_eq!(view.count(nowhere).unwrap(), 0);
        assert!(!looked_into());
    }
    assert!(view.entities("box:").unwrap().count() > 0);
    assert!(!looked_into());
    assert!(view.query(Region::entity_prefix("box:")).unwrap().count() > 0);
    assert!(looked_into());
    engine.close().unwrap();
}

#[test]
fn a_run_of_an_earlier_life_of_the_segments_denies_nothing() {
    let mut earlier = Small::new();
    let engine = earlier.open();
    earlier.fill(&engine, 18);
    settle(&engine, 17);
    engine.close().unwrap();
    let mut small = Small::new();
    // The same store id, so that only the footers tell.
    small.put("manifest", &earlier.bytes("manifest").unwrap());
    small.disk.create_dir("segments").unwrap();
    let engine = small.open();
    small.put(RUNS[0], &earlier.bytes(RUNS[0]).unwrap());
    small.fill(&engine, 18);
    settle(&engine, 17);
    small.check_everywhere(&engine);
    assert_ne!(small.bytes(RUNS[0]), earlier.bytes(RUNS[0]));
    engine.close().unwrap();
}

#[test]
fn a_segment_that_is_not_sealed_moves_no_layer_under_a_run() {
    // Such a segment may have two layers, and is missing in the list of sealed ones.
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 34);
    settle(&engine, 33);
    let layers = Arc::clone(&engine.front.published.read().layers);
    for twice in [0, 4, 15, 16, 30] {
        let mut all = layers.all.clone();
        all.insert(twice, Arc::clone(&layers.all[twice]));
        small.check(&View::new(
            layers.with_all(all),
            engine.front.last_head(),
            0,
        ));
    }
    let mut sealed = engine.sealed.lock().clone();
    sealed.remove(20);
    let disk: Arc<dyn Disk> = Arc::new(small.disk.clone());
    assert_eq!(runs::over(&disk, &engine.store_id, &sealed).len(), 1);
    engine.close().unwrap();
}

#[test]
fn a_run_over_files_that_are_not_the_layers_is_not_asked() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 34);
    settle(&engine, 33);
    let layers = Arc::clone(&engine.front.published.read().layers);
    for (first, last) in [(1, 16), (2, 5), (9, 20), (17, 17)] {
        let files: Vec<_> = (first..=last).map(SegmentFile::original).collect();
        let (file, sealed) = merge(&small.disk, &files, 1, engine.store_id).unwrap();
        let entry = chain::entry_of(&engine.store_id, file, &sealed);
        let layer = chain::layer_of(&engine.disk, &entry, sealed.digest_before);
        let mut all = layers.all.clone();
        put_sealed(&mut all, Arc::new(layer));
        let head = engine.front.last_head();
        small.check(&View::new(layers.with_all(all), head, 0));
        small.disk.remove(&file.name()).unwrap();
    }
    engine.close().unwrap();
}

#[test]
fn no_flipped_bit_makes_a_run_deny_what_is_there() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 18);
    settle(&engine, 17);
    let sealed = engine.sealed.lock().clone();
    engine.close().unwrap();
    let last = sealed[RUN_SEGMENTS - 1].last_position;
    let events = small.events.iter().filter(|event| event.0 <= last);
    let parents = (0..events.clone().count()).filter_map(parent_of);
    let keys: Vec<_> = events
        .flat_map(|(_, id, key, entity)| {
            [
                (Axis16::Id, *id.as_bytes()),
                (Axis16::Key, key_digest(key.as_bytes())),
                (Axis16::Entity, entity_digest(entity)),
            ]
        })
        .chain(parents.map(|parent| (Axis16::Parent, *small.events[parent].1.as_bytes())))
        .collect();
    let mut bytes = small.bytes(RUNS[0]).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(small.disk.clone());
    let open = || runs::over(&disk, &engine.store_id, &sealed).remove(0);
    let whole = open();
    assert!(whole.is_usable());
    let sound = |axis, prefix| named(&whole, axis, prefix).unwrap();
    // Every third bit: some of each byte, and each of the eight.
    for bit in (0..8 * bytes.len()).step_by(3) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        small.put(RUNS[0], &bytes);
        let run = open();
        let some = keys.iter().skip(bit % 13).step_by(13);
        for (axis, key) in some {
            assert!(run.may_contain(*axis, key), "bit {bit}");
        }
        for (axis, prefix) in [(NameAxis::Entity, "box:1"), (NameAxis::Kind, "")] {
            let named = named(&run, axis, prefix);
            assert!(
                named.is_none_or(|named| named == sound(axis, prefix)),
                "bit {bit}"
            );
        }
        assert!(bit / 8 >= 4096 || !run.is_usable(), "bit {bit} of the head");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// What a run tells of names with a prefix, and in which files they are; `None` if it tells nothing.
fn named(run: &Run, axis: NameAxis, prefix: &str) -> Option<Vec<(String, Bearers)>> {
    let places = run.names(axis, prefix)?;
    let named = places.map(|place| {
        let (name, bearers) = run.nth_name(axis, place)?;
        Some((name.to_owned(), bearers))
    });
    let named = named.collect::<Option<Vec<_>>>()?;
    let files = named
        .iter()
        .fold(0, |files, (_, bearers)| files | bearers.files);
    assert_eq!(files & !run.files_with(axis, prefix), 0);
    Some(named)
}

#[test]
fn names_are_merged_where_enough_of_them_are_the_same() {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, 18);
    settle(&engine, 17);
    let run = all_runs(&engine).remove(0);
    let view = engine.front.last_view();
    let under = view.picture().layers.all[RUN_SEGMENTS - 1].last_position();
    let view = view.at_position(Position::new(under)).unwrap();
    // Brute force holds the listings against the events elsewhere.
    let listed: Vec<_> = view.entities("").unwrap().map(Result::unwrap).collect();
    let merged = named(&run, NameAxis::Entity, "").unwrap();
    assert!(!listed.is_empty());
    assert_eq!(listed.len(), merged.len());
    for (listed, (name, bearers)) in listed.iter().zip(merged) {
        assert_eq!(
            (listed.name(), listed.events()),
            (&*name, bearers.events.into())
        );
        assert_eq!(listed.last_position().get(), u64::from(bearers.last) + 1);
    }
    assert_eq!(named(&run, NameAxis::Scope, "").unwrap().len(), 1);
    assert_eq!(
        run.names(NameAxis::Tag, ""),
        None,
        "hardly any two segments share a tag"
    );
    assert_eq!(run.files_with(NameAxis::Tag, "no"), ALL_FILES);
    assert_eq!(run.files_with(NameAxis::Entity, "no"), 0);
    engine.close().unwrap();
}

#[test]
fn a_run_damaged_under_a_listing_leaves_no_name_out() {
    let small = Small::new();
    let engine = small.open();
    fill_tightly(&engine, 18);
    settle(&engine, 17);
    let listed = |view: &View| view.entities("").unwrap().collect::<Result<Vec<_>>>();
    let whole = listed(&engine.front.last_view()).unwrap();
    engine.close().unwrap();
    let run = small.bytes(RUNS[0]).unwrap();
    let (names_at, size) = RunHead::decode(&run)
        .unwrap()
        .table(NameAxis::Entity)
        .unwrap();
    let names_end = names_at + NAME_BYTES * usize::try_from(size.names).unwrap();
    let (mut at_once, mut under_way) = (0, 0);
    for at in (names_at..names_end).step_by(3 * PAGE_BYTES) {
        let mut bytes = run.clone();
        bytes[at] ^= 1;
        small.put(RUNS[0], &bytes);
        // A reader makes no run again.
        let view = small.reader().unwrap().view().unwrap();
        let run = &view.picture().layers.runs[0];
        at_once += u32::from(run.names(NameAxis::Entity, "").is_none());
        assert_eq!(listed(&view).unwrap(), whole);
        under_way += u32::from(run.is_damaged());
    }
    assert!(
        at_once > 0 && under_way > at_once + 1,
        "{at_once} of {under_way}"
    );
}

/// A plan took merged tables to be as long as they were, when the names that they share went from most files.
#[test]
fn a_plan_foresees_that_tables_shrink_with_the_names_that_go() {
    let small = Small::new();
    let engine = small.open();
    fill_tightly(&engine, 18);
    settle(&engine, 17);
    let config = CompactionConfig::new().merge_below(0);
    let config = config.remove(Retention::all_but_newest(1));
    let plan = engine.plan_compaction(&config).unwrap();
    start(&engine, config).unwrap().wait().unwrap();
    settle(&engine, 17);
    let after = small.bytes(RUNS[0]).unwrap().len() as u64;
    let (before, foreseen) = (plan.run_bytes_before, plan.run_bytes_after);
    let said = format!("{before} to {after}, {foreseen} foreseen");
    assert!(before > 3 * after, "{said}");
    assert!(foreseen.abs_diff(after) < after / 2, "{said}");
    engine.close().unwrap();
}

/// `cargo test --release --lib with_runs -- --ignored --nocapture`: what is asked of many segments, without and with.
#[test]
#[ignore = "a measurement"]
fn what_many_segments_cost_without_and_with_runs() {
    println!("| segments | asked | without runs, µs | with runs, µs | |\n|--:|---|--:|--:|--:|");
    for segments in [34, 100, 500] {
        let engine = Small::new().open();
        // Small events, as many as small segments hold: filters of a usual size.
        let events = fill_tightly(&engine, segments);
        settle(&engine, usize::try_from(segments).unwrap() - 1);
        let view = engine.front.last_view();
        let layers = Arc::clone(&engine.front.published.read().layers);
        let without = layers.with_runs(Vec::new());
        let without = View::new(without, engine.front.last_head(), 0);
        for (what, times, ask) in questions(&view, events) {
            let [without, with] = [&without, &view].map(|view| micros_each(times, view, &*ask));
            let ratio = without / with;
            println!("| {segments} | {what} | {without:.1} | {with:.1} | {ratio:.1} x |");
        }
        let start = Instant::now();
        let bytes = runs::build(&engine, &all_runs(&engine)[0])
            .unwrap()
            .unwrap();
        let (bytes, took) = (bytes.len(), start.elapsed());
        println!("{events} events; a run of {bytes} bytes is built in {took:?}");
        engine.close().unwrap();
    }
}

/// Asks one of a kind of questions, the n-th, and says how much was found.
type Ask = Box<dyn Fn(&View, u64) -> usize>;

/// What can be asked, how often, and how.
fn questions(view: &View, events: u64) -> Vec<(&'static str, u64, Ask)> {
    let count = |view: &View, region: Region| view.query(region).unwrap().count();
    let spread = move |nth: u64| 1 + nth * 7_919 % events;
    let ids: Vec<_> = (0..5_000)
        .map(|nth| view.at(spread(nth)).unwrap().unwrap().id())
        .collect();
    let id = move |nth: u64| ids[usize::try_from(nth).unwrap()];
    let nowhere = |nth| EventId::from_bytes(key_digest(format!("{nth}").as_bytes()));
    let name = |nth| format!("nowhere:{nth}");
    vec![
        (
            "an entity that is nowhere",
            5_000,
            Box::new(move |view, nth| usize::from(view.revision(&name(nth)).unwrap().get() > 0)),
        ),
        (
            "a key that is nowhere",
            5_000,
            Box::new(move |view, nth| usize::from(view.receipt(name(nth)).unwrap().is_some())),
        ),
        (
            "an id that is nowhere",
            5_000,
            Box::new(move |view, nth| usize::from(view.get(nowhere(nth)).unwrap().is_some())),
        ),
        (
            "an id that is there",
            5_000,
            Box::new(move |view, nth| usize::from(view.get(id(nth)).unwrap().is_some())),
        ),
        (
            "the events of an entity in one segment",
            1_000,
            Box::new(move |view, _| count(view, Region::entity("rare:0"))),
        ),
        (
            "the five events with a tag",
            1_000,
            Box::new(move |view, nth| {
                count(
                    view,
                    Region::all().tag(format!("order:{}", spread(nth) / 5)),
                )
            }),
        ),
        (
            "the events of a prefix that few have",
            100,
            Box::new(move |view, _| count(view, Region::entity_prefix("rare:"))),
        ),
        (
            "the first ten of 10,000 entities",
            100,
            Box::new(move |view, _| view.entities("").unwrap().take(10).count()),
        ),
        (
            "all 10,000 entities",
            3,
            Box::new(move |view, _| view.entities("").unwrap().count()),
        ),
    ]
}

fn micros_each(times: u64, view: &View, ask: &dyn Fn(&View, u64) -> usize) -> f64 {
    // Once before the clock starts, so that maps are there and pages checked.
    let found: usize = (0..times).map(|nth| ask(view, nth)).sum();
    let start = Instant::now();
    assert_eq!((0..times).map(|nth| ask(view, nth)).sum::<usize>(), found);
    start.elapsed().as_secs_f64() * 1e6 / u32::try_from(times).map_or(f64::NAN, f64::from)
}

/// Ten thousand entities in every segment, some that are in few, and a tag of five events each.
fn fill_tightly(engine: &Engine, segments: u64) -> u64 {
    let mut number = 0_u64;
    while engine.stats().segments < segments {
        let mut batch = Batch::new();
        for _ in 0..500 {
            number += 1;
            let name = match number % 100_000 {
                0..5 => format!("rare:{}", number / 100_000),
                _ => format!("box:{}", number * 7_919 % 10_000),
            };
            let at = Coordinate::new(name, "house").unwrap();
            let payload = "x".repeat(200);
            let draft = EventDraft::new(&at, EventKind::literal("box.filled"), &payload);
            batch = batch.event(draft.tag(format!("order:{}", number / 5)));
        }
        engine
            .append(batch.idempotency_key(format!("key:{number}")))
            .unwrap();
    }
    number
}
