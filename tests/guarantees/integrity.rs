//! Integrity: damaged bytes are reported, never returned, never taken for absent, never a panic.

use crate::support::golden::{self, Answers, Golden};
use crate::support::power::Image;
use quipu::Verification;
use quipu::io::Disk;
use quipu::prelude::*;

const DAMAGE: [StoreErrorKind; 3] = [
    StoreErrorKind::Corrupt,
    StoreErrorKind::Unsupported,
    StoreErrorKind::Argument,
];

/// Every bit of every byte with `QUIPU_DEEP` set, else one bit of a byte now and then.
fn is_deep() -> bool {
    std::env::var_os("QUIPU_DEEP").is_some()
}

fn bits(at: usize) -> Vec<usize> {
    match is_deep() {
        true => (0..8).collect(),
        false => vec![at % 8],
    }
}

/// Which bytes to damage: the log and the manifest all over, the long zeros of other files and pages here and there.
fn places(name: &str, len: usize) -> impl Iterator<Item = usize> {
    let log = name.ends_with(".seg");
    (0..len).filter(move |at| {
        let dense = len < 512 || log && (*at < 160 || *at >= 4096);
        is_deep() || dense || at % 13 == 0
    })
}

/// Either all is answered alike, or an error says that something is damaged.
fn reported_or_right(golden: &Golden, image: &Image, what: &str) -> bool {
    match golden.survives(image, what) {
        Ok(()) => false,
        Err(error) => {
            assert!(DAMAGE.contains(&error.kind()), "{what}: {error}");
            true
        }
    }
}

fn flip_everywhere(golden: &Golden, name: &str) -> usize {
    let len = golden.image.files[name].len();
    let mut reported = 0;
    for at in places(name, len) {
        for bit in bits(at) {
            let image = golden.with(name, |bytes| bytes[at] ^= 1 << bit);
            let what = format!("{name}: bit {bit} of byte {at}");
            reported += usize::from(reported_or_right(golden, &image, &what));
        }
    }
    println!("{name}: {reported} reported, {len} bytes");
    reported
}

#[test]
fn no_flipped_bit_of_a_closed_store_is_taken_for_data_or_absence() {
    let golden = golden::closed(0);
    for name in golden.image.files.keys() {
        let reported = flip_everywhere(&golden, name);
        match name.as_str() {
            "hint" | "checkpoint" | "lock" => {
                assert_eq!(reported, 0, "{name} is derived or evidence")
            }
            _ => assert!(reported > 60.min(golden.image.files[name].len() / 2)),
        }
    }
}

#[test]
fn no_truncated_file_of_a_closed_store_is_taken_for_data_or_absence() {
    let golden = golden::closed(0);
    for (name, bytes) in &golden.image.files {
        for len in places(name, bytes.len()) {
            let image = golden.with(name, |bytes| bytes.truncate(len));
            let what = format!("{name} cut to {len}");
            let reported = reported_or_right(&golden, &image, &what);
            let needed = name.ends_with(".seg") || name == "manifest";
            assert_eq!(reported, needed, "{what}");
        }
    }
}

/// In the log of the active segment damage under acknowledged events is found at opening, before anything is shown.
#[test]
fn no_flipped_bit_under_acknowledged_events_lets_a_killed_store_open() {
    let golden = golden::killed(0);
    let name = "segments/0000000001.seg";
    let used = golden.image.files[name]
        .iter()
        .rposition(|b| *b != 0)
        .unwrap();
    for at in (0..160).chain(4096..=used) {
        let image = golden.with(name, |bytes| bytes[at] ^= 1 << (at % 8));
        let opened = Store::open_with(golden::config(&image.disk()));
        let error = opened.expect_err("damage under acknowledged events");
        assert!(DAMAGE.contains(&error.kind()), "byte {at}: {error}");
        assert!(error.to_string().contains(name), "byte {at}: {error}");
    }
}

/// A sample of the bytes of segments with footers: a few of each block, and every one of a footer's head and end.
#[test]
fn no_flipped_bit_in_a_sealed_segment_is_taken_for_data_or_absence() {
    for golden in [golden::closed(7), golden::killed(7)] {
        for name in ["segments/0000000001.seg", "segments/0000000002.seg"] {
            let len = golden.image.files[name].len();
            let step = if std::env::var_os("QUIPU_DEEP").is_some() {
                97
            } else {
                7919
            };
            let end = len.saturating_sub(24 * 1024)..len;
            for at in (0..len).step_by(step).chain(end.step_by(step / 40)) {
                let image = golden.with(name, |bytes| bytes[at] ^= 1 << (at % 8));
                reported_or_right(&golden, &image, &format!("{name} byte {at}"));
            }
        }
    }
}

/// Found by reading: a damaged footer was made again from a segment that had a damaged frame as well. The walk ended
/// there, the new footer knew nothing of the events behind it, and they were "not found".
#[test]
fn events_behind_a_damaged_frame_are_not_absent_when_the_footer_is_damaged_too() {
    let golden = golden::closed(7);
    let name = "segments/0000000001.seg";
    let bytes = &golden.image.files[name];
    let log_end = bytes.windows(6).rposition(|w| w == b"cccccc").unwrap();
    assert!(log_end + 4096 < bytes.len());
    for footer_byte in (log_end + 4096..bytes.len()).step_by(512) {
        let image = golden.with(name, |bytes| {
            bytes[450_000] ^= 1;
            bytes[footer_byte] ^= 1;
        });
        let Ok(store) = Store::open_with(golden::config(&image.disk())) else {
            continue;
        };
        for (position, id, ..) in &golden.answers.events {
            match store.get(*id) {
                Ok(Some(event)) => assert_eq!(event.position().get(), *position),
                Ok(None) => panic!("event {position} is absent, footer byte {footer_byte}"),
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}"),
            }
        }
        let stream: quipu::Result<Vec<_>> = store.stream("big:2").unwrap().collect();
        assert!(stream.is_err() || stream.unwrap().len() == 2);
    }
}

/// Opens what is left: an error of the opening, or what a verification finds.
fn verified(image: &Image) -> quipu::Result<Verification> {
    let store = Store::open_with(golden::config(&image.disk()))?;
    store.verify()
}

fn assert_found(image: &Image, what: &str) {
    match verified(image) {
        Ok(found) => assert!(
            found.damages_found + found.repairable_found > 0,
            "{what}: {found}"
        ),
        Err(error) => assert!(DAMAGE.contains(&error.kind()), "{what}: {error}"),
    }
}

/// Of a segment every byte counts: log, footer, and the zeros between them.
fn flip_and_verify(golden: &Golden, name: &str, step: usize) {
    for at in (0..golden.image.files[name].len()).step_by(step) {
        for bit in bits(at) {
            let image = golden.with(name, |bytes| bytes[at] ^= 1 << bit);
            assert_found(&image, &format!("{name}: bit {bit} of byte {at}"));
        }
    }
}

#[test]
fn every_flipped_bit_of_a_segment_is_found_by_verify() {
    let step = if is_deep() { 1 } else { 11 };
    flip_and_verify(&golden::closed(0), "segments/0000000001.seg", step);
    let sealed = golden::closed(7);
    let step = if is_deep() { 61 } else { 6007 };
    for name in ["segments/0000000001.seg", "segments/0000000002.seg"] {
        flip_and_verify(&sealed, name, step);
        let len = sealed.image.files[name].len();
        // Footer and what stands before it.
        for at in (len.saturating_sub(20_000)..len).step_by(if is_deep() { 1 } else { 97 }) {
            let image = sealed.with(name, |bytes| bytes[at] ^= 1 << (at % 8));
            assert_found(&image, &format!("{name}: byte {at}"));
        }
    }
}

/// Damage in one segment does not end the verification: the others are gone through, and what could not be is counted.
#[test]
fn verify_goes_on_behind_damage_and_says_where_it_is() {
    let golden = golden::closed(7);
    let name = "segments/0000000001.seg";
    let image = golden.with(name, |bytes| bytes[450_000] ^= 1);
    let found = verified(&image).unwrap();
    assert!(!found.is_sound());
    assert_eq!(found.damages_found, 1, "{found}");
    let damage = &found.damages[0];
    assert_eq!(damage.file, name);
    assert!((300_000..450_000).contains(&damage.offset), "{damage}");
    assert_eq!(damage.position, Some(Position::new(2)));
    assert_eq!(found.segments, 3);
    let events = golden.answers.events.len() as u64;
    assert!(found.unproven > 0 && found.events + 2 >= events, "{found}");
}

#[test]
fn verify_finds_a_missing_file_under_an_open_store() {
    let golden = golden::closed(7);
    let disk = golden.image.disk();
    let store = Store::open_with(golden::config(&disk)).unwrap();
    disk.remove("segments/0000000001.seg").unwrap();
    let found = store.verify().unwrap();
    assert_eq!(found.damages_found, 1, "{found}");
    assert_eq!(found.damages[0].file, "segments/0000000001.seg");
}

#[test]
fn verify_tells_damage_of_derived_files_apart() {
    let golden = golden::closed(7);
    for (name, at) in [("checkpoint", 30), ("checkpoint", 4100), ("hint", 0)] {
        let disk = golden.image.disk();
        let store = Store::open_with(golden::config(&disk)).unwrap();
        let mut bytes = golden.image.files[name].clone();
        match name {
            "hint" => bytes.fill(7),
            _ => bytes[at] ^= 1,
        }
        let file = disk.open(name, quipu::io::Access::Write).unwrap();
        file.write_at(&bytes, 0).unwrap();
        let found = store.verify().unwrap();
        assert!(found.is_sound(), "{name}: {found}");
        assert_eq!(found.repairable_found, 1, "{name}: {found}");
        assert_eq!(found.repairable[0].file, name);
    }
}

/// A page that shows the chain: each event names the one before it in its stream.
#[test]
fn each_event_is_chained_to_the_one_before_it_in_its_stream() {
    let golden = golden::closed(3);
    let store = Store::open_with(golden::config(&golden.image.disk())).unwrap();
    for event in store.query(Query::all()).unwrap() {
        let event = event.unwrap();
        match store.previous(&event).unwrap() {
            Some(before) => {
                assert_eq!(before.entity(), event.entity());
                assert_eq!(before.revision().get() + 1, event.revision().get());
                assert!(before.position() < event.position());
            }
            None => assert_eq!(event.revision().get(), 1),
        }
    }
}

/// The running digest names the whole history: one other byte in an early event, and every later digest differs.
#[test]
fn another_history_has_another_digest() {
    let head = |payload: u32| {
        let store = Store::in_memory().unwrap();
        let place = Coordinate::new("e", "s").unwrap();
        for number in [payload, 2, 3] {
            store
                .append(&place, EventKind::literal("a"), &number)
                .unwrap();
        }
        store.head()
    };
    assert_ne!(head(1).digest, head(9).digest);
}

/// An iterator that met damage ends: it does not go on with what comes after.
#[test]
fn iterator_is_fused_after_an_error() {
    let golden = golden::closed(7);
    // The second event's frame begins behind the first group: 4096 and some 300,000 bytes.
    let image = golden.with("segments/0000000001.seg", |bytes| {
        let second = bytes.windows(6).rposition(|w| w == b"bbbbbb").unwrap() - 300_000;
        bytes[second - 40..second].fill(0xff);
    });
    let store = Store::open_with(golden::config(&image.disk())).unwrap();
    let mut events = store.query(Query::all()).unwrap();
    let good = events.by_ref().take_while(Result::is_ok).count();
    assert_eq!(good, 1);
    assert_eq!(events.count(), 0);
    assert!(Answers::of(&store).is_err());
}
