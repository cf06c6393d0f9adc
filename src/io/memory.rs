//! A disk in memory: for stores that need not outlive the process, and for tests.
//!
//! Bytes below a file's length are the file; those above, in its region, are always zeros. A file that
//! outgrows its region moves to a larger one; maps of the older ones stay, and get every later write too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::disk::{
    Access, Disk, DiskFile, DiskLock, Entry, LockError, check_name, not_a_directory,
    not_a_regular_file, parent,
};
use super::map::{Map, Region};

/// The smallest region of a file.
const MIN_REGION_BYTES: u64 = 4096;
/// How much is copied or cleared at a time.
const BLOCK_BYTES: usize = 4096;

/// A directory in memory. A clone is the same directory, so that a store can be opened on it again.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    dirs: BTreeSet<String>,
    files: BTreeMap<String, Arc<MemoryFile>>,
    owner: Option<u32>,
}

impl MemoryDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDisk")
    }
}

impl Disk for MemoryDisk {
    fn describe(&self) -> String {
        "in memory".to_owned()
    }

    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, owner: u32) -> Result<Box<dyn DiskLock>, LockError> {
        let mut state = self.state.lock();
        if state.owner.is_some() {
            return Err(LockError::Held { owner: state.owner });
        }
        state.owner = Some(owner);
        Ok(Box::new(MemoryLock {
            state: Arc::clone(&self.state),
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let state = self.state.lock();
        state.check_dir(dir)?;
        let own = |name: &str| parent(name) == dir;
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let files = state
            .files
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, file)| Entry {
                name: last(name),
                bytes: file.content.read().len,
                is_file: true,
            });
        let dirs = state.dirs.iter().filter(|name| own(name));
        let dirs = dirs.map(|name| Entry {
            name: last(name),
            bytes: 0,
            is_file: false,
        });
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        check_name(dir)?;
        let mut state = self.state.lock();
        state.check_dir(parent(dir))?;
        if state.files.contains_key(dir) {
            return Err(not_a_directory(dir));
        }
        state.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.state.lock();
        state.check_dir(parent(name))?;
        let found = state.files.get(name).map(Arc::clone);
        let file = match (access, found) {
            (Access::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Access::CreateNew, None) if state.dirs.contains(name) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (_, None) if state.dirs.contains(name) => return Err(not_a_regular_file(name)),
            (Access::CreateNew, None) => {
                let file = Arc::new(MemoryFile::default());
                state.files.insert(name.to_owned(), Arc::clone(&file));
                file
            }
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
            (_, Some(file)) => file,
        };
        Ok(Arc::new(Handle { file, access }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut state = self.state.lock();
        state.check_dir(parent(to))?;
        if state.dirs.contains(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut state = self.state.lock();
        if state.dirs.contains(name) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state
            .files
            .remove(name)
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.state.lock().check_dir(dir)
    }

    fn preallocates(&self) -> bool {
        false
    }
}

impl State {
    fn check_dir(&self, dir: &str) -> io::Result<()> {
        match dir {
            "" => Ok(()),
            dir if self.dirs.contains(dir) => Ok(()),
            dir if self.files.contains_key(dir) => Err(not_a_directory(dir)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

struct MemoryLock {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryLock")
    }
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.state.lock().owner = None;
    }
}

#[derive(Default)]
struct MemoryFile {
    content: RwLock<Content>,
}

#[derive(Default)]
struct Content {
    len: u64,
    region: Option<Arc<Region>>,
    /// Regions the file outgrew and someone still maps; at most one for each doubling.
    outgrown: Vec<Weak<Region>>,
}

struct Handle {
    file: Arc<MemoryFile>,
    access: Access,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryFile({} bytes)", self.file.content.read().len)
    }
}

impl Handle {
    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::Read => Err(io::ErrorKind::PermissionDenied.into()),
            Access::Write | Access::CreateNew => Ok(()),
        }
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.file.content.read();
        let Some(region) = &content.region else {
            return Ok(0);
        };
        let left = usize::try_from(content.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        if count > 0 {
            region.read(&mut buffer[..count], addressable(offset)?);
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut content = self.file.content.write();
        let end = u64::try_from(bytes.len())
            .ok()
            .and_then(|len| offset.checked_add(len));
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        content.reserve(end)?;
        content.put(bytes, addressable(offset)?);
        content.len = content.len.max(end);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut content = self.file.content.write();
        content.reserve(bytes)?;
        content.clear(bytes)?;
        content.len = bytes;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.content.read().len)
    }

    fn map(&self, len: u64) -> io::Result<Map> {
        let region = self.file.content.write().reserve(len)?;
        Ok(Map::of_region(region, addressable(len)?))
    }
}

impl Content {
    /// A region of at least `bytes`, with the file's bytes in it; reserving does not lengthen the file.
    fn reserve(&mut self, bytes: u64) -> io::Result<Arc<Region>> {
        let old = self.region.as_ref();
        let had = old.map_or(0, |region| region.bytes());
        let wanted = addressable(bytes.max(MIN_REGION_BYTES))?;
        if let Some(region) = old.filter(|_| had >= wanted) {
            return Ok(Arc::clone(region));
        }
        let region = Arc::new(Region::anonymous(wanted.max(had.saturating_mul(2)))?);
        if let Some(old) = old {
            copy(old, &region, addressable(self.len)?);
            self.outgrown.retain(|region| region.strong_count() > 0);
            self.outgrown.push(Arc::downgrade(old));
        }
        self.region = Some(Arc::clone(&region));
        Ok(region)
    }

    /// Writes to the region and to each outgrown one that someone still maps, as far as it goes.
    fn put(&self, bytes: &[u8], start: usize) {
        let outgrown = self.outgrown.iter().filter_map(Weak::upgrade);
        for region in self.region.iter().cloned().chain(outgrown) {
            let count = bytes.len().min(region.bytes().saturating_sub(start));
            if count > 0 {
                region.write(&bytes[..count], start);
            }
        }
    }

    /// Keeps the bytes above the file's end zeros when it is cut to `bytes`.
    fn clear(&self, bytes: u64) -> io::Result<()> {
        let end = addressable(self.len)?;
        for start in (addressable(bytes)?..end).step_by(BLOCK_BYTES) {
            self.put(&[0; BLOCK_BYTES][..BLOCK_BYTES.min(end - start)], start);
        }
        Ok(())
    }
}

fn copy(from: &Region, to: &Region, len: usize) {
    let mut block = [0; BLOCK_BYTES];
    for start in (0..len).step_by(BLOCK_BYTES) {
        let block = &mut block[..BLOCK_BYTES.min(len - start)];
        from.read(block, start);
        to.write(block, start);
    }
}

fn addressable(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
