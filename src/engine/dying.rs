//! A disk for tests that changes nothing any more from some call on, or never takes calls of one sort.
//!
//! Any thread may call; all of them count.

use std::io;

use crate::io::{Access, Disk, DiskFile, DiskLock, Entry, LockError, Map, MemoryDisk};
use crate::sync::{Arc, Mutex};

/// The directory as those see it who may still read.
#[derive(Clone, Debug)]
pub(crate) struct Dying {
    disk: MemoryDisk,
    fate: Arc<Mutex<Fate>>,
}

#[derive(Debug)]
struct Fate {
    calls_left: Option<usize>,
    failing: &'static str,
    is_dead: bool,
}

impl Dying {
    pub(crate) fn new(disk: &MemoryDisk) -> Self {
        let fate = Fate {
            calls_left: None,
            failing: "",
            is_dead: false,
        };
        Self {
            disk: disk.clone(),
            fate: Arc::new(Mutex::new(fate)),
        }
    }

    /// After so many more calls that change something, nothing changes any more.
    pub(crate) fn dies_after(&self, calls: usize) {
        self.fate.lock().calls_left = Some(calls);
    }

    /// Calls of this name fail.
    pub(crate) fn fails_at(&self, call: &'static str) {
        self.fate.lock().failing = call;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.fate.lock().is_dead
    }

    fn change(&self, call: &str) -> io::Result<()> {
        let mut fate = self.fate.lock();
        fate.is_dead |= fate.calls_left == Some(0);
        if fate.is_dead || fate.failing == call {
            return Err(io::Error::other("the disk is dead"));
        }
        fate.calls_left = fate.calls_left.map(|left| left - 1);
        Ok(())
    }
}

impl Disk for Dying {
    fn describe(&self) -> String {
        self.disk.describe()
    }
    fn prepare(&self) -> io::Result<()> {
        self.disk.prepare()
    }
    fn lock(&self, owner: u32) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.lock(owner)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.change("create_dir")?;
        self.disk.create_dir(dir)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if access == Access::CreateNew {
            self.change("open")?;
        }
        let (file, dying) = (self.disk.open(name, access)?, self.clone());
        Ok(Arc::new(File { file, dying }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change("rename")?;
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change("remove")?;
        self.disk.remove(name)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.change("sync_dir")?;
        self.disk.sync_dir(dir)
    }
    fn preallocates(&self) -> bool {
        self.disk.preallocates()
    }
}

#[derive(Debug)]
struct File {
    file: Arc<dyn DiskFile>,
    dying: Dying,
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.dying.change("write_at")?;
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.dying.change("sync")?;
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.dying.change("sync")?;
        self.file.sync_all()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.dying.change("set_len")?;
        self.file.set_len(bytes)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn map(&self, len: u64) -> io::Result<Map> {
        self.file.map(len)
    }
}
