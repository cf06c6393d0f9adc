//! The worked store's index and checkpoint: the bytes in `docs/format.md` are those that the code writes.

use super::checkpoint::{Checkpoint, SealedEntry};
use super::golden::{self, FIRST_AT, STORE_ID, assert_damage_is_seen, assert_section};
use super::record::{Record, RecordLayout};
use super::run::{Bearers, MAX_RUN_FILTER_BYTES, RunBuilder, RunHead, TableBuilder};
use super::sidx::{Axis16, BLOCK_BYTES, HEADER_BYTES, NameAxis, Part, SidxFacts, SidxHeader};
use super::sidx_build::SidxBuilder;
use crate::event::hash::entity_digest;

fn event(frame: &[u8], offset: u64, position: u64) -> RecordLayout {
    match Record::decode(frame, &golden::seed(), offset, position).unwrap() {
        Record::Event(layout) => layout,
        Record::Stub(_) => panic!("the frame is an event's"),
    }
}

/// The index of the worked segment.
fn index() -> Vec<u8> {
    index_behind(&golden::first_frame().0)
}

/// The index of the worked segment if its first frame were this one.
fn index_behind(first: &[u8]) -> Vec<u8> {
    let mut builder = SidxBuilder::new(1);
    let second = golden::second_frame().0;
    for (frame, offset, position) in [(first, FIRST_AT, 1), (&second, golden::second_at(), 2)] {
        let record = Record::decode(frame, &golden::seed(), offset, position).unwrap();
        builder.push(record.row(frame, u32::try_from(offset).unwrap()));
    }
    let (commit, _) = golden::commit();
    builder.finish(SidxFacts {
        store_id: STORE_ID,
        segment: 1,
        log_end: golden::group().end(),
        last_group_sequence: 1,
        last_group_checksum: commit.checksum,
        digest: commit.digest,
    })
}

/// Segment 1 is sealed, and segment 2 is active and empty.
fn checkpoint() -> Checkpoint {
    let (commit, _) = golden::commit();
    let log_end = golden::group().end();
    let index = index();
    let checksum = index[index.len() - 20..].first_chunk().unwrap();
    let entry = SealedEntry {
        store_id: STORE_ID,
        first: 1,
        number: 1,
        generation: 0,
        first_position: 1,
        last_position: 2,
        file_bytes: log_end.next_multiple_of(4096) + index.len() as u64,
        log_end,
        last_group_checksum: commit.checksum,
        index_checksum: u32::from_le_bytes(*checksum),
        last_group_sequence: 1,
        first_recorded: 1_700_000_000_000_000_000,
        last_recorded: 1_700_000_000_000_000_001,
        digest: commit.digest,
    };
    Checkpoint {
        store_id: STORE_ID,
        active_segment: 2,
        active_end: 4096,
        last_position: 2,
        last_group_sequence: 1,
        last_group_checksum: commit.checksum,
        last_recorded: entry.last_recorded,
        digest: commit.digest,
        sealed: vec![entry],
    }
}

#[test]
fn page_shows_the_index_as_written() {
    let index = index();
    let (body, end) = index.split_at(BLOCK_BYTES);
    let used = body.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let used = used.next_multiple_of(8);
    let stubbed = index_behind(&golden::stub_frame());
    let header = SidxHeader::decode(&stubbed[..HEADER_BYTES], BLOCK_BYTES as u64).unwrap();
    let removed = header.section(Part::Removed);
    let (line, at) = (Part::Removed.line(), place_of(removed.offset));
    let line = &stubbed[128 + 48 * line..128 + 48 * (line + 1)];
    let section = &stubbed[at..at + place_of(removed.length)];
    assert_section(8, &[&body[..used], end, line, section]);
}

fn place_of(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

#[test]
fn page_shows_the_checkpoint_as_written() {
    assert_section(9, &[&checkpoint().encode(&[])]);
}

#[test]
fn checkpoint_reads_back_with_and_without_an_index() {
    for sealed in [0, 1, 2, 100] {
        let mut written = checkpoint();
        let entry = written.sealed[0];
        written.sealed = (0..sealed)
            .map(|n| SealedEntry {
                first: 3 * n + 1,
                number: 3 * n + 1,
                first_position: 10 * n + 1,
                last_position: 10 * n + 10,
                ..entry
            })
            .collect();
        written.last_position = 10 * sealed;
        written.active_segment = 3 * sealed + 1;
        let (read, place) = Checkpoint::decode(&written.encode(&[])).unwrap();
        assert_eq!((read, place), (written.clone(), 0..0));
        let index = index();
        let bytes = written.encode(&index);
        let (read, place) = Checkpoint::decode(&bytes).unwrap();
        assert_eq!(read, written);
        assert_eq!(place.start % 4096, 0);
        let place = usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap();
        assert_eq!(bytes[place], index);
    }
}

#[test]
fn damaged_checkpoint_is_refused() {
    assert_damage_is_seen(&checkpoint().encode(&[]), Checkpoint::decode);
}

#[test]
fn checkpoint_with_a_cut_index_is_refused() {
    let bytes = checkpoint().encode(&index());
    for cut in [1, 100, 4096, 5000] {
        assert!(Checkpoint::decode(&bytes[..bytes.len() - cut]).is_err());
    }
}

#[test]
fn checkpoint_that_lies_under_a_sound_checksum_is_refused() {
    let clean = checkpoint().encode(&index());
    let refused = |at: usize, value: u8| {
        let mut bytes = clean.clone();
        bytes[at] = value;
        let head = usize::from(u16::from_le_bytes([bytes[12], bytes[13]]));
        let head = bytes.get(..head).filter(|head| head.len() > 20);
        let checksum = head.map_or(0, |head| super::crc::plain(&[&head[..16], &head[20..]]));
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        assert!(Checkpoint::decode(&bytes).is_err(), "{value} at {at}");
    };
    // Head length, count, active segment, last position, index offset and length, reserved, then the entry's
    // first segment, number, first and last position.
    for (at, value) in [
        (12, 0),
        (12, 21),
        (13, 16),
        (20, 0),
        (20, 2),
        (23, 255),
        (40, 1),
        (56, 1),
        (112, 1),
        (113, 0),
        (119, 255),
        (127, 255),
        (132, 1),
        (152, 0),
        (152, 2),
        (160, 0),
        (160, 2),
        (176, 4),
        (184, 3),
    ] {
        refused(at, value);
    }
}

#[test]
fn newer_checkpoint_is_unsupported() {
    let mut bytes = checkpoint().encode(&[]);
    bytes[8] = 2;
    let error = Checkpoint::decode(&bytes).unwrap_err();
    assert!(matches!(error, super::codec::DecodeError::Unsupported(_)));
}

fn run_head() -> RunHead {
    RunHead {
        store_id: STORE_ID,
        first_segment: 1,
        files: 16,
        merges: core::array::from_fn(|n| u32::try_from(n).unwrap() + 1),
        filter_blocks: 0,
        tables: [None; 4],
    }
}

/// A run over 16 segments, each with the two worked events.
fn run() -> Vec<u8> {
    let (one, two) = (golden::first_frame().0, golden::second_frame().0);
    let first = event(&one, FIRST_AT, 1);
    let second = event(&two, golden::second_at(), 2);
    let mut builder = RunBuilder::new(run_head(), 16 * 11).unwrap();
    builder.add(Axis16::Id, &first.id(&one));
    builder.add(Axis16::Id, &second.id(&two));
    builder.add(Axis16::Key, &first.key(&one).unwrap().key);
    builder.add(Axis16::Entity, &entity_digest(second.entity(&two)));
    builder.add(Axis16::Parent, &first.id(&one));
    builder.add(Axis16::Correlation, &second.correlation(&two));
    for axis in NameAxis::ALL {
        let mut names = names_of(axis, [(&first, &one), (&second, &two)]);
        names.sort_unstable();
        let mut table = TableBuilder::default();
        for same in names.chunk_by(|one, other| one.0 == other.0) {
            let (name, last) = same[same.len() - 1];
            builder.add(axis.digests(), &entity_digest(name));
            let bearers = Bearers {
                events: 16 * u32::try_from(same.len()).unwrap(),
                last: 30 + last,
                files: u16::MAX,
            };
            assert!(table.push(name, bearers));
        }
        builder.put_table(axis, &table);
    }
    builder.finish()
}

/// The names that two events have on an axis, each with the number of its event.
fn names_of<'a>(
    axis: NameAxis,
    events: [(&'a RecordLayout, &'a Vec<u8>); 2],
) -> Vec<(&'a str, u32)> {
    let of = |(event, frame): (&'a RecordLayout, &'a Vec<u8>)| match axis {
        NameAxis::Entity => vec![event.entity(frame)],
        NameAxis::Scope => vec![event.scope(frame)],
        NameAxis::Kind => vec![event.kind(frame)],
        NameAxis::Tag => event.tags(frame).collect(),
    };
    let numbered = |(number, event)| of(event).into_iter().map(move |name| (name, number));
    (0..).zip(events).flat_map(numbered).collect()
}

#[test]
fn page_shows_the_run_as_written() {
    let run = run();
    let (head, rest) = run.split_at(BLOCK_BYTES);
    let used = head.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (filter, tables) = rest.split_at(RunHead::decode(&run).unwrap().filter_bytes());
    assert_section(10, &[&head[..used.next_multiple_of(8)], filter, tables]);
}

#[test]
fn run_reads_back() {
    let run = run();
    let head = RunHead::decode(&run).unwrap();
    assert_eq!(head.filter_blocks, 3);
    assert!(head.tables.iter().all(Option::is_some));
    assert_eq!(
        RunHead {
            filter_blocks: 0,
            tables: [None; 4],
            ..head
        },
        run_head()
    );
    assert!(head.page_holds(&run, 0));
}

#[test]
fn damage_to_a_run_is_seen() {
    assert_damage_is_seen(&run(), |file| {
        let head = RunHead::decode(file)?;
        match head.page_holds(file, 0) {
            true => Ok(()),
            false => Err(super::codec::DecodeError::Corrupt("the page")),
        }
    });
}

#[test]
fn garbage_is_no_run() {
    golden::assert_garbage_is_refused(&run()[..48], 10_000, RunHead::decode);
}

#[test]
fn newer_run_is_unsupported() {
    let mut bytes = run();
    bytes[8] = 2;
    let error = RunHead::decode(&bytes).unwrap_err();
    assert!(matches!(error, super::codec::DecodeError::Unsupported(_)));
}

#[test]
fn run_is_as_long_as_the_bound_and_no_longer() {
    // Eight bits a key.
    let most = MAX_RUN_FILTER_BYTES as u64;
    let longest = RunBuilder::new(run_head(), most).unwrap().finish();
    let head = RunHead::decode(&longest).unwrap();
    assert_eq!(head.filter_bytes(), MAX_RUN_FILTER_BYTES);
    assert!(RunBuilder::new(run_head(), most + 1).is_none());
}
