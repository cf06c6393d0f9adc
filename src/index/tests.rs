//! Both indexes against brute force, their size and their speed.

use std::time::{Duration, Instant};

use super::live::LiveIndex;
use super::model::{Facet, Model, Random, open_at};
use crate::format::crc::Seed;
use crate::format::group::{COMMIT_BYTES, GROUP_HEADER_BYTES};
use crate::format::record::{BatchPlace, EventFields, StreamPlace, encode_event};
use crate::format::sidx::NameAxis;
use crate::format::sidx_build::SidxBuilder;

#[test]
fn sidx_answers_as_brute_force_does() {
    let mut random = Random::from_clock();
    for count in [0, 1, 2, 3, 100, 700] {
        let model = Model::random(&mut random, count);
        let bytes = model.build();
        for start in [0, 8192] {
            let sidx = open_at(&bytes, start).unwrap();
            model.ask(&sidx).unwrap();
            model.ask(&sidx).unwrap();
            sidx.check().unwrap();
        }
    }
}

#[test]
fn rows_far_apart_read_back() {
    // One name in the first and the last row takes the widest distance that 70,000 rows lead to.
    let mut random = Random::from_clock();
    let mut builder = SidxBuilder::new(1);
    let mut model = Model::default();
    for number in 0..70_000 {
        let entity = match number {
            0 | 69_999 => "ends",
            _ => ["a", "b", "c"][number % 3],
        };
        let event = Facet {
            offset: u32::try_from(4096 + number).unwrap(),
            id: random.key(),
            entity: entity.into(),
            ..Facet::default()
        };
        builder.push(event.row());
        model.events.push(event);
    }
    let sidx = open_at(&builder.finish(model.facts()), 0).unwrap();
    sidx.check().unwrap();
    let list = |name| sidx.list(NameAxis::Entity, name).unwrap().unwrap();
    assert_eq!(list("ends").nth(1).unwrap(), 69_999);
    assert_eq!(list("a").lower_bound(30_000).unwrap(), 9_999);
    assert_eq!(list("a").nth(9_999).unwrap(), 30_000);
}

#[test]
fn the_same_events_give_the_same_bytes() {
    let model = Model::random(&mut Random::from_clock(), 500);
    assert!(model.build() == model.build());
}

#[test]
fn an_absent_key_rarely_passes_the_filter() {
    let mut random = Random::from_clock();
    let model = Model::random(&mut random, 5_000);
    let sidx = open_at(&model.build(), 0).unwrap();
    let asked = 10_000;
    let passed = (0..asked)
        .filter(|number| {
            let id = random.id_v7(*number);
            sidx.may_contain(crate::format::sidx::Axis16::Id, &id)
                .unwrap()
        })
        .count();
    println!("{passed} of {asked} absent keys pass");
    assert!(passed < asked / 20, "{passed} of {asked} pass");
}

#[test]
fn live_index_answers_as_brute_force_does() {
    let mut random = Random::from_clock();
    let mut model = Model::default();
    let mut live = LiveIndex::new(42);
    assert_eq!(live.first_position(), 42);
    for _ in 0..60 {
        for _ in 0..random.below(20) {
            let event = model.next(&mut random);
            live.push(event.row());
            model.events.push(event);
        }
        if random.below(2) == 0 {
            let rows = model.events.len().saturating_sub(random.below(25));
            live.truncate(u32::try_from(rows).unwrap());
            model.events.truncate(rows);
        }
        model.assert_live(&live);
    }
    live.truncate(u32::MAX);
    model.assert_live(&live);
    live.truncate(0);
    Model::default().assert_live(&live);
}

/// 85,000 events of 10,000 entities, 4 kinds, 50 scopes, and 10,000 tags, one on each.
fn typical() -> Vec<Facet> {
    let mut random = Random::from_clock();
    let kinds = ["order.placed", "order.paid", "order.sent", "order.closed"];
    let event = |number: usize| Facet {
        offset: u32::try_from(4096 + 380 * number).unwrap(),
        recorded_at: number as u64,
        id: random.id_v7(number),
        entity: format!("order:{:06}", random.below(10_000)),
        scope: format!("shop-{:02}", random.below(50)),
        kind: kinds[random.below(4)].into(),
        tags: vec![format!("customer:{:05}", random.below(10_000))],
        ..Facet::default()
    };
    (0..85_000).map(event).collect()
}

#[test]
fn a_typical_event_keeps_its_byte_budget() {
    let model = Model { events: typical() };
    let index = model.build().len();
    let mut log = Vec::new();
    for (group, events) in model.events.chunks(1_000).enumerate() {
        log.extend_from_slice(&[0; GROUP_HEADER_BYTES + COMMIT_BYTES]);
        for (number, event) in events.iter().enumerate() {
            put_frame(&mut log, event, 1_000 * group + number);
        }
    }
    let per_event = [index, log.len()].map(|bytes| bytes as f64 / model.events.len() as f64);
    println!("{per_event:.2?} bytes/event in index and log");
    assert!(per_event[0] <= 32.5, "{per_event:.2?} bytes/event");
    // What is left to 420 is for headers, the first, smaller segments and the checkpoint.
    assert!(
        per_event[0] + per_event[1] <= 417.0,
        "{per_event:.2?} bytes/event"
    );
}

/// A frame as the log would have it: 256 bytes of payload, in a batch of 1,000.
fn put_frame(log: &mut Vec<u8>, event: &Facet, number: usize) {
    let position = number as u64 + 1;
    let fields = EventFields {
        id: event.id,
        recorded_at: event.recorded_at,
        hash: [7; 32],
        schema_version: 1,
        // The entity's previous event is about as far away as there are entities.
        stream: match number {
            0..10_000 => StreamPlace {
                revision: 1,
                previous_position: 0,
            },
            _ => StreamPlace {
                revision: position / 10_000 + 1,
                previous_position: position - 10_000,
            },
        },
        entity: &event.entity,
        scope: &event.scope,
        kind: &event.kind,
        batch: BatchPlace {
            index: u32::try_from(number % 1_000).unwrap(),
            len: 1_000,
        },
        key: None,
        correlation: event.id,
        occurred_at: None,
        parents: [].into_iter(),
        tags: event.tags.iter().map(String::as_str),
        metadata: [].into_iter(),
    };
    let seed = Seed::new(&[0; 16], &[0; 16], 1);
    encode_event(log, &seed, 4096, position, fields, &[0; 256]);
}

#[test]
fn a_typical_live_index_keeps_its_heap_budget() {
    let events = typical();
    let mut live = LiveIndex::new(1);
    events.iter().for_each(|event| live.push(event.row()));
    let per_event = live.approx_heap_bytes() / events.len();
    println!("live index: {per_event} bytes/event on the heap");
    assert!(per_event <= 150, "{per_event} bytes/event");
}

#[test]
#[ignore = "prints times; run with --release"]
fn print_times() {
    let events = typical();
    let mut best = [Duration::MAX; 3];
    for _ in 0..5 {
        let start = Instant::now();
        let mut builder = SidxBuilder::new(1);
        events.iter().for_each(|event| builder.push(event.row()));
        best[0] = best[0].min(start.elapsed());
        let bytes = builder.finish(Model::default().facts());
        best[1] = best[1].min(start.elapsed());
        assert!(!bytes.is_empty());
        let start = Instant::now();
        let mut live = LiveIndex::new(1);
        events.iter().for_each(|event| live.push(event.row()));
        best[2] = best[2].min(start.elapsed());
    }
    let [push, build, live] = best.map(|time| time.as_nanos() / events.len() as u128);
    println!("build: {build} ns/event, of it push {push}; LiveIndex::push: {live} ns/event");
}

#[test]
#[ignore = "prints times; run with --release"]
fn print_read_times() {
    let model = Model { events: typical() };
    let sidx = open_at(&model.build(), 0).unwrap();
    sidx.check().unwrap();
    let mut random = Random::from_clock();
    let asked: Vec<_> = (0..85_000).map(|_| random.below(85_000)).collect();
    let time = |what: &str, ask: &dyn Fn(&Facet, u32) -> u32| {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            let mut sum = 0u32;
            for &n in &asked {
                sum = sum.wrapping_add(ask(&model.events[n], u32::try_from(n).unwrap()));
            }
            std::hint::black_box(sum);
            best = best.min(start.elapsed());
        }
        println!("{what}: {} ns", best.as_nanos() / asked.len() as u128);
    };
    let list = |axis, name: &str| sidx.list(axis, name).unwrap().unwrap();
    time("offset", &|_, row| sidx.offset(row).unwrap());
    time("find_id", &|event, _| {
        sidx.find_id(&event.id).unwrap().unwrap()
    });
    time("entity, its last row", &|event, _| {
        let list = list(NameAxis::Entity, &event.entity);
        list.nth(list.len() - 1).unwrap()
    });
    time("tag", &|event, _| list(NameAxis::Tag, &event.tags[0]).len());
    time("kind, first row from", &|event, row| {
        list(NameAxis::Kind, &event.kind).lower_bound(row).unwrap()
    });
}
