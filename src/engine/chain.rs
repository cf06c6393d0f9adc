//! The sealed segments behind the newest one: each is where the next says that it is, and has a footer.
//!
//! Opening reads every segment's header, so that a missing or mixed-up file is found at once; of a footer it reads
//! only the head, and that only when the checkpoint does not tell. Runs on the thread that opens the store; upkeep
//! takes entry and layer of a segment that it sealed from here.

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::format::checkpoint::{Checkpoint, SealedEntry as SealedSegment};
use crate::format::manifest::Manifest;
use crate::format::segment::SegmentHeader;
use crate::format::sidx::{TRAILER_BYTES, Trailer};
use crate::index::layer::{Layer, Source, Span, open_checkpoint, open_side_index};
use crate::index::sidx::Sidx;
use crate::io::{Access, Disk, read_exact_at};
use crate::log::files::{SegmentFile, decode_error};
use crate::log::look::{self, Listed};
use crate::log::plan::{Before, FooterEvidence, FooterVerdict, continues, judge_footer};
use crate::log::scan::Mark;
use crate::log::seal::{self, Sealed};
use crate::log::segment::Segment;
use crate::sync::Arc;

/// The checkpoint and the index in it; one that is damaged or of another version is none, one that cannot be read is an
/// error.
pub(crate) fn read_checkpoint(
    disk: &dyn Disk,
    store_id: &[u8; 16],
) -> Result<Option<(Checkpoint, Option<Sidx>)>> {
    match open_checkpoint(disk, store_id) {
        Err(error) if is_unusable(&error) => {
            tracing::warn!(%error, "the checkpoint is not usable and is made again");
            Ok(None)
        }
        answer => answer,
    }
}

/// The header of a segment that must have one.
pub(crate) fn header_of(
    disk: &dyn Disk,
    listed: Listed,
    manifest: &Manifest,
) -> Result<SegmentHeader> {
    look::read_header(disk, listed, manifest)?.ok_or_else(|| {
        StoreError::corrupt(format!(
            "{} at byte 0: its header is damaged; restore the file from a copy",
            listed.file.name()
        ))
    })
}

/// Refuses a segment of an earlier store that goes on, up to `last_position`, behind where this store left that one.
pub(crate) fn check_reach(
    manifest: &Manifest,
    header: &SegmentHeader,
    last_position: u64,
) -> Result<()> {
    match manifest.reach_of(&header.store_id) {
        Some(reach) if last_position > reach => {
            let file = SegmentFile::holding(manifest, header.number);
            Err(look::goes_beyond(file, reach))
        }
        _ => Ok(()),
    }
}

/// Every segment before `newest`, each checked against the header of its successor.
pub(crate) fn sealed_segments(
    disk: &Arc<dyn Disk>,
    manifest: &Manifest,
    older: &[Listed],
    newest: &SegmentHeader,
    known: &[SealedSegment],
) -> Result<Vec<SealedSegment>> {
    let mut headers = Vec::with_capacity(older.len() + 1);
    for listed in older {
        headers.push(header_of(&**disk, *listed, manifest)?);
    }
    headers.push(*newest);
    let mut sealed = Vec::with_capacity(older.len());
    for ((listed, header), next) in older.iter().zip(&headers).zip(headers.iter().skip(1)) {
        check_reach(manifest, header, next.first_position - 1)?;
        let entry = match find_entry(disk, *listed, header, next, known)? {
            Some(entry) => entry,
            None => make_entry(disk, *listed, header, next)?,
        };
        sealed.push(entry);
    }
    Ok(sealed)
}

/// What the checkpoint or else the footer says of a segment that `next` continues; `None` if neither is usable.
pub(crate) fn find_entry(
    disk: &Arc<dyn Disk>,
    listed: Listed,
    header: &SegmentHeader,
    next: &SegmentHeader,
    known: &[SealedSegment],
) -> Result<Option<SealedSegment>> {
    let known = known.iter().find(|entry| {
        let file = SegmentFile::from(*entry);
        (file, entry.file_bytes, entry.store_id) == (listed.file, listed.bytes, header.store_id)
    });
    if let Some(entry) = known.filter(|e| continues(e, header, next)) {
        return Ok(Some(*entry));
    }
    match footer_entry(disk, &header.store_id, listed) {
        Ok(mut entry) => {
            if entry.last_position < entry.first_position {
                // An empty index tells no times.
                entry.first_recorded = header.recorded_before;
                entry.last_recorded = header.recorded_before;
            }
            Ok(Some(entry).filter(|entry| continues(entry, header, next)))
        }
        Err(error) if is_unusable(&error) => {
            tracing::debug!(file = listed.file.name(), %error, "a segment has no usable footer");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes the footer of a segment that has none or a damaged one, and says what is in it.
fn make_entry(
    disk: &Arc<dyn Disk>,
    listed: Listed,
    header: &SegmentHeader,
    next: &SegmentHeader,
) -> Result<SealedSegment> {
    let (file, store_id) = (listed.file, &header.store_id);
    tracing::info!(file = file.name(), "a footer is made again");
    // Looked at first: what cannot be right stays as it is.
    let last = next.first_position - 1;
    let (found, _) = seal::index_of(&**disk, store_id, file, last)?;
    let evidence = FooterEvidence {
        frames: &entry_of(store_id, file, &found),
        header,
        next,
        blank_behind: seal::is_blank_after(&**disk, file, found.tip.mark.offset)?,
    };
    let made = match judge_footer(&evidence) {
        FooterVerdict::MakeInPlace => seal::seal(&**disk, store_id, file, last)?,
        FooterVerdict::MakeBeside => seal::write_side_index(&**disk, store_id, file, last)?,
        FooterVerdict::Refuse => return Err(continues_others(file, found.tip.mark, next)),
    };
    Ok(entry_of(store_id, file, &made))
}

/// The log ends at `end` in its file, and the next segment begins elsewhere.
pub(crate) fn continues_others(file: SegmentFile, end: Mark, next: &SegmentHeader) -> StoreError {
    StoreError::corrupt(format!(
        "{} at byte {}: segment {} continues other events; restore both files from a copy",
        file.name(),
        end.offset,
        next.number
    ))
}

/// Whether a segment was sealed; a footer that cannot be read is an error, not an absence.
pub(crate) fn before(disk: &Arc<dyn Disk>, manifest: &Manifest, listed: Listed) -> Result<Before> {
    let header = look::read_header(&**disk, listed, manifest)?;
    let store_id = header.map_or(manifest.store_id, |header| header.store_id);
    match footer_entry(disk, &store_id, listed) {
        Ok(_) => Ok(Before::Sealed),
        // Of another version it says neither.
        Err(error) if error.kind() == StoreErrorKind::Unsupported => Err(error),
        Err(error) if is_unusable(&error) => Ok(Before::Open),
        Err(error) => Err(error),
    }
}

/// Whether a derived file is to be made again: it was read, and is not there, is damaged, or is of another version.
fn is_unusable(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::Corrupt | StoreErrorKind::NotFound | StoreErrorKind::Unsupported
    )
}

/// What the footer at the end of the file, or the side file in its place, says.
fn footer_entry(
    disk: &Arc<dyn Disk>,
    store_id: &[u8; 16],
    listed: Listed,
) -> Result<SealedSegment> {
    let index = match footer(&**disk, store_id, listed.file) {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            open_side_index(&**disk, store_id, listed.file)?
        }
        index => index?,
    };
    let (facts, (first_recorded, last_recorded)) = (index.facts(), index.recorded());
    Ok(SealedSegment {
        store_id: *store_id,
        first: listed.file.first,
        number: listed.file.number,
        generation: listed.file.generation,
        first_position: index.first_position(),
        last_position: index.first_position() + u64::from(index.rows()) - 1,
        file_bytes: listed.bytes,
        log_end: facts.log_end,
        last_group_checksum: facts.last_group_checksum,
        index_checksum: index.checksum(),
        last_group_sequence: facts.last_group_sequence,
        first_recorded,
        last_recorded,
        digest: facts.digest,
    })
}

/// The footer at the end of the file.
///
/// The trailer is read first, and not through a map: a writer in another process may cut the file meanwhile, as it
/// never does once the file ends in a trailer.
fn footer(disk: &dyn Disk, store_id: &[u8; 16], place: SegmentFile) -> Result<Sidx> {
    let name = place.name();
    let fail = |e: std::io::Error| StoreError::io(format_args!("reading {name}"), e);
    let file = look::open(disk, &name, Access::Read)?;
    let end = file.len().map_err(fail)?;
    let mut trailer = [0; TRAILER_BYTES];
    let at = end.checked_sub(TRAILER_BYTES as u64);
    let at = at.ok_or_else(|| StoreError::corrupt(format!("{name} is too short for a footer")))?;
    read_exact_at(&*file, &mut trailer, at).map_err(fail)?;
    Trailer::decode(&trailer).map_err(|e| decode_error(&name, at, &e))?;
    let map = Arc::new(file.map(end).map_err(fail)?);
    Sidx::open_at_end(map, end, store_id, place.number, &name)
}

/// What the checkpoint keeps of a segment that was just sealed.
pub(crate) fn entry_of(store_id: &[u8; 16], file: SegmentFile, sealed: &Sealed) -> SealedSegment {
    SealedSegment {
        store_id: *store_id,
        first: file.first,
        number: file.number,
        generation: file.generation,
        first_position: sealed.first_position,
        last_position: sealed.last_position,
        file_bytes: sealed.file_bytes,
        log_end: sealed.tip.mark.offset,
        last_group_checksum: sealed.tip.checksum,
        index_checksum: sealed.index_checksum,
        last_group_sequence: sealed.tip.sequence,
        first_recorded: sealed.first_recorded,
        last_recorded: sealed.last_recorded,
        digest: sealed.tip.digest,
    }
}

/// One layer for each sealed segment, opened when it is first asked.
pub(crate) fn layers_of(disk: &Arc<dyn Disk>, sealed: &[SealedSegment]) -> Vec<Arc<Layer>> {
    let mut digest_before = [0; 32];
    let mut layers = Vec::with_capacity(sealed.len() + 2);
    for entry in sealed {
        layers.push(Arc::new(layer_of(disk, entry, digest_before)));
        digest_before = entry.digest;
    }
    layers
}

/// The layer of one sealed segment.
pub(crate) fn layer_of(
    disk: &Arc<dyn Disk>,
    entry: &SealedSegment,
    digest_before: [u8; 32],
) -> Layer {
    let (disk, place) = (Arc::clone(disk), SegmentFile::from(entry));
    let segment = Arc::new(Segment::sealed(Arc::clone(&disk), entry.store_id, place));
    let span = Span {
        last_position: entry.last_position,
        first_recorded: entry.first_recorded,
        last_recorded: entry.last_recorded,
    };
    let source = Source::Footer {
        disk,
        store_id: entry.store_id,
    };
    Layer::fixed(
        segment,
        entry.first_position,
        digest_before,
        span,
        source,
        None,
    )
}
