//! Reads and writes that are whole or an error, over files that may do less than asked.

use std::fmt;
use std::io;

use super::disk::DiskFile;

/// How often in a row a call may say "interrupted" or "try again" before that is the answer.
pub(crate) const MAX_RETRIES: u32 = 16;

/// How much is written between two syncs where others wait for the disk, in bytes.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// A write that did not get through.
#[derive(Debug)]
pub(crate) struct WriteError {
    /// How many bytes the file took before; the fate of those after is unknown.
    pub(crate) written: usize,
    /// What the disk said.
    pub(crate) source: io::Error,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "write stopped after {} bytes: {}",
            self.written, self.source
        )
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        error.source
    }
}

/// Fills `buffer` from `offset`; `UnexpectedEof` when the file ends before.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    match read_upto_at(file, buffer, offset)? == buffer.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Fills `buffer` from `offset` as far as the file goes; how many bytes that were.
pub(crate) fn read_upto_at(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        let from = place(offset, read)?;
        match retried(|| file.read_at(rest, from))? {
            0 => break,
            count if count > rest.len() => return Err(too_much()),
            count => read += count,
        }
    }
    Ok(read)
}

/// Writes all of `bytes` at `offset`, each piece durable before the next: a sync of another file may wait for what this
/// one has not synced, and that is never much. The file's length and names are left to its caller's last sync.
pub(crate) fn write_in_pieces(
    file: &dyn DiskFile,
    bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    for piece in bytes.chunks(PIECE_BYTES) {
        write_all_at(file, piece, offset)?;
        file.sync_data()?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    bytes: &[u8],
    offset: u64,
) -> Result<(), WriteError> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let taken = place(offset, written)
            .and_then(|from| retried(|| file.write_at(rest, from)))
            .and_then(|count| match count {
                0 => Err(io::ErrorKind::WriteZero.into()),
                count if count > rest.len() => Err(too_much()),
                count => Ok(count),
            });
        match taken {
            Ok(count) => written += count,
            Err(source) => return Err(WriteError { written, source }),
        }
    }
    Ok(())
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    use io::ErrorKind::{Interrupted, WouldBlock};
    for _ in 0..MAX_RETRIES {
        match call() {
            Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => {}
            answer => return answer,
        }
    }
    call()
}

fn place(offset: u64, done: usize) -> io::Result<u64> {
    u64::try_from(done)
        .ok()
        .and_then(|done| offset.checked_add(done))
        .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}

fn too_much() -> io::Error {
    io::Error::other("the disk claims to have moved more bytes than it was given")
}
