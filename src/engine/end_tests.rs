//! Snapshots and forks as files: what lies behind the end never counts, and an earlier store's files only so far.

use crate::engine::chain::read_checkpoint;
use crate::engine::compact;
use crate::engine::compact_config::CompactionConfig;
use crate::engine::dying::Dying;
use crate::engine::open::open;
use crate::engine::original;
use crate::engine::small::{Small, config, put_in_place, settle, write_replacement};
use crate::error::StoreErrorKind;
use crate::event::draft::EventDraft;
use crate::format::manifest::{Lineage, Manifest};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, MemoryDisk};
use crate::log::files::{SEGMENTS, SegmentFile, segment_name, write_manifest};
use crate::log::look::{Listed, header_in};
use crate::log::scan::Tip;
use crate::options::MIN_SEGMENT_BYTES;

/// The files of a store that went on to `longer` segments behind the end of `segments`, and the manifest of a snapshot
/// that ends there.
fn cut_short(segments: u64, longer: u64) -> (Small, Tip) {
    let mut small = Small::new();
    let engine = small.open();
    small.fill(&engine, segments);
    let (tip, events) = (engine.turn.lock().tip, small.events.clone());
    small.fill(&engine, longer);
    settle(&engine, usize::try_from(longer).unwrap() - 1);
    engine.close().unwrap();
    // The tip may be the last place of a segment that was full.
    small.events = events;
    for name in ["hint", "checkpoint"] {
        small.disk.remove(name).unwrap();
    }
    let snapshot = Manifest {
        generation: 2,
        end: Some(original::end_at(&tip)),
        ..small.manifest()
    };
    write_manifest(&small.disk, &snapshot).unwrap();
    (small, tip)
}

/// The same, with an end before the first event of a segment.
fn cut_before(segment: u64, longer: u64) -> (Small, Tip) {
    let (mut small, _) = cut_short(longer, longer);
    let file = SegmentFile::original(segment);
    let tip = Tip::before(&header_of(&small.disk, file));
    small.events.retain(|event| event.0 <= tip.position);
    let snapshot = Manifest {
        end: Some(original::end_at(&tip)),
        ..small.manifest()
    };
    write_manifest(&small.disk, &snapshot).unwrap();
    (small, tip)
}

fn header_of(disk: &MemoryDisk, file: SegmentFile) -> SegmentHeader {
    let opened = disk.open(&file.name(), Access::Read).unwrap();
    let bytes = opened.len().unwrap();
    header_in(disk, Listed { file, bytes }).unwrap().unwrap()
}

fn names(disk: &MemoryDisk) -> impl Iterator<Item = String> {
    let files = disk.list(SEGMENTS).unwrap().into_iter();
    files.map(|entry| entry.name)
}

fn numbers(small: &Small) -> Vec<u64> {
    small.segments().iter().map(|file| file.number).collect()
}

#[test]
fn what_lies_behind_the_end_is_ignored_by_readers_and_gone_before_anyone_appends() {
    let shapes = [(1, 1), (1, 2), (3, 3), (3, 4), (3, 7)];
    let snapshots = shapes.map(|(segments, longer)| cut_short(segments, longer));
    for (mut small, tip) in snapshots.into_iter().chain([cut_before(3, 4)]) {
        let before = numbers(&small);
        let beside = small.reader().unwrap();
        small.check(&beside.view().unwrap());
        assert_eq!(numbers(&small), before);
        let engine = small.open();
        assert_eq!(engine.turn.lock().tip, tip);
        small.check_everywhere(&engine);
        assert_eq!(small.manifest().end, None);
        small.fill(&engine, tip.mark.segment + 4);
        small.check_everywhere(&engine);
        // Who read the snapshot goes on in the store that it became.
        small.check(&beside.view().unwrap());
        engine.close().unwrap();
        small.check_opened();
    }
}

#[test]
fn a_crash_at_any_call_of_the_first_opening_leaves_the_same_snapshot() {
    let (whole, tip) = cut_short(3, 6);
    for calls in 0.. {
        let mut small = whole.copied();
        let dying = Dying::new(&small.disk);
        dying.dies_after(calls);
        let opened = open(config(dying.clone()));
        let died = dying.is_dead();
        dying.dies_after(0);
        if let Ok(engine) = &opened {
            small.check(&engine.front.last_view());
            let _ = engine.close();
        }
        drop(opened);
        small.check_to_read();
        let engine = small.open();
        assert_eq!(engine.turn.lock().tip, tip, "{calls} calls");
        small.fill(&engine, 5);
        small.check_everywhere(&engine);
        engine.close().unwrap();
        small.check_to_read();
        if !died {
            assert!(calls > 8, "{calls} calls");
            break;
        }
    }
}

#[test]
fn a_snapshot_that_does_not_reach_its_end_is_refused_and_left_as_it_is() {
    let (small, tip) = cut_short(3, 6);
    let snapshot = small.manifest();
    let end = snapshot.end.unwrap();
    let refused = |changed: &dyn Fn(&mut Manifest)| {
        let mut other = snapshot.clone();
        changed(&mut other);
        write_manifest(&small.disk, &other).unwrap();
        for error in small.refusals() {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        }
        assert_eq!(small.manifest(), other);
    };
    refused(&|other| other.end.as_mut().unwrap().segment = 7);
    let whole = small.bytes(&segment_name(tip.mark.segment)).unwrap();
    let restored = || small.put(&segment_name(tip.mark.segment), &whole);
    refused(&|other| other.end.as_mut().unwrap().offset = whole.len() as u64 + 1);
    refused(&|other| other.end.as_mut().unwrap().offset -= 1);
    restored();
    refused(&|other| other.end.as_mut().unwrap().position -= 1);
    refused(&|other| other.end.as_mut().unwrap().digest[0] ^= 1);
    refused(&|other| other.end.as_mut().unwrap().checksum ^= 1);
    restored();
    write_manifest(&small.disk, &snapshot).unwrap();
    small.disk.remove(&segment_name(2)).unwrap();
    refused(&|other| other.end = Some(end));
}

/// Makes a fork of what `cut_short` left, whose shared history is as long as `shared` says.
fn forked(small: &Small, tip: &Tip, shared: u64) -> [u8; 16] {
    let snapshot = small.manifest();
    let fork = Manifest {
        store_id: [0xF0; 16],
        lineage: vec![Lineage {
            store_id: snapshot.store_id,
            position: shared,
            digest: tip.digest,
        }],
        ..snapshot.clone()
    };
    write_manifest(&small.disk, &fork).unwrap();
    snapshot.store_id
}

#[test]
fn a_fork_reads_what_it_shares_and_appends_to_a_segment_of_its_own() {
    for (small, tip) in [cut_short(1, 1), cut_short(3, 6), cut_before(3, 3)] {
        let segments = tip.mark.segment;
        let ancestor = forked(&small, &tip, tip.position);
        let beside = small.reader().unwrap();
        small.check(&beside.view().unwrap());
        let engine = small.open();
        small.check_everywhere(&engine);
        assert_eq!(engine.turn.lock().tip.mark.segment, segments + 1);
        let at = crate::event::coordinate::Coordinate::new("box:0", "house").unwrap();
        let kind = crate::event::kind::EventKind::literal("box.filled");
        let batch = crate::event::batch::Batch::new().event(EventDraft::new(&at, kind, &1_u8));
        drop(engine.append(batch).unwrap());
        for number in 1..=segments + 1 {
            let own = number > segments;
            let owner = header_of(&small.disk, SegmentFile::original(number)).store_id;
            assert_eq!(owner, if own { [0xF0; 16] } else { ancestor }, "{number}");
        }
        engine.close().unwrap();
        assert!(read_checkpoint(&small.disk, &[0xF0; 16]).unwrap().is_some());
        let engine = small.open();
        engine.close().unwrap();
        small.disk.remove("checkpoint").unwrap();
        let engine = small.open();
        assert!(!names(&small.disk).any(|name| name.ends_with(".sidx")));
        assert_eq!(engine.front.last_head().position.get(), tip.position + 1);
        // Over what both stores wrote, into a file of the younger one.
        settle(&engine, usize::try_from(segments).unwrap());
        if tip.position > 0 {
            let written = write_replacement(&engine, 1, segments);
            put_in_place(&engine, &written).unwrap();
            let file = SegmentFile::from(&written.0);
            assert_eq!(header_of(&small.disk, file).store_id, [0xF0; 16]);
        }
        for position in 1..=tip.position {
            let view = engine.front.last_view();
            let event = view.at(position).unwrap().unwrap();
            assert_eq!(
                event.id(),
                small.events[usize::try_from(position).unwrap() - 1].1
            );
        }
        let seen = beside.view().unwrap();
        assert_eq!(seen.position().get(), tip.position + 1);
        engine.close().unwrap();
        open(config(small.disk.clone())).unwrap().close().unwrap();
    }
}

#[test]
fn an_earlier_store_counts_no_further_than_the_lineage_says() {
    for (segments, longer, less) in [(3, 6, 1), (3, 3, 1), (3, 6, 20)] {
        let (small, tip) = cut_short(segments, longer);
        forked(&small, &tip, tip.position - less);
        let before = numbers(&small);
        for error in small.refusals() {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("of another store"), "{error}");
        }
        let after = numbers(&small);
        assert!(after.iter().all(|number| before.contains(number)));
    }
    let (small, tip) = cut_short(3, 6);
    forked(&small, &tip, tip.position);
    let mut stranger = small.manifest();
    stranger.lineage.clear();
    write_manifest(&small.disk, &stranger).unwrap();
    for error in small.refusals() {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("another store"), "{error}");
    }
}

#[test]
fn a_snapshot_that_ends_with_a_replacement_goes_on_behind_it() {
    let (mut small, engine) = {
        let mut small = Small::new();
        let engine = small.open();
        small.fill(&engine, 6);
        settle(&engine, 5);
        (small, engine)
    };
    let last = engine.sealed.lock()[3].last_position;
    let written = write_replacement(&engine, 2, 4);
    put_in_place(&engine, &written).unwrap();
    engine.close().unwrap();
    small.events.retain(|event| event.0 <= last);
    let snapshot = Manifest {
        end: Some(original::end_at(&written.1.tip)),
        ..small.manifest()
    };
    write_manifest(&small.disk, &snapshot).unwrap();
    small.check_to_read();
    let engine = small.open();
    small.check_everywhere(&engine);
    assert_eq!(engine.stats().segments, 3, "1, 2 to 4 and a new one");
    small.fill(&engine, 5);
    small.check_everywhere(&engine);
    engine.close().unwrap();
    small.check_opened();
}

#[test]
fn a_compaction_takes_in_what_an_earlier_store_left_empty() {
    let (mut small, tip) = cut_before(3, 3);
    forked(&small, &tip, tip.position);
    let engine = small.open();
    small.fill(&engine, 6);
    settle(&engine, 5);
    let whole = engine.sealed.lock().clone();
    assert!(whole[2].last_position < whole[2].first_position);
    small.check_everywhere(&engine);
    engine.close().unwrap();
    let larger = config(small.disk.clone()).segment_bytes(16 * MIN_SEGMENT_BYTES);
    let engine = open(larger).unwrap();
    let merging = CompactionConfig::new();
    compact::start(&engine, merging).unwrap().wait().unwrap();
    assert_eq!(engine.sealed.lock().len(), 1);
    small.check_everywhere(&engine);
    engine.close().unwrap();
    small.check_opened();
    small.check_to_read();
}
