//! What the handle, the writer and upkeep share: one structure, and how each part of it may be touched.

use std::thread::{JoinHandle, Thread};

use crate::engine::front::Front;
use crate::engine::group::Submission;
use crate::engine::meters::Meters;
use crate::engine::turn::Writer;
use crate::engine::upkeep::{Backlog, Job, SpareSlot};
use crate::error::{Result, StoreError};
use crate::event::digest::Digest;
use crate::event::id::EventId;
use crate::event::position::Position;
use crate::event::timestamp::Timestamp;
use crate::format::checkpoint::SealedEntry;
use crate::format::manifest::Manifest;
use crate::index::layer::Layer;
use crate::index::layers::Layers;
use crate::index::view::Head;
use crate::io::Disk;
use crate::log::scan::Tip;
use crate::log::segment::WriterLock;
use crate::options::StoreConfig;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, OnceLock, RwLock};

/// What readers see: replaced as a whole by the writer and by upkeep, copied by every view.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) head: Head,
    /// The last position known durable.
    pub(crate) durable: u64,
    /// The length of the log in all segments before the newest.
    pub(crate) full_bytes: u64,
    /// The end of the newest segment's log.
    pub(crate) end: u64,
    pub(crate) layers: Arc<Layers>,
}

impl Published {
    /// How many segment files there are.
    pub(crate) fn segments(&self) -> u64 {
        let number = |layer: &Arc<Layer>| layer.segment().number();
        let files = self.layers.all.chunk_by(|a, b| number(a) == number(b));
        files.count() as u64
    }

    /// The length of the log as far as it is used.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.full_bytes + self.end
    }
}

/// The engine of one open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: StoreConfig,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store_id: [u8; 16],
    /// The manifest in force; held while another is written, and never asked for by one who waits for the turn.
    pub(crate) manifest: Mutex<Manifest>,
    /// The highest number that a file or a manifest has taken; publishes nothing but itself.
    pub(crate) generations: AtomicU64,
    /// What readers share of it.
    pub(crate) front: Arc<Front>,
    pub(crate) queue: flume::Sender<Submission>,
    /// The writer's turn: whoever holds it is the writer.
    pub(crate) turn: Mutex<Writer>,
    /// Closed under the write lock, so that nothing enters the queue after the last drain.
    pub(crate) open: RwLock<bool>,
    /// Why the writer refuses, once it does.
    pub(crate) fault: OnceLock<String>,
    /// How many callers wait for an append; one alone takes the writer's turn itself.
    pub(crate) callers: AtomicUsize,
    /// Publishes to the writer's thread that written bytes wait for a sync.
    pub(crate) unsynced: AtomicBool,
    /// Publishes to the writer's thread that the hint was written since it was last synced.
    pub(crate) hint_unsynced: AtomicBool,
    /// Publishes to the library's threads that nothing more will be queued: they end.
    pub(crate) stopping: AtomicBool,
    pub(crate) writer_thread: OnceLock<Thread>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether a compaction is under way; publishes nothing else.
    pub(crate) compacting: AtomicBool,
    pub(crate) jobs: flume::Sender<Job>,
    pub(crate) spare: SpareSlot,
    /// What the checkpoint will say of the sealed segments, in order.
    pub(crate) sealed: Mutex<Vec<SealedEntry>>,
    pub(crate) backlog: Backlog,
    pub(crate) lock: WriterLock,
    pub(crate) meters: Meters,
}

impl Engine {
    /// Shows readers a log that was just loaded.
    pub(crate) fn show_loaded(&self, published: Published) {
        *self.front.published.write() = published;
        self.front.ring();
        self.unsynced.store(false, Ordering::Release);
    }

    /// Whether calls that write may be made.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.front.check_process()?;
        if self.stopping.load(Ordering::Acquire) {
            return Err(StoreError::closed());
        }
        Ok(())
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        match self.fault.get() {
            None => Ok(()),
            Some(why) => Err(poisoned(why)),
        }
    }

    pub(crate) fn wake_writer(&self) {
        if let Some(thread) = self.writer_thread.get() {
            thread.unpark();
        }
    }
}

/// What readers see when `tip` is the end.
pub(crate) fn head_of(tip: &Tip) -> Head {
    Head {
        position: Position::new(tip.position),
        digest: Digest::from_bytes(tip.digest),
        recorded_at: Timestamp::from_nanos(tip.recorded_at),
    }
}

pub(crate) fn poisoned(why: &str) -> StoreError {
    StoreError::poisoned(format!(
        "the writer stopped: {why}; close the store and open it again"
    ))
}

/// Makes version 7 ids: the clock's milliseconds and 74 bits that are random at the start and never repeat.
#[derive(Debug)]
pub(crate) struct IdSource {
    seed: u128,
    count: AtomicU64,
}

impl IdSource {
    pub(crate) fn new(entropy: [u8; 16]) -> Self {
        Self {
            seed: u128::from_le_bytes(entropy),
            count: AtomicU64::new(0),
        }
    }

    pub(crate) fn next(&self, now: u64) -> EventId {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let low = mix(u64_of(self.seed) ^ count);
        let high = mix(u64_of(self.seed >> 64).wrapping_add(count).rotate_left(32));
        EventId::v7(now / 1_000_000, u128::from(high) << 64 | u128::from(low))
    }
}

fn u64_of(bits: u128) -> u64 {
    u64::try_from(bits & u128::from(u64::MAX)).expect("64 bits were kept")
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014): a bijection, so that counts stay distinct.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_of_one_moment_are_all_different() {
        let ids = IdSource::new([7; 16]);
        let made: HashSet<EventId> = (0..100_000).map(|_| ids.next(1_000_000)).collect();
        assert_eq!(made.len(), 100_000);
    }
}
