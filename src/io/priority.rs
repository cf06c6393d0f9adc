//! Lets other threads go first: what runs for seconds must not delay what takes microseconds.

/// Gives the calling thread a lower priority, where that can be had for one thread alone.
#[cfg(target_os = "linux")]
pub(crate) fn lower_priority() {
    // To Linux, the niceness of process 0 is that of the calling thread.
    let lowered = rustix::process::getpriority_process(None)
        .and_then(|now| rustix::process::setpriority_process(None, (now + NICER).min(LOWEST)));
    if let Err(error) = lowered {
        tracing::debug!(%error, "a thread in the background keeps its priority");
    }
}

/// Leaves a sixth of the share of a processor that others have. Not as much as there is: next to a thread of the lowest
/// priority, Linux 6.18 keeps those of the highest, which hand a flush to the disk, waiting until the next tick, 4 ms.
#[cfg(target_os = "linux")]
const NICER: i32 = 8;
#[cfg(target_os = "linux")]
const LOWEST: i32 = 19;

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_priority() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_is_lowered_and_never_raised() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let lowered = std::thread::spawn(move || {
            [(); 4].map(|()| {
                lower_priority();
                priority()
            })
        });
        let expected = [1, 2, 3, 4].map(|times| (before + times * NICER).min(LOWEST));
        assert_eq!(lowered.join().unwrap(), expected);
        assert_eq!(priority(), before);
    }
}
