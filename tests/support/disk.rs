//! The disk under a test: in memory, or real files with `QUIPU_TEST_DISK=files`, so that one suite is run over both.

use quipu::io::{
    Access, Disk, DiskFile, DiskLock, Entry, LockError, MemoryDisk, RealDisk, Sharing, Watch,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A fresh disk; a clone is the same disk, as after a reopening. Its files go away with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct TestDisk {
    disk: Arc<dyn Disk>,
    _folder: Option<Arc<tempfile::TempDir>>,
}

impl TestDisk {
    pub(crate) fn new() -> Self {
        if std::env::var("QUIPU_TEST_DISK").is_ok_and(|kind| kind == "files") {
            return Self::in_files();
        }
        Self {
            disk: Arc::new(MemoryDisk::new()),
            _folder: None,
        }
    }

    /// Real files, where a map of what was cut kills the process.
    pub(crate) fn in_files() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            disk: Arc::new(RealDisk::new(folder.path().join("store"))),
            _folder: Some(Arc::new(folder)),
        }
    }
}

impl Disk for TestDisk {
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
        self.disk.create_dir(dir)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn preallocates(&self) -> bool {
        self.disk.preallocates()
    }

    fn watch(&self, name: &str) -> Box<dyn Watch> {
        self.disk.watch(name)
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        self.disk.path_of(name)
    }

    fn share(&self, name: &str, from: &Path, sharing: Sharing) -> io::Result<()> {
        self.disk.share(name, from, sharing)
    }
}
