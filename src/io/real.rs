//! The operating system's disk: one directory, positional reads and writes, and a lock that dies with us.
//!
//! On Linux every file that is open or mapped holds a shared lock, so that nobody cuts it under its readers. Any thread
//! may call.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{
    Access, Disk, DiskFile, DiskLock, Entry, LockError, Sharing, check_name, not_a_directory,
    not_a_regular_file, parent,
};
use super::exact::{MAX_RETRIES, write_all_at};
use super::map::Map;
use super::watch::{Pause, Watch};

/// Where the lock's owner leaves its process id, in decimal; only for messages.
const LOCK_FILE: &str = "lock";
/// The longest process id is ten digits.
const MAX_OWNER_BYTES: usize = 16;

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The directory at `path`, which [`Disk::prepare`] creates. A relative path is resolved now.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> RealDisk {
        let path = path.as_ref();
        // An empty path, or one relative to a directory that is gone, fails at its first use.
        RealDisk {
            root: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        }
    }

    fn file_path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    /// The directory `dir`; only the store's own may be reached through a symbolic link.
    fn dir_path(&self, dir: &str) -> io::Result<PathBuf> {
        if dir.is_empty() {
            return Ok(self.root.clone());
        }
        let path = self.file_path(dir)?;
        if fs::symlink_metadata(&path)?.is_dir() {
            Ok(path)
        } else {
            Err(not_a_directory(dir))
        }
    }
}

impl Disk for RealDisk {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn prepare(&self) -> io::Result<()> {
        create_with_parents(&self.root)
    }

    fn lock(&self, owner: u32) -> Result<Box<dyn DiskLock>, LockError> {
        let locked = open_to_lock(self)?;
        match locked.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    owner: read_owner(self),
                });
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let lock = RealLock {
            locked,
            taken_by: std::process::id(),
        };
        name_owner(self, &lock, owner)?;
        Ok(Box::new(lock))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.dir_path(dir)?)? {
            let entry = entry?;
            let about = match entry.metadata() {
                // Removed while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                about => about?,
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry {
                name,
                bytes: about.len(),
                is_file: about.is_file(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        match make_dir(&self.file_path(dir)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.dir_path(dir).map(drop)
            }
            made => made,
        }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.file_path(name)?;
        for _ in 0..MAX_RETRIES {
            let file = open_file(&path, name, access)?;
            // Those who write it, too: the map of the segment that grew is read long after it was sealed.
            if announce_use(&file, name)? {
                return Ok(Arc::new(RealFile { file }));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.file_path(from)?, self.file_path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.file_path(name)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_dir_at(&self.dir_path(dir)?)
    }

    fn preallocates(&self) -> bool {
        true
    }

    fn watch(&self, name: &str) -> Box<dyn Watch> {
        match self.dir_path(parent(name)).and_then(|dir| watch_dir(&dir)) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::debug!(name, %error, "nobody tells of changes; they are looked for");
                Box::new(Pause::default())
            }
        }
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        self.file_path(name).ok()
    }

    fn share(&self, name: &str, from: &Path, sharing: Sharing) -> io::Result<()> {
        let to = self.file_path(name)?;
        match sharing {
            Sharing::HardLink => fs::hard_link(from, to),
            Sharing::Reflink => {
                let from = open_file(from, name, Access::Read)?;
                if !announce_use(&from, name)? {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let new = open_file(&to, name, Access::CreateNew)?;
                reflink(&from, &new).inspect_err(|_| {
                    // The failure to report is the first one; the next attempt removes what is left.
                    let _ = fs::remove_file(&to);
                })
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn reflink(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Elsewhere it takes calls of which none is both safe and common; the bytes are copied.
#[cfg(not(target_os = "linux"))]
fn reflink(_: &File, _: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes the lock that [`only_use`] asks for, shared with all other users until the file is neither open nor mapped.
///
/// Whether the file has a name: without one, it was removed or replaced since it was opened, and may have been cut.
#[cfg(target_os = "linux")]
fn announce_use(file: &File, name: &str) -> io::Result<bool> {
    let locked = file.try_lock_shared();
    // Asked behind the lock: nobody cuts the file any more.
    match (has_name(file)?, locked) {
        (true, Err(TryLockError::WouldBlock)) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{name} is locked by another program"),
        )),
        // Where files cannot be locked, `only_use` gets no lock either.
        (has_name, _) => Ok(has_name),
    }
}

#[cfg(not(target_os = "linux"))]
fn announce_use(_: &File, _: &str) -> io::Result<bool> {
    Ok(true)
}

#[cfg(target_os = "linux")]
fn has_name(file: &File) -> io::Result<bool> {
    use std::os::linux::fs::MetadataExt;
    Ok(file.metadata()?.st_nlink() > 0)
}

/// Whether the file has no name and no other user: the lock stays taken, so that it has none later.
#[cfg(target_os = "linux")]
fn only_use(file: &File) -> bool {
    has_name(file).is_ok_and(|has_name| !has_name) && file.try_lock().is_ok()
}

/// Elsewhere a mapped file may lose its lock when it is closed.
#[cfg(not(target_os = "linux"))]
fn only_use(_: &File) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn watch_dir(dir: &Path) -> io::Result<Box<dyn Watch>> {
    Ok(Box::new(super::notify::Notices::of(dir)?))
}

#[cfg(not(target_os = "linux"))]
fn watch_dir(_: &Path) -> io::Result<Box<dyn Watch>> {
    Ok(Box::new(Pause::default()))
}

/// Outermost first, each one durable before the next is made in it.
fn create_with_parents(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => return Ok(()),
        Ok(_) => return Err(not_a_directory(&path.display().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_with_parents(parent)?;
    match make_dir(path) {
        // Someone else was faster; what they made is looked at like any other.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    sync_dir_at(parent)
}

#[cfg(unix)]
fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(not(unix))]
fn make_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

#[cfg(unix)]
fn sync_dir_at(path: &Path) -> io::Result<()> {
    open_dir(path)?.sync_all()
}

/// Elsewhere a directory cannot be synced, and names are durable with the file system's own journal.
#[cfg(not(unix))]
fn sync_dir_at(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(drop)
}

/// The slash at the end makes the system refuse anything but a directory; a pipe would block the open.
#[cfg(unix)]
fn open_dir(path: &Path) -> io::Result<File> {
    File::open(path.join(""))
}

fn open_file(path: &Path, name: &str, access: Access) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(access != Access::Read)
        .create_new(access == Access::CreateNew);
    keep_to_regular_files(&mut options);
    let file = options
        .open(path)
        .map_err(|error| match fs::symlink_metadata(path) {
            // The system's words for these differ by kind and platform.
            Ok(about) if !about.is_file() && access != Access::CreateNew => {
                not_a_regular_file(name)
            }
            _ => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(not_a_regular_file(name));
    }
    Ok(file)
}

/// A link is not followed and a pipe without a writer does not block; both are refused afterwards.
#[cfg(unix)]
fn keep_to_regular_files(options: &mut OpenOptions) {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).expect("open flags are small positive numbers");
    options.mode(0o600).custom_flags(flags);
}

#[cfg(not(unix))]
fn keep_to_regular_files(_: &mut OpenOptions) {}

/// The directory itself: two paths to it are one lock, and no one can replace it by a fresh file.
#[cfg(unix)]
fn open_to_lock(disk: &RealDisk) -> io::Result<File> {
    open_dir(&disk.root)
}

#[cfg(not(unix))]
fn open_to_lock(disk: &RealDisk) -> io::Result<File> {
    open_or_create(disk, LOCK_FILE)
}

fn open_or_create(disk: &RealDisk, name: &str) -> io::Result<File> {
    let path = disk.file_path(name)?;
    match open_file(&path, name, Access::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            open_file(&path, name, Access::CreateNew)
        }
        opened => opened,
    }
}

#[cfg(unix)]
fn name_owner(disk: &RealDisk, _: &RealLock, owner: u32) -> io::Result<()> {
    write_owner(open_or_create(disk, LOCK_FILE)?, owner)
}

/// Where the file itself is locked, only the locked handle may write to it.
#[cfg(not(unix))]
fn name_owner(_: &RealDisk, lock: &RealLock, owner: u32) -> io::Result<()> {
    write_owner(lock.locked.try_clone()?, owner)
}

fn write_owner(file: File, owner: u32) -> io::Result<()> {
    let file = RealFile { file };
    file.set_len(0)?;
    Ok(write_all_at(&file, format!("{owner}\n").as_bytes(), 0)?)
}

/// The owner may be about to write it, or another platform may not let us read: then it has no name.
fn read_owner(disk: &RealDisk) -> Option<u32> {
    let file = disk.open(LOCK_FILE, Access::Read).ok()?;
    let mut text = [0; MAX_OWNER_BYTES];
    let count = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..count)?)
        .ok()?
        .trim_end()
        .parse()
        .ok()
}

#[derive(Debug)]
struct RealLock {
    locked: File,
    taken_by: u32,
}

impl DiskLock for RealLock {}

impl Drop for RealLock {
    /// Closing alone would leave the lock to a child that was forked and has not exec'd yet; and a forked
    /// child that drops its copy must not release its parent's.
    fn drop(&mut self) {
        if self.taken_by == std::process::id() {
            // Failing, the lock goes with the last copy of the descriptor.
            let _ = self.locked.unlock();
        }
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|about| about.len())
    }

    fn is_only_use(&self) -> bool {
        only_use(&self.file)
    }

    fn map(&self, len: u64) -> io::Result<Map> {
        Map::of_file(&self.file, len)
    }
}

#[cfg(all(test, unix))]
mod tests;
