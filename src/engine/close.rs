//! Closes a store: no new work, the queue to its end, threads joined, checkpoint written, lock released.
//!
//! Runs on the thread that calls `close` or drops the last handle.

use crate::engine::shared::{Engine, poisoned};
use crate::engine::threads;
use crate::engine::turn::{Writer, take_turn, tell};
use crate::engine::upkeep::Job;
use crate::error::{Result, StoreError};
use crate::format::checkpoint::Checkpoint;
use crate::format::hint::Shutdown;
use crate::io::replace;
use crate::log::files::{CHECKPOINT, SEGMENTS, SegmentFile, segment_name};
use crate::log::scan::GROUPS_START;
use crate::log::seal;
use crate::sync::atomic::Ordering;

impl Engine {
    /// Closes for all handles; the second call finds it closed.
    pub(crate) fn close(&self) -> Result<()> {
        if self.front.check_process().is_err() {
            return Ok(());
        }
        {
            let mut open = self.open.write();
            if !*open {
                return Err(StoreError::closed());
            }
            *open = false;
        }
        self.drain();
        self.front.close()?;
        self.stop_threads();
        let mut writer = self.turn.lock();
        let result = match self.fault.get() {
            Some(why) => Err(poisoned(why)),
            None => self.finish(&mut writer),
        };
        drop(self.lock.lock().take());
        tracing::info!(
            place = self.disk.describe(),
            clean = result.is_ok(),
            "the store is closed"
        );
        result
    }

    /// Commits what was queued before the gate closed, then syncs.
    fn drain(&self) {
        loop {
            let mut writer = self.turn.lock();
            let waiting = take_turn(self, &mut writer);
            let done = writer.held_back.is_none() && writer.incoming.is_empty();
            drop(writer);
            tell(waiting);
            if done {
                return;
            }
        }
    }

    /// Ends and joins the library's threads; one that asks for it itself, or waits for who does, is left to end alone.
    pub(crate) fn stop_threads(&self) {
        self.stopping.store(true, Ordering::Release);
        self.send(Job::Stop);
        self.wake_writer();
        let running: Vec<_> = self.threads.lock().drain(..).collect();
        for thread in running {
            if !threads::is_own(thread.thread()) && thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }

    /// Syncs, writes the checkpoint, cuts what was kept ready, and marks the hint clean.
    fn finish(&self, writer: &mut Writer) -> Result<()> {
        self.sync_now(writer)?;
        if let Some(spare) = self.spare.leftover() {
            let name = segment_name(spare.number);
            drop(spare);
            self.disk
                .remove(&name)
                .and_then(|()| self.disk.sync_dir(SEGMENTS))
                .map_err(|e| StoreError::io(format_args!("removing the unused {name}"), e))?;
        }
        let fail = |e| StoreError::io(format_args!("closing {}", self.disk.describe()), e);
        let tip = writer.tip;
        writer.active.file.set_len(tip.mark.offset).map_err(fail)?;
        writer.active.file.sync_all().map_err(fail)?;
        let index = match tip.mark.offset > GROUPS_START {
            true => {
                let file = SegmentFile::original(tip.mark.segment);
                seal::index_of(&*self.disk, &self.store_id, file, tip.position)?.1
            }
            false => Vec::new(),
        };
        let checkpoint = Checkpoint {
            store_id: self.store_id,
            active_segment: tip.mark.segment,
            active_end: tip.mark.offset,
            last_position: tip.position,
            last_group_sequence: tip.sequence,
            last_group_checksum: tip.checksum,
            last_recorded: tip.recorded_at,
            digest: tip.digest,
            sealed: self.sealed.lock().clone(),
        };
        replace(&*self.disk, CHECKPOINT, &checkpoint.encode(&index)).map_err(fail)?;
        writer
            .hint
            .write(&tip, Shutdown::Clean)
            .and_then(|()| writer.hint.sync())
            .map_err(fail)
    }
}
