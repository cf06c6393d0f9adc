//! The disk as the store sees it: one directory of files, small enough to wrap by delegating.
//!
//! Names are relative to the directory, separated by `/`, and made by the store, never by its callers;
//! the empty name is the directory itself. No call retries or repairs: a failure is reported as it came.

use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::map::Map;
use super::watch::{Pause, Watch};

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write; its bytes stay.
    Write,
    /// A file that must not exist yet, to read and write.
    CreateNew,
}

/// How a file is had without copying its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// A file of its own whose bytes lie once on the disk until one of the two is written.
    Reflink,
    /// A second name of the same file.
    HardLink,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the name; bytes that are not UTF-8 appear as U+FFFD.
    pub name: String,
    /// The length of the file.
    pub bytes: u64,
    /// Whether it is a regular file; a symbolic link is none.
    pub is_file: bool,
}

/// One store directory.
///
/// A wrapper delegates each call and changes the ones it is about; [`Map`]s come from the disk inside.
pub trait Disk: Send + Sync + Debug {
    /// What to call this disk in messages: the path of the directory.
    fn describe(&self) -> String;

    /// Creates the directory and its missing parents, each of them durable.
    ///
    /// # Errors
    /// `NotADirectory` where another file stands in the way, else what the operating system says.
    fn prepare(&self) -> io::Result<()>;

    /// Takes the directory's one writer lock, without waiting; `owner` is the process id to name.
    ///
    /// # Errors
    /// [`LockError::Held`] while anyone has it, this process included.
    fn lock(&self, owner: u32) -> Result<Box<dyn DiskLock>, LockError>;

    /// What is in the directory `dir`, sorted by name.
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory`; a symbolic link is not a directory.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;

    /// Creates the directory `dir`, if it is not there; durable after a [`Disk::sync_dir`] of its parent.
    ///
    /// # Errors
    /// `NotADirectory` where another file stands in the way.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Opens a regular file; a new name is durable after a [`Disk::sync_dir`] of its directory.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, or `InvalidData` for a link, a directory, a pipe or a device.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name and replaces what had it, at once for everyone who looks.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; those who have it open keep its bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names in the directory `dir` durable, but not the files' bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Whether space reserved ahead by writing zeros makes later syncs cheaper here.
    fn preallocates(&self) -> bool;

    /// Begins to watch the file `name`, which need not exist; one who looks only after this misses no change.
    ///
    /// A disk that says nothing about changes leaves this out: its watch pauses between looks.
    fn watch(&self, name: &str) -> Box<dyn Watch> {
        let _ = name;
        Box::new(Pause::default())
    }

    /// The path by which the operating system knows the file `name`; `None` where it knows none.
    ///
    /// A disk whose files are not the operating system's leaves this out: its files are copied by reading.
    fn path_of(&self, name: &str) -> Option<PathBuf> {
        let _ = name;
        None
    }

    /// Makes the new file `name` of the bytes at the path `from`, without copying them.
    ///
    /// A disk that cannot leaves this out: whoever asks copies instead.
    ///
    /// # Errors
    /// `Unsupported` where the two places share nothing, else what the operating system says; then there is no new file.
    fn share(&self, name: &str, from: &Path, sharing: Sharing) -> io::Result<()> {
        let _ = (name, from, sharing);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// One open file. Every call may be made by several threads at once.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads at `offset`, perhaps less than asked; 0 is the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`, perhaps less than given.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes bytes and length durable. A sync that failed must not be repeated as if it could succeed.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes bytes, length and all else about the file durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The length of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|bytes| bytes == 0)
    }

    /// Whether this is the only use of a file that has no name any more, so that nobody misses what is cut off it.
    ///
    /// A disk that cannot tell leaves this out: its files are removed in one step.
    fn is_only_use(&self) -> bool {
        false
    }

    /// A view of the first `len` bytes that shows later writes to them; the file may still be shorter.
    ///
    /// # Errors
    /// What the operating system says, `InvalidInput` for more than can be addressed.
    fn map(&self, len: u64) -> io::Result<Map>;
}

/// The writer's lock: held while it lives, released when it is dropped or its process ends.
pub trait DiskLock: Send + Sync + Debug {}

/// Why [`Disk::lock`] did not get the lock.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError {
    /// Someone has it.
    Held {
        /// The process that named itself last, if it can be read.
        owner: Option<u32>,
    },
    /// It could not be asked for.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { owner: Some(owner) } => write!(f, "held by process {owner}"),
            LockError::Held { owner: None } => f.write_str("held by another process"),
            LockError::Io(error) => write!(f, "could not be taken: {error}"),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LockError::Held { .. } => None,
            LockError::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        LockError::Io(error)
    }
}

/// Names are ours; one that could leave the directory is a mistake of ours or of a wrapper.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    if name.split('/').all(plain) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{name:?} is no name for a store's file"),
    ))
}

/// The directory that `name` stands in; empty for the store's own.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

pub(super) fn not_a_regular_file(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{name} is not a regular file"),
    )
}

pub(super) fn not_a_directory(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotADirectory,
        format!("{name:?} is not a directory"),
    )
}
