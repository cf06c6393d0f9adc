//! Lets other threads go first: what runs for seconds must not delay what takes microseconds.

/// Gives the calling thread a low priority, where that can be had for one thread alone.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    // To Linux, the niceness of process 0 is that of the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread in the background keeps its priority");
    }
}

/// The lowest priority that still has a share of a processor that others want, about a seventieth of theirs.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}
