//! Writes replacements for tests: the events of whole segments, all kept, in one new file.
//!
//! The thread that tests runs it; it checks what it reads, and nothing else writes there.

use crate::error::Result;
use crate::format::crc::Seed;
use crate::format::frame::FRAME_HEADER_BYTES;
use crate::format::group::{Commit, GroupHeader, GroupSum};
use crate::format::segment::SegmentHeader;
use crate::io::{Access, Disk, write_all_at};
use crate::log::files::SegmentFile;
use crate::log::look::{self, Listed};
use crate::log::scan::{GROUPS_START, Scan, Step, Tip};
use crate::log::seal::{self, Sealed};

/// Copies the events of `files`, which follow each other, into one sealed file of this store.
pub(crate) fn merge(
    disk: &dyn Disk,
    files: &[SegmentFile],
    generation: u64,
    store_id: [u8; 16],
) -> Result<(SegmentFile, Sealed)> {
    let [first, .., last] = *[files, files].concat() else {
        panic!("there is something to merge");
    };
    let place = SegmentFile {
        first: first.first,
        number: last.number,
        generation,
    };
    let header = SegmentHeader {
        store_id,
        salt: [u8::try_from(generation % 251).unwrap(); 16],
        number: place.number,
        replaces_first: place.first,
        replaces_last: place.number,
        ..header_of(disk, first)?
    };
    let mut log = Vec::new();
    let mut tip = Tip::before(&header);
    let mut checksum = header.predecessor_checksum;
    for file in files {
        let old = header_of(disk, *file)?;
        let opened = look::open(disk, &file.name(), Access::Read)?;
        let mut scan = Scan::begin(opened, file.name(), &old)?;
        while let Step::Group(group) = scan.step()? {
            checksum = copy(&mut log, &header, &scan, &group, checksum)?;
        }
        tip = scan.tip;
    }
    let header = SegmentHeader {
        replaced_checksum: tip.checksum,
        replaced_sequence: tip.sequence,
        ..header
    };
    let _ = disk.remove(&place.name());
    let file = disk.open(&place.name(), Access::CreateNew).unwrap();
    write_all_at(&*file, &header.encode(), 0).unwrap();
    write_all_at(&*file, &log, GROUPS_START).unwrap();
    Ok((place, seal::seal(disk, &store_id, place, tip.position)?))
}

fn header_of(disk: &dyn Disk, file: SegmentFile) -> Result<SegmentHeader> {
    let bytes = look::open(disk, &file.name(), Access::Read)?.len().unwrap();
    Ok(look::header_in(disk, Listed { file, bytes })?.expect("a header"))
}

/// Copies one group and returns its new checksum.
fn copy(
    log: &mut Vec<u8>,
    header: &SegmentHeader,
    scan: &Scan,
    group: &GroupHeader,
    previous_checksum: u32,
) -> Result<u32> {
    let seed = header.seed();
    let offset = GROUPS_START + log.len() as u64;
    let head = GroupHeader {
        segment: header.number,
        offset,
        previous_checksum,
        synced_segment: 0,
        synced_offset: 0,
        ..*group
    };
    let head = head.encode(&seed);
    let mut sum = GroupSum::new(&seed, &head);
    log.extend_from_slice(&head);
    scan.frames(group, |old, position, frame| {
        let mut frame = frame.to_vec();
        sum.frame(reseal(
            &mut frame,
            &seed,
            offset + old - group.offset,
            position,
        ));
        log.extend_from_slice(&frame);
        Ok(())
    })?;
    let (commit, bytes) = Commit::seal(sum, group.last_position(), scan.tip.digest);
    log.extend_from_slice(&bytes);
    Ok(commit.checksum)
}

/// Gives a frame the checksums that it has in its new place; returns that of its head.
fn reseal(frame: &mut [u8], seed: &Seed, offset: u64, position: u64) -> u32 {
    let head = usize::from(u16::from_le_bytes([frame[12], frame[13]]));
    let payload_at = FRAME_HEADER_BYTES + head;
    let payload = seed.crc(&[&frame[payload_at..]]);
    frame[4..8].copy_from_slice(&payload.to_le_bytes());
    let covered = &frame[4..payload_at];
    let crc = seed.crc(&[&offset.to_le_bytes(), &position.to_le_bytes(), covered]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}
