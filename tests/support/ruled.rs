//! A disk that asks a rule before each call, so that a test can refuse it, count it or hold it up.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use quipu::io::{Access, Disk, DiskFile, DiskLock, Entry, LockError, Map, Sharing, Watch};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the store is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Prepare,
    Lock,
    List,
    CreateDir,
    Create,
    Open,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    Sync,
    SetLen,
    Map,
    Share,
}

impl Op {
    /// Whether it may change what the disk holds.
    pub(crate) fn changes(self) -> bool {
        !matches!(
            self,
            Self::Prepare | Self::Lock | Self::List | Self::Open | Self::Read | Self::Map
        )
    }
}

/// One call: what, on which name, and up to which byte of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) op: Op,
    pub(crate) name: &'a str,
    pub(crate) end: u64,
}

/// The rule: an error is what the store gets instead of the call.
pub(crate) type Rule = Arc<dyn Fn(Call<'_>) -> io::Result<()> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Ruled {
    inner: Arc<dyn Disk>,
    rule: Rule,
}

impl Ruled {
    pub(crate) fn new(
        inner: impl Disk + 'static,
        rule: impl Fn(Call<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(inner),
            rule: Arc::new(rule),
        }
    }

    fn ask(&self, op: Op, name: &str) -> io::Result<()> {
        (self.rule)(Call { op, name, end: 0 })
    }
}

impl std::fmt::Debug for Ruled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ruled").finish_non_exhaustive()
    }
}

impl Disk for Ruled {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn prepare(&self) -> io::Result<()> {
        self.ask(Op::Prepare, "")?;
        self.inner.prepare()
    }

    fn lock(&self, owner: u32) -> Result<Box<dyn DiskLock>, LockError> {
        self.ask(Op::Lock, "lock")?;
        self.inner.lock(owner)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.ask(Op::List, dir)?;
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.ask(Op::CreateDir, dir)?;
        self.inner.create_dir(dir)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let op = match access {
            Access::CreateNew => Op::Create,
            _ => Op::Open,
        };
        self.ask(op, name)?;
        let inner = self.inner.open(name, access)?;
        Ok(Arc::new(RuledFile {
            inner,
            name: name.to_owned(),
            rule: Arc::clone(&self.rule),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.ask(Op::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(Op::Remove, name)?;
        self.inner.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.ask(Op::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn preallocates(&self) -> bool {
        self.inner.preallocates()
    }

    fn watch(&self, name: &str) -> Box<dyn Watch> {
        self.inner.watch(name)
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        self.inner.path_of(name)
    }

    fn share(&self, name: &str, from: &Path, sharing: Sharing) -> io::Result<()> {
        self.ask(Op::Share, name)?;
        self.inner.share(name, from, sharing)
    }
}

struct RuledFile {
    inner: Arc<dyn DiskFile>,
    name: String,
    rule: Rule,
}

impl RuledFile {
    fn ask(&self, op: Op, end: u64) -> io::Result<()> {
        (self.rule)(Call {
            op,
            name: &self.name,
            end,
        })
    }
}

impl std::fmt::Debug for RuledFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RuledFile").field(&self.name).finish()
    }
}

impl DiskFile for RuledFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.ask(Op::Read, offset + buffer.len() as u64)?;
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.ask(Op::Write, offset + bytes.len() as u64)?;
        self.inner.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ask(Op::Sync, 0)?;
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.ask(Op::Sync, 0)?;
        self.inner.sync_all()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.ask(Op::SetLen, bytes)?;
        self.inner.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn map(&self, len: u64) -> io::Result<Map> {
        self.ask(Op::Map, len)?;
        self.inner.map(len)
    }
}

/// A gate that a rule passes: while it is shut, whoever comes waits, and the test can wait for that.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    waiting: usize,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.state.lock().unwrap().shut = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().shut = false;
        self.changed.notify_all();
    }

    /// Opens the gate when it is dropped, so that a test that fails does not hang in closing its store.
    pub(crate) fn opener(self: &Arc<Self>) -> Opener {
        Opener(Arc::clone(self))
    }

    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |s| s.shut).unwrap();
        state.waiting -= 1;
    }

    /// Returns once somebody waits before the gate; fails when nobody comes.
    pub(crate) fn wait_for_someone(&self) {
        let state = self.state.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(state, PATIENCE, |s| s.waiting == 0);
        assert!(!waited.unwrap().1.timed_out(), "nobody came to the gate");
    }
}

#[derive(Debug)]
pub(crate) struct Opener(Arc<Gate>);

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.open();
    }
}
