//! Finds the log as it lies on the disk, brings its tail into order, and lays out the index over it.
//!
//! Runs when a store is opened and when a panicked writer starts again, always under the lock and with nobody
//! writing: look, plan, apply, and only then show. The thread is the one that opens the store, or that holds the turn.

use crate::engine::chain;
use crate::engine::heads::Heads;
use crate::engine::rotate::header_after;
use crate::engine::runs;
use crate::engine::shared::{Engine, Published, head_of};
use crate::engine::turn::{Durable, Writer};
use crate::engine::upkeep::Job;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::{Checkpoint, SealedEntry as SealedSegment};
use crate::format::hint::{Shutdown, Slot};
use crate::format::manifest::{Manifest, SnapshotEnd};
use crate::format::segment::SegmentHeader;
use crate::index::layer::{Layer, Source, Span};
use crate::index::layers::Layers;
use crate::index::live::LiveIndex;
use crate::index::sidx::Sidx;
use crate::io::{Access, Disk, DiskFile};
use crate::log::active::{Active, Spare, planned_bytes};
use crate::log::apply;
use crate::log::files::{HintFile, MANIFEST, SegmentFile, read_hint, segment_name};
use crate::log::look::{self, Listed};
use crate::log::plan::{Before, Damage, TailEvidence, Verdict, judge, proven, proven_by};
use crate::log::scan::{Mark, Scan, Step, Tip};
use crate::log::seal::with_row;
use crate::log::segment::Segment;
use crate::options::StoreConfig;
use crate::sync::Arc;

/// The log, ready to be read and continued.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) live: Arc<Layer>,
    pub(crate) active: Active,
    pub(crate) tip: Tip,
    pub(crate) hint: HintFile,
    pub(crate) sealed: Vec<SealedSegment>,
    pub(crate) repairs: Repairs,
}

impl Loaded {
    /// What readers see of it.
    pub(crate) fn published(&self, disk: &Arc<dyn Disk>, store_id: &[u8; 16]) -> Published {
        Published {
            head: head_of(&self.tip),
            durable: self.tip.position,
            full_bytes: self.sealed.iter().map(|segment| segment.log_end).sum(),
            end: self.tip.mark.offset,
            layers: Layers::new(
                self.layers.clone(),
                runs::over(disk, store_id, &self.sealed),
            ),
        }
    }
}

/// What opening had to mend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repairs {
    pub(crate) cut_bytes: u64,
    pub(crate) rewritten_bytes: u64,
    pub(crate) indexed_events: u64,
}

/// What is known durable before the newest segment is walked.
struct Known {
    mark: Mark,
    /// What the hint alone says, by which other processes go.
    hinted: Mark,
    hint: Option<Slot>,
    checkpoint: Option<(Checkpoint, Option<Sidx>)>,
}

/// The newest segment after the walk.
struct Tail {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    base: Option<(Sidx, Tip)>,
    live: LiveIndex,
    tip: Tip,
    /// How far the space behind it was zero-filled.
    filled: u64,
}

impl Tail {
    /// Whether nothing may be appended to it: it stands for a range, or is an earlier store's.
    fn is_closed(&self, manifest: &Manifest) -> bool {
        self.header.is_replacement() || self.header.store_id != manifest.store_id
    }
}

/// Reads and mends the store on `disk`, whose lock is held.
///
/// What a snapshot's end cuts off is gone when it returns, and the manifest may be written without the end.
pub(crate) fn load(
    disk: &Arc<dyn Disk>,
    manifest: &Manifest,
    config: &StoreConfig,
) -> Result<Loaded> {
    let mut repairs = Repairs::default();
    let (known, sealed_entries) = gather_known(&**disk, manifest)?;
    let mut segments = look::list_segments(&**disk, manifest)?;
    if let Some(end) = &manifest.end {
        cut_off(&**disk, &mut segments, end)?;
    }
    leave_half_made(disk, manifest, &mut segments, known.mark, |newest| {
        tracing::info!(
            file = newest.file.name(),
            "a half-made segment is taken away"
        );
        apply::take_away_half_made(&**disk, newest)
    })?;
    let (hinted, durable) = (known.hinted, known.mark);
    let hint = HintFile::open(&**disk, manifest, known.hint)?;
    let tail = match segments.last() {
        Some(newest) => Some(read_newest(disk, manifest, *newest, known, &mut repairs)?),
        None if durable > Mark::default() => {
            let damage = Damage::Lost(durable);
            return Err(refusal(
                SegmentFile::original(1),
                damage,
                "the file is missing",
            ));
        }
        None => None,
    };
    let tail = match tail {
        Some(tail) if !tail.is_closed(manifest) => {
            segments.pop();
            tail
        }
        ended => {
            let tip = ended.map_or(Tip::NOTHING, |tail| tail.tip);
            begin_segment(disk, &manifest.store_id, config, &tip)?
        }
    };
    // Only now is the newest header durable, which a footer in the segment before it will stand for.
    let sealed = chain::sealed_segments(disk, manifest, &segments, &tail.header, &sealed_entries)?;
    let mut loaded = lay_out(disk, config, hint, sealed, tail, repairs)?;
    if (hinted < loaded.tip.mark || !loaded.hint.is_announced())
        && let Err(error) = loaded.hint.write(&loaded.tip, Shutdown::Running)
    {
        tracing::warn!(%error, "the durable hint was not written");
    }
    Ok(loaded)
}

fn gather_known(disk: &dyn Disk, manifest: &Manifest) -> Result<(Known, Vec<SealedSegment>)> {
    let hint = read_hint(disk, &manifest.store_id)?;
    if let Some(end) = &manifest.end {
        let known = Known {
            mark: end_mark(end),
            hinted: Mark::default(),
            hint,
            checkpoint: None,
        };
        return Ok((known, Vec::new()));
    }
    let checkpoint = chain::read_checkpoint(disk, &manifest.store_id)?;
    let entries = checkpoint
        .as_ref()
        .map_or_else(Vec::new, |(c, _)| c.sealed.clone());
    let durable = proven(hint.as_ref(), checkpoint.as_ref().map(|(c, _)| c));
    let known = Known {
        mark: durable.max(proven_by(manifest)),
        hinted: proven(hint.as_ref(), None),
        hint,
        checkpoint,
    };
    Ok((known, entries))
}

/// The place in the log where a snapshot ends.
pub(crate) fn end_mark(end: &SnapshotEnd) -> Mark {
    Mark {
        segment: end.segment,
        offset: end.offset,
    }
}

/// Removes what lies behind the end of a snapshot.
fn cut_off(disk: &dyn Disk, segments: &mut [Listed], end: &SnapshotEnd) -> Result<()> {
    let Some(last) = segments.last_mut().filter(|last| last.bytes >= end.offset) else {
        let file = segments
            .last()
            .map_or(SegmentFile::original(end.segment), |last| last.file);
        return Err(refusal(file, Damage::Lost(end_mark(end)), "the file ends"));
    };
    apply::remove_segments(disk, |file| file.number > end.segment)?;
    apply::cut_to_end(disk, *last, end)?;
    last.bytes = end.offset;
    Ok(())
}

/// Refuses a snapshot whose last event is not the one that its manifest names.
pub(crate) fn check_end(end: &SnapshotEnd, tip: &Tip) -> Result<()> {
    let expected = Tip {
        mark: end_mark(end),
        position: end.position,
        sequence: end.sequence,
        checksum: end.checksum,
        recorded_at: end.recorded_at,
        digest: end.digest,
    };
    if *tip == expected {
        return Ok(());
    }
    Err(StoreError::corrupt(format!(
        "segment {} at byte {}: the snapshot ends with another event than {MANIFEST} says; take the snapshot again",
        end.segment, end.offset
    )))
}

/// The active segment, whose header may not be durable yet, and the one kept ready behind it.
const MAX_HALF_MADE: u32 = 2;

/// Leaves the newest files out that were being made when the process or the power stopped; `drop_it` is told of each.
pub(crate) fn leave_half_made(
    disk: &Arc<dyn Disk>,
    manifest: &Manifest,
    segments: &mut Vec<Listed>,
    known: Mark,
    mut drop_it: impl FnMut(Listed) -> Result<()>,
) -> Result<()> {
    for _ in 0..MAX_HALF_MADE {
        let Some(newest) = segments.last().copied() else {
            return Ok(());
        };
        if look::read_header(&**disk, newest, manifest)?.is_some() {
            return Ok(());
        }
        let before = match segments.iter().rev().nth(1) {
            Some(listed) => chain::before(disk, manifest, *listed)?,
            None => Before::Open,
        };
        let number = newest.file.number;
        match judge(&TailEvidence::without_header(number, known, before)) {
            Verdict::RemoveNewest => {
                segments.pop();
                drop_it(newest)?;
            }
            Verdict::Refuse(damage) => {
                return Err(refusal(newest.file, damage, "its header is damaged"));
            }
            Verdict::Keep { .. } | Verdict::Cut { .. } => return Ok(()),
        }
    }
    Ok(())
}

/// Walks the newest segment and checks that it ends where it may.
fn read_newest(
    disk: &Arc<dyn Disk>,
    manifest: &Manifest,
    newest: Listed,
    known: Known,
    repairs: &mut Repairs,
) -> Result<Tail> {
    let header = chain::header_of(&**disk, newest, manifest)?;
    let tail = walk_tail(&**disk, newest.file, header, known, repairs)?;
    chain::check_reach(manifest, &tail.header, tail.tip.position)?;
    if let Some(end) = &manifest.end {
        check_end(end, &tail.tip)?;
    }
    Ok(tail)
}

/// Walks the newest segment, judges what follows its last valid group, and carries the verdict out.
fn walk_tail(
    disk: &dyn Disk,
    segment: SegmentFile,
    header: SegmentHeader,
    known: Known,
    repairs: &mut Repairs,
) -> Result<Tail> {
    let name = segment.name();
    let file = look::open(disk, &name, Access::Write)?;
    let mut scan = Scan::begin(Arc::clone(&file), name, &header)?;
    let base = walk_to_checkpoint(&mut scan, &header, known.checkpoint)?;
    let mut live = LiveIndex::new(scan.tip.position + 1);
    let (why, extent) = loop {
        match scan.step()? {
            Step::Group(group) => scan.frames(&group, |offset, position, frame| {
                with_row(segment, offset, position, frame, |row| live.push(row))
            })?,
            Step::End { why, extent } => break (why, extent),
        }
    };
    repairs.indexed_events = u64::from(live.rows());
    let rest = look::look_behind(&mut scan, &header, extent)?;
    let evidence = TailEvidence {
        segment: header.number,
        header_valid: true,
        valid_end: scan.tip.mark.offset,
        rest,
        durable: known.mark.max(scan.synced),
    };
    carry_out(disk, segment, &*file, &evidence, why, repairs)?;
    Ok(Tail {
        file,
        header,
        base,
        live,
        tip: scan.tip,
        filled: scan.tip.mark.offset,
    })
}

/// Checks the groups that the checkpoint's index covers; without a checkpoint that fits, none.
pub(crate) fn walk_to_checkpoint(
    scan: &mut Scan,
    header: &SegmentHeader,
    checkpoint: Option<(Checkpoint, Option<Sidx>)>,
) -> Result<Option<(Sidx, Tip)>> {
    let Some((checkpoint, Some(index))) =
        checkpoint.filter(|(c, _)| c.active_segment == header.number)
    else {
        return Ok(None);
    };
    let start = scan.tip;
    while scan.tip.mark.offset < checkpoint.active_end {
        if let Step::End { .. } = scan.step()? {
            break;
        }
    }
    let tip = scan.tip;
    let fits = tip.mark.offset == checkpoint.active_end
        && tip.position == checkpoint.last_position
        && tip.sequence == checkpoint.last_group_sequence
        && tip.checksum == checkpoint.last_group_checksum
        && tip.digest == checkpoint.digest
        && tip.position - start.position == u64::from(index.rows())
        && index.rows() > 0;
    if fits {
        return Ok(Some((index, tip)));
    }
    scan.resume_at(start);
    Ok(None)
}

fn carry_out(
    disk: &dyn Disk,
    segment: SegmentFile,
    file: &dyn DiskFile,
    evidence: &TailEvidence,
    why: &str,
    repairs: &mut Repairs,
) -> Result<()> {
    let end = evidence.valid_end;
    let rewrite_from = match judge(evidence) {
        Verdict::Keep { rewrite_from } => rewrite_from,
        Verdict::Cut {
            at,
            until,
            rewrite_from,
            later_groups,
        } => {
            let kept = apply::cut(disk, file, segment, at, until)?;
            repairs.cut_bytes = until - at;
            tracing::warn!(
                file = segment.name(),
                at,
                bytes = until - at,
                later_groups,
                kept,
                "a torn tail was cut"
            );
            rewrite_from
        }
        Verdict::RemoveNewest => return Ok(()),
        Verdict::Refuse(damage) => return Err(refusal(segment, damage, why)),
    };
    assert!(
        rewrite_from <= end,
        "a plan never keeps less than what was durable"
    );
    if rewrite_from < end {
        repairs.rewritten_bytes = end - rewrite_from;
        apply::rewrite(file, segment, rewrite_from, end)?;
    }
    Ok(())
}

pub(crate) fn refusal(file: SegmentFile, damage: Damage, why: &str) -> StoreError {
    let name = file.name();
    StoreError::corrupt(match damage {
        Damage::Lost(mark) => format!(
            "{}: acknowledged events up to byte {} are missing ({why}); restore the file from a copy, nothing was changed",
            match mark.segment == file.number {
                true => name,
                false => segment_name(mark.segment),
            },
            mark.offset
        ),
        Damage::UnderAcknowledged(at) => format!(
            "{name} at byte {at}: a group is damaged ({why}) and acknowledged events follow it; restore the file from a copy, nothing was changed"
        ),
        Damage::WholeButWrong(at) => format!(
            "{name} at byte {at}: the last group is complete and wrong ({why}), which no crash explains; restore the file from a copy, nothing was changed"
        ),
    })
}

/// The layers over sealed segments, checkpoint and the newest events, and the segment open for writing.
fn lay_out(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
    hint: HintFile,
    sealed: Vec<SealedSegment>,
    tail: Tail,
    repairs: Repairs,
) -> Result<Loaded> {
    let Tail {
        file,
        header,
        base,
        live,
        tip,
        filled,
    } = tail;
    let planned = planned_bytes(header.number, config.segment_bytes);
    let mut live_digest = header.digest_before;
    let active = Active::reopen(
        Arc::clone(disk),
        file,
        header,
        (tip.mark.offset, filled),
        planned,
    )?;
    let mut layers = chain::layers_of(disk, &sealed);
    if let Some((index, base_tip)) = base {
        live_digest = base_tip.digest;
        let segment = Arc::clone(&active.segment);
        layers.push(checkpoint_layer(segment, &active.header, index, &base_tip));
    }
    let live = Arc::new(Layer::live(Arc::clone(&active.segment), live_digest, live));
    layers.push(Arc::clone(&live));
    Ok(Loaded {
        layers,
        live,
        active,
        tip,
        hint,
        sealed,
        repairs,
    })
}

/// The layer of the newest segment's events up to `tip`, of which the checkpoint keeps the index.
pub(crate) fn checkpoint_layer(
    segment: Arc<Segment>,
    header: &SegmentHeader,
    index: Sidx,
    tip: &Tip,
) -> Arc<Layer> {
    let span = Span {
        last_position: tip.position,
        first_recorded: index.recorded().0,
        last_recorded: tip.recorded_at,
    };
    Arc::new(Layer::fixed(
        segment,
        header.first_position,
        header.digest_before,
        span,
        Source::Checkpoint,
        Some(index),
    ))
}

/// Begins the segment behind `tip`, in which nothing is appended yet; its header is durable on return.
fn begin_segment(
    disk: &Arc<dyn Disk>,
    store_id: &[u8; 16],
    config: &StoreConfig,
    tip: &Tip,
) -> Result<Tail> {
    let number = tip.mark.segment + 1;
    let fail = |e| StoreError::io(format_args!("making {}", segment_name(number)), e);
    let planned = planned_bytes(number, config.segment_bytes);
    let spare = Spare::make(&**disk, number, planned).map_err(fail)?;
    let header = header_after(tip, *store_id, config.clock.entropy());
    let active = Active::start(Arc::clone(disk), spare, header)?;
    active.file.sync_all().map_err(fail)?;
    Ok(Tail {
        filled: active.filled,
        file: active.file,
        header,
        base: None,
        live: LiveIndex::new(header.first_position),
        tip: Tip::before(&header),
    })
}

/// Reads the log again for a writer that panicked, and continues behind what is there.
pub(crate) fn reload(engine: &Engine, writer: &mut Writer) -> Result<()> {
    engine.backlog.wait_until_empty();
    // Taken, so that upkeep does not make it while the log is read: its file would be taken away under it.
    drop(engine.spare.take(writer.tip.mark.segment + 1));
    let manifest = engine.manifest.lock();
    let mut loaded = load(&engine.disk, &manifest, &engine.config)?;
    let seen = engine.front.last_head().position.get();
    if loaded.tip.position < seen {
        return Err(StoreError::corrupt(format!(
            "event {seen} was visible, and the log ends at {}",
            loaded.tip.position
        )));
    }
    keep_known(
        &mut loaded.layers,
        &engine.front.published.read().layers.all,
    );
    let published = loaded.published(&engine.disk, &engine.store_id);
    writer.unsealed.clear();
    writer.held_back = None;
    writer.active = loaded.active;
    writer.live = loaded.live;
    writer.tip = loaded.tip;
    writer.durable = Durable::of(&loaded.tip);
    writer.heads = Heads::new(loaded.tip.position);
    writer.hint = loaded.hint;
    writer.buffer = Vec::new();
    engine.sealed.lock().clone_from(&loaded.sealed);
    engine.show_loaded(published);
    engine.send(Job::Merge(0));
    Ok(())
}

/// Keeps the layers of sealed files that views may hold: one that two segments stood for would be removed with the
/// first of them.
fn keep_known(layers: &mut [Arc<Layer>], known: &[Arc<Layer>]) {
    for layer in layers.iter_mut().filter(|layer| layer.is_sealed()) {
        let place = layer.segment().place();
        let at = known.partition_point(|known| known.segment().number() < place.number);
        let same = known.get(at).filter(|known| known.is_sealed());
        if let Some(same) = same.filter(|known| known.segment().place() == place) {
            *layer = Arc::clone(same);
        }
    }
}
