//! A run as it is asked: what any of up to sixteen sealed files may hold, told by one filter and merged tables of names.
//!
//! It is derived, and may be missing, stale or damaged: then it denies nothing and tells nothing. It says no only where
//! its checksums hold and it merges exactly the footers that it was made for. Any thread asks.

use std::ops::Range;

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::format::run::{Bearers, NAME_BYTES, PAGE_BYTES, RUN_SEGMENTS, RunHead, TableSize};
use crate::format::sidx::{Axis16, FILTER_BLOCK_BYTES, NameAxis, Probe, place};
use crate::index::layer::map_whole;
use crate::index::sorted::{Disorder, partition};
use crate::io::{Disk, Map};
use crate::log::files::{SegmentFile, decode_error, run_name};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, OnceLock};

/// Of how many names with a prefix it is looked up which files have them; more are taken to be in all.
const MOST_NAMES_ASKED: usize = 256;

/// A set of the files that a run merges: bit n is the n-th.
pub(crate) type FileSet = u16;

/// All files of a run.
pub(crate) const ALL_FILES: FileSet = FileSet::MAX;

/// What should be in the file, and the file once it was asked.
#[derive(Debug)]
pub(crate) struct Run {
    disk: Arc<dyn Disk>,
    expected: RunHead,
    files: Vec<SegmentFile>,
    /// `None` if there is no such file or it is not the one expected.
    content: OnceLock<Option<Content>>,
    /// Publishes nothing: a page was found that does not hold, so that the file is to be made again.
    damaged: AtomicBool,
}

#[derive(Debug)]
struct Content {
    map: Arc<Map>,
    head: RunHead,
    /// One bit for each page whose checksum held; like the blocks of a footer, pages never change.
    sound: Box<[AtomicU64]>,
}

impl Run {
    /// Nothing is opened yet.
    pub(crate) fn new(disk: &Arc<dyn Disk>, expected: RunHead, files: Vec<SegmentFile>) -> Self {
        Self {
            disk: Arc::clone(disk),
            expected,
            files,
            content: OnceLock::new(),
            damaged: AtomicBool::new(false),
        }
    }

    /// What its head must say, but for the lengths of its parts.
    pub(crate) fn expected(&self) -> RunHead {
        self.expected
    }

    /// The files that it speaks of, which follow each other.
    pub(crate) fn files(&self) -> &[SegmentFile] {
        &self.files
    }

    /// Whether it is to be of the same files as another.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.expected == other.expected && self.files == other.files
    }

    pub(crate) fn name(&self) -> String {
        let first = self.expected.first_segment;
        run_name(first, first + (RUN_SEGMENTS as u64 - 1))
    }

    /// Whether the key may be in one of the segments; `false` is certain.
    pub(crate) fn may_contain(&self, axis: Axis16, key: &[u8; 16]) -> bool {
        self.ask(|content| content.may_contain(axis, key))
            .unwrap_or(true)
    }

    /// The files that may have names with this prefix; those left out have none.
    pub(crate) fn files_with(&self, axis: NameAxis, prefix: &str) -> FileSet {
        let found = self.ask(|content| {
            let Some(table) = content.table(axis) else {
                return Ok(ALL_FILES);
            };
            let mut places = table.places(prefix)?;
            if places.len() > MOST_NAMES_ASKED {
                return Ok(ALL_FILES);
            }
            places.try_fold(0, |files, place| Ok(files | table.nth(place)?.1.files))
        });
        found.unwrap_or(ALL_FILES)
    }

    /// The places of the names with a prefix in the merged table of an axis; `None` if there is none to be used.
    pub(crate) fn names(&self, axis: NameAxis, prefix: &str) -> Option<Range<u32>> {
        self.ask(|content| {
            let table = content.table(axis);
            table.map(|table| table.places(prefix)).transpose()
        })
        .flatten()
    }

    /// The name at a place of the merged table, which has one; `None` if that cannot be told.
    pub(crate) fn nth_name(&self, axis: NameAxis, place: u32) -> Option<(&str, Bearers)> {
        self.ask(|content| {
            let table = content.table(axis);
            table.map(|table| table.nth(place)).transpose()
        })
        .flatten()
    }

    /// The length of its tables; 0 if there are none to be used.
    pub(crate) fn tables_bytes(&self) -> u64 {
        self.ask(|content| Ok(content.head.tables_bytes() as u64))
            .unwrap_or(0)
    }

    /// Whether there is a file, as expected and as far as it was read sound.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_damaged() && self.content().is_some()
    }

    /// Whether a part of the file was found damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads the file once more, whole, for a verification; says whether it is what should have been `built`, and if
    /// that is not known, whether its checksums hold.
    ///
    /// One that is not there or merges other footers, as until upkeep comes by, is sound: it denies nothing.
    pub(crate) fn check(&self, built: Option<&[u8]>) -> Result<bool> {
        let content = match self.open() {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(true),
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        (0..content.head.pages()).try_for_each(|page| content.touch(page))?;
        Ok(built.is_none_or(|built| built == whole(&content.map)))
    }

    /// What it answers; `None` if there is no file to be used, or what is asked of it is damaged.
    fn ask<'a, T>(&'a self, what: impl FnOnce(&'a Content) -> Result<T>) -> Option<T> {
        let answer = what(self.content()?);
        answer
            .inspect_err(|error| {
                if !self.damaged.swap(true, Ordering::Relaxed) {
                    let file = self.name();
                    tracing::warn!(file, %error, "a run is damaged and will be made again");
                }
            })
            .ok()
    }

    fn content(&self) -> Option<&Content> {
        if let Some(known) = self.content.get() {
            return known.as_ref();
        }
        let found = self
            .open()
            .inspect_err(|error| tracing::debug!(%error, "a run is not there to be used"))
            .ok();
        self.content.get_or_init(|| found.flatten()).as_ref()
    }

    /// The file; `None` if it merges other footers.
    fn open(&self) -> Result<Option<Content>> {
        let name = self.name();
        let map = map_whole(&*self.disk, &name)?;
        let head = RunHead::decode(whole(&map)).map_err(|e| decode_error(&name, 0, &e))?;
        let expected = RunHead {
            filter_blocks: head.filter_blocks,
            tables: head.tables,
            ..self.expected
        };
        if head != expected {
            return Ok(None);
        }
        let words = head.pages().div_ceil(64);
        let sound = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Some(Content { map, head, sound }))
    }
}

impl Content {
    fn may_contain(&self, axis: Axis16, key: &[u8; 16]) -> Result<bool> {
        let probe = Probe::new(axis, key, self.head.filter_blocks);
        let block = self.bytes(self.head.bytes() + probe.offset(), FILTER_BLOCK_BYTES)?;
        Ok(probe.is_in(block))
    }

    fn table(&self, axis: NameAxis) -> Option<Table<'_>> {
        let (at, size) = self.head.table(axis)?;
        Some(Table {
            content: self,
            at,
            size,
        })
    }

    /// Bytes behind the head, checked.
    fn bytes(&self, at: usize, len: usize) -> Result<&[u8]> {
        let first = at.saturating_sub(self.head.bytes());
        for page in first / PAGE_BYTES..(first + len).div_ceil(PAGE_BYTES) {
            self.touch(page)?;
        }
        let bytes = self.map.slice(at as u64, len);
        bytes.ok_or_else(|| corrupt("an offset points past the run"))
    }

    /// Checks a page unless it was found sound before.
    fn touch(&self, page: usize) -> Result<()> {
        let (word, bit) = (self.sound.get(page / 64), 1 << (page % 64));
        let word = word.ok_or_else(|| corrupt("an offset points past the run"))?;
        if word.load(Ordering::Relaxed) & bit == 0 {
            if !self.head.page_holds(whole(&self.map), page) {
                return Err(corrupt("a page of the run does not hold"));
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The merged names of one axis: entries, then the heap of the names.
#[derive(Clone, Copy, Debug)]
struct Table<'a> {
    content: &'a Content,
    at: usize,
    size: TableSize,
}

impl<'a> Table<'a> {
    /// Where the names that begin with `prefix` stand.
    fn places(&self, prefix: &str) -> Result<Range<u32>> {
        let prefix = prefix.as_bytes();
        let first = self.first(|name| name < prefix)?;
        let end = self.first(|name| name < prefix || name.starts_with(prefix))?;
        Ok(first..end)
    }

    fn first(&self, is_before: impl Fn(&[u8]) -> bool) -> Result<u32> {
        let name = |place| self.entry(place).map(|(name, _)| name);
        partition(self.size.names, name, is_before)?
            .map_err(|Disorder| corrupt("the names of a run are not sorted"))
    }

    fn nth(&self, place: u32) -> Result<(&'a str, Bearers)> {
        let (name, bearers) = self.entry(place)?;
        let name = str::from_utf8(name).map_err(|_| corrupt("a name of a run is not UTF-8"))?;
        Ok((name, bearers))
    }

    fn entry(&self, nth: u32) -> Result<(&'a [u8], Bearers)> {
        if nth >= self.size.names {
            return Err(corrupt("a run has fewer names"));
        }
        let at = self.at + place(nth) * NAME_BYTES;
        let start = match nth {
            0 => 0,
            _ => self.decoded(at - NAME_BYTES)?.1,
        };
        let (bearers, end) = self.decoded(at)?;
        if start > end || end > self.size.heap_bytes {
            return Err(corrupt("a name's entry is malformed"));
        }
        let heap = self.at + place(self.size.names) * NAME_BYTES;
        let name = self
            .content
            .bytes(heap + place(start), place(end - start))?;
        Ok((name, bearers))
    }

    fn decoded(&self, at: usize) -> Result<(Bearers, u32)> {
        let entry = self.content.bytes(at, NAME_BYTES)?;
        Bearers::decode(entry).map_err(|_| corrupt("a name's entry is malformed"))
    }
}

/// Nobody is told but the log: what is asked of a damaged run is asked of its segments.
#[cold]
fn corrupt(what: &str) -> StoreError {
    StoreError::corrupt(what)
}

fn whole(map: &Map) -> &[u8] {
    let len = usize::try_from(map.len()).unwrap_or_default();
    map.slice(0, len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::run::{RunBuilder, TableBuilder};
    use crate::io::{Access, MemoryDisk, write_all_at};

    /// A run over two files, the first of which has these entities.
    fn run_with(names: impl Iterator<Item = String>) -> Run {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        disk.create_dir("segments").unwrap();
        let expected = RunHead {
            store_id: [7; 16],
            first_segment: 1,
            files: 2,
            merges: [3; RUN_SEGMENTS],
            filter_blocks: 0,
            tables: [None; 4],
        };
        let mut table = TableBuilder::default();
        for name in names {
            let bearers = Bearers {
                events: 1,
                last: 0,
                files: 1,
            };
            assert!(table.push(&name, bearers));
        }
        let mut builder = RunBuilder::new(expected, 9).unwrap();
        builder.put_table(NameAxis::Entity, &table);
        let run = Run::new(&disk, expected, Vec::new());
        let file = disk.open(&run.name(), Access::CreateNew).unwrap();
        write_all_at(&*file, &builder.finish(), 0).unwrap();
        run
    }

    #[test]
    fn so_many_names_of_a_prefix_are_asked_and_one_more_are_taken_to_be_everywhere() {
        let names = |prefix: &'static str, count| {
            (0..count).map(move |number| format!("{prefix}{number:03}"))
        };
        let most = MOST_NAMES_ASKED;
        let run = run_with(names("few:", most).chain(names("many:", most + 1)));
        let files = |prefix| run.files_with(NameAxis::Entity, prefix);
        assert_eq!(files("few:"), 1);
        assert_eq!(files("many:"), ALL_FILES);
        assert_eq!(files("many:0"), 1);
        assert_eq!(files(""), ALL_FILES);
        assert_eq!((files("none"), files("many:000:")), (0, 0));
        assert_eq!(run.files_with(NameAxis::Tag, "few:"), ALL_FILES, "no table");
    }
}
