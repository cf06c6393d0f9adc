//! Writes sealed segments anew, one behind the other, into one file: what goes as stubs, all else as it was.
//!
//! Every checksum of what is read is verified, the running digest is folded anew, and a stub proves the hash of its
//! event: damage is an error and never copied. The groups stay the ones they were. The file counts for nothing until a
//! manifest names it. Runs on the threads that write for a compaction.

use std::collections::VecDeque;

use crate::error::{Result, StoreError};
use crate::event::hash::{entity_digest, fold_digest, rest_digest};
use crate::format::checkpoint::SealedEntry;
use crate::format::codec::DecodeError;
use crate::format::crc::Seed;
use crate::format::frame::reseat;
use crate::format::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use crate::format::record::{Record, RecordLayout, StreamPlace, hash_in};
use crate::format::segment::{SEGMENT_PAGE_BYTES, SegmentHeader};
use crate::format::stub::StubFields;
use crate::io::{Access, Disk};
use crate::log::files::{SEGMENTS, SegmentFile, decode_error};
use crate::log::hashes::{facts_of, hash_of};
use crate::log::look::{Listed, header_in, open};
use crate::log::output::Output;
use crate::log::scan::{Mark, Scan, Step, Tip};
use crate::log::seal::{Indexer, Sealed, footer_start, row_offset};

/// How many hashes of events that were gone through are remembered: 1 MiB of them, which stay in the processor's cache.
const RECENT_HASHES: usize = 32_768;

/// What is written anew, and as what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    /// Sealed segments that follow one another; at least one.
    pub(crate) sources: &'a [SealedEntry],
    /// Which of all replacements ever written it will be.
    pub(crate) generation: u64,
    /// The store that its header will name.
    pub(crate) store_id: [u8; 16],
    pub(crate) salt: [u8; 16],
}

impl Range<'_> {
    /// The file that will stand for them all.
    pub(crate) fn file(&self) -> SegmentFile {
        SegmentFile {
            first: self.sources.first().map_or(0, |entry| entry.first),
            number: self.sources.last().map_or(0, |entry| entry.number),
            generation: self.generation,
        }
    }
}

/// Whoever wants the range written anew: says what goes, knows what an event's hash covers elsewhere, and may stop it.
pub(crate) trait Keeper {
    /// Whether only a stub of the event at `position` stays; asked in order.
    fn goes(&mut self, position: u64) -> bool;

    /// The hash of the event at a position.
    fn hash_at(&self, position: u64) -> Result<[u8; 32]>;

    /// The hash of the event with an id.
    fn hash_of(&self, id: &[u8; 16]) -> Result<[u8; 32]>;

    /// Takes notice that `bytes` of the log and the `events` in them were gone through; an error stops the work.
    fn went_through(&mut self, bytes: u64, events: u64) -> Result<()>;
}

/// Writes the range's file, whole and durable under its name; of one that fails [`take_away`] removes what is left.
pub(crate) fn rewrite(
    disk: &dyn Disk,
    range: &Range<'_>,
    keeper: &mut impl Keeper,
) -> Result<Sealed> {
    let name = range.file().name();
    let temporary = format!("{name}.tmp");
    let fail = |e| StoreError::io(format_args!("writing {name}"), e);
    let sealed = write(disk, &temporary, range, keeper)?;
    disk.rename(&temporary, &name).map_err(fail)?;
    disk.sync_dir(SEGMENTS).map_err(fail)?;
    Ok(sealed)
}

/// Removes what is left of a file that no manifest names, best effort: the next opening would remove it.
pub(crate) fn take_away(disk: &dyn Disk, file: SegmentFile) {
    let name = file.name();
    let _ = disk.remove(&format!("{name}.tmp"));
    let _ = disk.remove(&name);
}

fn write(
    disk: &dyn Disk,
    name: &str,
    range: &Range<'_>,
    keeper: &mut impl Keeper,
) -> Result<Sealed> {
    let mut anew: Option<Anew> = None;
    for entry in range.sources {
        let source = Source::open(disk, entry)?;
        let anew = match &mut anew {
            Some(anew) => anew,
            none => none.insert(Anew::begin(disk, name, range, &source.header)?),
        };
        source.copy_to(anew, keeper)?;
    }
    match anew {
        Some(anew) => anew.finish(),
        None => Err(StoreError::argument("no segment is to be written anew")),
    }
}

/// One sealed segment to read.
struct Source<'a> {
    entry: &'a SealedEntry,
    file: SegmentFile,
    header: SegmentHeader,
    scan: Scan,
}

impl<'a> Source<'a> {
    fn open(disk: &dyn Disk, entry: &'a SealedEntry) -> Result<Self> {
        let file = SegmentFile::from(entry);
        let opened = open(disk, &file.name(), Access::Read)?;
        let bytes = entry.file_bytes;
        let header = header_in(disk, Listed { file, bytes })?
            .filter(|header| header.store_id == entry.store_id)
            .ok_or_else(|| damaged(file, 0, "it has no valid header of its store"))?;
        let mut scan = Scan::begin(opened, file.name(), &header)?;
        scan.limit_to(entry.log_end);
        Ok(Self {
            entry,
            file,
            header,
            scan,
        })
    }

    fn copy_to(mut self, anew: &mut Anew, keeper: &mut impl Keeper) -> Result<()> {
        if Tip::before(&self.header).log_state() != anew.tip.log_state() {
            let why = "it does not continue the segment before it";
            return Err(damaged(self.file, 0, why));
        }
        while self.scan.tip.mark.offset < self.entry.log_end {
            let at = self.scan.tip.mark.offset;
            let group = match self.scan.step()? {
                Step::Group(group) => group,
                Step::End { why, .. } => return Err(damaged(self.file, at, why)),
            };
            anew.put(&self, &group, keeper)?;
            keeper.went_through(u64::from(group.length), u64::from(group.count))?;
        }
        let tip = self.scan.tip;
        let ended = (tip.position, tip.sequence, tip.checksum, tip.digest);
        let entry = self.entry;
        let expected = (
            entry.last_position,
            entry.last_group_sequence,
            entry.last_group_checksum,
            entry.digest,
        );
        if ended != expected {
            let why = "its log does not end as it did when it was sealed";
            return Err(damaged(self.file, tip.mark.offset, why));
        }
        anew.tip = Tip {
            mark: anew.tip.mark,
            ..tip
        };
        Ok(())
    }
}

impl Tip {
    /// What the next segment has to continue, wherever it stands.
    fn log_state(&self) -> (u64, u64, u32, [u8; 32]) {
        (self.position, self.sequence, self.checksum, self.digest)
    }
}

fn damaged(file: SegmentFile, at: u64, why: &str) -> StoreError {
    StoreError::corrupt(format!(
        "{} at byte {at}: {why}; restore the file from a copy, nothing was replaced",
        file.name()
    ))
}

/// The file being written.
struct Anew {
    out: Output,
    file: SegmentFile,
    header: SegmentHeader,
    seed: Seed,
    indexer: Indexer,
    /// The log as the sources have it, up to here.
    tip: Tip,
    /// The checksum of the last group that was written.
    checksum: u32,
    /// Head checksums of the frames of the group under way.
    head_crcs: Vec<u32>,
    recent: Recent,
}

impl Anew {
    fn begin(
        disk: &dyn Disk,
        name: &str,
        range: &Range<'_>,
        first: &SegmentHeader,
    ) -> Result<Self> {
        let file = range.file();
        let last = range.sources.last();
        let header = SegmentHeader {
            store_id: range.store_id,
            salt: range.salt,
            number: file.number,
            replaces_first: file.first,
            replaces_last: file.number,
            replaced_checksum: last.map_or(0, |entry| entry.last_group_checksum),
            replaced_sequence: last.map_or(0, |entry| entry.last_group_sequence),
            ..*first
        };
        let mut out = Output::create(disk, name)?;
        out.buffer.extend_from_slice(&header.encode());
        out.buffer.resize(SEGMENT_PAGE_BYTES, 0);
        Ok(Self {
            out,
            file,
            seed: header.seed(),
            indexer: Indexer::new(&header),
            tip: Tip::before(first),
            checksum: first.predecessor_checksum,
            head_crcs: Vec::new(),
            recent: Recent::default(),
            header,
        })
    }

    /// Writes a group that the source's walk just stepped over.
    fn put(
        &mut self,
        source: &Source<'_>,
        group: &GroupHeader,
        keeper: &mut impl Keeper,
    ) -> Result<()> {
        let (start, offset) = (self.out.buffer.len(), self.out.end());
        let mut digest = self.tip.digest;
        self.out.buffer.resize(start + GROUP_HEADER_BYTES, 0);
        self.head_crcs.clear();
        source.scan.frames(group, |at, position, frame| {
            let hash = hash_in(frame);
            digest = fold_digest(&digest, &hash);
            self.put_frame(source, at, position, frame, keeper)?;
            self.recent.add(position, hash);
            Ok(())
        })?;
        if digest != source.scan.tip.digest {
            let why = "the running digest is not that of the group's events";
            return Err(damaged(source.file, group.offset, why));
        }
        let length = u32::try_from(self.out.buffer.len() - start + COMMIT_BYTES);
        let header = GroupHeader {
            segment: self.header.number,
            offset,
            length: length.map_err(|_| damaged(source.file, group.offset, "a group of 4 GiB"))?,
            previous_checksum: self.checksum,
            synced_segment: 0,
            synced_offset: 0,
            ..*group
        };
        let head = header.encode(&self.seed);
        let mut sum = GroupSum::new(&self.seed, &head);
        self.head_crcs.iter().for_each(|crc| sum.frame(*crc));
        let (commit, commit_bytes) = Commit::seal(sum, group.last_position(), digest);
        if let Some(place) = self.out.buffer.get_mut(start..start + GROUP_HEADER_BYTES) {
            place.copy_from_slice(&head);
        }
        self.out.buffer.extend_from_slice(&commit_bytes);
        self.checksum = commit.checksum;
        self.tip.digest = digest;
        self.out.write_if_full()
    }

    fn put_frame(
        &mut self,
        source: &Source<'_>,
        at: u64,
        position: u64,
        frame: &[u8],
        keeper: &mut impl Keeper,
    ) -> Result<()> {
        let (start, offset) = (self.out.buffer.len(), self.out.end());
        let unreadable = |error: DecodeError| decode_error(&source.file.name(), at, &error);
        let mut record = Record::of_checked(frame, position).map_err(unreadable)?;
        if let Record::Event(layout) = &record
            && keeper.goes(position)
        {
            let stub = stub_of(layout, frame, &self.recent, keeper)?;
            if !proves(&stub, position) {
                return Err(not_its_hash(source.file, at, position));
            }
            record = Record::Stub(stub);
        }
        let out = &mut self.out.buffer;
        self.head_crcs.push(match &record {
            Record::Stub(stub) => stub.encode(out, &self.seed, offset, position),
            Record::Event(_) => {
                reseat(out, &self.seed, (offset, position), frame).map_err(unreadable)?
            }
        });
        let row = record.row(frame, row_offset(self.file, offset)?);
        self.indexer.add(self.out.buffer.len() - start, row);
        Ok(())
    }

    /// Writes the footer and makes all of it durable.
    fn finish(mut self) -> Result<Sealed> {
        let log_end = self.out.end();
        let tip = Tip {
            mark: Mark {
                segment: self.header.number,
                offset: log_end,
            },
            ..self.tip
        };
        let (sealed, footer) = self.indexer.finish(&self.header, tip, 0)?;
        let padding = footer_start(log_end) - log_end;
        let padding = usize::try_from(padding).expect("it is less than a page");
        self.out.buffer.resize(self.out.buffer.len() + padding, 0);
        self.out.buffer.extend_from_slice(&footer);
        let file_bytes = self.out.finish()?;
        Ok(Sealed {
            file_bytes,
            ..sealed
        })
    }
}

fn not_its_hash(file: SegmentFile, at: u64, position: u64) -> StoreError {
    let why = format!("the hash of event {position} is not that of its content");
    damaged(file, at, &why)
}

/// Whether the hash that a stub keeps is that of what it keeps, as it was that of its event.
fn proves(stub: &StubFields, position: u64) -> bool {
    let kept = Record::Stub(*stub).kept(&[], position);
    hash_of(&kept, &stub.entity_digest, &stub.rest) == stub.hash
}

/// The hashes of the last events gone through: the event before another in its stream is mostly one of them.
#[derive(Default)]
struct Recent {
    hashes: VecDeque<[u8; 32]>,
    /// The position behind the last of them.
    end: u64,
}

impl Recent {
    fn add(&mut self, position: u64, hash: [u8; 32]) {
        if self.hashes.len() == RECENT_HASHES {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
        self.end = position + 1;
    }

    fn hash_at(&self, position: u64) -> Option<[u8; 32]> {
        let first = self.end - self.hashes.len() as u64;
        let place = usize::try_from(position.checked_sub(first)?).ok()?;
        self.hashes.get(place).copied()
    }
}

/// What stays of an event.
fn stub_of(
    layout: &RecordLayout,
    frame: &[u8],
    recent: &Recent,
    keeper: &impl Keeper,
) -> Result<StubFields> {
    let previous = match layout.previous_position {
        0 => [0; 32],
        previous => match recent.hash_at(previous) {
            Some(hash) => hash,
            None => keeper.hash_at(previous)?,
        },
    };
    let mut parents = Vec::with_capacity(layout.parents(frame).len());
    for parent in layout.parents(frame) {
        parents.push(keeper.hash_of(&parent)?);
    }
    let facts = facts_of(layout, frame);
    Ok(StubFields {
        id: layout.id(frame),
        recorded_at: layout.recorded_at(frame),
        hash: layout.hash(frame),
        entity_digest: entity_digest(layout.entity(frame)),
        rest: rest_digest(&facts, &previous, parents.into_iter()),
        stream: StreamPlace {
            revision: layout.revision,
            previous_position: layout.previous_position,
        },
        batch: layout.batch,
        key: layout.key(frame),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hashes_are_remembered_and_no_others() {
        let hash = |position: u64| {
            let mut hash = [7; 32];
            hash[..8].copy_from_slice(&position.to_le_bytes());
            hash
        };
        let first = 1000;
        let mut recent = Recent::default();
        assert_eq!(recent.hash_at(first), None);
        let most = RECENT_HASHES as u64;
        for position in first..first + most + 10 {
            recent.add(position, hash(position));
            let oldest = first.max((position + 1).saturating_sub(most));
            assert_eq!(recent.hash_at(oldest), Some(hash(oldest)));
            assert_eq!(recent.hash_at(position), Some(hash(position)));
            assert_eq!(recent.hash_at(oldest - 1), None);
            assert_eq!(recent.hash_at(position + 1), None);
        }
        assert_eq!(recent.hashes.len(), RECENT_HASHES);
    }
}
