//! Where two histories part, and how little is read to find it.

use crate::support::dice::Dice;
use crate::support::ruled::{Op, Ruled};
use crate::{grow, opened, restored, upto};
use quipu::io::MemoryDisk;
use quipu::prelude::*;
use quipu::{Difference, Identity, Upto};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

#[test]
fn the_first_position_at_which_two_stores_differ() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    let mut dice = Dice::new(41);
    grow(&store, &mut dice, 60);
    let last = store.head().position;
    let (copy, _) = restored(&disk, Upto::End, Identity::SameStore);
    let copy = opened(&copy);
    let difference = |a: &Store, b: &Store| a.view().difference(&b.view()).unwrap();
    assert_eq!(difference(&store, &copy), Difference::Equal);
    grow(&copy, &mut dice, 5);
    assert_eq!(difference(&store, &copy), Difference::Behind(last));
    assert_eq!(difference(&copy, &store), Difference::Ahead(last));
    for _ in 0..20 {
        let place = dice.next() % last.get();
        let (fork, report) = restored(&disk, upto(place), Identity::Fork);
        let fork = opened(&fork);
        let place = report.position;
        let behind = match place == 0 {
            true => Difference::Behind(Position::ZERO),
            false => Difference::Behind(place),
        };
        assert_eq!(difference(&fork, &store), behind);
        let events = 1 + u64::try_from(dice.below(30)).unwrap();
        grow(&fork, &mut dice, events);
        let parted = Difference::At(Position::new(place.get() + 1));
        assert_eq!(difference(&fork, &store), parted, "parted behind {place}");
        assert_eq!(difference(&store, &fork), parted);
    }
}

#[test]
fn stores_that_share_nothing_differ_at_once() {
    let disks = [MemoryDisk::new(), MemoryDisk::new()];
    let [a, b] = disks.each_ref().map(opened);
    let view = |store: &Store| store.view();
    assert_eq!(view(&a).difference(&view(&b)).unwrap(), Difference::Equal);
    grow(&a, &mut Dice::new(1), 5);
    let behind = Difference::Behind(Position::ZERO);
    assert_eq!(view(&b).difference(&view(&a)).unwrap(), behind);
    grow(&b, &mut Dice::new(1), 5);
    let parted = Difference::At(Position::new(1));
    assert_eq!(view(&a).difference(&view(&b)).unwrap(), parted);
}

#[test]
fn only_the_segment_in_which_they_part_is_read() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    let mut dice = Dice::new(51);
    while store.stats().segments < 12 {
        grow(&store, &mut dice, 40);
    }
    let last = store.head().position.get();
    store.close().unwrap();
    let (fork, _) = restored(&disk, upto(last * 2 / 3), Identity::Fork);
    let forked = opened(&fork);
    while forked.head().position.get() < last + 100 {
        grow(&forked, &mut dice, 40);
    }
    forked.close().unwrap();
    let mapped: [Arc<Mutex<BTreeSet<String>>>; 2] = Default::default();
    let open = |disk: &MemoryDisk, mapped: &Arc<Mutex<BTreeSet<String>>>| {
        let seen = Arc::clone(mapped);
        let ruled = Ruled::new(disk.clone(), move |call| {
            if call.op == Op::Map {
                seen.lock().unwrap().insert(call.name.to_owned());
            }
            Ok(())
        });
        Store::open_with(crate::script::config(ruled)).unwrap()
    };
    let stores = [open(&disk, &mapped[0]), open(&fork, &mapped[1])];
    let views = stores.each_ref().map(Store::view);
    mapped.iter().for_each(|seen| seen.lock().unwrap().clear());
    let difference = views[0].difference(&views[1]).unwrap();
    assert!(matches!(difference, Difference::At(place) if place.get() < last));
    let counts = mapped.map(|seen| seen.lock().unwrap().len());
    // Of 12 segments and more: the one in which they part, and those in which the shorter one's digests are folded.
    assert!(counts.iter().all(|count| *count <= 4), "{counts:?}");
}
