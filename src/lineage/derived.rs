//! Verification of what is derived from the log: footers and their side files, the checkpoint, runs; and of the small files.
//!
//! An index is a pure function of its events, so that it is made again and compared byte for byte. One that fails its own
//! checksums is only reported: readers notice and make it anew. One whose checksums hold and that says something else
//! would make answers wrong, and is damage. Runs on the thread that verifies.

use crate::engine::chain::entry_of;
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::format::checkpoint::{Checkpoint, SealedEntry};
use crate::format::codec::DecodeError;
use crate::format::hint::Slot;
use crate::format::record::Record;
use crate::format::segment::SegmentHeader;
use crate::index::layer::{open_checkpoint, open_footer, open_side_index};
use crate::index::layers::Layers;
use crate::index::run_build::build;
use crate::io::{Disk, DiskFile, read_exact_at};
use crate::lineage::proof::is_damage;
use crate::lineage::verification::{Damage, Verification};
use crate::log::files::{CHECKPOINT, HINT, MANIFEST, SegmentFile, read_manifest, read_small};
use crate::log::scan::Tip;
use crate::log::seal::{Indexer, footer_start};
use crate::log::segment::Segment;

/// How much is compared at once, in bytes.
const COMPARE_BYTES: usize = 256 * 1024;

/// The checkpoint as it was when the verification began.
#[derive(Debug, Default)]
pub(super) struct Derived {
    checkpoint: Option<Checkpoint>,
    /// The index of the active segment in it, empty for none.
    index: Vec<u8>,
}

/// The index of one segment, made again from its frames.
#[derive(Debug)]
pub(super) struct Indexing {
    indexer: Indexer,
    /// The last position that it covers.
    last: u64,
    place: Place,
}

/// Where the index stands that is to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Footer,
    Checkpoint,
}

impl Indexing {
    pub(super) fn push(&mut self, record: &Record, frame: &[u8], offset: u64) {
        // A segment that is longer has no index, and is reported by the comparison.
        if let Ok(offset) = u32::try_from(offset) {
            self.indexer.push(record.row(frame, offset));
        }
    }

    /// Whether it covers all that it should, at the end of a group.
    pub(super) fn is_done(&self, position: u64) -> bool {
        self.last == position
    }
}

impl Derived {
    /// Reads the small files and says what is wrong with them.
    pub(super) fn open(disk: &dyn Disk, found: &mut Verification) -> Result<Self> {
        let store_id = match read_manifest(disk) {
            Ok(Some(manifest)) => manifest.store_id,
            Ok(None) => {
                found.damaged(whole(MANIFEST, "it is not there"));
                return Ok(Self::default());
            }
            Err(error) if is_unusable(&error) => {
                found.damaged(whole(MANIFEST, error));
                return Ok(Self::default());
            }
            Err(error) => return Err(error),
        };
        check_hint(disk, &store_id, found)?;
        match open_checkpoint(disk, &store_id) {
            Ok(_) => Self::of_checkpoint(disk),
            Err(error) if is_unusable(&error) => {
                found.repairable(whole(CHECKPOINT, error));
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    fn of_checkpoint(disk: &dyn Disk) -> Result<Self> {
        let bytes = read_small(disk, CHECKPOINT)?.unwrap_or_default();
        let Ok((checkpoint, index)) = Checkpoint::decode(&bytes) else {
            return Ok(Self::default());
        };
        let place = usize::try_from(index.start)
            .ok()
            .zip(usize::try_from(index.end).ok());
        let index = place.and_then(|(start, end)| bytes.get(start..end));
        Ok(Self {
            checkpoint: Some(checkpoint),
            index: index.unwrap_or_default().to_vec(),
        })
    }

    /// What is to be made again of the segment with this header; `sealed_last` is the last position of a sealed one.
    pub(super) fn indexing(
        &self,
        header: &SegmentHeader,
        sealed_last: Option<u64>,
    ) -> Option<Indexing> {
        let (last, place) = match (sealed_last, &self.checkpoint) {
            (Some(last), _) => (last, Place::Footer),
            (None, Some(checkpoint))
                if checkpoint.active_segment == header.number && !self.index.is_empty() =>
            {
                (checkpoint.last_position, Place::Checkpoint)
            }
            _ => return None,
        };
        Some(Indexing {
            indexer: Indexer::new(header),
            last,
            place,
        })
    }

    /// Compares what was made again with what is there; `file` is that of the segment.
    pub(super) fn compare(
        &self,
        disk: &dyn Disk,
        (segment, file): (&Segment, &dyn DiskFile),
        (header, tip): (&SegmentHeader, Tip),
        indexing: Indexing,
        found: &mut Verification,
    ) -> Result<()> {
        let (sealed, index) = indexing.indexer.finish(header, tip, 0)?;
        match indexing.place {
            Place::Footer => {
                self.check_entry(&entry_of(&header.store_id, segment.place(), &sealed), found);
                compare_footer(segment, file, tip.mark.offset, &index, found)?;
                compare_side_index(disk, segment, &index, found)
            }
            Place::Checkpoint => {
                // Its checksums held when it was opened.
                let tells_the_end = |checkpoint: &Checkpoint| {
                    tip.mark.offset == checkpoint.active_end
                        && tip.sequence == checkpoint.last_group_sequence
                        && tip.checksum == checkpoint.last_group_checksum
                        && tip.recorded_at == checkpoint.last_recorded
                        && tip.digest == checkpoint.digest
                };
                if index != self.index || !self.checkpoint.as_ref().is_some_and(tells_the_end) {
                    found.damaged(whole(
                        CHECKPOINT,
                        "its index, or where that ends, is not that of the events; delete the file",
                    ));
                }
                Ok(())
            }
        }
    }

    /// Compares what the checkpoint says of a sealed segment with what its events and its footer are.
    fn check_entry(&self, is: &SealedEntry, found: &mut Verification) {
        let entries = self.checkpoint.iter().flat_map(|c| &c.sealed);
        let file = SegmentFile::from(is);
        let mut of_it = entries.filter(|entry| SegmentFile::from(*entry) == file);
        // An opening believes no entry of another length.
        let differs = |entry: &SealedEntry| {
            *entry
                != SealedEntry {
                    file_bytes: entry.file_bytes,
                    ..*is
                }
        };
        if of_it.any(differs) {
            found.damaged(whole(
                CHECKPOINT,
                format!("what it says of {} is not so; delete the file", file.name()),
            ));
        }
    }

    /// Checks every run, once the footers that they merge were compared.
    pub(super) fn check_runs(layers: &Layers, found: &mut Verification) -> Result<()> {
        for run in &layers.runs {
            let built = layers.under(run).and_then(|merged| {
                let footers: Result<Vec<_>> = merged.iter().map(|layer| layer.footer()).collect();
                footers
                    .and_then(|footers| build(run.expected(), &footers, &|| true))
                    .inspect_err(|error| {
                        tracing::debug!(%error, "a footer that cannot be asked is reported where it stands");
                    })
                    .unwrap_or_default()
            });
            match run.check(built.as_deref()) {
                Ok(true) => {}
                Ok(false) => found.damaged(whole(
                    &run.name(),
                    "it is not what its segments make; delete the file and open the store again",
                )),
                Err(error) if is_unusable(&error) => found.repairable(whole(&run.name(), error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The two slots of the hint: one that holds is enough, as one may be just being written.
fn check_hint(disk: &dyn Disk, store_id: &[u8; 16], found: &mut Verification) -> Result<()> {
    let bytes = read_small(disk, HINT)?.unwrap_or_default();
    if bytes.iter().any(|byte| *byte != 0)
        && let Err(DecodeError::Corrupt(why) | DecodeError::Unsupported(why)) =
            Slot::newest(&bytes, store_id)
    {
        found.repairable(whole(HINT, why));
    }
    Ok(())
}

fn compare_footer(
    segment: &Segment,
    file: &dyn DiskFile,
    log_end: u64,
    index: &[u8],
    found: &mut Verification,
) -> Result<()> {
    let name = segment.name();
    let start = footer_start(log_end);
    let mut expected = vec![0; usize::try_from(start - log_end).unwrap_or_default()];
    expected.extend_from_slice(index);
    let Some(at) = first_difference(file, &name, &expected, log_end)? else {
        return Ok(());
    };
    let damage = |what: String| Damage {
        file: name.clone(),
        offset: at,
        position: None,
        what,
    };
    if at < start {
        found.repairable(damage(String::from(
            "between log and footer stands something; nothing reads it",
        )));
        return Ok(());
    }
    match open_footer(segment).and_then(|footer| footer.check_blocks()) {
        Ok(()) => found.damaged(damage(String::from(
            "the footer is not that of the segment's events, though its checksums hold",
        ))),
        Err(error) if is_unusable(&error) => {
            found.repairable(damage(format!("the footer: {error}")))
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn compare_side_index(
    disk: &dyn Disk,
    segment: &Segment,
    index: &[u8],
    found: &mut Verification,
) -> Result<()> {
    let name = segment.place().side_index_name();
    let Some(bytes) = read_small(disk, &name)?.filter(|bytes| bytes != index) else {
        return Ok(());
    };
    let at = bytes.iter().zip(index).take_while(|(a, b)| a == b).count();
    match open_side_index(disk, segment.store_id(), segment.place()) {
        Ok(_) => found.damaged(Damage {
            offset: at as u64,
            ..whole(&name, "it is not the index of its segment; delete the file")
        }),
        Err(error) if is_unusable(&error) => found.repairable(Damage {
            offset: at as u64,
            ..whole(&name, error)
        }),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Where a file differs from `expected`, which should fill it from `start` to its end.
fn first_difference(
    file: &dyn DiskFile,
    name: &str,
    expected: &[u8],
    start: u64,
) -> Result<Option<u64>> {
    let fail = |e| StoreError::io(format_args!("reading {name}"), e);
    let end = file.len().map_err(fail)?;
    let there = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let common = expected
        .get(..there.min(expected.len()))
        .unwrap_or_default();
    let mut window = vec![0; COMPARE_BYTES];
    for (chunk, at) in common
        .chunks(COMPARE_BYTES)
        .zip((start..).step_by(COMPARE_BYTES))
    {
        let part = window.get_mut(..chunk.len()).unwrap_or_default();
        read_exact_at(file, part, at).map_err(fail)?;
        if part != chunk {
            let same = part.iter().zip(chunk).take_while(|(a, b)| a == b).count();
            return Ok(Some(at + same as u64));
        }
    }
    let whole = there == expected.len();
    Ok((!whole).then_some(start + common.len() as u64))
}

/// Damage of a file as a whole.
fn whole(file: &str, what: impl ToString) -> Damage {
    Damage {
        file: file.to_owned(),
        offset: 0,
        position: None,
        what: what.to_string(),
    }
}

/// Whether bytes were read and are not what they should be.
fn is_unusable(error: &StoreError) -> bool {
    is_damage(error) || error.kind() == StoreErrorKind::Unsupported
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::open::open;
    use crate::engine::shared::Engine;
    use crate::event::batch::Batch;
    use crate::event::coordinate::Coordinate;
    use crate::event::draft::EventDraft;
    use crate::event::kind::EventKind;
    use crate::format::manifest::{Manifest, Replaced};
    use crate::format::run::{RUN_SEGMENTS, RunBuilder, RunHead};
    use crate::format::sidx::SidxRow;
    use crate::io::{Access, MemoryDisk, write_all_at};
    use crate::lineage::verify::{VerifyOptions, verify};
    use crate::log::files::segment_name;
    use crate::log::files::write_manifest;
    use crate::log::look::{self, list_segments, read_header};
    use crate::log::merged::merge;
    use crate::log::scan::{Scan, Step};
    use crate::options::{MIN_SEGMENT_BYTES, StoreConfig};
    use crate::sync::Arc;

    fn engine(disk: &Arc<MemoryDisk>) -> Arc<Engine> {
        let disk: Arc<MemoryDisk> = Arc::clone(disk);
        open(StoreConfig::on_disk(disk).segment_bytes(MIN_SEGMENT_BYTES)).unwrap()
    }

    fn verified(engine: &Engine) -> Verification {
        verify(&engine.front, VerifyOptions::new()).unwrap()
    }

    /// A closed store of `events` events, three of which fill a segment.
    fn closed(events: u32) -> Arc<MemoryDisk> {
        let disk = Arc::new(MemoryDisk::new());
        let store = engine(&disk);
        let (place, kind) = (Coordinate::new("e", "s").unwrap(), EventKind::literal("k"));
        for _ in 0..events {
            let draft = EventDraft::new(&place, kind.clone(), &"x".repeat(350_000));
            store.append(Batch::new().event(draft)).unwrap();
        }
        store.close().unwrap();
        disk
    }

    /// The index of segment 1 with another kind for the first event, and where the footer begins.
    fn forged_index(disk: &MemoryDisk) -> (Vec<u8>, u64) {
        let manifest = read_manifest(disk).unwrap().unwrap();
        let listed = list_segments(disk, &manifest).unwrap()[0];
        let header = read_header(disk, listed, &manifest).unwrap().unwrap();
        let name = segment_name(1);
        let file = look::open(disk, &name, Access::Read).unwrap();
        let mut scan = Scan::begin(file, name, &header).unwrap();
        let mut indexer = Indexer::new(&header);
        while let Step::Group(group) = scan.step().unwrap() {
            let push = |offset, position, frame: &[u8]| {
                let record = Record::decode(frame, &header.seed(), offset, position).unwrap();
                let row = record.row(frame, u32::try_from(offset).unwrap());
                match position {
                    1 => indexer.push(SidxRow {
                        kind: "other",
                        ..row
                    }),
                    _ => indexer.push(row),
                }
                Ok(())
            };
            scan.frames(&group, push).unwrap();
        }
        let start = footer_start(scan.tip.mark.offset);
        (indexer.finish(&header, scan.tip, 0).unwrap().1, start)
    }

    fn only_damage(disk: &Arc<MemoryDisk>) -> (String, String) {
        let store = engine(disk);
        let found = verified(&store);
        store.close().unwrap();
        assert_eq!(
            (found.damages_found, found.repairable_found),
            (1, 0),
            "{found}"
        );
        let damage = found.damages.into_iter().next().unwrap();
        (damage.file, damage.what)
    }

    #[test]
    fn a_footer_whose_checksums_hold_and_that_says_something_else_is_damage() {
        let disk = closed(7);
        let (index, start) = forged_index(&disk);
        let file = look::open(&*disk, &segment_name(1), Access::Write).unwrap();
        write_all_at(&*file, &index, start).unwrap();
        file.set_len(start + index.len() as u64).unwrap();
        let (file, what) = only_damage(&disk);
        assert_eq!(file, segment_name(1));
        assert!(what.contains("its checksums hold"), "{what}");
    }

    #[test]
    fn a_file_that_goes_on_behind_its_footer_is_told() {
        let disk = closed(7);
        let store = engine(&disk);
        let file = look::open(&*disk, &segment_name(1), Access::Write).unwrap();
        let end = file.len().unwrap();
        write_all_at(&*file, b"?", end).unwrap();
        let found = verified(&store);
        assert_eq!(
            (found.damages_found, found.repairable_found),
            (0, 1),
            "{found}"
        );
        assert_eq!(found.repairable[0].offset, end);
    }

    #[test]
    fn so_is_a_side_index() {
        let disk = closed(7);
        let (index, _) = forged_index(&disk);
        let name = SegmentFile::original(1).side_index_name();
        let file = disk.open(&name, Access::CreateNew).unwrap();
        write_all_at(&*file, &index, 0).unwrap();
        assert_eq!(only_damage(&disk).0, name);
    }

    #[test]
    fn so_is_the_index_in_a_checkpoint() {
        let disk = closed(2);
        let (index, _) = forged_index(&disk);
        let bytes = read_small(&*disk, CHECKPOINT).unwrap().unwrap();
        let (checkpoint, _) = Checkpoint::decode(&bytes).unwrap();
        let file = look::open(&*disk, CHECKPOINT, Access::Write).unwrap();
        let forged = checkpoint.encode(&index);
        write_all_at(&*file, &forged, 0).unwrap();
        file.set_len(forged.len() as u64).unwrap();
        let (file, what) = only_damage(&disk);
        assert_eq!(file, CHECKPOINT);
        assert!(what.contains("delete the file"), "{what}");
    }

    /// Its checksum holds, an opening goes by it, and a query by time would pass the segment over.
    #[test]
    fn so_is_an_entry_or_an_end_in_a_checkpoint_that_is_not_so() {
        type Change = fn(&mut Checkpoint);
        let changes: [(Change, &str); 4] = [
            (
                |c| c.sealed[1].last_recorded -= 1,
                "0000000002.seg is not so",
            ),
            (
                |c| c.sealed[0].first_recorded += 1,
                "0000000001.seg is not so",
            ),
            (|c| c.last_recorded += 1, "where that ends"),
            (|c| c.digest[0] ^= 1, "where that ends"),
        ];
        for (change, said) in changes {
            let disk = closed(7);
            let bytes = read_small(&*disk, CHECKPOINT).unwrap().unwrap();
            let (mut checkpoint, index) = Checkpoint::decode(&bytes).unwrap();
            let index = usize::try_from(index.start).unwrap()..usize::try_from(index.end).unwrap();
            change(&mut checkpoint);
            let file = look::open(&*disk, CHECKPOINT, Access::Write).unwrap();
            write_all_at(&*file, &checkpoint.encode(&bytes[index]), 0).unwrap();
            let (file, what) = only_damage(&disk);
            assert_eq!(file, CHECKPOINT);
            assert!(what.contains(said), "{what}");
        }
    }

    #[test]
    fn so_is_a_run_that_denies_what_is_there_and_a_damaged_one_is_made_again() {
        let disk = closed(55);
        let name = crate::log::files::run_name(1, RUN_SEGMENTS as u64);
        // Upkeep may have had no time to make it.
        let store = engine(&disk);
        while read_small(&*disk, &name).unwrap().is_none() {
            std::thread::yield_now();
        }
        assert!(verified(&store).is_sound());
        store.close().unwrap();
        let head = RunHead::decode(&read_small(&*disk, &name).unwrap().unwrap()).unwrap();
        let blank = RunBuilder::new(head, 9).unwrap().finish();
        let file = look::open(&*disk, &name, Access::Write).unwrap();
        write_all_at(&*file, &blank, 0).unwrap();
        file.set_len(blank.len() as u64).unwrap();
        assert_eq!(only_damage(&disk).0, name);
        let store = engine(&disk);
        write_all_at(&*file, b"q", blank.len() as u64 - 1).unwrap();
        let found = verified(&store);
        assert!(found.is_sound(), "{found}");
        assert_eq!(found.repairable_found, 1, "{found}");
        assert_eq!(found.repairable[0].file, name);
    }

    #[test]
    fn a_header_that_does_not_continue_the_segment_before_is_damage() {
        let disk = closed(7);
        let store = engine(&disk);
        let name = segment_name(2);
        let file = look::open(&*disk, &name, Access::Write).unwrap();
        let mut page = vec![0; crate::format::segment::SEGMENT_PAGE_BYTES];
        read_exact_at(&*file, &mut page, 0).unwrap();
        let header = SegmentHeader::decode(&page).unwrap();
        let other = SegmentHeader {
            recorded_before: header.recorded_before - 1,
            ..header
        };
        write_all_at(&*file, &other.encode(), 0).unwrap();
        let found = verified(&store);
        assert_eq!(found.damages_found, 1, "{found}");
        let damage = &found.damages[0];
        assert_eq!((damage.file.as_str(), damage.offset), (name.as_str(), 0));
        assert!(damage.what.contains("does not continue"), "{found}");
        store.close().unwrap();
    }

    #[test]
    fn replacements_are_verified_like_what_they_replace() {
        let disk = closed(13);
        let store = engine(&disk);
        let digest = store.front.last_head().digest;
        store.close().unwrap();
        let manifest = read_manifest(&*disk).unwrap().unwrap();
        let files = [1, 2, 3].map(SegmentFile::original);
        let (place, _) = merge(&*disk, &files, 1, manifest.store_id).unwrap();
        write_manifest(
            &*disk,
            &Manifest {
                generation: manifest.generation + 1,
                replaced: vec![Replaced {
                    first: 1,
                    last: 3,
                    generation: 1,
                }],
                ..manifest
            },
        )
        .unwrap();
        let store = engine(&disk);
        let found = verified(&store);
        assert!(found.is_sound(), "{found}");
        assert_eq!(
            (found.events, found.digest, found.repairable_found),
            (13, digest, 0),
            "{found}"
        );
        let stats = store.front.stats(0);
        assert_eq!(
            (found.segments, found.bytes),
            (stats.segments, stats.log_bytes)
        );
        let file = look::open(&*disk, &place.name(), Access::Write).unwrap();
        write_all_at(&*file, b"?", 500_000).unwrap();
        assert_eq!(verified(&store).damages[0].file, place.name());
    }

    #[test]
    fn a_damaged_manifest_is_damage() {
        let disk = closed(1);
        let store = engine(&disk);
        let file = look::open(&*disk, MANIFEST, Access::Write).unwrap();
        write_all_at(&*file, &[7], 40).unwrap();
        let found = verified(&store);
        assert_eq!(found.damages_found, 1, "{found}");
        assert_eq!(found.damages[0].file, MANIFEST);
    }
}
