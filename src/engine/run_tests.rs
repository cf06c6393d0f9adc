//! Runs in a store: the same answers with and without them, whatever happened to their files.

use std::time::{Duration, Instant};

use crate::engine::chain;
use crate::engine::runs;
use crate::engine::shared::Engine;
use crate::engine::small::{Small, all_runs, parent_of, settle};
use crate::event::batch::Batch;
use crate::event::coordinate::Coordinate;
use crate::event::draft::EventDraft;
use crate::event::hash::{entity_digest, key_digest};
use crate::event::id::EventId;
use crate::event::kind::EventKind;
use crate::format::run::RUN_SEGMENTS;
use crate::format::sidx::Axis16;
use crate::index::layers::put_sealed;
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
    assert!(open().is_usable());
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        small.put(RUNS[0], &bytes);
        let run = open();
        let some = keys.iter().skip(bit % 13).step_by(13);
        for (axis, key) in some {
            assert!(run.may_contain(*axis, key), "bit {bit}");
        }
        assert!(bit / 8 >= 4096 || !run.is_usable(), "bit {bit} of the head");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// `cargo test --release --lib lookups_take -- --ignored --nocapture`: what an absent name costs, without runs and with.
#[test]
#[ignore = "a measurement"]
fn lookups_take_less_with_runs() {
    let engine = Small::new().open();
    // Small events, as many as small segments hold: filters of a usual size.
    let events = fill_tightly(&engine, 500);
    println!("{events} events in {} segments", engine.stats().segments);
    settle(&engine, 499);
    let view = engine.front.last_view();
    let layers = Arc::clone(&engine.front.published.read().layers);
    let without = layers.with_runs(Vec::new());
    let without = View::new(without, engine.front.last_head(), 0);
    for (name, view) in [("without runs", &without), ("with runs", &view)] {
        let _ = absent_lookup_nanos(view, 20_000);
        let [entity, key, id] = absent_lookup_nanos(view, 20_000);
        println!("{name}: absent entity {entity} ns, key {key} ns, id {id} ns");
    }
    println!("{} layers are asked", layers_asked(&engine));
    let start = Instant::now();
    let bytes = runs::build(&engine, &all_runs(&engine)[0]);
    println!(
        "a run of {} bytes is built in {:?}",
        bytes.unwrap().unwrap().len(),
        start.elapsed()
    );
    engine.close().unwrap();
}

fn fill_tightly(engine: &Engine, segments: u64) -> u64 {
    let mut number = 0_u64;
    while engine.stats().segments < segments {
        let mut batch = Batch::new();
        for _ in 0..500 {
            number += 1;
            let at = Coordinate::new(format!("box:{}", number * 7_919 % 10_000), "house").unwrap();
            let payload = "x".repeat(200);
            batch = batch.event(EventDraft::new(
                &at,
                EventKind::literal("box.filled"),
                &payload,
            ));
        }
        engine
            .append(batch.idempotency_key(format!("key:{number}")))
            .unwrap();
    }
    number
}

fn absent_lookup_nanos(view: &View, times: u32) -> [u128; 3] {
    let names: Vec<String> = (0..times).map(|n| format!("nowhere:{n}")).collect();
    let time = |ask: &dyn Fn(&str)| {
        let start = Instant::now();
        names.iter().for_each(|name| ask(name));
        start.elapsed().as_nanos() / u128::from(times)
    };
    [
        time(&|name| assert_eq!(view.revision(name).unwrap(), 0)),
        time(&|name| assert!(view.receipt(name).unwrap().is_none())),
        time(&|name| {
            let digest = key_digest(name.as_bytes());
            assert!(view.get(EventId::from_bytes(digest)).unwrap().is_none());
        }),
    ]
}
