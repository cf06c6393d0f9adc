//! Lets other threads go first: what runs for seconds must not delay what takes microseconds.

/// Gives the calling thread a lower priority, where that can be had for one thread alone.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    // To Linux, the niceness of process 0 is that of the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread in the background keeps its priority");
    }
}

/// A sixth of the share of a processor that others have. Not the lowest priority: next to a thread of that, Linux 6.18 keeps
/// those of the highest, which hand a flush to the disk, waiting until the next tick, 4 ms, once they slept.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 8;

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}
