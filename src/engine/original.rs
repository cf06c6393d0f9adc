//! What a copy of a store is made of: its segments at one moment, and where its log ends there.
//!
//! The view in it keeps the files that it lists from being taken away by this process. Runs on the thread that copies.

use crate::engine::front::Front;
use crate::engine::shared::Engine;
use crate::error::{Result, StoreError};
use crate::event::position::Position;
use crate::format::manifest::{Manifest, Replaced, SnapshotEnd};
use crate::index::layers::Layers;
use crate::index::view::View;
use crate::io::Disk;
use crate::log::files::{MANIFEST, SegmentFile, read_manifest};
use crate::log::proof;
use crate::log::scan::{Mark, Tip};
use crate::sync::Arc;

/// The events that one segment file has in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) file: SegmentFile,
    /// The first position; behind `last` if there is no event.
    pub(crate) first: u64,
    pub(crate) digest_before: [u8; 32],
    pub(crate) last: u64,
    pub(crate) digest: [u8; 32],
    /// It has a footer, and neither the store nor a copy of it ever writes to it again.
    pub(crate) is_sealed: bool,
}

/// One moment of a store that is copied.
#[derive(Debug)]
pub(crate) struct Original {
    pub(crate) disk: Arc<dyn Disk>,
    /// Which store it is; what it says of files is told by the parts.
    pub(crate) manifest: Manifest,
    pub(crate) view: View,
    pub(crate) tip: Tip,
    pub(crate) parts: Vec<Part>,
}

impl Original {
    /// The store that `engine` writes, all of it durable; the writer waits for no longer than that takes.
    pub(crate) fn written(engine: &Engine) -> Result<Self> {
        engine.check_writable()?;
        let (tip, view) = {
            let mut writer = engine.turn.lock();
            engine.sync_now(&mut writer)?;
            (writer.tip, engine.front.last_view())
        };
        let manifest = engine.manifest.lock().clone();
        Ok(Self::new(Arc::clone(&engine.disk), manifest, view, tip))
    }

    /// A store that is open only for reading, as far as it is proven durable.
    pub(crate) fn read(front: &Front) -> Result<Self> {
        front.check_open()?;
        let disk = Arc::clone(&front.disk);
        let (view, tip) = front.followed()?;
        let manifest = read_manifest(&*disk)?.ok_or_else(|| {
            StoreError::not_found(format!("there is no {MANIFEST} in {}", disk.describe()))
        })?;
        let tip = match tip.mark.segment {
            0 => begun(&*disk, &manifest)?,
            _ => tip,
        };
        Ok(Self::new(disk, manifest, view, tip))
    }

    fn new(disk: Arc<dyn Disk>, manifest: Manifest, view: View, tip: Tip) -> Self {
        let parts = parts_of(view.picture().layers, &tip);
        Self {
            disk,
            manifest,
            view,
            tip,
            parts,
        }
    }

    /// The ranges that compaction replaced, as the files of the parts are.
    pub(crate) fn replaced(&self) -> Vec<Replaced> {
        let replacements = self.parts.iter().map(|part| part.file);
        replacements
            .filter(|file| file.is_replacement())
            .map(|file| Replaced {
                first: file.first,
                last: file.number,
                generation: file.generation,
            })
            .collect()
    }

    /// Whether a copy that ended there is a beginning of this history.
    pub(crate) fn continues(&self, end: &SnapshotEnd) -> Result<bool> {
        let place = Position::new(end.position);
        Ok(end.position <= self.tip.position
            && *self.view.digest_at(place)?.as_bytes() == end.digest)
    }
}

/// The place behind which a copy has nothing.
pub(crate) fn end_at(tip: &Tip) -> SnapshotEnd {
    SnapshotEnd {
        segment: tip.mark.segment,
        offset: tip.mark.offset,
        position: tip.position,
        sequence: tip.sequence,
        recorded_at: tip.recorded_at,
        digest: tip.digest,
        checksum: tip.checksum,
    }
}

/// The state where a copy ends.
pub(crate) fn tip_at(end: &SnapshotEnd) -> Tip {
    Tip {
        mark: Mark {
            segment: end.segment,
            offset: end.offset,
        },
        position: end.position,
        sequence: end.sequence,
        checksum: end.checksum,
        recorded_at: end.recorded_at,
        digest: end.digest,
    }
}

/// The state of a store in which nothing is proven durable: that before the first group of its first segment.
fn begun(disk: &dyn Disk, manifest: &Manifest) -> Result<Tip> {
    let header = proof::header_of(disk, SegmentFile::holding(manifest, 1));
    header
        .map(|(header, _)| Tip::before(&header))
        .map_err(|error| {
            StoreError::not_found(format!(
                "nothing in {} is durable yet; append to it first",
                disk.describe()
            ))
            .with_source(error)
        })
}

fn parts_of(layers: &Layers, tip: &Tip) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for layer in &layers.all {
        let (first, before) = (layer.first_position(), *layer.digest_before());
        if let Some(part) = parts.last_mut() {
            if part.file.number == layer.segment().number() {
                continue;
            }
            (part.last, part.digest) = (first - 1, before);
        }
        parts.push(Part {
            file: layer.segment().place(),
            first,
            digest_before: before,
            last: tip.position,
            digest: tip.digest,
            // Where a copy ends it goes on, whatever follows here.
            is_sealed: layer.is_sealed() && layer.segment().number() < tip.mark.segment,
        });
    }
    // A segment without an event has no layer in a store that is open only for reading.
    if parts
        .last()
        .is_none_or(|part| part.file.number < tip.mark.segment)
    {
        parts.push(Part {
            file: SegmentFile::original(tip.mark.segment),
            first: tip.position + 1,
            digest_before: tip.digest,
            last: tip.position,
            digest: tip.digest,
            is_sealed: false,
        });
    }
    parts
}
