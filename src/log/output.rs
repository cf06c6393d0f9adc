//! A new file, filled in memory and written in large pieces by a thread of its own.
//!
//! Whoever fills it computes while the disk writes and syncs, and waits only when two pieces are under way. The thread is
//! joined when the file is finished or given up; it alone writes, in order.

use std::io::{self, ErrorKind};
use std::thread::JoinHandle;

use crate::error::{Result, StoreError};
use crate::io::{Access, Disk, DiskFile, write_all_at};
use crate::sync::Arc;

/// How much is written at once, in bytes; more when a group is longer.
const PIECE_BYTES: usize = 1024 * 1024;
/// How many pieces may wait to be written.
const PIECES_UNDER_WAY: usize = 2;
/// How much is written between two syncs, in bytes, so that a sync of the log does not wait behind much more.
const SYNC_BYTES: u64 = 1024 * 1024;

/// The file being written.
pub(crate) struct Output {
    name: String,
    file: Arc<dyn DiskFile>,
    /// What comes next.
    pub(crate) buffer: Vec<u8>,
    /// Where the buffer's bytes belong.
    at: u64,
    full: Option<flume::Sender<Vec<u8>>>,
    written: flume::Receiver<Vec<u8>>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    /// Makes the file, and starts the thread.
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Self> {
        let fail = |e: io::Error| StoreError::io(format_args!("making {name}"), e);
        match disk.remove(name) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let file = disk.open(name, Access::CreateNew).map_err(fail)?;
        let writes_to = Arc::clone(&file);
        let (full, to_write) = flume::bounded(PIECES_UNDER_WAY);
        let (give_back, written) = flume::unbounded();
        let writer = std::thread::Builder::new()
            .name("quipu-compact-io".to_owned())
            .spawn(move || write_all(&*writes_to, &to_write, &give_back))
            .map_err(fail)?;
        Ok(Self {
            name: name.to_owned(),
            file,
            buffer: Vec::new(),
            at: 0,
            full: Some(full),
            written,
            writer: Some(writer),
        })
    }

    /// The offset of what comes next.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Gives the buffer to the thread once it is long enough.
    pub(crate) fn hand_over_if_full(&mut self) -> Result<()> {
        match self.buffer.len() < PIECE_BYTES {
            true => Ok(()),
            false => self.hand_over(),
        }
    }

    fn hand_over(&mut self) -> Result<()> {
        let next = self.written.try_recv().unwrap_or_default();
        let piece = std::mem::replace(&mut self.buffer, next);
        self.at += piece.len() as u64;
        let taken = self
            .full
            .as_ref()
            .is_some_and(|full| full.send(piece).is_ok());
        match taken {
            true => Ok(()),
            // It ended early: its error says why.
            false => self.join(),
        }
    }

    /// Writes what is left and syncs; returns the length of the file.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.hand_over()?;
        self.join()?;
        self.file.sync_all().map_err(|e| self.io(e))?;
        Ok(self.at)
    }

    /// Lets the thread come to its end, and tells how it ended.
    fn join(&mut self) -> Result<()> {
        self.full = None;
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let ended = writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("writing it panicked")));
        ended.map_err(|e| self.io(e))
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::io(format_args!("writing {}", self.name), source)
    }
}

/// A file that is given up: nothing writes to it any more once it is gone.
impl Drop for Output {
    fn drop(&mut self) {
        // Whoever gives it up has a better error to tell.
        let _ = self.join();
    }
}

/// The thread's whole work: writes piece after piece.
fn write_all(
    file: &dyn DiskFile,
    to_write: &flume::Receiver<Vec<u8>>,
    give_back: &flume::Sender<Vec<u8>>,
) -> io::Result<()> {
    let (mut at, mut synced) = (0, 0);
    for mut piece in to_write {
        write_all_at(file, &piece, at).map_err(|e| e.source)?;
        at += piece.len() as u64;
        if at - synced >= SYNC_BYTES {
            file.sync_data()?;
            synced = at;
        }
        piece.clear();
        // Nobody takes it back once the last one is under way.
        let _ = give_back.send(piece);
    }
    Ok(())
}
