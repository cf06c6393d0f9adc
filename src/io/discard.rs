//! Removes a long file so that others who use the disk feel little of it.
//!
//! A file system that tells its device of freed space (`discard`) makes the device busy with all of a file at once, and
//! every sync waits for that. A file without a name that nobody else uses is cut from its end instead, a step at a time,
//! on the caller's thread.

use std::io;

use super::disk::{Access, Disk};

/// How much is given back at once, in bytes.
const STEP_BYTES: u64 = 1024 * 1024;

/// Removes the file `name`; those who have it open or mapped keep its bytes.
pub(crate) fn discard(disk: &dyn Disk, name: &str) -> io::Result<()> {
    let opened = disk.open(name, Access::Write);
    disk.remove(name)?;
    match opened {
        Ok(file) if file.is_only_use() => {
            let mut len = file.len()?;
            while len > STEP_BYTES {
                len -= STEP_BYTES;
                file.set_len(len)?;
                // Else the file system would put the steps together.
                file.sync_data()?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
