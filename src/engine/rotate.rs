//! Goes on in the next segment when the active one is full, without making appends wait for files to be made.
//!
//! Runs in the writer's turn. The full segment is synced to its end before the next one's header is written, so that
//! only the newest segment can be torn; it is sealed later, once something in its successor is durable.

use crate::engine::commit::stop;
use crate::engine::shared::Engine;
use crate::engine::turn::{Durable, Writer};
use crate::engine::upkeep::Job;
use crate::error::{Result, StoreError};
use crate::format::segment::SegmentHeader;
use crate::index::layer::Layer;
use crate::index::live::LiveIndex;
use crate::log::active::{Active, Spare, planned_bytes};
use crate::log::files::{SEGMENTS, segment_name};
use crate::log::scan::{GROUPS_START, Tip};
use crate::sync::Arc;

/// Starts the next segment, with room for a group of `needed` bytes.
pub(crate) fn rotate(engine: &Engine, writer: &mut Writer, needed: u64) -> Result<()> {
    engine.backlog.wait_for_room();
    if writer.tip.mark > writer.durable.mark {
        writer
            .active
            .file
            .sync_data()
            .map_err(|e| stop(engine, "the sync of a full segment failed", e))?;
        writer.durable = Durable::of(&writer.tip);
    }
    let full = writer.tip.mark.segment;
    let number = full + 1;
    let final_bytes = planned_bytes(number, engine.config.segment_bytes).max(GROUPS_START + needed);
    let spare = take_spare(engine, number, final_bytes).map_err(|e| {
        StoreError::io(
            format_args!("making {}: nothing was written", segment_name(number)),
            e,
        )
    })?;
    let header = header_after(&writer.tip, engine.store_id, engine.config.clock.entropy());
    let active = Active::start(Arc::clone(&engine.disk), spare, header)
        .map_err(|error| take_back(engine, number, error))?;
    let live = Layer::live(
        Arc::clone(&active.segment),
        writer.tip.digest,
        LiveIndex::new(writer.tip.position + 1),
    );
    let full_end = writer.tip.mark.offset;
    writer.active = active;
    writer.live = Arc::new(live);
    writer.tip = Tip::before(&writer.active.header);
    writer.heads.forget(writer.tip.position);
    writer.unsealed.push(full);
    add_layer(engine, Arc::clone(&writer.live), full_end);
    let next = number + 1;
    engine.send(Job::Spare {
        number: next,
        final_bytes: planned_bytes(next, engine.config.segment_bytes),
    });
    Ok(())
}

/// The header of the segment that continues the log at `tip`.
pub(crate) fn header_after(tip: &Tip, store_id: [u8; 16], salt: [u8; 16]) -> SegmentHeader {
    let number = tip.mark.segment + 1;
    SegmentHeader {
        store_id,
        salt,
        number,
        replaces_first: number,
        replaces_last: number,
        first_position: tip.position + 1,
        digest_before: tip.digest,
        predecessor: tip.mark.segment,
        predecessor_checksum: tip.checksum,
        replaced_checksum: 0,
        sequence_before: tip.sequence,
        recorded_before: tip.recorded_at,
        replaced_sequence: 0,
    }
}

fn take_spare(engine: &Engine, number: u64, final_bytes: u64) -> std::io::Result<Spare> {
    match engine.spare.take(number) {
        Some(mut spare) => {
            spare.lengthen(final_bytes).inspect_err(|_| {
                // Best effort, so that the next attempt can make the file anew.
                let _ = engine.disk.remove(&segment_name(number));
            })?;
            Ok(spare)
        }
        None => Spare::make(&*engine.disk, number, final_bytes),
    }
}

/// Takes a segment away that was not begun after all, so that the next attempt can make the file anew.
///
/// Its header may be written: left there, it would be the end of a log that goes on in the segment before.
fn take_back(engine: &Engine, number: u64, error: StoreError) -> StoreError {
    let gone = engine
        .disk
        .remove(&segment_name(number))
        .and_then(|()| engine.disk.sync_dir(SEGMENTS));
    match gone {
        Ok(()) => error,
        Err(e) => stop(
            engine,
            "a segment that was not begun could not be taken away",
            e,
        ),
    }
}

/// Shows readers the layer of a new segment, behind one whose log ends at `full_end`.
fn add_layer(engine: &Engine, layer: Arc<Layer>, full_end: u64) {
    let mut published = engine.front.published.write();
    published.full_bytes += full_end;
    published.end = GROUPS_START;
    let layers: Vec<_> = published
        .layers
        .all
        .iter()
        .cloned()
        .chain([layer])
        .collect();
    published.layers = published.layers.with_all(layers);
}

/// Hands full segments to upkeep once their successor is durable.
pub(crate) fn seal_what_is_ready(engine: &Engine, writer: &mut Writer) {
    let durable_in = writer.durable.mark.segment;
    let has_durable_group = writer.durable.mark.offset > GROUPS_START;
    writer.unsealed.retain(|number| {
        let ready = *number < durable_in && has_durable_group;
        if ready {
            engine.backlog.add();
            engine.meters.awaits_sealing();
            engine.send(Job::Seal(*number));
        }
        !ready
    });
}
