//! Being told of changes by Linux: inotify on the directory of the file, and an eventfd for the interrupt.
//!
//! The directory is watched, not the file, which may be missing at first and replaced later. The kernel queues what
//! happens between two waits, so the next one returns at once. One thread waits, any thread interrupts.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::watch::{Pause, Watch};

/// Network file systems do not tell what other machines change; followers there look this often.
const MAX_WAIT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// Equal notices in a row are one; what does not fit makes the next wait return at once.
const NOTICES_BYTES: usize = 4096;

/// A queue of notices about the files in one directory.
#[derive(Debug)]
pub(super) struct Notices {
    queue: OwnedFd,
    /// Readable from the interrupt on: nobody reads it.
    interrupt: OwnedFd,
    max_wait: Timespec,
    /// For a wait that the system refuses.
    pause: Pause,
}

impl Notices {
    /// Begins to listen to `dir`; fails where a limit of the system is reached, or it knows no inotify.
    pub(super) fn of(dir: &Path) -> io::Result<Notices> {
        Notices::with_max_wait(dir, MAX_WAIT)
    }

    fn with_max_wait(dir: &Path, max_wait: Timespec) -> io::Result<Notices> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&queue, dir, changes | WatchFlags::ONLYDIR)?;
        Ok(Notices {
            queue,
            interrupt: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            max_wait,
            pause: Pause::default(),
        })
    }

    fn wait_for_one(&self) -> rustix::io::Result<()> {
        let mut both = [
            PollFd::new(&self.queue, PollFlags::IN),
            PollFd::new(&self.interrupt, PollFlags::IN),
        ];
        poll(&mut both, Some(&self.max_wait))?;
        if both[0].revents().is_empty() {
            return Ok(());
        }
        rustix::io::read(&self.queue, &mut [0; NOTICES_BYTES]).map(drop)
    }
}

impl Watch for Notices {
    fn wait(&self, idle: Duration) {
        if self.wait_for_one().is_err() {
            self.pause.wait(idle);
        }
    }

    fn interrupt(&self) {
        self.pause.interrupt();
        // A number above zero in either byte order. It can only fail by overflow, and then it is readable already.
        let _ = rustix::io::write(&self.interrupt, &[1; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Access, Disk, DiskFile, RealDisk, read_exact_at, replace, write_all_at};
    use std::sync::mpsc;
    use std::time::Instant;
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(20);
    const FOR_EVER: Timespec = Timespec {
        tv_sec: 3600,
        tv_nsec: 0,
    };
    const SHORT: Duration = Duration::from_millis(30);

    fn place() -> (TempDir, RealDisk) {
        let place = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(place.path());
        (place, disk)
    }

    /// Ends with a panic what would otherwise wait for an hour.
    fn in_time(work: impl FnOnce() + Send + 'static) {
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            work();
            ended.send(()).unwrap();
        });
        end.recv_timeout(PATIENCE).expect("the wait goes on");
    }

    fn told(dir: &Path, change: impl FnOnce()) {
        let watch = Notices::with_max_wait(dir, FOR_EVER).unwrap();
        change();
        in_time(move || watch.wait(Duration::ZERO));
    }

    fn waits_to_its_bound(watch: &Notices) -> bool {
        let started = Instant::now();
        watch.wait(Duration::ZERO);
        started.elapsed() >= SHORT
    }

    #[test]
    fn a_change_between_two_waits_ends_the_next_one_at_once() {
        let (place, disk) = place();
        let file = disk.open("hint", Access::CreateNew).unwrap();
        told(place.path(), || write_all_at(&*file, b"x", 0).unwrap());
        told(place.path(), || write_all_at(&*file, b"x", 0).unwrap());
    }

    #[test]
    fn a_file_that_appears_or_is_replaced_is_told_of() {
        let (place, disk) = place();
        told(place.path(), || {
            disk.open("hint", Access::CreateNew).unwrap();
        });
        told(place.path(), || replace(&disk, "hint", b"new").unwrap());
    }

    #[test]
    fn a_wait_after_all_notices_were_taken_lasts_to_its_bound() {
        let (place, disk) = place();
        let short = Timespec::try_from(SHORT).unwrap();
        let watch = Notices::with_max_wait(place.path(), short).unwrap();
        let file = disk.open("hint", Access::CreateNew).unwrap();
        (0..1000).for_each(|_| write_all_at(&*file, b"x", 0).unwrap());
        watch.wait(Duration::ZERO);
        assert!(waits_to_its_bound(&watch));
    }

    #[test]
    fn what_happens_in_folders_below_disturbs_no_wait() {
        let (place, disk) = place();
        disk.create_dir("segments").unwrap();
        let short = Timespec::try_from(SHORT).unwrap();
        let watch = Notices::with_max_wait(place.path(), short).unwrap();
        let file = disk.open("segments/1", Access::CreateNew).unwrap();
        write_all_at(&*file, b"x", 0).unwrap();
        assert!(waits_to_its_bound(&watch));
    }

    #[test]
    fn interrupted_waits_end_at_once_from_then_on() {
        let (place, _) = place();
        let watch = Notices::with_max_wait(place.path(), FOR_EVER).unwrap();
        in_time(move || {
            std::thread::scope(|threads| {
                threads.spawn(|| (0..100).for_each(|_| watch.wait(Duration::ZERO)));
                // More often than the number in the eventfd has room for.
                (0..1000).for_each(|_| watch.interrupt());
            });
        });
    }

    fn number(file: &dyn DiskFile) -> u64 {
        let mut bytes = [0; 8];
        read_exact_at(file, &mut bytes, 0).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Look, wait, look again: the writer's next number comes once the last was seen, at any moment of that.
    #[test]
    fn no_change_is_slept_through() {
        const CHANGES: u64 = 5000;
        let (place, disk) = place();
        let file = disk.open("hint", Access::CreateNew).unwrap();
        write_all_at(&*file, &[0; 8], 0).unwrap();
        let read = disk.open("hint", Access::Read).unwrap();
        let watch = Notices::with_max_wait(place.path(), FOR_EVER).unwrap();
        let (seen, acks) = mpsc::channel();
        in_time(move || {
            std::thread::scope(|threads| {
                threads.spawn(move || {
                    for change in 1..=CHANGES {
                        write_all_at(&*file, &change.to_le_bytes(), 0).unwrap();
                        acks.recv().unwrap();
                    }
                });
                let mut last = 0;
                while last < CHANGES {
                    watch.wait(Duration::ZERO);
                    let now = number(&*read);
                    if now > last {
                        last = now;
                        seen.send(()).unwrap();
                    }
                }
            });
        });
    }

    /// The descriptors of this sort that the whole process has open.
    fn descriptors() -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let ours = |link: &std::path::PathBuf| {
            let link = link.to_string_lossy();
            link.contains("inotify") || link.contains("eventfd")
        };
        links.filter(ours).count()
    }

    /// Other tests of this process have some open meanwhile, but not hundreds.
    #[test]
    fn descriptors_go_with_the_watch() {
        let (place, disk) = place();
        let watch = disk.watch("hint");
        assert!(descriptors() >= 2, "{watch:?} is told of changes");
        drop(watch);
        (0..600).for_each(|_| drop(Notices::of(place.path()).unwrap()));
        assert!(descriptors() < 300, "{} are open", descriptors());
    }

    #[test]
    fn a_directory_that_cannot_be_watched_is_looked_at_now_and_then() {
        let disk = RealDisk::new("/nowhere/at/all");
        let watch = disk.watch("hint");
        in_time(move || watch.wait(Duration::MAX));
    }
}
