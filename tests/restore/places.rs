//! A restore to any place of any store is what the store was there.

use crate::support::dice::Dice;
use crate::support::number;
use crate::support::script;
use crate::support::times::TestClock;
use crate::{assert_same, batch, grow, opened, read_only, restore_into, restored, upto};
use quipu::io::{Access, Disk, MemoryDisk};
use quipu::prelude::*;
use quipu::{Identity, Upto};
use std::sync::Arc;

/// Checks one restore, for readers and for a writer that goes on.
fn check(original: &Store, disk: &MemoryDisk, place: u64, identity: Identity, dice: &mut Dice) {
    let (dest, report) = restored(disk, upto(place), identity);
    let expected = original.view_at(place).unwrap();
    assert_eq!(report.position, expected.position());
    let reader = read_only(&dest).unwrap();
    assert_same(&reader.view(), &expected);
    assert!(reader.verify().unwrap().is_sound());
    drop(reader);
    let store = opened(&dest);
    assert_same(&store.view(), &expected);
    grow(&store, dice, 4);
    if dice.one_in(3) {
        store.append_batch(batch(dice, 1 << 50)).unwrap();
    }
    assert_same(&store.view_at(report.position).unwrap(), &expected);
    let head = store.head();
    store.close().unwrap();
    let store = opened(&dest);
    assert_eq!(store.head(), head);
    let verification = store.verify().unwrap();
    assert!(verification.is_sound(), "{verification}");
}

#[test]
fn a_restore_is_the_store_as_it_was_at_any_position() {
    let first = number("QUIPU_SEED", 1);
    for seed in first..first + number("QUIPU_RESTORE_SEEDS", 3) {
        println!("seed {seed}");
        let mut dice = Dice::new(seed);
        let disk = MemoryDisk::new();
        let store = opened(&disk);
        grow(&store, &mut dice, 120);
        let last = store.head().position.get();
        let places = match number("QUIPU_RESTORE_PLACES", 12) {
            0 => (0..=last).collect(),
            few => {
                let mut places = vec![0, 1, last];
                places.extend((0..few).map(|_| dice.next() % (last + 1)));
                places
            }
        };
        for place in places {
            println!("position {place} of {last}");
            let identity = [Identity::SameStore, Identity::Fork][dice.below(2)];
            check(&store, &disk, place, identity, &mut dice);
        }
    }
}

#[test]
fn a_place_inside_a_batch_is_the_end_of_the_one_before() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    let thing = Coordinate::new("thing", "here").unwrap();
    let draft = || EventDraft::new(&thing, script::KIND, &());
    store.append_batch(Batch::new().event(draft())).unwrap();
    store
        .append_batch(Batch::new().events((0..3).map(|_| draft())))
        .unwrap();
    for (place, stands) in [(1, 1), (2, 1), (3, 1), (4, 4)] {
        let (_, report) = restored(&disk, upto(place), Identity::SameStore);
        assert_eq!(report.position, stands);
    }
    let error = restore_into(&disk, &MemoryDisk::new(), upto(5), Identity::Fork).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
}

#[test]
fn a_recorded_time_takes_all_that_was_recorded_then_or_before() {
    let (disk, clock) = (MemoryDisk::new(), TestClock::at(1_000));
    let config = script::config(disk.clone()).clock(Arc::new(clock.clone()));
    let store = Store::open_with(config).unwrap();
    let thing = Coordinate::new("thing", "here").unwrap();
    for time in [1_000, 2_000, 3_000] {
        clock.set(time);
        store.append(&thing, script::KIND, &()).unwrap();
    }
    for (time, position) in [(999, 0), (1_000, 1), (2_999, 2), (3_000, 3), (9_000, 3)] {
        let time = Upto::Time(Timestamp::from_nanos(time));
        let (dest, report) = restored(&disk, time, Identity::SameStore);
        assert_eq!(report.position, position);
        assert_eq!(opened(&dest).head().position, position);
    }
}

#[test]
fn a_store_that_is_written_meanwhile_is_restored_as_far_as_it_is_durable() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    grow(&store, &mut Dice::new(3), 40);
    let durable = store.head();
    store
        .append_batch(batch(&mut Dice::new(4), 1 << 40))
        .unwrap();
    let (dest, report) = restored(&disk, Upto::End, Identity::Fork);
    assert_eq!(report.position, durable.position);
    assert_eq!(opened(&dest).head(), durable);
}

#[test]
fn a_damaged_original_is_refused_by_the_name_of_its_file() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    let mut dice = Dice::new(61);
    while store.stats().segments < 3 {
        grow(&store, &mut dice, 20);
    }
    store.close().unwrap();
    for number in 1..=2 {
        let name = format!("segments/{number:010}.seg");
        let flip = || {
            let file = disk.open(&name, Access::Write).unwrap();
            let mut byte = [0];
            file.read_at(&mut byte, 100_000).unwrap();
            file.write_at(&[byte[0] ^ 1], 100_000).unwrap();
        };
        flip();
        let dest = MemoryDisk::new();
        let error = restore_into(&disk, &dest, Upto::End, Identity::Fork).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert!(error.to_string().starts_with(&name), "{error}");
        assert!(read_only(&dest).is_err(), "a half restore opened");
        flip();
        restore_into(&disk, &dest, Upto::End, Identity::Fork).unwrap();
        assert_same(&opened(&dest).view(), &read_only(&disk).unwrap().view());
    }
}
