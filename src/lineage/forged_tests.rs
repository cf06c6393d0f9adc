//! Logs that a hand changed and whose checksums it made anew: what no checksum can find, the hashes do.

use std::collections::BTreeMap;

use crate::engine;
use crate::engine::shared::Engine;
use crate::event::batch::Batch;
use crate::event::coordinate::Coordinate;
use crate::event::digest::Digest;
use crate::event::draft::EventDraft;
use crate::event::hash::{entity_digest, fold_digest, rest_digest};
use crate::event::kind::EventKind;
use crate::format::codec::{Reader, put_varint};
use crate::format::crc::Seed;
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use crate::format::record::Record;
use crate::format::segment::SegmentHeader;
use crate::format::stub::StubFields;
use crate::io::{Access, Disk, MemoryDisk, write_all_at};
use crate::lineage::verification::{Damage, Verification};
use crate::lineage::verify::{VerifyOptions, verify};
use crate::log::files::{CHECKPOINT, HINT, SEGMENTS, read_manifest};
use crate::log::hashes::{facts_of, hash_of};
use crate::log::look::{list_segments, open, read_header};
use crate::log::scan::{GROUPS_START, Scan, Step};
use crate::options::StoreConfig;
use crate::sync::Arc;

const KIND: EventKind = EventKind::literal("it.happened");
const HASH_AT: usize = FRAME_HEADER_BYTES + 24;
const RECORDED_AT: usize = FRAME_HEADER_BYTES + 16;
const STREAM_AT: usize = FRAME_HEADER_BYTES + 57;

/// A log in one segment as a hand sees it: the frames of each group, and the digest that its commit is to have.
struct Log {
    disk: Arc<MemoryDisk>,
    header: SegmentHeader,
    groups: Vec<Vec<Vec<u8>>>,
    /// The running digest of the whole log as it was written.
    digest: Digest,
    /// Of a group whose digest is not that of its events.
    wrong_digest: Option<usize>,
}

fn engine(disk: &Arc<MemoryDisk>) -> Arc<Engine> {
    let disk: Arc<MemoryDisk> = Arc::clone(disk);
    engine::open::open(StoreConfig::on_disk(disk)).unwrap()
}

fn verified(engine: &Engine) -> Verification {
    verify(&engine.front, VerifyOptions::new()).unwrap()
}

/// Six groups: events 1 to 3 of `a`, each caused by the one before, a batch of `b` twice and `a`, and two of `c`.
fn log() -> Log {
    let disk = Arc::new(MemoryDisk::new());
    let store = engine(&disk);
    let place = |entity: &str| Coordinate::new(entity, "here").unwrap();
    let draft = |entity: &str, payload: &str| EventDraft::new(&place(entity), KIND, payload);
    let mut cause = None;
    for payload in ["one", "two", "three"] {
        let draft = draft("a", payload).tag("odd").metadata("by", "hand");
        let draft = cause.map_or(draft.clone(), |id| draft.caused_by(id));
        let receipts = store.append(Batch::new().event(draft)).unwrap();
        cause = Some(receipts[0].id());
    }
    let batch = Batch::new()
        .event(draft("b", "four"))
        .event(draft("b", "five"));
    let batch = batch.event(draft("a", "six")).idempotency_key("key");
    store.append(batch).unwrap();
    for payload in ["seven", "eight"] {
        store
            .append(Batch::new().event(draft("c", payload)))
            .unwrap();
    }
    assert!(verified(&store).is_sound());
    let digest = store.front.last_head().digest;
    store.close().unwrap();
    Log::read(disk, digest)
}

impl Log {
    fn read(disk: Arc<MemoryDisk>, digest: Digest) -> Self {
        let manifest = read_manifest(&*disk).unwrap().unwrap();
        let listed = list_segments(&*disk, &manifest).unwrap()[0];
        let header = read_header(&*disk, listed, &manifest).unwrap().unwrap();
        let name = segment_file(&disk);
        let file = open(&*disk, &name, Access::Read).unwrap();
        let mut scan = Scan::begin(file, name, &header).unwrap();
        let mut groups = Vec::new();
        while let Step::Group(group) = scan.step().unwrap() {
            let mut frames = Vec::new();
            let take = |_, _, frame: &[u8]| {
                frames.push(frame.to_vec());
                Ok(())
            };
            scan.frames(&group, take).unwrap();
            groups.push(frames);
        }
        assert_eq!(groups.len(), 6);
        Self {
            disk,
            header,
            groups,
            digest,
            wrong_digest: None,
        }
    }

    fn frame(&mut self, position: u64) -> &mut Vec<u8> {
        let mut frames = self.groups.iter_mut().flatten();
        frames.nth(usize::try_from(position - 1).unwrap()).unwrap()
    }

    fn record(&self, position: u64) -> Record {
        let frame = &self
            .groups
            .iter()
            .flatten()
            .nth(usize::try_from(position - 1).unwrap())
            .unwrap();
        let mut frame = frame.to_vec();
        seal(&mut frame, &self.header.seed(), GROUPS_START, position);
        Record::decode(&frame, &self.header.seed(), GROUPS_START, position).unwrap()
    }

    /// Gives the event the hash of its parts, and so of the events before it, as they are now.
    fn rehash(&mut self, position: u64) {
        let rest = self.rest(position);
        let record = self.record(position);
        let frame = self.frame(position);
        let Record::Event(layout) = record else {
            panic!("a stub has no parts")
        };
        let entity = entity_digest(layout.entity(frame));
        let hash = hash_of(&record.kept(frame, position), &entity, &rest);
        frame[HASH_AT..HASH_AT + 32].copy_from_slice(&hash);
    }

    /// Gives an event the id of another, and all that follow their hashes.
    fn take_id(&mut self, position: u64, other: u64) {
        let span = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 16;
        let id = self.frame(other)[span.clone()].to_vec();
        self.frame(position)[span].copy_from_slice(&id);
        (position..=8).for_each(|position| self.rehash(position));
    }

    fn rest(&mut self, position: u64) -> [u8; 32] {
        let mut by_id = BTreeMap::new();
        let mut by_position = BTreeMap::from([(0, [0; 32])]);
        for before in 1..position {
            let frame = self.frame(before);
            let hash: [u8; 32] = frame[HASH_AT..HASH_AT + 32].try_into().unwrap();
            by_id.insert(
                frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 16].to_vec(),
                hash,
            );
            by_position.insert(before, hash);
        }
        let record = self.record(position);
        let frame = self.frame(position);
        let Record::Event(layout) = record else {
            panic!("a stub has no parts")
        };
        let parents = layout
            .parents(frame)
            .map(|id| by_id.get(&id[..]).copied().unwrap_or([9; 32]));
        let previous = by_position[&layout.previous_position];
        rest_digest(&facts_of(&layout, frame), &previous, parents)
    }

    fn stub(&mut self, position: u64) -> StubFields {
        let rest = self.rest(position);
        let record = self.record(position);
        let frame = self.frame(position);
        let kept = record.kept(frame, position);
        let Record::Event(layout) = record else {
            panic!("it is a stub")
        };
        StubFields {
            id: kept.id,
            recorded_at: kept.recorded_at,
            hash: kept.hash,
            entity_digest: entity_digest(layout.entity(frame)),
            rest,
            stream: kept.stream,
            batch: kept.batch,
            key: kept.key,
        }
    }

    fn put_stub(&mut self, position: u64, stub: &StubFields) {
        let frame = self.frame(position);
        frame.clear();
        stub.encode(frame, &Seed::new(&[0; 16], &[0; 16], 0), 0, position);
    }

    /// Writes the log with checksums, links of groups and digests that hold; its last position.
    fn write(&mut self) -> u64 {
        let seed = self.header.seed();
        let mut out = Vec::new();
        let (mut position, mut checksum, mut digest) = (1, 0, [0; 32]);
        for (number, frames) in self.groups.iter_mut().enumerate() {
            let start = GROUPS_START + out.len() as u64;
            let mut body = Vec::new();
            let mut crcs = Vec::new();
            let first_position = position;
            for frame in frames.iter_mut() {
                let at = start + (GROUP_HEADER_BYTES + body.len()) as u64;
                crcs.push(seal(frame, &seed, at, position));
                digest = fold_digest(&digest, frame[HASH_AT..HASH_AT + 32].try_into().unwrap());
                body.extend_from_slice(frame);
                position += 1;
            }
            if self.wrong_digest == Some(number) {
                digest[0] ^= 1;
            }
            let header = GroupHeader {
                segment: 1,
                offset: start,
                sequence: number as u64 + 1,
                first_position,
                length: u32::try_from(GROUP_HEADER_BYTES + body.len() + COMMIT_BYTES).unwrap(),
                count: u32::try_from(frames.len()).unwrap(),
                previous_checksum: checksum,
                synced_segment: 1,
                synced_offset: GROUPS_START,
            };
            let head = header.encode(&seed);
            let mut sum = GroupSum::new(&seed, &head);
            crcs.iter().for_each(|crc| sum.frame(*crc));
            let (commit, end) = Commit::seal(sum, position - 1, digest);
            checksum = commit.checksum;
            [&head[..], &body, &end]
                .iter()
                .for_each(|bytes| out.extend_from_slice(bytes));
        }
        let file = open(&*self.disk, &segment_file(&self.disk), Access::Write).unwrap();
        file.set_len(GROUPS_START).unwrap();
        write_all_at(&*file, &out, GROUPS_START).unwrap();
        position - 1
    }

    /// Writes the log, opens it and verifies it.
    fn verified(mut self) -> Verification {
        let last = self.write();
        [CHECKPOINT, HINT]
            .iter()
            .for_each(|name| self.disk.remove(name).unwrap());
        let store = engine(&self.disk);
        let head = store.front.last_head().position.get();
        assert_eq!(head, last, "it opens");
        let found = verified(&store);
        store.close().unwrap();
        found
    }
}

fn segment_file(disk: &MemoryDisk) -> String {
    let entries = disk.list(SEGMENTS).unwrap();
    let segment = entries.iter().find(|entry| entry.name.ends_with(".seg"));
    format!("{SEGMENTS}/{}", segment.unwrap().name)
}

/// Makes both checksums of a frame anew for its place; the head's.
fn seal(frame: &mut [u8], seed: &Seed, offset: u64, position: u64) -> u32 {
    let header = FrameHeader::decode(frame).unwrap();
    let payload = seed.crc(&[&frame[header.payload_at()..]]);
    frame[4..8].copy_from_slice(&payload.to_le_bytes());
    let covered = &frame[4..header.payload_at()];
    let crc = seed.crc(&[&offset.to_le_bytes(), &position.to_le_bytes(), covered]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// The positions and sentences of what was found.
fn found(log: Log) -> Vec<(u64, String)> {
    let found = log.verified();
    assert_eq!(found.is_sound(), found.damages.is_empty());
    assert_eq!(found.damages_found, found.damages.len() as u64);
    let damages = found.damages.into_iter();
    damages
        .map(|damage| (damage.position.unwrap().get(), damage.what))
        .collect()
}

fn assert_found(log: Log, position: u64, what: &str) {
    let found = found(log);
    let hit = found
        .iter()
        .any(|(at, said)| *at == position && said.contains(what));
    assert!(hit, "event {position}: {what}: {found:?}");
}

#[test]
fn the_log_as_it_was_is_sound() {
    let found = log().verified();
    assert!(found.is_sound(), "{found}");
    assert_eq!((found.events, found.repairable_found), (8, 0));
}

#[test]
fn every_byte_of_an_event_is_covered_by_its_hash() {
    let payload_at = {
        let mut log = log();
        FrameHeader::decode(log.frame(2)).unwrap().payload_at()
    };
    let mut log_ = log();
    let len = log_.frame(2).len();
    for at in (FRAME_HEADER_BYTES..len).filter(|at| *at >= payload_at || at % 3 == 0) {
        let mut log = log();
        log.frame(2)[at] ^= 1;
        let mut frame = log.frame(2).clone();
        seal(&mut frame, &log.header.seed(), GROUPS_START, 2);
        if Record::decode(&frame, &log.header.seed(), GROUPS_START, 2).is_err() {
            continue;
        }
        let found = found(log);
        assert!(found.iter().any(|(at, _)| *at <= 3), "byte {at}: {found:?}");
    }
}

#[test]
fn an_edited_event_is_found_where_it_stands() {
    let mut log = log();
    *log.frame(2).last_mut().unwrap() ^= 1;
    assert_eq!(
        found(log),
        [(2, String::from("its hash is not that of its parts"))]
    );
}

#[test]
fn an_edited_event_with_a_hash_made_anew_is_found_by_what_links_to_it() {
    let mut log = log();
    *log.frame(2).last_mut().unwrap() ^= 1;
    log.rehash(2);
    assert_found(log, 3, "its hash");
}

#[test]
fn a_history_made_anew_from_one_event_on_has_another_digest() {
    let mut log = log();
    let digest = |log: Log| {
        let found = log.verified();
        assert!(found.is_sound(), "{found}");
        found.digest
    };
    let before = digest(self::log());
    *log.frame(2).last_mut().unwrap() ^= 1;
    (2..=8).for_each(|position| log.rehash(position));
    assert_ne!(digest(log), before);
}

/// The log is whole in itself, and not the one that readers were shown.
#[test]
fn a_history_made_anew_under_an_open_store_is_found_by_the_digest_that_it_shows() {
    let mut log = log();
    let store = engine(&log.disk);
    *log.frame(2).last_mut().unwrap() ^= 1;
    (2..=8).for_each(|position| log.rehash(position));
    log.write();
    let found = verified(&store);
    let said = |damage: &Damage| damage.what.contains("another digest");
    assert!(found.damages.iter().any(said), "{found}");
    assert_eq!((found.events, found.unproven), (8, 0), "{found}");
}

#[test]
fn reordered_and_dropped_groups_are_found() {
    let mut swapped = log();
    swapped.groups.swap(4, 5);
    assert_found(swapped, 7, "its entity's last event");
    let mut dropped = log();
    dropped.groups.remove(4);
    assert_found(dropped, 7, "its entity's last event");
    let mut moved = log();
    moved.groups.swap(3, 4);
    assert_found(moved, 4, "its hash");
}

#[test]
fn a_second_event_of_one_revision_is_found() {
    let mut log = log();
    let mut place = Vec::new();
    put_varint(&mut place, 2);
    put_varint(&mut place, 2);
    let frame = log.frame(3);
    assert_eq!(Reader::new(&frame[STREAM_AT..]).varint(), Ok(3));
    frame[STREAM_AT..STREAM_AT + 2].copy_from_slice(&place);
    (3..=8).for_each(|position| log.rehash(position));
    assert_found(log, 3, "it is revision 2 behind position 1");
    let mut skips = self::log();
    skips.frame(3)[STREAM_AT + 1] = 2;
    skips.rehash(3);
    assert_found(skips, 3, "it is revision 3 behind position 1");
}

#[test]
fn a_batch_that_is_not_whole_is_found() {
    let mut cut = log();
    cut.groups[3].pop();
    assert_found(cut, 5, "its batch does not end in its group");
    let mut split = log();
    let rest = split.groups[3].split_off(1);
    split.groups.insert(4, rest);
    assert_found(split, 4, "its batch does not end in its group");
    let mut beheaded = log();
    beheaded.groups[3].remove(0);
    assert_found(beheaded, 4, "it is not the next event of its batch");
}

#[test]
fn a_time_that_goes_back_is_found() {
    let mut log = log();
    let earlier = log.frame(1)[RECORDED_AT..RECORDED_AT + 8].to_vec();
    log.frame(2)[RECORDED_AT..RECORDED_AT + 8].copy_from_slice(&earlier);
    (2..=8).for_each(|position| log.rehash(position));
    assert_found(log, 2, "it was not recorded after");
}

#[test]
fn a_parent_that_is_not_there_is_found() {
    let mut log = log();
    let id: [u8; 16] = log.frame(1)[FRAME_HEADER_BYTES..][..16].try_into().unwrap();
    let frame = log.frame(2);
    // The correlation, which is the first event's id too, stands before the parents.
    let at = frame.windows(16).rposition(|window| window == id).unwrap();
    frame[at] ^= 1;
    (2..=8).for_each(|position| log.rehash(position));
    assert_found(log, 2, "its parent");
}

#[test]
fn a_running_digest_that_is_not_that_of_the_events_is_found_once() {
    let mut log = log();
    log.wrong_digest = Some(2);
    let found = found(log);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.contains("the running digest"), "{found:?}");
}

#[test]
fn a_key_inside_a_submission_is_found() {
    let mut log = log();
    let key = log.stub(4).key;
    assert!(key.is_some());
    let stub = StubFields { key, ..log.stub(5) };
    log.put_stub(5, &stub);
    assert_found(log, 5, "it has a key and is not the first");
}

#[test]
fn stubs_are_proven_by_what_they_keep() {
    let stubbed = |change: fn(&mut StubFields)| {
        let mut log = log();
        for position in [2, 4, 5, 7] {
            let mut stub = log.stub(position);
            change(&mut stub);
            log.put_stub(position, &stub);
        }
        let digest = log.digest;
        (digest, log.verified())
    };
    let (digest, sound) = stubbed(|_| ());
    assert!(sound.is_sound(), "{sound}");
    assert_eq!((sound.events, sound.stubs), (4, 4));
    assert_eq!(sound.digest, digest, "retention does not change it");
    for (what, (_, forged)) in [
        ("rest", stubbed(|stub| stub.rest[0] ^= 1)),
        ("id", stubbed(|stub| stub.id[0] ^= 1)),
        ("entity", stubbed(|stub| stub.entity_digest[0] ^= 1)),
        ("time", stubbed(|stub| stub.recorded_at += 1)),
        ("batch", stubbed(|stub| stub.batch.len = 4)),
    ] {
        assert!(!forged.is_sound(), "{what}");
    }
}

#[test]
fn an_id_that_was_taken_before_is_found() {
    let mut next = log();
    next.take_id(8, 7);
    assert_found(next, 8, "its id is that of an event before it");
    // However many came between, of which a verification forgets some: the index of a closed store tells of those.
    for _ in 0..10 {
        let mut log = log();
        log.take_id(8, 1);
        let disk = Arc::clone(&log.disk);
        log.verified();
        let store = engine(&disk);
        let found = verified(&store);
        let said = found.damages.iter().map(ToString::to_string);
        let hits = said.filter(|said| said.contains("event 8: its id")).count();
        assert_eq!((hits, found.damages_found), (1, 1), "{found}");
        store.close().unwrap();
    }
}

#[test]
fn a_key_that_was_taken_before_is_found() {
    let mut log = log();
    let key = log.stub(4).key;
    let rest = log.rest(7);
    let mut stub = StubFields { key, ..log.stub(7) };
    let kept = Record::Stub(stub).kept(&[], 7);
    stub.hash = hash_of(&kept, &stub.entity_digest, &rest);
    log.put_stub(7, &stub);
    log.rehash(8);
    assert_found(log, 7, "its key is that of a submission before it");
}

#[test]
fn a_submission_that_is_not_what_its_key_was_given_for_is_found() {
    let mut edited = log();
    *edited.frame(5).last_mut().unwrap() ^= 1;
    (5..=8).for_each(|position| edited.rehash(position));
    assert_found(
        edited,
        6,
        "its submission is not what its key was given for",
    );
    // Of one that retention took a part of nobody can tell.
    let mut emptied = log();
    let stub = emptied.stub(5);
    emptied.put_stub(5, &stub);
    assert!(emptied.verified().is_sound());
}
