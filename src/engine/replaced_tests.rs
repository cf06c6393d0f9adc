//! Stores in which compaction replaced ranges: whatever the shape, they open and answer as before.

use crate::engine::open::open;
use crate::engine::shared::Engine;
use crate::engine::small::{Small, all_runs, config, settle};
use crate::error::StoreErrorKind;
use crate::format::manifest::Replaced;
use crate::io::{Access, Disk, MemoryDisk};
use crate::log::files::{SEGMENTS, SegmentFile, run_name, write_manifest};
use crate::log::merged::merge;

/// The ranges that are replaced, one after the other.
type Shape = &'static [(u64, u64)];

/// A closed store of `segments` small segments, the last of them active.
fn closed(segments: u64) -> Small {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, segments);
    settle(&engine, usize::try_from(segments).unwrap() - 1);
    engine.close().unwrap();
    small
}

/// Writes a replacement for each range, and says so in the manifest; what is replaced stays where it is.
fn replace(small: &Small, ranges: &[(u64, u64)]) {
    let disk = &small.disk;
    for (first, last) in ranges {
        let mut manifest = small.manifest();
        let mut files: Vec<_> = (*first..=*last)
            .map(|number| SegmentFile::holding(&manifest, number))
            .collect();
        files.dedup();
        manifest.generation += 1;
        let generation = manifest.generation;
        merge(disk, &files, generation, manifest.store_id).unwrap();
        let gone = |range: &Replaced| *first <= range.first && range.last <= *last;
        manifest.replaced.retain(|range| !gone(range));
        manifest.replaced.push(Replaced {
            first: *first,
            last: *last,
            generation,
        });
        manifest.replaced.sort_unstable_by_key(|range| range.first);
        write_manifest(disk, &manifest).unwrap();
    }
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    let files = disk.list(SEGMENTS).unwrap().into_iter();
    files.map(|entry| entry.name).collect()
}

#[test]
fn a_store_with_replaced_ranges_opens_and_answers_as_before() {
    let shapes: [Shape; 8] = [
        &[(1, 1)],
        &[(1, 11)],
        &[(2, 3)],
        &[(11, 11)],
        &[(1, 3), (4, 6), (8, 8), (10, 11)],
        &[(1, 2), (3, 4), (1, 4)],
        &[(5, 7), (5, 7), (4, 9)],
        &[(2, 2), (3, 3), (4, 4), (1, 10)],
    ];
    for shape in shapes {
        let mut small = closed(12);
        replace(&small, shape);
        small.check_to_read();
        let named = small.manifest();
        let engine = small.open();
        small.check_everywhere(&engine);
        small.check_all_named(&named);
        let sealed = engine.sealed.lock().len();
        small.fill(&engine, 15);
        settle(&engine, sealed + 3);
        small.check_everywhere(&engine);
        engine.close().unwrap();
        small.check_opened();
        small.check_to_read();
    }
}

fn run_names(engine: &Engine) -> Vec<String> {
    all_runs(engine).iter().map(|run| run.name()).collect()
}

#[test]
fn runs_stand_over_what_was_merged_and_deny_nothing_that_is_there() {
    // Groups of many files, of one and none, and files that reach from one group into the next.
    let shapes: [(Shape, &[u64]); 6] = [
        (&[(3, 9)], &[1, 17, 33]),
        (&[(1, 16)], &[17, 33]),
        (&[(10, 20)], &[1, 17, 33]),
        (&[(1, 31)], &[17, 33]),
        (&[(2, 47)], &[33]),
        (&[(1, 2), (15, 18), (20, 30), (31, 33)], &[1, 17, 33]),
    ];
    let mut small = closed(50);
    let files: Vec<_> = names(&small.disk)
        .iter()
        .map(|name| format!("{SEGMENTS}/{name}"))
        .chain(["manifest", "hint", "checkpoint"].map(str::to_owned))
        .map(|name| (small.bytes(&name).unwrap(), name))
        .collect();
    let events = small.events.clone();
    for (shape, groups) in shapes {
        small.disk = MemoryDisk::new();
        small.disk.create_dir(SEGMENTS).unwrap();
        for (bytes, name) in &files {
            small.put(name, bytes);
        }
        replace(&small, shape);
        let view = small.reader().unwrap().view().unwrap();
        small.check(&view);
        let engine = small.open();
        let named = runs_of(groups);
        assert_eq!(run_names(&engine), named, "{shape:?}");
        // Before the stale ones are made again, while they are, and after.
        small.check(&engine.front.last_view());
        let sealed = engine.sealed.lock().len();
        settle(&engine, sealed);
        small.check_everywhere(&engine);
        small.fill(&engine, 52);
        settle(&engine, sealed + 2);
        small.check_everywhere(&engine);
        let mut there = names(&small.disk);
        there.retain(|name| name.ends_with(".run"));
        assert_eq!(there.len(), named.len(), "{shape:?}: {there:?}");
        engine.close().unwrap();
        small.events.clone_from(&events);
    }
}

fn runs_of(groups: &[u64]) -> Vec<String> {
    let names = groups.iter().map(|first| run_name(*first, first + 15));
    names.collect()
}

#[test]
fn a_replaced_store_opens_without_hint_or_checkpoint_and_with_those_of_before() {
    for gone in [&["hint"][..], &["checkpoint"], &["hint", "checkpoint"], &[]] {
        let small = closed(8);
        let (hint, checkpoint) = (small.bytes("hint"), small.bytes("checkpoint"));
        let mut small = Small { ..small };
        let engine = small.open();
        small.fill(&engine, 10);
        settle(&engine, 9);
        engine.close().unwrap();
        // As after a crash: the checkpoint is older than the replacements, and tells of segments that are gone.
        small.put("hint", &hint.unwrap());
        small.put("checkpoint", &checkpoint.unwrap());
        replace(&small, &[(1, 2), (3, 9)]);
        for name in gone {
            small.disk.remove(name).unwrap();
        }
        small.check_to_read();
        small.check_opened();
    }
}

#[test]
fn files_that_no_manifest_names_are_ignored_by_readers_and_removed_by_the_writer() {
    let small = closed(6);
    let disk = &small.disk;
    let named = small.manifest();
    // As after a crash before the manifest was written: a whole replacement and a half one.
    let files = [2, 3].map(SegmentFile::original);
    merge(disk, &files, 7, named.store_id).unwrap();
    let before: Vec<_> = ["seg", "sidx"]
        .iter()
        .map(|extension| format!("{SEGMENTS}/0000000004-0000000005-000009.{extension}"))
        .collect();
    for name in &before {
        small.put(name, b"half");
    }
    let kept = format!("{SEGMENTS}/0000000002.torn-1");
    for name in ["x.tmp", "y.part"] {
        small.put(&format!("{SEGMENTS}/{name}"), b"half");
    }
    for name in [kept.as_str(), "segments/notes.txt", "mine"] {
        small.put(name, b"kept");
    }
    let all = names(disk);
    small.check_to_read();
    assert_eq!(names(disk), all, "a reader removes nothing");
    small.check_opened();
    let mut expected: Vec<_> = (1..=6).map(|n| format!("{n:010}.seg")).collect();
    expected.insert(2, "0000000002.torn-1".to_owned());
    expected.push("notes.txt".to_owned());
    assert_eq!(names(disk), expected);
    assert!(small.bytes("mine").is_some());
}

#[test]
fn a_store_that_does_not_open_keeps_every_file() {
    let small = closed(6);
    replace(&small, &[(1, 3)]);
    small.disk.remove("segments/0000000005.seg").unwrap();
    let all = names(&small.disk);
    let error = open(config(small.disk.clone())).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert_eq!(names(&small.disk), all);
}

#[test]
fn a_missing_file_is_named() {
    for (gone, shape) in [
        ("0000000002-0000000004-000002.seg", &[(2, 4)][..]),
        ("0000000001-0000000004-000003.seg", &[(2, 4), (1, 4)]),
        ("0000000005.seg", &[(2, 4)]),
        ("0000000001.seg", &[(2, 4)]),
    ] {
        let small = closed(6);
        replace(&small, shape);
        small.disk.remove(&format!("{SEGMENTS}/{gone}")).unwrap();
        for error in small.refusals() {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(gone), "{gone}: {error}");
        }
    }
}

#[test]
fn a_file_in_the_place_of_another_is_refused() {
    let small = closed(6);
    replace(&small, &[(1, 3)]);
    let right = "segments/0000000001-0000000003-000002.seg";
    let found = small.bytes(right).unwrap();
    for wrong in ["segments/0000000003.seg", "segments/0000000004.seg"] {
        small.put(right, &small.bytes(wrong).unwrap());
        let error = open(config(small.disk.clone())).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert!(
            error.to_string().contains("says that it is segment"),
            "{error}"
        );
    }
    small.put(right, &found);
    small.put("segments/0000000004.seg", &found);
    let error = open(config(small.disk.clone())).unwrap_err();
    assert!(
        error.to_string().contains("replacement of segments 1 to 3"),
        "{error}"
    );
}

#[test]
fn the_footer_of_a_replacement_is_made_again() {
    let small = closed(6);
    replace(&small, &[(1, 3)]);
    let name = "segments/0000000001-0000000003-000002.seg";
    let whole = small.bytes(name).unwrap();
    for cut in [1, 33, 4100] {
        let file = small.disk.open(name, Access::Write).unwrap();
        file.set_len(whole.len() as u64 - cut).unwrap();
        small.check_to_read();
        small.check_opened();
        let beside = "segments/0000000001-0000000003-000002.sidx";
        assert!(small.bytes(beside).is_some(), "cut by {cut}");
        small.put(name, &whole);
        small.disk.remove(beside).unwrap();
    }
}
