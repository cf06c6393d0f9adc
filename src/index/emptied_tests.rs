//! A segment in which retention emptied rows: they match nothing, end no walk, count nowhere, and keep the others' places.

use super::model::STORE_ID;
use crate::error::StoreErrorKind;
use crate::event::digest::Digest;
use crate::event::hash::entity_digest;
use crate::event::id::{CorrelationId, EventId};
use crate::event::query::Query;
use crate::event::region::Region;
use crate::event::timestamp::Timestamp;
use crate::format::golden;
use crate::format::record::{BatchPlace, EventFields, StreamPlace, encode_event};
use crate::format::sidx::{SidxFacts, SidxRow};
use crate::format::sidx_build::SidxBuilder;
use crate::format::stub::StubFields;
use crate::index::layer::{Layer, Source, Span};
use crate::index::layers::Layers;
use crate::index::read_options::ReadOptions;
use crate::index::sidx::Sidx;
use crate::index::view::{Head, View};
use crate::io::{Access, Disk, MemoryDisk, write_all_at};
use crate::log::files::{SEGMENTS, SegmentFile, segment_name};
use crate::log::segment::Segment;
use crate::sync::Arc;

const ROWS: u64 = 40;
const STORY: u64 = 3;

/// Retention took every third event, the one whose id names the story among them.
fn is_emptied(position: u64) -> bool {
    position.is_multiple_of(3)
}

pub(crate) fn id(position: u64) -> [u8; 16] {
    [u8::try_from(position).unwrap(); 16]
}

fn entity(position: u64) -> &'static str {
    ["a", "b"][usize::from(position.is_multiple_of(2))]
}

fn revision(position: u64) -> u64 {
    position.div_ceil(2)
}

fn time(position: u64) -> u64 {
    1_000 * position
}

fn correlation(position: u64) -> [u8; 16] {
    id(if position > 30 { STORY } else { position })
}

/// The two events before it caused an event that was kept.
fn parents(position: u64) -> Vec<[u8; 16]> {
    let before = (1..position).rev().take(2).map(id);
    before.filter(|_| !is_emptied(position)).collect()
}

/// Appends the frame of a position that stands at `offset`.
fn put_frame(out: &mut Vec<u8>, position: u64, offset: u64) {
    let seed = golden::segment().seed();
    let stream = StreamPlace {
        revision: revision(position),
        previous_position: position.saturating_sub(2),
    };
    if is_emptied(position) {
        let stub = StubFields {
            id: id(position),
            recorded_at: time(position),
            hash: [7; 32],
            entity_digest: entity_digest(entity(position)),
            rest: [8; 32],
            stream,
            batch: BatchPlace::ALONE,
            key: None,
        };
        stub.encode(out, &seed, offset, position);
        return;
    }
    let fields = EventFields {
        id: id(position),
        recorded_at: time(position),
        hash: [7; 32],
        schema_version: 1,
        stream,
        entity: entity(position),
        scope: "here",
        kind: "thing.done",
        batch: BatchPlace::ALONE,
        key: None,
        correlation: correlation(position),
        occurred_at: None,
        parents: parents(position).into_iter(),
        tags: ["t"].into_iter(),
        metadata: [].into_iter(),
    };
    encode_event(out, &seed, offset, position, fields, b"\xc0");
}

fn row(position: u64, offset: u64) -> SidxRow<'static, Vec<&'static str>, Vec<[u8; 16]>> {
    let kept = |name: &'static str| if is_emptied(position) { "" } else { name };
    SidxRow {
        offset: u32::try_from(offset).unwrap(),
        recorded_at: time(position),
        id: id(position),
        entity: kept(entity(position)),
        scope: kept("here"),
        kind: kept("thing.done"),
        tags: if is_emptied(position) {
            vec![]
        } else {
            vec!["t"]
        },
        correlation: (!is_emptied(position)).then(|| correlation(position)),
        key: None,
        parents: parents(position),
        removed: is_emptied(position).then(|| entity_digest(entity(position))),
    }
}

/// A view of one sealed segment.
pub(crate) fn view() -> View {
    let (mut log, mut index) = (golden::segment_page(), SidxBuilder::new(1));
    for position in 1..=ROWS {
        let offset = log.len() as u64;
        put_frame(&mut log, position, offset);
        index.push(row(position, offset));
    }
    let facts = SidxFacts {
        store_id: STORE_ID,
        segment: 1,
        log_end: log.len() as u64,
        last_group_sequence: 1,
        last_group_checksum: 0,
        digest: [0; 32],
    };
    log.resize(log.len().next_multiple_of(4096), 0);
    log.extend(index.finish(facts));
    let disk = MemoryDisk::new();
    disk.create_dir(SEGMENTS).unwrap();
    let file = disk.open(&segment_name(1), Access::CreateNew).unwrap();
    write_all_at(&*file, &log, 0).unwrap();
    let (end, map) = (
        log.len() as u64,
        Arc::new(file.map(log.len() as u64).unwrap()),
    );
    let sidx = Sidx::open_at_end(map, end, &STORE_ID, 1, &segment_name(1)).unwrap();
    let segment = Arc::new(Segment::sealed(
        Arc::new(disk),
        STORE_ID,
        SegmentFile::original(1),
    ));
    let span = Span {
        last_position: ROWS,
        first_recorded: time(1),
        last_recorded: time(ROWS),
    };
    let layer = Layer::fixed(segment, 1, [0; 32], span, Source::Checkpoint, Some(sidx));
    let layers = Layers::new(vec![Arc::new(layer)], Vec::new());
    let head = Head {
        position: ROWS.into(),
        digest: Digest::ZERO,
        recorded_at: Timestamp::from_nanos(time(ROWS)),
    };
    View::new(layers, head, ROWS)
}

fn found(view: &View, query: &Query, options: ReadOptions) -> Vec<u64> {
    let events = view.query_with(query.clone(), options).unwrap();
    events
        .map(|event| event.unwrap().position().get())
        .collect()
}

#[test]
fn an_emptied_row_matches_no_query_and_is_passed_over() {
    let view = view();
    let nanos = Timestamp::from_nanos;
    let cases: [(Query, &dyn Fn(u64) -> bool); 9] = [
        (Query::all(), &|_| true),
        (Query::scope("here"), &|_| true),
        (Query::entity("a"), &|p| entity(p) == "a"),
        (Query::entity_prefix(""), &|_| true),
        (Query::tag("t").or(Region::entity("b")), &|_| true),
        (Region::all().positions(3..=12).into(), &|p| {
            (3..=12).contains(&p)
        }),
        (
            Region::all()
                .recorded(nanos(time(9))..=nanos(time(33)))
                .into(),
            &|p| (9..=33).contains(&p),
        ),
        (
            Query::correlation(CorrelationId::from_bytes(id(STORY))),
            &|p| p > 30,
        ),
        (Region::all().revisions(4..=9).into(), &|p| {
            (4..=9).contains(&revision(p))
        }),
    ];
    for (query, fits) in cases {
        let mut expected: Vec<u64> = (1..=ROWS).filter(|p| !is_emptied(*p) && fits(*p)).collect();
        assert_eq!(
            view.count(query.clone()).unwrap(),
            expected.len() as u64,
            "{query:?}"
        );
        assert_eq!(
            found(&view, &query, ReadOptions::new()),
            expected,
            "{query:?}"
        );
        expected.reverse();
        let backward = ReadOptions::new().backward();
        assert_eq!(found(&view, &query, backward), expected, "{query:?}");
    }
}

#[test]
fn revisions_are_found_where_some_between_them_are_gone() {
    let view = view();
    for (first, last) in (0..24).flat_map(|first| (first..24).map(move |last| (first, last))) {
        let query = Query::from(Region::entity("b").revisions(first..=last));
        let fits = |p: &u64| {
            entity(*p) == "b" && !is_emptied(*p) && (first..=last).contains(&revision(*p))
        };
        let expected: Vec<u64> = (1..=ROWS).filter(fits).collect();
        assert_eq!(
            found(&view, &query, ReadOptions::new()),
            expected,
            "{query:?}"
        );
        assert_eq!(
            view.count(query.clone()).unwrap(),
            expected.len() as u64,
            "{query:?}"
        );
    }
}

#[test]
fn an_emptied_event_asked_for_by_its_place_is_told_as_removed() {
    let view = view();
    for error in [
        view.at(9).unwrap_err(),
        view.get(EventId::from_bytes(id(9))).unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::NotFound);
        assert!(
            error.to_string().contains("removed by retention"),
            "{error}"
        );
    }
}

#[test]
fn a_list_of_names_leaves_emptied_rows_out() {
    let names: Vec<_> = view().entities("").unwrap().map(Result::unwrap).collect();
    let shown: Vec<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a  13  last at 37", "b  14  last at 40"]);
}
