//! One worked store: the bytes in `docs/format.md` are those that the code writes.
//!
//! The store holds one group with a batch of two events; every file's tests use these structures.

use super::codec::DecodeError;
use super::crc::Seed;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use super::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use super::hint::{Shutdown, Slot};
use super::manifest::{Lineage, Manifest, Replaced, SnapshotEnd};
use super::record::{BatchPlace, EventFields, KeyDigests, Record, StreamPlace, encode_event};
use super::segment::{SEGMENT_PAGE_BYTES, SegmentHeader};
use super::stub::StubFields;
use crate::event::hash;

pub(crate) const STORE_ID: [u8; 16] = [0xA1; 16];
pub(crate) const FIRST_AT: u64 = 4096 + 72;
const IDS: [[u8; 16]; 2] = [[0xE1; 16], [0xE2; 16]];
const TIMES: [u64; 2] = [1_700_000_000_000_000_000, 1_700_000_000_000_000_001];
const KINDS: [&str; 2] = ["order.placed", "order.paid"];
const ENTITY: &str = "order:7";
const SCOPE: &str = "shop";
const TAGS: [&str; 2] = ["customer:42", "vip"];
const METADATA: [(&str, &str); 1] = [("actor", "maria")];
/// `{"total": 12}` and `{}` in MessagePack.
const PAYLOADS: [&[u8]; 2] = [b"\x81\xa5total\x0c", b"\x80"];

pub(super) fn manifest() -> Manifest {
    Manifest {
        store_id: STORE_ID,
        created_at: TIMES[0],
        generation: 6,
        replaced: vec![Replaced {
            first: 1,
            last: 3,
            generation: 5,
        }],
        lineage: vec![Lineage {
            store_id: [0xA0; 16],
            position: 9,
            digest: [0xD9; 32],
        }],
        end: Some(SnapshotEnd {
            segment: 4,
            offset: 8192,
            position: 12,
            sequence: 7,
            recorded_at: TIMES[1],
            digest: [0xDC; 32],
            checksum: 0xC0C1_C2C3,
        }),
    }
}

pub(crate) fn segment() -> SegmentHeader {
    SegmentHeader {
        store_id: STORE_ID,
        salt: [0x5A; 16],
        number: 1,
        replaces_first: 1,
        replaces_last: 1,
        first_position: 1,
        digest_before: [0; 32],
        predecessor: 0,
        predecessor_checksum: 0,
        replaced_checksum: 0,
        sequence_before: 0,
        recorded_before: 0,
        replaced_sequence: 0,
    }
}

/// What stands for segments 1 to 3 in the store of the worked manifest.
pub(super) fn replacement() -> SegmentHeader {
    SegmentHeader {
        salt: [0x5B; 16],
        number: 3,
        replaces_last: 3,
        replaced_checksum: 0xB0B1_B2B3,
        replaced_sequence: 6,
        ..segment()
    }
}

pub(crate) fn segment_page() -> Vec<u8> {
    let mut page = segment().encode().to_vec();
    page.resize(SEGMENT_PAGE_BYTES, 0);
    page
}

pub(super) fn seed() -> Seed {
    segment().seed()
}

fn key() -> KeyDigests {
    KeyDigests {
        key: hashes().key,
        content: hashes().content,
    }
}

/// The first event: key and tags. Returns its frame and head checksum.
pub(crate) fn first_frame() -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    let fields = EventFields {
        id: IDS[0],
        recorded_at: TIMES[0],
        hash: hashes().event[0],
        schema_version: 1,
        stream: StreamPlace {
            revision: 1,
            previous_position: 0,
        },
        entity: ENTITY,
        scope: SCOPE,
        kind: KINDS[0],
        batch: BatchPlace { index: 0, len: 2 },
        key: Some(key()),
        correlation: IDS[0],
        occurred_at: None,
        parents: [].into_iter(),
        tags: TAGS.into_iter(),
        metadata: [].into_iter(),
    };
    let head = encode_event(&mut out, &seed(), FIRST_AT, 1, fields, PAYLOADS[0]);
    (out, head)
}

pub(super) fn second_at() -> u64 {
    FIRST_AT + first_frame().0.len() as u64
}

/// The second event: parent, correlation, occurred time and metadata.
pub(super) fn second_frame() -> (Vec<u8>, u32) {
    let mut out = Vec::new();
    let fields = EventFields {
        id: IDS[1],
        recorded_at: TIMES[1],
        hash: hashes().event[1],
        schema_version: 2,
        stream: StreamPlace {
            revision: 2,
            previous_position: 1,
        },
        entity: ENTITY,
        scope: SCOPE,
        kind: KINDS[1],
        batch: BatchPlace { index: 1, len: 2 },
        key: None,
        correlation: IDS[0],
        occurred_at: Some(TIMES[0] - 1),
        parents: [IDS[0]].into_iter(),
        tags: [].into_iter(),
        metadata: METADATA.into_iter(),
    };
    let head = encode_event(&mut out, &seed(), second_at(), 2, fields, PAYLOADS[1]);
    (out, head)
}

/// What would stay of the first event.
pub(super) fn stub() -> StubFields {
    StubFields {
        id: IDS[0],
        recorded_at: TIMES[0],
        hash: hashes().event[0],
        entity_digest: hashes().entity,
        rest: hashes().rest[0],
        stream: StreamPlace {
            revision: 1,
            previous_position: 0,
        },
        batch: BatchPlace { index: 0, len: 2 },
        key: Some(key()),
    }
}

pub(super) fn stub_frame() -> Vec<u8> {
    let mut out = Vec::new();
    stub().encode(&mut out, &seed(), FIRST_AT, 1);
    out
}

pub(super) fn group() -> GroupHeader {
    let frames = first_frame().0.len() + second_frame().0.len();
    GroupHeader {
        segment: 1,
        offset: 4096,
        sequence: 1,
        first_position: 1,
        length: u32::try_from(GROUP_HEADER_BYTES + frames + COMMIT_BYTES).unwrap(),
        count: 2,
        previous_checksum: 0,
        synced_segment: 1,
        synced_offset: 4096,
    }
}

pub(super) fn group_sum() -> GroupSum {
    let mut sum = GroupSum::new(&seed(), &group().encode(&seed()));
    sum.frame(first_frame().1);
    sum.frame(second_frame().1);
    sum
}

pub(super) fn commit() -> (Commit, [u8; COMMIT_BYTES]) {
    Commit::seal(group_sum(), 2, hashes().running[1])
}

pub(super) fn slot() -> Slot {
    Slot {
        generation: 7,
        segment: 1,
        end_offset: group().end(),
        last_position: 2,
        group_checksum: commit().0.checksum,
        shutdown: Shutdown::Clean,
        manifest_generation: 6,
    }
}

/// Every hash of the worked events, computed literally as section 6 says.
struct Hashes {
    payload: [[u8; 32]; 2],
    labels: [[u8; 32]; 2],
    facts: [[u8; 32]; 2],
    rest: [[u8; 32]; 2],
    entity: [u8; 16],
    key: [u8; 16],
    content: [u8; 16],
    event: [[u8; 32]; 2],
    running: [[u8; 32]; 2],
}

fn h(label: &str, input: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..label.len()].copy_from_slice(label.as_bytes());
    *blake3::keyed_hash(&key, input).as_bytes()
}

fn half(digest: [u8; 32]) -> [u8; 16] {
    *digest.first_chunk().unwrap()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn number(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn facts(n: usize, payload: [u8; 32], labels: [u8; 32]) -> [u8; 32] {
    let version = [[1, 0], [2, 0]][n].to_vec();
    let length = number(PAYLOADS[n].len() as u64);
    let occurred = [vec![0; 9], [vec![1], number(TIMES[0] - 1)].concat()][n].clone();
    let parents = [number(0), [number(1), IDS[0].to_vec()].concat()][n].clone();
    let digests = [payload, labels].concat();
    let names = [
        string(ENTITY),
        string(SCOPE),
        string(KINDS[n]),
        string(""),
        string(""),
    ];
    let mut input = [version, vec![0, 0], length, digests, IDS[0].to_vec()].concat();
    input.extend([occurred, parents, names.concat()].concat());
    h("quipu.facts.v1", &input)
}

fn hashes() -> Hashes {
    let payload = PAYLOADS.map(|payload| h("quipu.payload.v1", payload));
    let tags = [number(2), string(TAGS[0]), string(TAGS[1])].concat();
    let (actor, maria) = METADATA[0];
    let labels = [
        h("quipu.labels.v1", &[tags.clone(), number(0)].concat()),
        h(
            "quipu.labels.v1",
            &[number(0), number(1), string(actor), string(maria)].concat(),
        ),
    ];
    let facts = [0, 1].map(|n| facts(n, payload[n], labels[n]));
    let entity = half(h("quipu.entity.v1", ENTITY.as_bytes()));
    let key = half(h("quipu.key.v1", b"checkout-7"));
    let contents = [0, 1].map(|n: usize| {
        let names = [string(ENTITY), string(SCOPE), string(KINDS[n])].concat();
        let tags = [tags.clone(), number(0)][n].clone();
        [
            names,
            [[1, 0], [2, 0]][n].to_vec(),
            payload[n].to_vec(),
            tags,
        ]
        .concat()
    });
    let content = half(h(
        "quipu.content.v1",
        &[number(2), contents.concat()].concat(),
    ));
    let event = |n: usize, previous: u64, digests: [[u8; 16]; 2], rest: [u8; 32]| {
        let revision = n as u64 + 1;
        let index = [[0, 0, 0, 0, 2, 0, 0, 0], [1, 0, 0, 0, 2, 0, 0, 0]][n];
        let place = [revision, revision, previous, TIMES[n]]
            .map(u64::to_le_bytes)
            .concat();
        let names = [
            IDS[n].to_vec(),
            entity.to_vec(),
            index.to_vec(),
            digests.concat(),
        ]
        .concat();
        h("quipu.event.v1", &[place, names, rest.to_vec()].concat())
    };
    let first_rest = h("quipu.rest.v1", &[facts[0], [0; 32]].concat());
    let first = event(0, 0, [key, content], first_rest);
    let second_rest = h("quipu.rest.v1", &[facts[1], first, first].concat());
    let second = event(1, 1, [[0; 16]; 2], second_rest);
    let after_first = h("quipu.digest.v1", &[[0; 32], first].concat());
    let after_second = h("quipu.digest.v1", &[after_first, second].concat());
    let rest = [first_rest, second_rest];
    let (event, running) = ([first, second], [after_first, after_second]);
    Hashes {
        payload,
        labels,
        facts,
        rest,
        entity,
        key,
        content,
        event,
        running,
    }
}

/// Gives a changed frame the head checksum that its bytes should have at that place.
pub(super) fn reseal(frame: &mut [u8], offset: u64, position: u64) {
    let head = usize::from(u16::from_le_bytes([frame[12], frame[13]]));
    let covered = &frame[4..FRAME_HEADER_BYTES + head];
    let crc = seed().crc(&[&offset.to_le_bytes(), &position.to_le_bytes(), covered]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Asserts that each flipped bit and each missing tail makes `decode` fail.
#[track_caller]
pub(super) fn assert_damage_is_seen<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    assert!(decode(bytes).is_ok(), "the undamaged bytes are read");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(decode(&damaged).is_err(), "flip of bit {bit} of byte {at}");
        }
        assert!(decode(&bytes[..at]).is_err(), "cut to {at} bytes");
    }
}

/// Feeds `decode` random bytes behind `start`; it must not panic and must not accept them.
#[track_caller]
pub(super) fn assert_garbage_is_refused<T>(
    start: &[u8],
    most: usize,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) {
    let mut random = Random::from_clock();
    for _ in 0..2000 {
        let mut bytes = start.to_vec();
        let len = random.below(most);
        bytes.extend((0..len).map(|_| random.byte()));
        assert!(
            decode(&bytes).is_err(),
            "seed {}: {bytes:02x?}",
            random.seed
        );
    }
}

/// A small random source (xorshift64*, Vigna 2016) that prints its seed.
pub(crate) struct Random {
    pub(crate) seed: u64,
    state: u64,
}

impl Random {
    pub(crate) fn from_clock() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let seed = u64::from(since.subsec_nanos()) | 1;
        println!("random seed {seed}");
        Self { seed, state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % most
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }
}

/// The hex blocks of one section of the page: `#` begins a comment that goes to the end of the line.
fn blocks(section: u32) -> Vec<Vec<u8>> {
    let page = include_str!("../../docs/format.md");
    let from = page
        .find(&format!("\n## {section}. "))
        .expect("the section exists")
        + 1;
    let text = &page[from..];
    let text = &text[..text[1..].find("\n## ").map_or(text.len(), |end| end + 1)];
    text.split("\n```hex\n")
        .skip(1)
        .map(|block| parse(block.split("```").next().unwrap()))
        .collect()
}

fn parse(block: &str) -> Vec<u8> {
    let uncommented = block.lines().map(|line| line.split('#').next().unwrap());
    let bytes = uncommented.flat_map(str::split_whitespace);
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}

fn dump(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        line.iter()
            .map(|b| format!("{b:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
pub(super) fn assert_section(section: u32, written: &[&[u8]]) {
    let found = blocks(section);
    for (index, bytes) in written.iter().enumerate() {
        let right = found.get(index).is_some_and(|block| block == bytes);
        let number = index + 1;
        assert!(
            right,
            "section {section}, block {number} should be\n{}\n",
            dump(bytes)
        );
    }
    assert_eq!(
        found.len(),
        written.len(),
        "section {section} has a block that nothing checks"
    );
}

#[test]
fn page_shows_the_manifest_as_written() {
    assert_section(2, &[&manifest().encode()]);
}

#[test]
fn page_shows_the_segment_header_as_written() {
    assert_section(3, &[&segment().encode(), &replacement().encode()]);
}

#[test]
fn page_shows_the_group_as_written() {
    assert_section(4, &[&group().encode(&seed()), &commit().1]);
}

#[test]
fn page_shows_the_frames_as_written() {
    assert_section(5, &[&first_frame().0, &second_frame().0, &stub_frame()]);
}

#[test]
fn page_shows_the_hashes_as_computed() {
    let all = hashes();
    let digests = [all.payload[1], all.labels[1], all.facts[1], all.rest[1]].concat();
    let halves = [all.entity, all.key, all.content].concat();
    let proof = [all.event[1], all.running[1]].concat();
    assert_section(6, &[&[digests, halves, proof].concat()]);
}

#[test]
fn page_shows_the_hint_as_written() {
    assert_section(7, &[&slot().encode(&STORE_ID)]);
}

#[test]
fn group_reads_back_frame_by_frame() {
    let (commit, commit_bytes) = commit();
    let header = group().encode(&seed());
    let bytes = [
        &header[..],
        &first_frame().0,
        &second_frame().0,
        &commit_bytes,
    ]
    .concat();

    let read = GroupHeader::decode(&bytes, &seed(), 1, 4096).unwrap();
    let mut sum = GroupSum::new(&seed(), &header);
    let (mut at, mut position) = (GROUP_HEADER_BYTES, read.first_position);
    while 4096 + (at as u64) < read.commit_offset() {
        let frame = Record::decode(&bytes[at..], &seed(), 4096 + at as u64, position).unwrap();
        let Record::Event(layout) = frame else {
            panic!("both frames are events")
        };
        sum.frame(layout.head_crc);
        let header = FrameHeader::decode(&bytes[at..]).unwrap();
        at += usize::try_from(header.frame_bytes()).unwrap();
        position += 1;
    }

    assert!(at > FRAME_HEADER_BYTES);
    assert_eq!(Commit::decode(&bytes[at..], sum).unwrap(), commit);
    assert_eq!(read.last_position(), commit.last_position);
    assert_eq!(read.end(), 4096 + bytes.len() as u64);
}

#[test]
fn second_event_hashes_as_the_page_says() {
    let all = hashes();
    let facts = hash::Facts {
        schema_version: 2,
        codec: 0,
        cipher: 0,
        payload_length: 1,
        payload_hash: &hash::payload_hash(PAYLOADS[1]),
        labels: &hash::labels_digest([].into_iter(), METADATA.into_iter()),
        correlation: &IDS[0],
        occurred_at: Some(TIMES[0] - 1),
        entity: ENTITY,
        scope: SCOPE,
        kind: KINDS[1],
        key_reference: &[],
        extension: &[],
    };
    let facts = hash::facts_digest(&facts, [IDS[0]].into_iter());
    let kept = hash::Kept {
        position: 2,
        revision: 2,
        previous: 1,
        recorded_at: TIMES[1],
        id: &IDS[1],
        entity_digest: &hash::entity_digest(ENTITY),
        batch_index: 1,
        batch_length: 2,
        key_digest: &[0; 16],
        content_digest: &[0; 16],
        rest: &hash::rest_digest(&facts, &all.event[0], [all.event[0]].into_iter()),
    };
    let mut content = hash::ContentDigest::new(2);
    content.push(
        ENTITY,
        SCOPE,
        KINDS[0],
        1,
        &all.payload[0],
        TAGS.into_iter(),
    );
    content.push(ENTITY, SCOPE, KINDS[1], 2, &all.payload[1], [].into_iter());

    assert_eq!(hash::event_hash(&kept), all.event[1]);
    assert_eq!(
        hash::fold_digest(&all.running[0], &all.event[1]),
        all.running[1]
    );
    assert_eq!(
        (hash::key_digest(b"checkout-7"), content.finish()),
        (all.key, all.content)
    );
}
