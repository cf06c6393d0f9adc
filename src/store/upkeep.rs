//! The part of the public API that keeps a store healthy: each method a sentence and one call.

use std::path::Path;

use crate::engine::compact::{self, CompactionJob};
use crate::engine::compact_config::CompactionConfig;
use crate::engine::compact_plan::CompactionPlan;
use crate::engine::snapshot::{SnapshotOptions, SnapshotReport, snapshot};
use crate::error::Result;
use crate::event::receipt::Receipt;
use crate::io::{Disk, RealDisk};
use crate::lineage::verification::Verification;
use crate::lineage::verify::{self, VerifyOptions};
use crate::store::Store;
use crate::sync::Arc;

impl Store {
    /// Ends the stream of an entity for good with an event of kind `quipu.tombstone`, in the scope of its newest event.
    ///
    /// Later appends to the entity are a `Conflict` that names the tombstone; retries by idempotency key still get their
    /// receipts. No retention removes the tombstone; what stands before it goes with a retention that says so. An entity
    /// that has a tombstone keeps it: its first receipt is returned.
    ///
    /// ```
    /// use quipu::prelude::*;
    ///
    /// # fn main() -> quipu::Result<()> {
    /// let store = Store::in_memory()?;
    /// let user = Coordinate::new("user:7", "shop")?;
    /// store.append(&user, EventKind::literal("user.joined"), &())?;
    /// let last = store.tombstone("user:7")?;
    /// let refused = store.append(&user, EventKind::literal("user.joined"), &()).unwrap_err();
    /// assert_eq!(refused.in_the_way(), [last.position().get()]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` for an entity without events; otherwise as [`Store::append`].
    pub fn tombstone(&self, entity: &str) -> Result<Receipt> {
        self.engine()?.tombstone(entity)
    }

    /// Reads everything that the store shows at this moment and proves it: checksums, chain, hashes, links, indexes.
    ///
    /// It changes nothing, never holds up the writer, and goes on behind damage; open only for reading it does the same.
    /// `docs/backup.md` says what to do with damage.
    ///
    /// # Errors
    /// `Io` when something cannot be read; `Unsupported` for a newer format; `Closed`. Damage is no error of the call.
    pub fn verify(&self) -> Result<Verification> {
        self.verify_with(VerifyOptions::new())
    }

    /// Verifies as [`Store::verify`] does, and tells how far it is.
    ///
    /// # Errors
    /// As [`Store::verify`], and `Cancelled` when the callback wants no more.
    pub fn verify_with(&self, options: VerifyOptions) -> Result<Verification> {
        self.front().check_open()?;
        verify::verify(self.front(), options)
    }

    /// Copies the store as it is at this moment to a directory, while writing goes on; see `docs/backup.md`.
    ///
    /// An empty directory gets all of it, an earlier snapshot of this store only what is new. What was copied is read
    /// again and proven. The directory opens as a store; until the snapshot is whole it is what it was before. Open only
    /// for reading it copies what is durable.
    ///
    /// # Errors
    /// `Argument` for a directory that holds something else, or inside the store's; `Locked` while it is used; `Corrupt`, naming the file, when
    /// this store is damaged; `Poisoned`; `Closed`; `Io` as the operating system says.
    pub fn snapshot(&self, dest: impl AsRef<Path>) -> Result<SnapshotReport> {
        self.snapshot_with(dest, SnapshotOptions::new())
    }

    /// Copies the store to a directory, as the options say.
    ///
    /// # Errors
    /// As [`Store::snapshot`], and `Cancelled` when the options' callback wants it so.
    pub fn snapshot_with(
        &self,
        dest: impl AsRef<Path>,
        options: SnapshotOptions,
    ) -> Result<SnapshotReport> {
        self.snapshot_on_disk(Arc::new(RealDisk::new(dest)), options)
    }

    /// Copies the store to a disk of the caller's, such as one that injects faults.
    ///
    /// # Errors
    /// As [`Store::snapshot_with`].
    pub fn snapshot_on_disk(
        &self,
        dest: Arc<dyn Disk>,
        options: SnapshotOptions,
    ) -> Result<SnapshotReport> {
        snapshot(self.front(), self.door.engine.as_deref(), &dest, options)
    }

    /// What [`Store::compact`] would do now, in figures: a dry run, on the caller's thread.
    ///
    /// # Errors
    /// `Argument` for an invalid setting; `Corrupt` when an event on the way is damaged; what the predicate returned;
    /// `ReadOnly`; `Closed`.
    pub fn plan_compaction(&self, config: &CompactionConfig) -> Result<CompactionPlan> {
        self.engine()?.plan_compaction(config)
    }

    /// Merges small sealed segments and removes what retention lets go, on a thread of its own, while the store goes on.
    ///
    /// The newest segment, which grows, is never touched: what stands in it goes with a later compaction, once it is full.
    /// Views and cursors that are held go on with what they see; a file that was replaced is removed with the last of
    /// them, and after a close by the next opening for writing. `docs/compaction.md` has the rest.
    /// Of a removed event a stub stays: `get` and `at` say that it was removed, queries, cursors and subscriptions pass
    /// over it, its idempotency key still returns its receipt, and its revision still counts.
    ///
    /// # Errors
    /// `Argument` for an invalid setting; `Busy` while another compaction is under way; `ReadOnly`; `Poisoned`; `Closed`;
    /// `Io` when no thread can be started. The rest through the job.
    pub fn compact(&self, config: CompactionConfig) -> Result<CompactionJob> {
        compact::start(self.shared_engine()?, config)
    }
}
