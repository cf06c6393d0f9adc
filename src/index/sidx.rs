//! Reads SIDX bytes in place, through a memory map (`docs/format.md`, section 8).
//!
//! Opening checks trailer, checksum table and header; every other block is checked when first touched,
//! so a damaged one is an error of the read that meets it. What a checksum does not prove, say offsets
//! written by a hostile hand, is checked at each use: nothing panics and nothing outside the body is read.
//! Any thread reads; the only state is which blocks were found sound.

use crate::error::{Result, StoreError};
use crate::event::hash::entity_digest;
use crate::format::codec::DecodeError;
use crate::format::sidx::{
    Axis16, BLOCK_BYTES, FILTER_BLOCK_BYTES, HEADER_BYTES, NameAxis, Part, Probe, Section,
    SidxFacts, SidxHeader, TRAILER_BYTES, Trailer,
};
use crate::index::postings::{List, Postings};
use crate::index::sidx_names::{NameRange, Names};
use crate::index::sidx_pairs::{KeyRange, Pairs};
use crate::index::sorted::Disorder;
use crate::io::Map;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

const BLOCK: u64 = BLOCK_BYTES as u64;
const TRAILER: u64 = TRAILER_BYTES as u64;

/// The searchable index of one segment.
#[derive(Debug)]
pub(crate) struct Sidx {
    map: Arc<Map>,
    /// Where the index begins in the file.
    start: u64,
    body_bytes: u64,
    header: SidxHeader,
    checksum: u32,
    /// One bit for each block whose checksum held. It publishes nothing: the blocks never change, and a
    /// reader that misses the bit checks once more.
    sound: Box<[AtomicU64]>,
    file: Box<str>,
}

/// What an index adds to a run that merges it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunShare {
    /// For how many keys it wants room in the filter: each key as often as it stands in its table, and each name.
    pub(crate) keys: u64,
    /// The bytes of its dictionaries, which the merged tables are shorter than.
    pub(crate) names_bytes: u64,
}

impl Sidx {
    /// Opens the index of `segment` that fills `start..end` of the file mapped by `map`; `file` names it in errors.
    ///
    /// # Errors
    /// Corrupt, or Unsupported for a newer format.
    pub(crate) fn open(
        map: Arc<Map>,
        start: u64,
        end: u64,
        store_id: &[u8; 16],
        segment: u64,
        file: &str,
    ) -> Result<Self> {
        let trailer = read_trailer(&map, end, file)?;
        if start.checked_add(trailer.total_bytes) != Some(end) {
            return Err(broken(file, end, "the index has another length"));
        }
        let body_bytes = trailer.blocks() * BLOCK;
        let table_at = start + body_bytes;
        let table = usize::try_from(trailer.blocks() * 4)
            .ok()
            .and_then(|bytes| map.slice(table_at, bytes))
            .ok_or_else(|| broken(file, table_at, "the index is longer than its file"))?;
        if trailer.segment != segment || trailer.expected(store_id, table) != trailer.checksum {
            return Err(broken(
                file,
                table_at,
                "the index's checksum table does not hold",
            ));
        }
        let head = map.slice(start, BLOCK_BYTES);
        let head = head.filter(|head| table[..4] == crc32fast::hash(head).to_le_bytes());
        let head = head.ok_or_else(|| broken(file, start, "the index's header does not hold"))?;
        let header = SidxHeader::decode(&head[..HEADER_BYTES], body_bytes)
            .map_err(|error| undecoded(file, start, error))?;
        if header.facts.store_id != *store_id || header.facts.segment != segment {
            return Err(broken(file, start, "the index is another segment's"));
        }
        // One bit for each block that the map really has.
        let words = table.len().div_ceil(4 * 64);
        let sound: Box<[_]> = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            map,
            start,
            body_bytes,
            header,
            checksum: trailer.checksum,
            sound,
            file: file.into(),
        })
    }

    /// Opens the index of `segment` that ends a file of `end` bytes.
    ///
    /// # Errors
    /// Corrupt, or Unsupported for a newer format.
    pub(crate) fn open_at_end(
        map: Arc<Map>,
        end: u64,
        store_id: &[u8; 16],
        segment: u64,
        file: &str,
    ) -> Result<Self> {
        let total = read_trailer(&map, end, file)?.total_bytes;
        let start = end
            .checked_sub(total)
            .filter(|start| start % BLOCK == 0)
            .ok_or_else(|| broken(file, end, "the index begins at no block"))?;
        Self::open(map, start, end, store_id, segment, file)
    }

    pub(crate) fn facts(&self) -> &SidxFacts {
        &self.header.facts
    }

    pub(crate) fn first_position(&self) -> u64 {
        self.header.first_position
    }

    /// Recorded time of the first and of the last row.
    pub(crate) fn recorded(&self) -> (u64, u64) {
        (self.header.first_recorded, self.header.last_recorded)
    }

    /// The checksum that names the whole index.
    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }

    pub(crate) fn rows(&self) -> u32 {
        self.header.rows
    }

    /// The offset of the frame of `row`.
    pub(crate) fn offset(&self, row: u32) -> Result<u32> {
        let section = self.header.section(Part::Rows);
        List::new(self, section.offset, section.count, section.width).nth(row)
    }

    /// Whether the key may be here; `false` is certain.
    pub(crate) fn may_contain(&self, axis: Axis16, key: &[u8; 16]) -> Result<bool> {
        let section = self.header.section(Part::Filter);
        if section.count == 0 {
            return Ok(false);
        }
        let probe = Probe::new(axis, key, section.count);
        let block = self.bytes(section.offset + probe.offset() as u64, FILTER_BLOCK_BYTES)?;
        Ok(probe.is_in(block))
    }

    /// What it adds to a run.
    pub(crate) fn run_share(&self) -> RunShare {
        let pairs = Axis16::TABLES.map(|(part, _)| u64::from(self.header.section(part).count));
        let names = NameAxis::ALL.map(|axis| u64::from(self.name_count(axis)));
        let bytes = NameAxis::ALL.map(|axis| self.header.section(axis.part()).length);
        RunShare {
            keys: pairs.iter().chain(&names).sum(),
            names_bytes: bytes.iter().sum(),
        }
    }

    /// How many names an axis has.
    pub(crate) fn name_count(&self, axis: NameAxis) -> u32 {
        self.header.section(axis.part()).count
    }

    /// Shows `visit` the keys of all key tables, each as often as it stands there.
    pub(crate) fn each_key(
        &self,
        mut visit: impl FnMut(Axis16, &[u8; 16]) -> Result<()>,
    ) -> Result<()> {
        for (part, axis) in Axis16::TABLES {
            self.pairs(part).each_key(|key| visit(axis, key))?;
        }
        Ok(())
    }

    /// The row of the event with this id.
    pub(crate) fn find_id(&self, id: &[u8; 16]) -> Result<Option<u32>> {
        self.pairs(Part::Ids).find(id)
    }

    /// The first row of the submission with this key digest.
    pub(crate) fn find_key(&self, key: &[u8; 16]) -> Result<Option<u32>> {
        self.pairs(Part::Keys).find(key)
    }

    /// The rows that belong to a story and are not its first event, whose id is the story's.
    pub(crate) fn correlated(&self, correlation: &[u8; 16]) -> Result<KeyRange<'_>> {
        self.pairs(Part::Correlations).range(correlation)
    }

    /// The rows that have `parent` among their parents.
    pub(crate) fn children(&self, parent: &[u8; 16]) -> Result<KeyRange<'_>> {
        self.pairs(Part::Children).range(parent)
    }

    /// What the directory says of a section.
    pub(super) fn section(&self, part: Part) -> &Section {
        self.header.section(part)
    }

    /// The first and the last key of a key table; `None` of an empty one.
    pub(super) fn key_ends(&self, part: Part) -> Result<Option<[[u8; 16]; 2]>> {
        self.pairs(part).ends()
    }

    /// How many rows hold stubs.
    pub(crate) fn removed_rows(&self) -> u32 {
        self.header.section(Part::Removed).count
    }

    /// The rows in which retention left stubs of events of the entity with this digest.
    pub(crate) fn removed(&self, entity_digest: &[u8; 16]) -> Result<KeyRange<'_>> {
        self.pairs(Part::Removed).range(entity_digest)
    }

    /// The rows that bear `name`.
    pub(crate) fn list(&self, axis: NameAxis, name: &str) -> Result<Option<Postings<'_>>> {
        self.names(axis).find(name)
    }

    /// The names that begin with `prefix`, in byte order.
    pub(crate) fn prefix(&self, axis: NameAxis, prefix: &str) -> Result<NameRange<'_>> {
        self.names(axis).prefix(prefix)
    }

    /// The name at a place of the sorted dictionary, and the rows that bear it.
    pub(crate) fn nth_name(&self, axis: NameAxis, place: u32) -> Result<(&str, Postings<'_>)> {
        self.names(axis).nth(place)
    }

    /// Reads everything once: checksums, bounds and order; for `verify`.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_blocks()?;
        self.check_rows()?;
        for (part, _) in Axis16::TABLES {
            self.pairs(part).check()?;
        }
        for axis in NameAxis::ALL {
            self.names(axis).check()?;
        }
        self.each_key(|axis, key| self.passes(axis, key))?;
        let entities = self.prefix(NameAxis::Entity, "")?;
        for index in 0..entities.len() {
            let (name, _) = entities.nth(index)?;
            self.passes(Axis16::Entity, &entity_digest(name))?;
        }
        Ok(())
    }

    /// Checks every block's checksum, so that no later read finds a damaged one.
    pub(crate) fn check_blocks(&self) -> Result<()> {
        (0..self.body_bytes / BLOCK).try_for_each(|block| self.touch(block).map(drop))
    }

    fn check_rows(&self) -> Result<()> {
        let section = self.header.section(Part::Rows);
        let mut least = 0;
        for row in 0..self.header.rows {
            let offset = self.offset(row)?;
            if offset < least || u64::from(offset) >= self.header.facts.log_end {
                return Err(self.corrupt(section.offset, "the frames' offsets are out of order"));
            }
            least = offset.saturating_add(1);
        }
        Ok(())
    }

    fn passes(&self, axis: Axis16, key: &[u8; 16]) -> Result<()> {
        if self.may_contain(axis, key)? {
            return Ok(());
        }
        let at = self.header.section(Part::Filter).offset;
        Err(self.corrupt(at, "the filter denies a key that is there"))
    }

    fn pairs(&self, part: Part) -> Pairs<'_> {
        Pairs::new(self, self.header.section(part))
    }

    fn names(&self, axis: NameAxis) -> Names<'_> {
        Names::new(self, self.header.section(axis.part()))
    }

    /// Borrows checked bytes of the body; offsets count from the start of the index.
    #[inline]
    pub(super) fn bytes(&self, at: u64, len: usize) -> Result<&[u8]> {
        let end = at.checked_add(len as u64);
        let Some(end) = end.filter(|end| *end <= self.body_bytes) else {
            return Err(self.corrupt(at, "an offset points past the index"));
        };
        for block in at / BLOCK..end.div_ceil(BLOCK) {
            self.touch(block)?;
        }
        let bytes = self.map.slice(self.start + at, len);
        bytes.ok_or_else(|| self.corrupt(at, "the index is longer than its file"))
    }

    /// Reads a number of `width` bytes, at most four.
    #[inline]
    pub(super) fn number(&self, at: u64, width: u8) -> Result<u32> {
        Ok(number(self.bytes(at, usize::from(width))?))
    }

    /// Checks a block of the body unless it was found sound before.
    #[inline]
    fn touch(&self, block: u64) -> Result<()> {
        let (word, bit) = (block / 64, 1 << (block % 64));
        let word = usize::try_from(word)
            .ok()
            .and_then(|word| self.sound.get(word));
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        self.check_block(block)?;
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    fn check_block(&self, block: u64) -> Result<()> {
        let bytes = self.map.slice(self.start + block * BLOCK, BLOCK_BYTES);
        let expected = self.map.slice(self.start + self.body_bytes + block * 4, 4);
        let (Some(bytes), Some(expected)) = (bytes, expected) else {
            return Err(self.corrupt(block * BLOCK, "the index is longer than its file"));
        };
        let found = crc32fast::hash(bytes);
        if found.to_le_bytes() == *expected {
            return Ok(());
        }
        let what = format!("index block checksum {found:08x} is not the one in its table");
        Err(self.corrupt(block * BLOCK, &what))
    }

    /// An error at an offset of the index, told as an offset of the file.
    #[cold]
    pub(super) fn corrupt(&self, at: u64, what: &str) -> StoreError {
        broken(&self.file, self.start.saturating_add(at), what)
    }

    /// What a search that met [`Disorder`] answers.
    pub(super) fn ordered<T>(&self, at: u64, found: Result<T, Disorder>) -> Result<T> {
        found.map_err(|Disorder| self.corrupt(at, "an index section is not sorted"))
    }
}

/// A number of at most four bytes.
#[inline]
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn read_trailer(map: &Map, end: u64, file: &str) -> Result<Trailer> {
    let at = end.checked_sub(TRAILER);
    let bytes = at.and_then(|at| map.slice(at, TRAILER_BYTES));
    let bytes = bytes.ok_or_else(|| broken(file, end, "the file is too short for an index"))?;
    Trailer::decode(bytes).map_err(|error| undecoded(file, end - TRAILER, error))
}

fn undecoded(file: &str, at: u64, error: DecodeError) -> StoreError {
    match error {
        DecodeError::Corrupt(what) => broken(file, at, what),
        DecodeError::Unsupported(what) => StoreError::unsupported(format!(
            "{file} at byte {at}: {what}; open it with a newer version"
        )),
    }
}

#[cold]
fn broken(file: &str, at: u64, what: &str) -> StoreError {
    StoreError::corrupt(format!(
        "{file} at byte {at}: {what}; rebuild the index from the log"
    ))
}
