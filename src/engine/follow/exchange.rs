//! A reader takes in that files were replaced: it reads the manifest again and exchanges the layers of the ranges.
//!
//! Views that it handed out keep the old layers, whose files it has mapped. What cannot be exchanged range by range, it
//! reads anew as it does when it is opened. Whoever owns the follower calls.

use super::{Follower, put_sealed};
use crate::engine::chain;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::SealedEntry;
use crate::format::manifest::{Manifest, Replaced};
use crate::index::layer::Layer;
use crate::log::files::{SegmentFile, read_manifest};
use crate::sync::Arc;

/// How often a refresh begins again because files were replaced under it.
const MAX_REFRESH_ATTEMPTS: u32 = 16;

impl Follower {
    /// Goes on as far as the log is durable now; a file that was replaced meanwhile is no error.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        for _ in 1..MAX_REFRESH_ATTEMPTS {
            let Err(error) = self.look() else {
                return Ok(());
            };
            if self.manifest_now()? == self.manifest {
                return Err(error);
            }
            tracing::debug!(%error, "files were replaced while they were read; they are read again");
            if let Err(error) = self.adopt_manifest() {
                tracing::debug!(%error, "the replaced files were not taken in");
            }
        }
        self.look()
    }

    /// Enters the next segment once more where files were replaced meanwhile, and keeps what was read before them: who
    /// began again would meet a compaction that goes ahead of it each time.
    pub(super) fn enter_replaced(
        &mut self,
        mut error: StoreError,
        entries: &[SealedEntry],
    ) -> Result<()> {
        for _ in 1..MAX_REFRESH_ATTEMPTS {
            let manifest = self.manifest_now()?;
            if manifest == self.manifest || !self.exchange(&manifest).unwrap_or_default() {
                break;
            }
            self.is_exchanged = true;
            tracing::debug!(%error, "a file was replaced before it was read; its replacement is read");
            match self.enter_next(entries) {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    fn manifest_now(&self) -> Result<Manifest> {
        match read_manifest(&*self.disk)? {
            Some(manifest) if manifest.store_id == self.manifest.store_id => Ok(manifest),
            _ => Err(StoreError::not_found(format!(
                "the store that was read in {} is not there any more; open what is there now",
                self.disk.describe()
            ))),
        }
    }

    /// Reads the manifest again and takes in what it changed.
    pub(super) fn adopt_manifest(&mut self) -> Result<()> {
        let manifest = self.manifest_now()?;
        if manifest == self.manifest {
            return Ok(());
        }
        match self.exchange(&manifest) {
            Ok(true) => {}
            Ok(false) => self.read_anew()?,
            Err(error) => {
                tracing::debug!(%error, "a replacement cannot be taken in alone");
                self.read_anew()?;
            }
        }
        self.is_exchanged = true;
        Ok(())
    }

    /// Reads everything again, and no less far than before.
    fn read_anew(&mut self) -> Result<()> {
        let mut anew = Self::read(&self.disk)?;
        if anew.manifest.end.is_none() {
            anew.advance(self.tip.mark, &[])?;
        }
        *self = anew;
        Ok(())
    }

    /// Puts replacements in the place of what they replace, and looks at none of which nothing was read; says no, and
    /// changes nothing, if that is not all that is new, or if what was read ends inside of one.
    fn exchange(&mut self, manifest: &Manifest) -> Result<bool> {
        let unchanged = Manifest {
            generation: manifest.generation,
            replaced: manifest.replaced.clone(),
            ..self.manifest.clone()
        };
        let is_read = |range: &Replaced| range.first <= self.tip.mark.segment;
        let known = |range: &Replaced| self.manifest.replaced.contains(range);
        let new = manifest.replaced.iter();
        let new: Vec<_> = new.filter(|r| is_read(r) && !known(r)).collect();
        let in_memory = |range: &Replaced| {
            let mut unsealed = self.unsealed.iter();
            range.last >= self.tip.mark.segment || unsealed.any(|(h, _)| range.contains(h.number))
        };
        let still_there = |range: &Replaced| manifest.range_of(range.first).is_some();
        if unchanged != *manifest
            || new.iter().any(|range| in_memory(range))
            || !self.manifest.replaced.iter().all(still_there)
        {
            return Ok(false);
        }
        let mut opened = Vec::with_capacity(new.len());
        for range in new {
            let Some(layer) = self.open_replacement(manifest, range)? else {
                return Ok(false);
            };
            opened.push(layer);
        }
        for (entry, layer) in opened {
            self.put_replacement(entry, layer);
        }
        self.manifest = manifest.clone();
        self.renew_runs();
        Ok(true)
    }

    /// A replacement and its layer; `None` if it does not hold what its range holds, or has no usable footer.
    fn open_replacement(
        &self,
        manifest: &Manifest,
        range: &Replaced,
    ) -> Result<Option<(SealedEntry, Layer)>> {
        let listed = self.find(SegmentFile::from(range))?;
        let header = chain::header_of(&*self.disk, listed, manifest)?;
        let behind = SegmentFile::holding(manifest, range.last + 1);
        let next = chain::header_of(&*self.disk, self.find(behind)?, manifest)?;
        chain::check_reach(manifest, &header, next.first_position - 1)?;
        let Some(entry) = chain::find_entry(&self.disk, listed, &header, &next, &[])? else {
            return Ok(None);
        };
        let mut layers = self.layers.iter();
        let Some(first) = layers.find(|layer| layer.segment().place().first == range.first) else {
            return Ok(None);
        };
        let begins = (first.first_position(), first.digest_before());
        if begins != (header.first_position, &header.digest_before) {
            return Ok(None);
        }
        let layer = chain::layer_of(&self.disk, &entry, header.digest_before);
        layer.segment().map()?;
        Ok(Some((entry, layer)))
    }

    fn put_replacement(&mut self, entry: SealedEntry, layer: Layer) {
        put_sealed(&mut self.layers, Arc::new(layer));
        let from = self.sealed.partition_point(|e| e.number < entry.first);
        let to = self.sealed.partition_point(|e| e.number <= entry.number);
        let before: u64 = self.sealed.drain(from..to).map(|e| e.log_end).sum();
        self.full_bytes = self.full_bytes + entry.log_end - before;
        self.sealed.insert(from, entry);
    }
}
