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

    /// Writes what the buffer has of whole pieces: each piece costs a sync, a short one as much as a long one.
    pub(crate) fn write_pieces(&mut self) -> Result<()> {
        self.write(self.buffer.len() - self.buffer.len() % PIECE_BYTES)
    }

    fn write(&mut self, count: usize) -> Result<()> {
        let (bytes, _) = self.buffer.split_at(count);
        write_in_pieces(&*self.file, bytes, self.at).map_err(|e| self.io(e))?;
        self.at += count as u64;
        self.buffer.drain(..count);
        Ok(())
    }

    /// Writes what is left and makes all of it durable; returns the length of the file.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.write(self.buffer.len())?;
        self.file.sync_all().map_err(|e| self.io(e))?;
        Ok(self.at)
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::io(format_args!("writing {}", self.name), source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Access, MemoryDisk, read_exact_at};

    #[test]
    fn only_the_end_is_less_than_a_piece() {
        let disk = MemoryDisk::new();
        let mut out = Output::create(&disk, "file").unwrap();
        let file = disk.open("file", Access::Read).unwrap();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(5 * PIECE_BYTES / 2).collect();
        for part in bytes.chunks(PIECE_BYTES / 2 - 1) {
            out.buffer.extend_from_slice(part);
            out.write_pieces().unwrap();
            assert_eq!(file.len().unwrap() % PIECE_BYTES as u64, 0);
            assert!(out.buffer.len() < PIECE_BYTES);
        }
        assert_eq!(out.end(), bytes.len() as u64);
        assert_eq!(out.finish().unwrap(), bytes.len() as u64);
        let mut written = vec![0; bytes.len()];
        read_exact_at(&*file, &mut written, 0).unwrap();
        assert!(written == bytes);
    }
}
