//! A store whose disk is held up on demand, so that a test decides which submissions share a group and when it ends.

use super::disk::TestDisk;
use super::ruled::{Call, Gate, Op, Ruled};
use super::script;
use quipu::io::Disk;
use quipu::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const FIRST_SEGMENT: &str = "segments/0000000001.seg";
const EIO: i32 = 5;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store on a disk with a gate before the writes and one before the syncs of the first segment.
pub(crate) struct Held {
    pub(crate) store: Store,
    pub(crate) writes: Arc<Gate>,
    pub(crate) syncs: Arc<Gate>,
    failing: Arc<AtomicBool>,
}

impl Held {
    pub(crate) fn new() -> Self {
        Self::on(TestDisk::new())
    }

    pub(crate) fn on(disk: impl Disk + 'static) -> Self {
        Self::opened(disk, |config| config)
    }

    /// In memory, with some settings of the test's.
    pub(crate) fn with(set: impl FnOnce(StoreConfig) -> StoreConfig) -> Self {
        Self::opened(TestDisk::new(), set)
    }

    fn opened(disk: impl Disk + 'static, set: impl FnOnce(StoreConfig) -> StoreConfig) -> Self {
        let (writes, syncs) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let failing = Arc::new(AtomicBool::new(false));
        let (at_write, at_sync) = (Arc::clone(&writes), Arc::clone(&syncs));
        let fails = Arc::clone(&failing);
        let rule = move |call: Call<'_>| {
            match call.op {
                _ if call.name != FIRST_SEGMENT => {}
                Op::Write => at_write.pass(),
                Op::Sync => {
                    at_sync.pass();
                    if fails.load(SeqCst) {
                        return Err(io::Error::from_raw_os_error(EIO));
                    }
                }
                _ => {}
            }
            Ok(())
        };
        let config = set(script::config(Ruled::new(disk, rule)));
        let store = Store::open_with(config).unwrap();
        Self {
            store,
            writes,
            syncs,
            failing,
        }
    }

    /// From now on each sync of the first segment fails.
    pub(crate) fn fail_syncs(&self) {
        self.failing.store(true, SeqCst);
    }

    /// Everything that `submit` queues is decided in one group, behind one buffered event of the entity `filler`.
    pub(crate) fn in_one_group<T>(&self, submit: impl FnOnce(&Store) -> T) -> T {
        self.writes.shut();
        let filler = Coordinate::new("filler", "held").unwrap();
        let buffered = AppendOptions::new().durability(Durability::Buffered);
        let first = self.store.submit(&filler, script::KIND, &0, buffered);
        self.writes.wait_for_someone();
        let submitted = submit(&self.store);
        self.writes.open();
        let opened = first.unwrap().wait_timeout(PATIENCE);
        opened.expect("a buffered event waits for no sync").unwrap();
        submitted
    }
}

/// A test that failed leaves nobody waiting: the store could not close.
impl Drop for Held {
    fn drop(&mut self) {
        self.writes.open();
        self.syncs.open();
    }
}
