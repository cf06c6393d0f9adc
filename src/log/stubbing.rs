//! Puts stubs in the place of events of a closed store, for tests of what reads and appends over them.
//!
//! It writes every segment again under its own name, in one pass and with no care for crashes.

use crate::format::crc::Seed;
use crate::format::frame::{FrameHeader, KIND_EVENT, encode_frame};
use crate::format::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use crate::format::record::{Kept, Record};
use crate::format::segment::{SEGMENT_PAGE_BYTES, SegmentHeader};
use crate::format::stub::StubFields;
use crate::io::{Access, Disk, write_all_at};
use crate::log::files::{CHECKPOINT, HINT, read_manifest, segment_name};
use crate::log::look::{list_segments, open, read_header};
use crate::log::scan::{Scan, Step};
use crate::log::seal::seal;

/// Leaves stubs of the events at the positions that are told, and no derived file but the footers.
pub(crate) fn leave_stubs(disk: &dyn Disk, store_id: &[u8; 16], is_told: &dyn Fn(u64) -> bool) {
    let manifest = read_manifest(disk).unwrap().unwrap();
    let segments = list_segments(disk, &manifest).unwrap();
    let newest = segments.last().unwrap().file.number;
    let mut checksum = 0;
    for listed in segments {
        let header = read_header(disk, listed, &manifest).unwrap().unwrap();
        let header = SegmentHeader {
            predecessor_checksum: checksum,
            ..header
        };
        let (bytes, last_position) = rewritten(disk, &header, &mut checksum, is_told);
        let name = listed.file.name();
        disk.remove(&name).unwrap();
        let file = disk.open(&name, Access::CreateNew).unwrap();
        write_all_at(&*file, &bytes, 0).unwrap();
        if listed.file.number < newest {
            seal(disk, store_id, listed.file, last_position).unwrap();
        }
    }
    for name in [CHECKPOINT, HINT] {
        disk.remove(name).unwrap();
    }
}

/// A segment's bytes with stubs in it, and its last position; `checksum` goes from group to group.
fn rewritten(
    disk: &dyn Disk,
    header: &SegmentHeader,
    checksum: &mut u32,
    is_told: &dyn Fn(u64) -> bool,
) -> (Vec<u8>, u64) {
    let name = segment_name(header.number);
    let file = open(disk, &name, Access::Read).unwrap();
    let mut page = vec![0; SEGMENT_PAGE_BYTES];
    crate::io::read_exact_at(&*file, &mut page, 0).unwrap();
    let old = SegmentHeader::decode(&page).unwrap();
    let mut scan = Scan::begin(file, name, &old).unwrap();
    let mut out = header.encode().to_vec();
    out.resize(SEGMENT_PAGE_BYTES, 0);
    while let Step::Group(group) = scan.step().unwrap() {
        let mut frames = Vec::new();
        scan.frames(&group, |offset, position, frame| {
            frames.push((offset, position, frame.to_vec()));
            Ok(())
        })
        .unwrap();
        let digest = scan.tip.digest;
        *checksum = put_group(
            &mut out,
            &header.seed(),
            group,
            &frames,
            digest,
            *checksum,
            is_told,
        );
    }
    (out, scan.tip.position)
}

fn put_group(
    out: &mut Vec<u8>,
    seed: &Seed,
    group: GroupHeader,
    frames: &[(u64, u64, Vec<u8>)],
    digest: [u8; 32],
    previous_checksum: u32,
    is_told: &dyn Fn(u64) -> bool,
) -> u32 {
    let start = out.len();
    out.resize(start + GROUP_HEADER_BYTES, 0);
    let mut head_crcs = Vec::new();
    for (old_offset, position, frame) in frames {
        let (offset, position) = (out.len() as u64, *position);
        let record = Record::decode(frame, seed, *old_offset, position).unwrap();
        head_crcs.push(match record {
            Record::Event(layout) if is_told(position) => {
                let entity = crate::event::hash::entity_digest(layout.entity(frame));
                let stub = stub_of(&record.kept(frame, position), entity);
                stub.encode(out, seed, offset, position)
            }
            Record::Event(_) => copy(out, seed, offset, position, frame),
            Record::Stub(stub) => stub.encode(out, seed, offset, position),
        });
    }
    let header = GroupHeader {
        offset: start as u64,
        length: u32::try_from(out.len() - start + COMMIT_BYTES).unwrap(),
        previous_checksum,
        synced_segment: 0,
        synced_offset: 0,
        ..group
    };
    let head = header.encode(seed);
    out[start..start + GROUP_HEADER_BYTES].copy_from_slice(&head);
    let mut sum = GroupSum::new(seed, &head);
    head_crcs.iter().for_each(|crc| sum.frame(*crc));
    let (commit, bytes) = Commit::seal(sum, group.last_position(), digest);
    out.extend_from_slice(&bytes);
    commit.checksum
}

/// What stays of an event; nothing here asks for the rest digest.
fn stub_of(kept: &Kept, entity_digest: [u8; 16]) -> StubFields {
    StubFields {
        id: kept.id,
        recorded_at: kept.recorded_at,
        hash: kept.hash,
        entity_digest,
        rest: [0; 32],
        stream: kept.stream,
        batch: kept.batch,
        key: kept.key,
    }
}

/// The same frame at another offset.
fn copy(out: &mut Vec<u8>, seed: &Seed, offset: u64, position: u64, frame: &[u8]) -> u32 {
    let payload_at = FrameHeader::decode(frame).unwrap().payload_at();
    let head_at = crate::format::frame::FRAME_HEADER_BYTES;
    let (head, payload) = (&frame[head_at..payload_at], &frame[payload_at..]);
    encode_frame(out, seed, (offset, position), KIND_EVENT, payload, |out| {
        out.extend_from_slice(head);
    })
}
