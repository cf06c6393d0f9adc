//! Events written and read back, damaged, of a newer format, and made of garbage.

use super::*;
use crate::format::frame::encode_frame;
use crate::format::golden::{self, FIRST_AT, Random};

fn first(frame: &[u8]) -> Result<Record, DecodeError> {
    Record::decode(frame, &golden::seed(), FIRST_AT, 1)
}

fn second(frame: &[u8]) -> Result<Record, DecodeError> {
    Record::decode(frame, &golden::seed(), golden::second_at(), 2)
}

fn event(record: Record) -> RecordLayout {
    match record {
        Record::Event(layout) => layout,
        Record::Stub(_) => panic!("the frame is an event's"),
    }
}

/// An event as long as every bound allows.
fn longest(out: &mut Vec<u8>) {
    let name = "n".repeat(512);
    let tags: Vec<String> = (0..32).map(|n| format!("{n:0256}")).collect();
    let metadata: Vec<String> = (0..32).map(|n| format!("{n:0128}")).collect();
    let fields = EventFields {
        id: [1; 16],
        recorded_at: u64::MAX,
        hash: [2; 32],
        schema_version: u16::MAX,
        stream: StreamPlace {
            revision: u64::MAX,
            previous_position: 1,
        },
        entity: &name,
        scope: &name,
        kind: &name[..128],
        batch: BatchPlace {
            index: u32::MAX - 1,
            len: u32::MAX,
        },
        key: Some(KeyDigests {
            key: [3; 16],
            content: [4; 16],
        }),
        correlation: [5; 16],
        occurred_at: Some(u64::MAX),
        parents: [[6; 16]; 64].into_iter(),
        tags: tags.iter().map(String::as_str),
        metadata: metadata.iter().map(|key| (key.as_str(), &name[..128])),
    };
    encode_event(out, &golden::seed(), u64::MAX, u64::MAX, fields, &[7; 1000]);
}

/// Reads the first worked frame with bytes from `at` of its head replaced.
fn with_head(at: usize, old: &[u8], new: &[u8]) -> Result<Record, DecodeError> {
    let (frame, _) = golden::first_frame();
    let header = FrameHeader::decode(&frame).unwrap();
    let mut head = frame[FRAME_HEADER_BYTES..header.payload_at()].to_vec();
    assert_eq!(&head[at..at + old.len()], old);
    head.splice(at..at + old.len(), new.iter().copied());
    let mut out = Vec::new();
    encode_frame(
        &mut out,
        &golden::seed(),
        (FIRST_AT, 1),
        KIND_EVENT,
        b"\x80",
        |out| {
            out.extend_from_slice(&head);
        },
    );
    first(&out)
}

#[track_caller]
fn assert_corrupt(read: Result<Record, DecodeError>, why: &'static str) {
    assert_eq!(read, Err(DecodeError::Corrupt(why)));
}

#[test]
fn first_worked_event_reads_back() {
    let (frame, head_crc) = golden::first_frame();
    let layout = event(first(&frame).unwrap());

    assert_eq!(
        (layout.id(&frame), layout.recorded_at(&frame)),
        ([0xE1; 16], 1_700_000_000_000_000_000)
    );
    assert_eq!(
        (
            layout.revision,
            layout.previous_position,
            layout.schema_version
        ),
        (1, 0, 1)
    );
    assert_eq!(layout.entity(&frame), "order:7");
    assert_eq!(layout.scope(&frame), "shop");
    assert_eq!(layout.kind(&frame), "order.placed");
    assert_eq!(layout.batch, BatchPlace { index: 0, len: 2 });
    assert_eq!(layout.key(&frame), golden::stub().key);
    assert_eq!(layout.hash(&frame), golden::stub().hash);
    assert_eq!(
        (layout.correlation(&frame), layout.occurred_at(&frame)),
        (layout.id(&frame), None)
    );
    assert_eq!(
        layout.tags(&frame).collect::<Vec<_>>(),
        ["customer:42", "vip"]
    );
    assert_eq!(
        (layout.parents(&frame).len(), layout.metadata(&frame).len()),
        (0, 0)
    );
    assert_eq!(layout.payload(&frame), b"\x81\xa5total\x0c");
    assert_eq!((layout.payload_len(), layout.head_crc), (8, head_crc));
    assert!(layout.check_payload(&frame, &golden::seed()));
}

#[test]
fn second_worked_event_reads_back() {
    let (frame, _) = golden::second_frame();
    let layout = event(second(&frame).unwrap());

    assert_eq!(
        (
            layout.revision,
            layout.previous_position,
            layout.schema_version
        ),
        (2, 1, 2)
    );
    assert_eq!(layout.batch, BatchPlace { index: 1, len: 2 });
    assert_eq!(
        (layout.key(&frame), layout.correlation(&frame)),
        (None, [0xE1; 16])
    );
    assert_eq!(layout.occurred_at(&frame), Some(1_699_999_999_999_999_999));
    assert_eq!(layout.parents(&frame).collect::<Vec<_>>(), [[0xE1; 16]]);
    assert_eq!(
        layout.metadata(&frame).collect::<Vec<_>>(),
        [("actor", "maria")]
    );
    assert_eq!(layout.tags(&frame).len(), 0);
}

#[test]
fn event_as_long_as_the_bounds_allow_reads_back() {
    let mut frame = Vec::new();
    longest(&mut frame);
    let layout = event(Record::decode(&frame, &golden::seed(), u64::MAX, u64::MAX).unwrap());

    assert_eq!((layout.revision, layout.previous_position), (u64::MAX, 1));
    assert_eq!(layout.tags(&frame).last().unwrap().len(), 256);
    assert_eq!(layout.metadata(&frame).last().unwrap().1.len(), 128);
    assert_eq!(layout.parents(&frame).count(), 64);
    assert_eq!(layout.payload(&frame), [7; 1000]);
}

#[test]
fn event_can_be_written_again_from_its_layout() {
    let (frame, head_crc) = golden::second_frame();
    let layout = event(second(&frame).unwrap());
    let fields = EventFields {
        id: layout.id(&frame),
        recorded_at: layout.recorded_at(&frame),
        hash: layout.hash(&frame),
        schema_version: layout.schema_version,
        stream: StreamPlace {
            revision: layout.revision,
            previous_position: layout.previous_position,
        },
        entity: layout.entity(&frame),
        scope: layout.scope(&frame),
        kind: layout.kind(&frame),
        batch: layout.batch,
        key: layout.key(&frame),
        correlation: layout.correlation(&frame),
        occurred_at: layout.occurred_at(&frame),
        parents: layout.parents(&frame),
        tags: layout.tags(&frame),
        metadata: layout.metadata(&frame),
    };
    let (mut out, seed, payload) = (Vec::new(), golden::seed(), layout.payload(&frame));
    assert_eq!(
        encode_event(&mut out, &seed, golden::second_at(), 2, fields, payload),
        head_crc
    );
    assert_eq!(out, frame);
}

/// A head is refused by `decode`; a damaged payload by `check_payload`, when it is asked for.
#[test]
fn event_damage_is_seen() {
    let checked = |read: Result<Record, DecodeError>, frame: &[u8]| {
        let layout = event(read?);
        let sound = layout.check_payload(frame, &golden::seed());
        if sound {
            Ok(())
        } else {
            Err(DecodeError::Corrupt("payload checksum"))
        }
    };
    golden::assert_damage_is_seen(&golden::first_frame().0, |frame| {
        checked(first(frame), frame)
    });
    golden::assert_damage_is_seen(&golden::second_frame().0, |frame| {
        checked(second(frame), frame)
    });
}

#[test]
fn payload_damage_leaves_the_head_readable() {
    let (mut frame, _) = golden::first_frame();
    *frame.last_mut().unwrap() ^= 1;
    let layout = event(first(&frame).unwrap());
    assert_eq!(layout.entity(&frame), "order:7");
    assert!(!layout.check_payload(&frame, &golden::seed()));
}

#[test]
fn form_extension_and_unknown_parts_are_unsupported() {
    for bit in 8..64 {
        let mut parts = Vec::new();
        put_varint(&mut parts, 0x07 | 1 << bit);
        let read = with_head(56, &[0x07], &parts);
        assert!(
            matches!(read, Err(DecodeError::Unsupported(_))),
            "bit {bit}: {read:?}"
        );
    }
}

#[test]
fn parts_have_one_way_to_be_written() {
    assert_corrupt(with_head(56, &[0x07], &[0x87, 0]), "a varint is malformed");
    assert_corrupt(with_head(56, &[0x07], &[0xff; 10]), "a varint is malformed");
}

/// There is one way to write it: absent where it is 1.
#[test]
fn schema_version_is_there_only_where_it_is_not_1() {
    let with_version = |version: u16| {
        let (mut frame, _) = golden::second_frame();
        let at = FRAME_HEADER_BYTES + 56 + 2 + 2 + 8 + 5 + 11;
        assert_eq!(frame[at..at + 2], [2, 0]);
        frame[at..at + 2].copy_from_slice(&version.to_le_bytes());
        golden::reseal(&mut frame, golden::second_at(), 2);
        second(&frame)
    };
    assert_corrupt(with_version(1), "schema version 1 is written out");
    for version in [0, 2, 3, 256, u16::MAX] {
        assert_eq!(
            event(with_version(version).unwrap()).schema_version,
            version
        );
    }
    let bare = with_head(56, &[0x07], &[0x07]).map(event).unwrap();
    assert_eq!(bare.schema_version, 1);
}

#[test]
fn impossible_links_are_refused() {
    let why = "revision and previous position do not fit";
    assert_corrupt(with_head(57, &[1, 0], &[0, 0]), why);
    assert_corrupt(with_head(57, &[1, 0], &[2, 0]), why);
    assert_corrupt(with_head(57, &[1, 0], &[2, 1]), why);
    assert_corrupt(
        with_head(57, &[1, 0], &[0x81, 0, 0]),
        "a varint is malformed",
    );
}

#[test]
fn malformed_names_are_refused() {
    assert_corrupt(with_head(59, b"\x07order:7", b"\0"), "a name is empty");
    assert_corrupt(with_head(59, b"\x07o", b"\x07\xff"), "a text is not UTF-8");
    let endless = [0xff; 9];
    let (entity, rest) = (
        &[endless.as_slice(), &[1]].concat(),
        "the bytes end too early",
    );
    assert_corrupt(with_head(59, &[7], entity), rest);
}

#[test]
fn malformed_batch_place_is_refused() {
    let why = "the place in the batch is out of range";
    assert_corrupt(with_head(85, &[0, 2], &[0, 1]), why);
    assert_corrupt(with_head(85, &[0, 2], &[2, 2]), why);
    let beyond_32_bits = [0, 0xff, 0xff, 0xff, 0xff, 0x1f];
    assert_corrupt(
        with_head(85, &[0, 2], &beyond_32_bits),
        "a varint is malformed",
    );
}

#[test]
fn malformed_tags_are_refused() {
    let tags = b"\x02\x0bcustomer:42\x03vip";
    let cases: [(&[u8], &str); 6] = [
        (b"\0", "a part's count is out of range"),
        (
            b"\x21\x0bcustomer:42\x03vip",
            "a part's count is out of range",
        ),
        (b"\x02\x03vip\x0bcustomer:42", "tags are out of order"),
        (b"\x02\x03vip\x03vip", "tags are out of order"),
        (b"\x01\0", "tags are out of order"),
        (b"\x01\x03vip\x03vip", "bytes are left over"),
    ];
    for (changed, why) in cases {
        assert_corrupt(with_head(119, tags, changed), why);
    }
}

#[test]
fn correlation_that_repeats_the_id_is_refused() {
    let (mut frame, _) = golden::second_frame();
    frame[FRAME_HEADER_BYTES..][..16].fill(0xE1);
    golden::reseal(&mut frame, golden::second_at(), 2);
    assert_corrupt(second(&frame), "a correlation repeats the event's id");
}

const PARTS_AT: usize = FRAME_HEADER_BYTES + FIXED_BYTES;

/// Heads whose checksum holds although any byte of them may be anything.
#[test]
fn garbage_with_a_valid_checksum_never_panics() {
    let mut random = Random::from_clock();
    let frames = [
        golden::first_frame().0,
        golden::second_frame().0,
        golden::stub_frame(),
    ];
    for round in 0..20_000 {
        let mut frame = frames[round % 3].clone();
        let head_end = FrameHeader::decode(&frame).unwrap().payload_at();
        for _ in 0..=random.below(4) {
            frame[PARTS_AT + random.below(head_end - PARTS_AT)] = random.byte();
        }
        golden::reseal(&mut frame, FIRST_AT, 2);
        if let Ok(Record::Event(layout)) = Record::decode(&frame, &golden::seed(), FIRST_AT, 2) {
            let names = [
                layout.entity(&frame),
                layout.scope(&frame),
                layout.kind(&frame),
            ];
            assert!(
                names.iter().all(|name| !name.is_empty()),
                "random seed {}",
                random.seed
            );
            assert_eq!(layout.tags(&frame).count(), layout.tags(&frame).len());
            assert_eq!(
                layout.metadata(&frame).count(),
                layout.metadata(&frame).len()
            );
        }
    }
}

#[test]
fn garbage_is_refused() {
    golden::assert_garbage_is_refused(&[], 300, first);
}

/// A mapped frame may change underneath: accessors give less, but never panic.
#[test]
fn accessors_never_panic_on_another_frame() {
    let mut random = Random::from_clock();
    let layout = event(second(&golden::second_frame().0).unwrap());
    for _ in 0..2000 {
        let len = random.below(300);
        let other: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        let names = [
            layout.entity(&other),
            layout.scope(&other),
            layout.kind(&other),
        ];
        assert!(names.iter().all(|name| name.len() <= 12));
        assert!(layout.tags(&other).count() + layout.metadata(&other).count() <= 510);
        assert!(layout.parents(&other).count() <= 255);
        assert!(!layout.check_payload(&other, &golden::seed()) || layout.payload_len() == 1);
    }
}

#[test]
fn writing_into_a_reused_buffer_does_not_grow_it() {
    let mut out = Vec::new();
    longest(&mut out);
    let (len, capacity) = (out.len(), out.capacity());
    out.clear();
    longest(&mut out);
    assert_eq!((out.len(), out.capacity()), (len, capacity));
}

#[test]
fn names_beyond_ascii_read_back() {
    let read = with_head(59, b"\x07order:7", b"\x08k\xc3\xb6ln\xe2\x82\xac").map(event);
    assert!(read.is_ok(), "{read:?}");
    let tags = b"\x02\x0bcustomer:42\x03vip";
    assert!(with_head(119, tags, b"\x01\x02\xc3\xa9").is_ok());
    assert_corrupt(
        with_head(119, tags, b"\x01\x02\xc3\x28"),
        "a text is not UTF-8",
    );
}

#[test]
#[ignore = "prints times; run with --release"]
fn print_decode_time() {
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    let mut log = Vec::new();
    let mut frames = Vec::new();
    let (mut ids, seed) = (Random::from_clock(), golden::seed());
    for number in 0..20_000u64 {
        let (at, position) = (log.len(), number + 10_000);
        let entity = format!("order:{:06}", ids.below(10_000));
        let tag = format!("customer:{:05}", ids.below(10_000));
        let id = core::array::from_fn(|_| ids.byte());
        let fields = EventFields {
            id,
            recorded_at: number,
            hash: [2; 32],
            schema_version: 1,
            stream: StreamPlace {
                revision: number + 2,
                previous_position: position - 9_000,
            },
            entity: &entity,
            scope: "shop-07",
            kind: "order.placed",
            batch: BatchPlace {
                index: 700,
                len: 1000,
            },
            key: None,
            correlation: id,
            occurred_at: None,
            parents: [].into_iter(),
            tags: [tag.as_str()].into_iter(),
            metadata: [].into_iter(),
        };
        encode_event(&mut log, &seed, at as u64, position, fields, &[7; 256]);
        frames.push((at, position));
    }
    let time = |what: &str, read: &dyn Fn(&[u8], u64, u64)| {
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let start = Instant::now();
            for &(at, position) in &frames {
                read(&log[at..], at as u64, position);
            }
            best = best.min(start.elapsed());
        }
        println!("{what}: {} ns", best.as_nanos() / frames.len() as u128);
    };
    println!("{} bytes a frame", log.len() / frames.len());
    time("head checksum alone", &|frame, at, position| {
        let header = FrameHeader::decode(frame).unwrap();
        black_box(header.head(frame, &seed, at, position).unwrap());
    });
    time("decode", &|frame, at, position| {
        black_box(&Record::decode(frame, &seed, at, position).unwrap());
    });
    time("decode and names", &|frame, at, position| {
        let layout = event(Record::decode(frame, &seed, at, position).unwrap());
        black_box((
            layout.entity(frame),
            layout.kind(frame),
            layout.scope(frame),
        ));
    });
    time("decode and payload checksum", &|frame, at, position| {
        let layout = event(Record::decode(frame, &seed, at, position).unwrap());
        black_box(layout.check_payload(frame, &seed));
    });
}
