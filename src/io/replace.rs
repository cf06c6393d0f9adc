//! Making a file anew, and replacing a small one so that any crash leaves the old bytes or the new ones.

use std::io;
use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile, parent};
use super::exact::write_in_pieces;

/// Makes `bytes` the content of `name`, durable on return. One thread at a time may replace one name.
///
/// When it fails, readers see the old or the new content; which of them is durable is not known.
pub(crate) fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    if let Err(error) = write_new(disk, &temporary, bytes) {
        // It may be the space that is missing; the failure to report is the first one.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.rename(&temporary, name)?;
    disk.sync_dir(parent(name))
}

/// The bytes must be durable before the rename is: a fresh name may otherwise appear empty.
fn write_new(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = make_anew(disk, name)?;
    write_in_pieces(&*file, bytes, 0)?;
    file.sync_all()
}

/// Makes an empty file in the place of what may be there.
pub(crate) fn make_anew(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    remove_if_there(disk, name)?;
    disk.open(name, Access::CreateNew)
}

/// Removes a file, unless there is none.
pub(crate) fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
