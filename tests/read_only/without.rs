//! A reader without a writer: after a kill or a power cut it shows what is proven durable, and mends nothing.

use crate::support::cuts::seeds;
use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::support::power::{Image, Keep, PowerDisk};
use crate::support::script::{self, KIND, Ledger};
use crate::{Reader, is_alike};
use quipu::prelude::*;

const SECOND: &str = "segments/0000000002.seg";
const THIRD: &str = "segments/0000000003.seg";

/// What a reader shows of an image, which it leaves as it is.
fn shown(image: &Image, what: &str) -> (Reader, u64) {
    let disk = image.disk();
    let reader = Reader::open(disk.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let position = reader.view().position().get();
    assert_eq!(Image::of(&disk), *image, "{what}: something was changed");
    (reader, position)
}

/// The store as the writer opens it.
fn opened(image: &Image) -> Store {
    Store::open_with(script::config(image.disk())).unwrap()
}

/// A random history on a disk whose power can be cut, and what of it was acknowledged.
fn history(seed: u64) -> (PowerDisk, Store, Ledger) {
    let power = PowerDisk::new(seed.is_multiple_of(2));
    let store = Store::open_with(script::config(power.clone())).unwrap();
    let ledger = Ledger::default();
    let units = script::units(
        &mut Dice::new(seed),
        10 + 8 * usize::try_from(seed).unwrap(),
    );
    script::send(&store, &units, &ledger).unwrap();
    (power, store, ledger)
}

/// Nothing but what is durable: whatever the page cache still had, the reader shows no more than the poorest cut kept.
#[test]
fn after_a_power_cut_only_proven_events_are_shown() {
    for seed in seeds() {
        let (power, store, _) = history(seed);
        let mut dice = Dice::new(seed);
        let durable = opened(&power.cut(Keep::Nothing, &mut dice))
            .head()
            .position
            .get();
        for keep in [Keep::Nothing, Keep::Some, Keep::Everything] {
            let what = format!("seed {seed}, {keep:?}");
            let image = power.cut(keep, &mut dice);
            let (reader, position) = shown(&image, &what);
            assert!(position <= durable, "{what}: {position} of {durable}");
            let writer = opened(&image).view().at_position(position.into()).unwrap();
            is_alike(&reader.view(), &writer, &what);
        }
        drop(store);
    }
}

/// A kill loses nothing that was written, and the hint is exact.
#[test]
fn after_a_kill_all_acknowledged_events_are_shown() {
    for seed in seeds() {
        let (power, store, ledger) = history(seed);
        let durable = ledger.lock().unwrap().durable;
        let image = Image::of(&power.after_kill());
        drop(store);
        let (reader, position) = shown(&image, &format!("seed {seed}"));
        assert!(position >= durable as u64, "{position} of {durable}");
        let writer = opened(&image).view().at_position(position.into()).unwrap();
        is_alike(&reader.view(), &writer, &format!("seed {seed}"));
    }
}

/// Without a hint later groups and headers still say what was durable before them.
#[test]
fn without_a_hint_groups_and_headers_prove() {
    let disk = TestDisk::new();
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    let place = Coordinate::new("e:1", "here").unwrap();
    for n in 1..=5 {
        store.append(&place, KIND, &n).unwrap();
    }
    let mut image = Image::of(&disk);
    image.files.remove("hint").unwrap();
    assert_eq!(shown(&image, "small").1, 4, "nothing speaks of the last");
    while store.stats().segments < 3 {
        store.append(&place, KIND, &"x".repeat(90_000)).unwrap();
    }
    let mut image = Image::of(&disk);
    image.files.remove("hint").unwrap();
    let head = store.head().position.get();
    assert_eq!(
        shown(&image, "large").1,
        head - 1,
        "all but the new segment's"
    );
    let newest = image.files.get_mut(THIRD).unwrap();
    newest[4096..].fill(0);
    assert_eq!(
        shown(&image, "header").1,
        head - 1,
        "a header alone proves it"
    );
    // A header that a power cut took with everything in it proves nothing, and nothing is missed.
    image.files.get_mut(THIRD).unwrap().fill(0);
    let second = image.files.get_mut(SECOND).unwrap();
    let begins = |at: &usize| second[*at..].starts_with(b"QPSIDX\n\0");
    if let Some(footer) = (0..second.len()).step_by(4096).find(begins) {
        second.truncate(footer);
    }
    let (reader, position) = shown(&image, "no header");
    let after = opened(&image);
    assert!(position < head - 1);
    let then = after.view().at_position(position.into()).unwrap();
    is_alike(&reader.view(), &then, "no header");
    // But a footer stands for the segment behind it.
    store.close().unwrap();
    let mut image = Image::of(&disk);
    image.files.get_mut(THIRD).unwrap().fill(0);
    for derived in ["hint", "checkpoint"] {
        image.files.remove(derived).unwrap();
    }
    let error = Reader::open(image.disk()).err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
}

#[test]
fn a_closed_store_is_shown_whole_and_from_its_files() {
    for seed in seeds() {
        let (power, store, _) = history(seed);
        let last = store.view();
        store.close().unwrap();
        let image = Image::of(&power);
        let (reader, position) = shown(&image, "closed");
        assert_eq!(position, last.position().get(), "seed {seed}");
        is_alike(&reader.view(), &last, "closed");
        assert_eq!(reader.store.stats().index_heap_bytes, 0, "no index is made");
        for derived in ["hint", "checkpoint"] {
            let mut image = image.clone();
            image.files.remove(derived).unwrap();
            let (reader, position) = shown(&image, derived);
            assert_eq!(position, last.position().get(), "no {derived}");
            is_alike(&reader.view(), &last, derived);
        }
    }
}

#[test]
fn an_empty_store_has_nothing_to_show_and_what_is_no_store_is_refused() {
    let disk = TestDisk::new();
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    let reader = Reader::open(disk.clone()).unwrap();
    is_alike(&reader.view(), &store.view(), "empty");
    let empty = store.view();
    store.close().unwrap();
    is_alike(&reader.view(), &empty, "closed and empty");
    let late = Reader::open(disk.clone()).unwrap();
    is_alike(&late.view(), &empty, "opened when closed and empty");

    let folder = tempfile::tempdir().unwrap();
    let is_refused = |path: &std::path::Path, kind: StoreErrorKind| {
        let error = Store::open_read_only(path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    };
    is_refused(&folder.path().join("nothing"), StoreErrorKind::NotFound);
    assert!(!folder.path().join("nothing").exists());
    is_refused(folder.path(), StoreErrorKind::NotFound);
    std::fs::write(folder.path().join("file"), "text").unwrap();
    is_refused(folder.path(), StoreErrorKind::NotFound);
    is_refused(&folder.path().join("file"), StoreErrorKind::Argument);
    let mut image = Image::of(&disk);
    let manifest = image.files.remove("manifest").unwrap();
    let open = |image: &Image| Reader::open(image.disk()).err().unwrap().kind();
    assert_eq!(open(&image), StoreErrorKind::Corrupt);
    image.files.insert("manifest".to_owned(), manifest);
    image.files.get_mut("manifest").unwrap()[8] += 1;
    assert_eq!(open(&image), StoreErrorKind::Unsupported);
}
