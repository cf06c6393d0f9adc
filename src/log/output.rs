//! A new file, filled in memory and written in small pieces, each of them durable before the next.
//!
//! Runs on the thread that fills it.

use std::io;

use crate::error::{Result, StoreError};
use crate::io::{Disk, DiskFile, PIECE_BYTES, make_anew, write_in_pieces};
use crate::sync::Arc;

/// The file being written.
pub(crate) struct Output {
    name: String,
    file: Arc<dyn DiskFile>,
    /// What comes next.
    pub(crate) buffer: Vec<u8>,
    /// Where the buffer's bytes belong.
    at: u64,
}

impl Output {
    /// Makes the file.
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Self> {
        let file = make_anew(disk, name);
        Ok(Self {
            name: name.to_owned(),
            file: file.map_err(|e| StoreError::io(format_args!("making {name}"), e))?,
            buffer: Vec::new(),
            at: 0,
        })
    }

    /// The offset of what comes next.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Writes the buffer once it is long enough.
    pub(crate) fn write_if_full(&mut self) -> Result<()> {
        match self.buffer.len() < PIECE_BYTES {
            true => Ok(()),
            false => self.write(),
        }
    }

    fn write(&mut self) -> Result<()> {
        write_in_pieces(&*self.file, &self.buffer, self.at).map_err(|e| self.io(e))?;
        self.at = self.end();
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left and makes all of it durable; returns the length of the file.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.write()?;
        self.file.sync_all().map_err(|e| self.io(e))?;
        Ok(self.at)
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::io(format_args!("writing {}", self.name), source)
    }
}
