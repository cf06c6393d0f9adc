//! A disk that is only read: what is written through it stays in memory, and hides what the disk below has by that name.
//!
//! A reader makes a damaged index again with it as the writer would, and leaves the directory as it is. What was made
//! goes with the reader. Any thread may use it.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile, DiskLock, Entry, LockError, parent};
use super::memory::MemoryDisk;
use super::watch::Watch;

/// A directory below, which no call changes, and files in memory above it.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Arc<dyn Disk>,
    above: MemoryDisk,
}

impl Overlay {
    pub(crate) fn new(below: Arc<dyn Disk>) -> Self {
        Self {
            below,
            above: MemoryDisk::new(),
        }
    }
}

impl Disk for Overlay {
    fn describe(&self) -> String {
        self.below.describe()
    }

    fn prepare(&self) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn lock(&self, _: u32) -> Result<Box<dyn DiskLock>, LockError> {
        Err(LockError::Io(ErrorKind::ReadOnlyFilesystem.into()))
    }

    /// What is below: nobody looks for the files in memory by listing.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.below.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.above.create_dir(dir)
    }

    /// A file below can be read and nothing else.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        if access == Access::CreateNew && !parent(name).is_empty() {
            self.above.create_dir(parent(name))?;
        }
        match self.above.open(name, access) {
            Err(error) if error.kind() == ErrorKind::NotFound && access == Access::Read => {
                self.below.open(name, access)
            }
            opened => opened,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.above.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.above.remove(name)
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn preallocates(&self) -> bool {
        false
    }

    fn watch(&self, name: &str) -> Box<dyn Watch> {
        self.below.watch(name)
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        self.below.path_of(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{read_exact_at, replace};

    fn read(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
        let file = disk.open(name, Access::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap()];
        read_exact_at(&*file, &mut bytes, 0).map(|()| bytes)
    }

    #[test]
    fn what_is_written_above_is_read_and_what_is_below_stays() {
        let below = MemoryDisk::new();
        below.create_dir("dir").unwrap();
        replace(&below, "dir/old", b"below").unwrap();
        let disk = Overlay::new(Arc::new(below.clone()));
        assert_eq!(read(&disk, "dir/old").unwrap(), b"below");
        replace(&disk, "dir/old", b"above").unwrap();
        replace(&disk, "dir/new", b"above").unwrap();
        for name in ["dir/old", "dir/new"] {
            assert_eq!(read(&disk, name).unwrap(), b"above");
        }
        assert_eq!(read(&below, "dir/old").unwrap(), b"below");
        let listed = below.list("dir").unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(disk.list("dir").unwrap(), listed);
    }

    #[test]
    fn what_is_below_cannot_be_locked_written_or_taken_away() {
        let below = MemoryDisk::new();
        replace(&below, "file", b"below").unwrap();
        let disk = Overlay::new(Arc::new(below.clone()));
        assert!(disk.lock(1).is_err());
        assert!(disk.prepare().is_err());
        let gone = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        };
        gone(disk.open("file", Access::Write).map(drop));
        gone(disk.remove("file"));
        gone(disk.rename("file", "other"));
        let file = disk.open("file", Access::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert_eq!(read(&below, "file").unwrap(), b"below");
    }
}
