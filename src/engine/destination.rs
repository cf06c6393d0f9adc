//! Where a copy of a store goes: a directory of its own, in which nothing counts before its manifest says so.
//!
//! While a copy is made, a manifest that is not in force yet (`manifest.part`) says of what. A segment file has its own
//! name once it was copied and proven, so that an interrupted copy goes on where it stopped; only the one in which an
//! earlier snapshot ends grows in its place. Runs on the thread that copies, under the directory's lock.

use crate::engine::chain;
use crate::engine::open::{self, LockFor};
use crate::error::{Result, StoreError};
use crate::format::manifest::{Manifest, SnapshotEnd};
use crate::io::{Disk, DiskLock, remove_if_there};
use crate::log::apply;
use crate::log::files::{
    CHECKPOINT, HINT, LOCK, MANIFEST, SEGMENTS, SegmentFile, UNFINISHED, decode_error,
    read_manifest, read_small, write_manifest, write_manifest_as,
};
use crate::log::lengths::Lengths;
use crate::log::look;
use crate::log::plan;
use crate::sync::Arc;

/// A directory that holds a copy, a part of one, or nothing.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) disk: Arc<dyn Disk>,
    /// The manifest in force.
    pub(crate) manifest: Option<Manifest>,
    /// The one that an interrupted copy was to have.
    pub(crate) unfinished: Option<Manifest>,
    lengths: Lengths,
    _lock: Box<dyn DiskLock>,
}

impl Destination {
    /// Takes the directory's lock and looks at what is there; `check` may refuse that before anything is touched.
    ///
    /// # Errors
    /// `Locked` while another copy is made there or a store is open for writing, `Argument` when it is something else.
    pub(crate) fn enter(
        disk: Arc<dyn Disk>,
        check: impl Fn(Option<&Manifest>) -> Result<()>,
    ) -> Result<Self> {
        let place = disk.describe();
        Self::look(disk, check).map_err(|error| error.in_place(&place))
    }

    fn look(disk: Arc<dyn Disk>, check: impl Fn(Option<&Manifest>) -> Result<()>) -> Result<Self> {
        open::make_directory(&*disk)?;
        refuse_strangers(&*disk)?;
        check(read_manifest(&*disk)?.as_ref())?;
        let lock = open::take_lock(&*disk, LockFor::Copying)?;
        let manifest = read_manifest(&*disk)?;
        check(manifest.as_ref())?;
        let unfinished = read_unfinished(&*disk)?;
        let lengths = Lengths::list(&*disk)?;
        if let (None, None, Some(name)) = (&manifest, &unfinished, lengths.names().next()) {
            return Err(StoreError::argument(format!(
                "{} holds {name} and no {MANIFEST}; name an empty directory",
                disk.describe()
            )));
        }
        Ok(Self {
            disk,
            manifest,
            unfinished,
            lengths,
            _lock: lock,
        })
    }

    /// Where the earlier snapshot ends: as its manifest says, or where its log does if it was opened for writing and closed.
    pub(crate) fn end(&self) -> Result<Option<SnapshotEnd>> {
        let Some(manifest) = &self.manifest else {
            return Ok(None);
        };
        if manifest.end.is_some() {
            return Ok(manifest.end);
        }
        let Some((closed, _)) = chain::read_checkpoint(&*self.disk, &manifest.store_id)? else {
            return Ok(None);
        };
        let end = plan::proven(None, Some(&closed));
        // Closing cuts the last file and takes the next one away; whatever a writer did since has made it longer.
        let last = SegmentFile::original(end.segment);
        let is_closed = self.lengths.newest_segment() == Some(last);
        let is_closed = is_closed && self.bytes_of(last) == Some(end.offset);
        Ok(is_closed.then_some(SnapshotEnd {
            segment: end.segment,
            offset: end.offset,
            position: closed.last_position,
            sequence: closed.last_group_sequence,
            recorded_at: closed.last_recorded,
            digest: closed.digest,
            checksum: closed.last_group_checksum,
        }))
    }

    /// Makes a snapshot again of a store that was opened for writing and closed, by giving it an end.
    pub(crate) fn put_end(&mut self, end: SnapshotEnd) -> Result<()> {
        let Some(manifest) = self.manifest.as_mut().filter(|m| m.end.is_none()) else {
            return Ok(());
        };
        manifest.generation += 1;
        manifest.end = Some(end);
        write_manifest(&*self.disk, manifest)
    }

    /// Says what is being copied. What an interrupted copy of something else left is taken away before.
    pub(crate) fn begin(&mut self, target: &Manifest, left: Left) -> Result<()> {
        let fail = |e| failed(&*self.disk, e);
        self.disk
            .create_dir(SEGMENTS)
            .and_then(|()| self.disk.sync_dir(""))
            .map_err(fail)?;
        // What a writer left tells of a log without an end.
        for name in [CHECKPOINT, HINT] {
            remove_if_there(&*self.disk, name).map_err(fail)?;
        }
        if left == Left::IsAnother {
            let named = |file| (self.manifest.as_ref()).is_some_and(|m| look::is_named(m, file));
            apply::remove_segments(&*self.disk, |file| !named(file))?;
            self.lengths = Lengths::list(&*self.disk)?;
        }
        write_manifest_as(&*self.disk, UNFINISHED, target)
    }

    /// The length of a segment file that is there under its own name.
    pub(crate) fn bytes_of(&self, file: SegmentFile) -> Option<u64> {
        self.lengths.of_segment(file)
    }

    /// Whether a segment file belongs to the earlier snapshot, which does not end in it.
    pub(crate) fn has_whole(&self, file: SegmentFile) -> bool {
        let ends_later = |manifest: &Manifest| {
            let end = manifest.end.map_or(0, |end| end.segment);
            look::is_named(manifest, file) && file.number < end
        };
        self.manifest.as_ref().is_some_and(ends_later)
    }

    /// Puts the manifest in force, once every file that it names is durable, and removes what it does not name.
    pub(crate) fn finish(&self, target: &Manifest) -> Result<()> {
        let fail = |e| failed(&*self.disk, e);
        self.disk.sync_dir(SEGMENTS).map_err(fail)?;
        write_manifest(&*self.disk, target)?;
        apply::remove_segments(&*self.disk, |file| !look::is_named(target, file))?;
        open::remove_unfinished(&*self.disk)
    }
}

/// What an interrupted copy left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Files of the same history, or nothing.
    IsUsable,
    /// Files of another history.
    IsAnother,
}

fn failed(disk: &dyn Disk, error: std::io::Error) -> StoreError {
    StoreError::io(format_args!("copying at {}", disk.describe()), error)
}

fn read_unfinished(disk: &dyn Disk) -> Result<Option<Manifest>> {
    let bytes = read_small(disk, UNFINISHED)?;
    let manifest = bytes.map(|bytes| Manifest::decode(&bytes)).transpose();
    manifest.map_err(|e| decode_error(UNFINISHED, 0, &e))
}

/// Refuses a directory that is neither a copy nor the beginning of one.
fn refuse_strangers(disk: &dyn Disk) -> Result<()> {
    let entries = disk.list("").map_err(|e| failed(disk, e))?;
    if entries.iter().any(|entry| entry.name == MANIFEST) {
        return Ok(());
    }
    let ours = |name: &str| [LOCK, SEGMENTS, UNFINISHED].contains(&name) || name.ends_with(".tmp");
    match entries.iter().find(|entry| !ours(&entry.name)) {
        None => Ok(()),
        Some(stranger) => Err(StoreError::argument(format!(
            "{} holds {:?} and no {MANIFEST}; name an empty directory, or one that does not exist yet",
            disk.describe(),
            stranger.name
        ))),
    }
}
