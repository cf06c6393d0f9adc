//! Carries out what the plan says of the tail: keep bytes aside, cut with zeros, rewrite and sync what is kept.
//!
//! Runs on the thread that loads the log (`engine/load.rs`), in this order: aside, synced; zeros, synced; rewritten,
//! synced; only then may anyone see or append. A crash at any step leaves what the same plan, made again, carries to
//! the same end.

use std::io::{self, ErrorKind};

use crate::error::{Result, StoreError};
use crate::format::manifest::SnapshotEnd;
use crate::io::{Access, Disk, DiskFile, read_exact_at, write_all_at};
use crate::log::files::{SEGMENTS, SegmentFile};
use crate::log::look::Listed;
use crate::log::seal;

/// How many cuts of one segment are kept aside; the last is replaced when there are more.
pub(crate) const MAX_TORN_FILES: u32 = 16;
/// How much is copied at once, in bytes.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Copies `at..until` aside, zeroes it, and syncs both.
pub(crate) fn cut(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    segment: SegmentFile,
    at: u64,
    until: u64,
) -> Result<String> {
    let fail = |e| {
        StoreError::io(
            format_args!("cutting the torn tail of {}", segment.name()),
            e,
        )
    };
    let name = keep_aside(disk, file, segment, at, until).map_err(fail)?;
    let zeros = vec![0; chunk(CHUNK_BYTES)];
    for (from, len) in chunks(at, until) {
        write_all_at(file, zeros.get(..len).unwrap_or_default(), from)
            .map_err(|e| fail(e.source))?;
    }
    file.sync_all().map_err(fail)?;
    Ok(name)
}

fn keep_aside(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    segment: SegmentFile,
    at: u64,
    until: u64,
) -> io::Result<String> {
    let (name, aside) = new_torn_file(disk, segment)?;
    let mut bytes = vec![0; chunk(CHUNK_BYTES)];
    for (from, len) in chunks(at, until) {
        let part = bytes.get_mut(..len).unwrap_or_default();
        read_exact_at(file, part, from)?;
        write_all_at(&*aside, part, from - at).map_err(|e| e.source)?;
    }
    aside.sync_all()?;
    disk.sync_dir(SEGMENTS)?;
    Ok(name)
}

fn new_torn_file(
    disk: &dyn Disk,
    segment: SegmentFile,
) -> io::Result<(String, crate::sync::Arc<dyn DiskFile>)> {
    for attempt in 1..=MAX_TORN_FILES {
        let name = segment.torn_name(attempt);
        match disk.open(&name, Access::CreateNew) {
            Ok(file) => return Ok((name, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    let name = segment.torn_name(MAX_TORN_FILES);
    let file = disk.open(&name, Access::Write)?;
    file.set_len(0)?;
    Ok((name, file))
}

/// Writes `from..to` again as it is, and syncs: bytes that only the page cache may hold are then on the disk, also
/// after a sync that failed and left their pages marked clean.
pub(crate) fn rewrite(file: &dyn DiskFile, segment: SegmentFile, from: u64, to: u64) -> Result<()> {
    let fail = |e| {
        StoreError::io(
            format_args!("rewriting the unproven tail of {}", segment.name()),
            e,
        )
    };
    let mut bytes = vec![0; chunk(CHUNK_BYTES.min(to.saturating_sub(from)))];
    for (at, len) in chunks(from, to) {
        let part = bytes.get_mut(..len).unwrap_or_default();
        read_exact_at(file, part, at).map_err(fail)?;
        write_all_at(file, part, at).map_err(|e| fail(e.source))?;
    }
    file.sync_all().map_err(fail)
}

/// Cuts the last segment of a snapshot where the snapshot ends, and syncs: the bytes behind it never counted.
pub(crate) fn cut_to_end(disk: &dyn Disk, listed: Listed, end: &SnapshotEnd) -> Result<()> {
    let name = listed.file.name();
    let fail = |e| StoreError::io(format_args!("cutting {name} where the snapshot ends"), e);
    if listed.bytes > end.offset {
        let file = disk.open(&name, Access::Write).map_err(fail)?;
        file.set_len(end.offset).map_err(fail)?;
        file.sync_all().map_err(fail)?;
    }
    Ok(())
}

/// Removes the segment files, and the indexes beside them, that are `gone`; durable on return.
pub(crate) fn remove_segments(disk: &dyn Disk, gone: impl Fn(SegmentFile) -> bool) -> Result<()> {
    let fail = |e| StoreError::io("removing segments that are not part of the log", e);
    let mut removed = 0;
    for entry in disk.list(SEGMENTS).map_err(fail)? {
        let file = ["seg", "sidx"]
            .iter()
            .find_map(|extension| SegmentFile::parse(&entry.name, extension));
        if file.is_some_and(&gone) {
            let name = format!("{SEGMENTS}/{}", entry.name);
            disk.remove(&name).map_err(fail)?;
            removed += 1;
        }
    }
    match removed {
        0 => Ok(()),
        _ => disk.sync_dir(SEGMENTS).map_err(fail),
    }
}

/// Takes away a segment that was being made when the process or the power stopped; what it holds is kept aside.
pub(crate) fn take_away_half_made(disk: &dyn Disk, listed: Listed) -> Result<()> {
    let name = listed.file.name();
    let fail = |e| StoreError::io(format_args!("taking away the half-made {name}"), e);
    if seal::is_blank_after(disk, listed.file, 0)? {
        disk.remove(&name).map_err(fail)?;
    } else {
        let (aside, _) = new_torn_file(disk, listed.file).map_err(fail)?;
        disk.rename(&name, &aside).map_err(fail)?;
    }
    disk.sync_dir(SEGMENTS).map_err(fail)
}

fn chunks(from: u64, to: u64) -> impl Iterator<Item = (u64, usize)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let len = CHUNK_BYTES.min(to.checked_sub(at).filter(|left| *left > 0)?);
        let part = (at, chunk(len));
        at += len;
        Some(part)
    })
}

fn chunk(len: u64) -> usize {
    usize::try_from(len).expect("a chunk is at most a mebibyte")
}
