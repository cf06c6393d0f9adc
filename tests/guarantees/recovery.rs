//! Recovery: whatever stopped the process, the store opens with all that was acknowledged, or says what is damaged.

use crate::support::child::{self, Role};
use crate::support::cuts::{cut_everywhere, seeds};
use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::support::golden::{self, Golden};
use crate::support::number;
use crate::support::power::{Image, Keep, PowerDisk};
use crate::support::ruled::{Op, Ruled};
use crate::support::script::{self, KIND, Sent};
use quipu::prelude::*;

const FIRST: &str = "segments/0000000001.seg";
const SECOND: &str = "segments/0000000002.seg";
const THIRD: &str = "segments/0000000003.seg";

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

/// Opening fails, names `file`, and leaves everything as it is.
fn is_refused(image: &Image, file: &str, what: &str) {
    let memory = image.disk();
    let error = Store::open_with(golden::config(&memory)).expect_err(what);
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{what}: {error}");
    assert!(error.to_string().contains(file), "{what}: {error}");
    let after = Image::of(&memory);
    for (name, bytes) in &image.files {
        let unchanged = after.files.get(name) == Some(bytes);
        let spare = bytes.iter().all(|b| *b == 0);
        assert!(
            unchanged || spare || name == "lock",
            "{what}: {name} was changed"
        );
    }
}

/// Opens, answers everything alike, takes an append, and does so again after a close.
fn is_whole(golden: &Golden, image: &Image, what: &str) {
    golden
        .survives(image, what)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let memory = image.disk();
    let store = Store::open_with(golden::config(&memory)).unwrap();
    let head = store.append(&place(), KIND, &1).unwrap().position();
    store.close().unwrap();
    let store = Store::open_with(golden::config(&memory)).unwrap();
    assert_eq!(store.head().position, head, "{what}");
}

/// Found by this test: power cut just after a rotation left two files without a header, the new segment, not yet
/// synced, and the one kept ready behind it; only the newest was taken away, and the store was refused.
#[test]
fn acked_events_survive_a_power_cut_at_every_call() {
    for seed in seeds() {
        let started = std::time::Instant::now();
        let calls = cut_everywhere(seed, 40, 2, seed % 2 == 1);
        println!("seed {seed}: {calls} calls, {:?}", started.elapsed());
    }
}

/// What a store showed after a kill is there after a power cut that follows: kept bytes are synced before they are shown.
#[test]
fn what_was_shown_after_a_kill_survives_a_power_cut() {
    let power = PowerDisk::new(true);
    let store = Store::open_with(script::config(power.clone())).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    let buffered = AppendOptions::new().durability(Durability::Buffered);
    for n in 0..5 {
        store
            .append_with_options(&place(), KIND, &n, buffered.clone())
            .unwrap();
    }
    let killed = power.after_kill();
    drop(store);
    let store = Store::open_with(script::config(killed.clone())).unwrap();
    assert_eq!(
        store.head().position.get(),
        6,
        "a kill loses nothing that was written"
    );
    for seed in 0..8 {
        let image = killed.cut(Keep::Some, &mut Dice::new(seed));
        let after = Store::open_with(script::config(image.disk())).unwrap();
        assert_eq!(after.head(), store.head(), "seed {seed}");
    }
}

/// A process that appends from several threads is killed; every receipt that it told of is found again.
#[test]
fn acked_events_survive_a_kill() {
    if let Some(path) = child::place_for("append") {
        return append_until_killed(&path);
    }
    let kills: u64 = number("QUIPU_KILLS", 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut dice = Dice::new(7);
    let mut acked: Vec<(u64, String)> = Vec::new();
    for kill in 0..kills {
        let mut child = Role::start("recovery::acked_events_survive_a_kill", "append", &path);
        let until = acked.len() + 1 + dice.below(200);
        while acked.len() < until {
            let told = child.hear().expect("the child appends until it is killed");
            acked.push(parse(&told));
        }
        child.kill();
        while let Some(told) = child.hear() {
            acked.push(parse(&told));
        }
        let store = Store::open_with(StoreConfig::new(&path).segment_bytes(1 << 20)).unwrap();
        for (position, hash) in &acked {
            let event = store.at(*position).unwrap().expect("an acknowledged event");
            assert_eq!(
                &event.hash().to_string(),
                hash,
                "kill {kill}, position {position}"
            );
        }
        for (next, event) in (1..).zip(store.query(Query::all()).unwrap()) {
            assert_eq!(event.unwrap().position().get(), next, "kill {kill}");
        }
    }
}

fn parse(told: &str) -> (u64, String) {
    let (position, hash) = told.split_once(' ').unwrap();
    (position.parse().unwrap(), hash.to_owned())
}

fn append_until_killed(path: &std::path::Path) {
    let store = Store::open_with(StoreConfig::new(path).segment_bytes(1 << 20)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let place = Coordinate::new(format!("t:{thread}"), "here").unwrap();
                for n in 0_usize.. {
                    let receipt = store
                        .append(&place, KIND, &"x".repeat(n * 37 % 3000))
                        .unwrap();
                    child::tell(format_args!("{} {}", receipt.position(), receipt.hash()));
                }
            });
        }
    });
}

#[test]
fn derived_files_may_be_missing_or_damaged() {
    let closed = golden::closed(7);
    is_whole(&closed, &closed.image, "as it is");
    for names in [vec!["checkpoint"], vec!["hint"], vec!["checkpoint", "hint"]] {
        is_whole(
            &closed,
            &closed.without(&names),
            &format!("without {names:?}"),
        );
    }
    for name in ["checkpoint", "hint"] {
        for fill in [0, 0xff, b'7'] {
            let image = closed.with(name, |bytes| bytes.fill(fill));
            is_whole(&closed, &image, &format!("{name} filled with {fill}"));
        }
        is_whole(
            &closed,
            &closed.with(name, Vec::clear),
            &format!("{name} emptied"),
        );
    }
    let killed = golden::killed(7);
    is_whole(&killed, &killed.image, "killed");
    is_whole(&killed, &killed.without(&["hint"]), "killed, without hint");
}

/// A footer is made again from its segment: cut off, half there, or all wrong, with and without a checkpoint.
#[test]
fn sealed_segment_without_a_good_footer_gets_one() {
    let closed = golden::closed(7);
    let log_end = closed.image.files[FIRST]
        .windows(6)
        .rposition(|w| w == b"cccccc")
        .unwrap()
        + 1024;
    let footer = log_end.next_multiple_of(4096);
    for checkpoint in [true, false] {
        let change = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut image = closed.with(FIRST, change);
            if !checkpoint {
                image.files.remove("checkpoint");
            }
            image
        };
        let len = closed.image.files[FIRST].len();
        assert!(footer < len);
        let what = |what: &str| format!("footer {what}, checkpoint {checkpoint}");
        is_whole(&closed, &change(&|b| b.truncate(footer)), &what("gone"));
        is_whole(&closed, &change(&|b| b.truncate(len - 1)), &what("short"));
        is_whole(&closed, &change(&|b| b[footer..].fill(0)), &what("zero"));
        is_whole(
            &closed,
            &change(&|b| b[footer..].fill(0xee)),
            &what("wrong"),
        );
        is_whole(
            &closed,
            &change(&|b| b[len - 1] ^= 1),
            &what("with a bad end"),
        );
    }
}

/// What is derived is a function of the log: made again, it has the bytes that it had.
#[test]
fn derived_files_are_made_again_byte_for_byte() {
    let closed = golden::closed(7);
    let reopened = |image: &Image| {
        let memory = image.disk();
        let store = Store::open_with(golden::config(&memory)).unwrap();
        assert_eq!(store.query(Query::all()).unwrap().count(), 15);
        store.close().unwrap();
        Image::of(&memory).files
    };
    let kept = reopened(&closed.image);
    let checkpoint = reopened(&closed.without(&["checkpoint"]));
    assert!(checkpoint["checkpoint"] == kept["checkpoint"], "checkpoint");
    let segment = &closed.image.files[FIRST];
    let footer = (0..segment.len())
        .step_by(4096)
        .find(|at| segment[*at..].starts_with(b"QPSIDX"))
        .unwrap();
    let files = reopened(&closed.with(FIRST, |bytes| bytes.truncate(footer)));
    let again = files.iter().find(|(name, bytes)| {
        name.starts_with("segments/") && bytes.ends_with(&segment[footer..]) && *name != SECOND
    });
    assert!(
        again.is_some(),
        "no file has the footer: {:?}",
        files.keys()
    );
}

/// Files that are missing, of another store, or in each other's place.
#[test]
fn missing_and_mixed_up_files_are_refused() {
    for golden in [golden::closed(7), golden::killed(7)] {
        assert!(
            golden.image.files.contains_key(THIRD),
            "the golden store has three segments"
        );
        is_refused(&golden.without(&["manifest"]), "manifest", "no manifest");
        is_refused(&golden.without(&[FIRST]), FIRST, "no first segment");
        is_refused(&golden.without(&[SECOND]), SECOND, "no middle segment");
        let later: Vec<&str> = golden.image.files.keys().map(String::as_str).collect();
        let later: Vec<&str> = later
            .into_iter()
            .filter(|n| n.starts_with("segments/") && *n >= THIRD)
            .collect();
        is_refused(&golden.without(&later), THIRD, "no newest segment");

        let mut swapped = golden.image.clone();
        let first = swapped.files.remove(FIRST).unwrap();
        let second = swapped.files.insert(SECOND.to_owned(), first).unwrap();
        swapped.files.insert(FIRST.to_owned(), second);
        is_refused(&swapped, FIRST, "two segments swapped");

        let mut doubled = golden.image.clone();
        doubled
            .files
            .insert(SECOND.to_owned(), golden.image.files[FIRST].clone());
        is_refused(&doubled, SECOND, "a segment twice");

        let other = golden::closed(7).image;
        for name in [FIRST, SECOND, THIRD] {
            let mut mixed = golden.image.clone();
            mixed
                .files
                .insert(name.to_owned(), other.files[name].clone());
            is_refused(&mixed, name, "another store's segment");
        }
    }
}

/// An older copy of the newest segment was put back: all is valid in it, and acknowledged events are missing.
#[test]
fn acked_data_is_never_truncated() {
    let memory = TestDisk::new();
    let store = Store::open_with(golden::config(&memory)).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    let older = Image::of(&memory).files.remove(FIRST).unwrap();
    store.append(&place(), KIND, &2).unwrap();
    let mut image = Image::of(&memory);
    image.files.remove("lock");
    image.files.insert(FIRST.to_owned(), older);
    is_refused(&image, FIRST, "an older copy");
}

/// The last group was acknowledged, which the hint proves: nothing of it may be missing, whatever its tail looks like.
#[test]
fn every_truncation_of_acknowledged_groups_is_refused() {
    let golden = golden::killed(0);
    let end = golden.image.files[FIRST]
        .iter()
        .rposition(|b| *b != 0)
        .unwrap()
        + 1;
    for kept in (4096..end).rev().step_by(5) {
        let zeroed = golden.with(FIRST, |bytes| bytes[kept..].fill(0));
        is_refused(&zeroed, FIRST, &format!("zeros from {kept}"));
        let cut = golden.with(FIRST, |bytes| bytes.truncate(kept));
        is_refused(&cut, FIRST, &format!("cut to {kept}"));
    }
    let sector = |at: usize| at..(at + 512).min(end);
    for at in (4096..end).step_by(512) {
        let image = golden.with(FIRST, |bytes| bytes[sector(at)].fill(0));
        is_refused(&image, FIRST, &format!("a zero sector at {at}"));
    }
}

/// The same without acknowledgement: the last groups were buffered. Every tail that a crash leaves opens.
#[test]
fn every_torn_tail_of_unacknowledged_groups_is_cut() {
    let memory = TestDisk::new();
    let store = Store::open_with(script::config(memory.clone())).unwrap();
    let acked = store.append(&place(), KIND, &1).unwrap();
    let mut ends = vec![end_of(&memory)];
    for n in 0..3 {
        let options = AppendOptions::new().durability(Durability::Buffered);
        let payload = char::from(b'a' + n).to_string().repeat(700);
        store
            .append_with_options(&place(), KIND, &payload, options)
            .unwrap();
        ends.push(end_of(&memory));
    }
    let mut image = Image::of(&memory);
    image.files.remove("lock");
    drop(store);
    assert!(acked.durable());
    let deep = std::env::var_os("QUIPU_DEEP").is_some();
    let edge = |kept: &usize| ends.iter().any(|end| kept.abs_diff(*end) < 3);
    for kept in (ends[0]..=ends[3]).filter(|k| deep || k % 11 == 0 || k % 512 == 0 || edge(k)) {
        let whole = ends.iter().filter(|end| **end <= kept).count();
        for cut in [true, false] {
            let mut image = image.clone();
            let bytes = image.files.get_mut(FIRST).unwrap();
            match cut {
                true => bytes.truncate(kept),
                false => bytes[kept..].fill(0),
            }
            let memory = image.disk();
            let store = Store::open_with(script::config(memory.clone()))
                .unwrap_or_else(|e| panic!("{kept} kept, cut {cut}: {e}"));
            assert_eq!(
                store.head().position.get(),
                whole as u64,
                "{kept} kept, cut {cut}"
            );
            if kept % 8 == 0 {
                let position = store.append(&place(), KIND, &1).unwrap().position();
                drop(store);
                let store = Store::open_with(script::config(memory)).unwrap();
                assert_eq!(store.head().position, position);
            }
        }
    }
}

fn end_of(disk: &TestDisk) -> usize {
    Image::of(disk).files[FIRST]
        .iter()
        .rposition(|b| *b != 0)
        .unwrap()
        + 1
}

/// What is cut is kept aside, and zeroed in the segment.
#[test]
fn a_cut_tail_is_kept_aside() {
    let golden = golden::killed(0);
    let end = golden.image.files[FIRST]
        .iter()
        .rposition(|b| *b != 0)
        .unwrap()
        + 1;
    let image = golden.with(FIRST, |bytes| {
        bytes[end..end + 40].copy_from_slice(&[0xab; 40])
    });
    let memory = image.disk();
    let store = Store::open_with(golden::config(&memory)).unwrap();
    assert_eq!(store.head(), golden.answers.head());
    let after = Image::of(&memory);
    assert_eq!(after.files["segments/0000000001.torn-1"], [0xab; 40]);
    assert_eq!(after.files[FIRST][end..end + 40], [0; 40]);
}

/// A crash while the next segment was being made: empty, zeros, or the beginning of a header.
#[test]
fn half_made_next_segment_is_taken_away() {
    let golden = golden::killed(0);
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("short", vec![0; 100]),
        ("zeros", vec![0; 1 << 20]),
        ("torn", [vec![b'Q'; 80], vec![0; 9000]].concat()),
    ] {
        let mut image = golden.image.clone();
        image.files.insert(SECOND.to_owned(), bytes);
        is_whole(&golden, &image, what);
    }
}

/// Unreadable is never absent: a read error while opening is an error, and changes nothing.
#[test]
fn a_read_error_is_not_the_end_of_the_log() {
    let golden = golden::killed(7);
    let memory = golden.image.disk();
    for nth in 0.. {
        let reads = std::sync::atomic::AtomicUsize::new(0);
        let disk = Ruled::new(memory.clone(), move |call| {
            let fails = call.op == Op::Read
                && reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == nth;
            match fails {
                true => Err(std::io::Error::from_raw_os_error(5)),
                false => Ok(()),
            }
        });
        let opened = Store::open_with(script::config(disk));
        match opened {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Io, "read {nth}: {error}"),
            Ok(store) => {
                assert_eq!(store.head(), golden.answers.head(), "read {nth}");
                break;
            }
        }
    }
    golden
        .survives(&Image::of(&memory), "after read errors")
        .unwrap();
}

/// A checkpoint, or the footer of the segment before a half-made one, that could not be opened once was taken for
/// absent; without a hint, acknowledged events in the newest segment were then taken for a rotation that did not finish.
#[test]
fn a_file_that_cannot_be_opened_is_not_an_absent_one() {
    let golden = golden::closed(7);
    let mut image = golden.image.clone();
    image.files.remove("hint");
    let newest = image
        .files
        .keys()
        .rfind(|name| name.ends_with(".seg"))
        .unwrap()
        .clone();
    image.files.get_mut(&newest).unwrap()[12] ^= 1;
    for op in [Op::Open, Op::Map] {
        for without_checkpoint in [false, true] {
            let mut image = image.clone();
            if without_checkpoint {
                image.files.remove("checkpoint");
            }
            for nth in 0..8 {
                let calls = std::sync::atomic::AtomicUsize::new(0);
                let disk = Ruled::new(image.disk(), move |call| {
                    let met = call.op == op
                        && calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == nth;
                    if met {
                        Err(std::io::Error::from_raw_os_error(5))
                    } else {
                        Ok(())
                    }
                });
                let opened = Store::open_with(script::config(disk)).map(|store| store.head());
                assert!(opened.is_err(), "{op:?} {nth} failed, and {opened:?}");
            }
        }
    }
}

/// Recovering what was just recovered changes nothing more, in a real directory too.
#[test]
fn recovery_of_a_recovered_store_changes_nothing() {
    let golden = golden::killed(4);
    let dir = tempfile::tempdir().unwrap();
    golden.image.write_to(dir.path());
    let open = || Store::open_with(StoreConfig::new(dir.path()).segment_bytes(1 << 20)).unwrap();
    let store = open();
    assert_eq!(golden::Answers::of(&store).unwrap(), golden.answers);
    store.close().unwrap();
    let once = Image::of(&quipu::io::RealDisk::new(dir.path()));
    open().close().unwrap();
    let twice = Image::of(&quipu::io::RealDisk::new(dir.path()));
    for (name, bytes) in once.files.iter().filter(|(name, _)| *name != "hint") {
        assert!(twice.files[name] == *bytes, "{name}");
    }
}

/// A store that holds what a script sent; used by the cuts, checked here to see what is wrong.
#[test]
fn the_check_of_the_cuts_sees_loss() {
    let store = Store::in_memory().unwrap();
    let sent = Sent {
        durable: 1,
        ..Sent::default()
    };
    assert!(script::check(&store, &sent, 1).is_err());
    assert_eq!(script::check(&store, &sent, 0), Ok(0));
    store.append(&place(), KIND, &1).unwrap();
    assert!(script::check(&store, &sent, 0).is_err());
}
