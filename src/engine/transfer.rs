//! Brings the segment files of a store to another directory, and proves each where it has come.
//!
//! A file is copied under the name that ends in `.part`, synced, read again, and only then has its own name. The one in
//! which an earlier snapshot ends grows behind that end. Runs on the thread that copies; it holds no lock of the store's.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::engine::destination::Destination;
use crate::engine::original::{Original, Part, tip_at};
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::position::Position;
use crate::format::manifest::{Manifest, SnapshotEnd};
use crate::format::segment::SegmentHeader;
use crate::io::{
    Access, CopyError, Disk, DiskFile, Pace, Sharing, copy_bytes, remove_if_there, write_all_at,
};
use crate::log::files::{MANIFEST, SegmentFile};
use crate::log::lengths::Lengths;
use crate::log::look;
use crate::log::proof::{self, Cut};
use crate::log::scan::{GROUPS_START, Tip};
use crate::options::{Listening, Progress};

/// How often a copy begins again because files were replaced meanwhile; what was copied stays.
const MAX_ATTEMPTS: u32 = 16;
/// How much is proven between two calls of the progress callback, in bytes.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// How the bytes of sealed segments come to their new place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Copying {
    /// Shared with the original where the file system can, copied elsewhere.
    #[default]
    ReflinkOrCopy,
    /// Always copied.
    Copy,
    /// The same files under a second name where both places are on one file system, else copied.
    ///
    /// It costs no space and no time, and saves from nothing that damages the original's bytes.
    HardLink,
}

/// Copies what `newest` shows, again if a file of it was replaced meanwhile: what is in its place is in a newer picture.
pub(crate) fn copy_newest<T>(
    mut newest: impl FnMut() -> Result<Original>,
    mut copy: impl FnMut(Original) -> Result<T>,
) -> Result<T> {
    for _ in 1..MAX_ATTEMPTS {
        match copy(newest()?) {
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                tracing::debug!(%error, "a file was replaced while it was copied; the rest is copied from what is there now");
            }
            copied => return copied,
        }
    }
    copy(newest()?)
}

/// One line on a copy: the last position in it, the bytes that were copied, shared and there before, and the time.
pub(crate) fn show_report(
    f: &mut fmt::Formatter<'_>,
    position: Position,
    [copied, shared, kept]: [u64; 3],
    took: Duration,
) -> fmt::Result {
    write!(
        f,
        "up to {position}: {copied} bytes copied, {shared} shared, {kept} were there, in {took:.1?}"
    )
}

/// Refuses a place inside the original's own directory, where the copy would be found among its files.
pub(crate) fn check_outside(original: &dyn Disk, dest: &dyn Disk) -> Result<()> {
    let [own, new] = [original, dest].map(|disk| disk.path_of(MANIFEST));
    let own = own.as_deref().and_then(Path::parent);
    let new = new.as_deref().and_then(Path::parent);
    match (own, new) {
        (Some(own), Some(new)) if new != own && new.starts_with(own) => {
            Err(StoreError::argument(format!(
                "{} is inside the store that is copied; name a directory beside it",
                new.display()
            )))
        }
        _ => Ok(()),
    }
}

/// What was done with the segment files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    pub(crate) copied_bytes: u64,
    pub(crate) shared_bytes: u64,
    pub(crate) kept_bytes: u64,
}

/// How one segment file comes to be there.
#[derive(Debug)]
enum Step {
    /// It is there up to where the earlier snapshot ends.
    Grow { from: Tip },
    /// It is brought, the group at its end perhaps written anew.
    Bring { group: Option<(u64, Vec<u8>)> },
}

/// One segment file and what is to be done.
#[derive(Debug)]
struct Work {
    part: Part,
    header: SegmentHeader,
    /// Its length when it is done.
    bytes: u64,
    step: Step,
}

/// How files are brought, as snapshots and restores are told.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) copying: Copying,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) listening: Listening,
}

/// The bringing of all files.
pub(crate) struct Transfer<'a> {
    original: &'a Original,
    destination: &'a Destination,
    copying: Copying,
    pace: Pace,
    listening: &'a mut Listening,
    /// What the work is called where it is cancelled.
    name: &'static str,
    progress: Progress,
    proven_bytes: u64,
    brought: Brought,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        original: &'a Original,
        destination: &'a Destination,
        terms: &'a mut Terms,
        name: &'static str,
    ) -> Self {
        Self {
            original,
            destination,
            copying: terms.copying,
            pace: Pace::new(terms.bytes_per_second),
            listening: &mut terms.listening,
            name,
            progress: Progress::default(),
            proven_bytes: 0,
            brought: Brought::default(),
        }
    }

    /// Brings every file of the original that is not there; `cut` is where the last one ends, if it is cut.
    pub(crate) fn run(mut self, cut: Option<Cut>) -> Result<Brought> {
        let works = self.plan(cut)?;
        let due = works.iter().flatten();
        self.progress.total_bytes = due.clone().map(Work::bytes_left).sum();
        self.progress.total_events = due.map(Work::events_left).sum();
        self.tell()?;
        let mut before = None;
        for work in works {
            before = match work {
                Some(work) => Some(self.bring(&work, before)?),
                None => None,
            };
        }
        Ok(self.brought)
    }

    /// What is to be done for each file; nothing for one that is there.
    fn plan(&mut self, cut: Option<Cut>) -> Result<Vec<Option<Work>>> {
        let parts = &self.original.parts;
        let Some((last, others)) = parts.split_last() else {
            return Ok(Vec::new());
        };
        let lengths = Lengths::list(&*self.original.disk)?;
        let mut works = Vec::with_capacity(parts.len());
        for part in others {
            works.push(self.work(part, None, &lengths)?);
        }
        let cut = cut.unwrap_or(Cut {
            tip: self.original.tip,
            group: None,
        });
        works.push(self.work(last, Some(cut), &lengths)?);
        Ok(works)
    }

    /// What is to be done for one file, of which `end` says where it ends if that is not where the original's does.
    fn work(&mut self, part: &Part, end: Option<Cut>, lengths: &Lengths) -> Result<Option<Work>> {
        let source = &*self.original.disk;
        if part.is_sealed && self.destination.has_whole(part.file) {
            // Nothing of it is read: a snapshot costs what is new.
            let there = self.destination.bytes_of(part.file);
            if let Some(bytes) = there.filter(|_| there == lengths.of_segment(part.file))
                && self.is_same(part.file)?
            {
                self.brought.kept_bytes += bytes;
                return Ok(None);
            }
        }
        let (header, file_bytes) = proof::header_of(source, part.file)?;
        if header.first_position != part.first || header.digest_before != part.digest_before {
            return Err(StoreError::corrupt(format!(
                "{} in {} is another segment; put the right file in its place",
                part.file.name(),
                source.describe()
            )));
        }
        let (bytes, group) = match end {
            Some(cut) => (cut.tip.mark.offset, cut.group),
            None if part.is_sealed => (file_bytes, None),
            None => {
                let cut = proof::cut_behind(source, &part.file.name(), &header, part.last)?;
                (cut.tip.mark.offset, cut.group)
            }
        };
        let is_there = self.destination.bytes_of(part.file) == Some(bytes);
        if is_there && !self.grows(part) && self.is_same(part.file)? {
            self.brought.kept_bytes += bytes;
            return Ok(None);
        }
        let from = self.growing_from(part, &header)?;
        let step = from.map_or(Step::Bring { group }, |from| Step::Grow { from });
        Ok(Some(Work {
            part: *part,
            header,
            bytes,
            step,
        }))
    }

    /// Whether a file that is there by name and length is the one of the original.
    ///
    /// Copies of one store that were compacted apart name their replacements alike; each has a salt of its own in its header.
    fn is_same(&self, file: SegmentFile) -> Result<bool> {
        if !file.is_replacement() {
            return Ok(true);
        }
        let (wanted, _) = proof::header_of(&*self.original.disk, file)?;
        let there = proof::header_of(&*self.destination.disk, file);
        Ok(there.is_ok_and(|(header, _)| header == wanted))
    }

    /// Whether the earlier snapshot ends in this file.
    fn grows(&self, part: &Part) -> bool {
        let ends_here = |manifest: &Manifest| {
            let is_last = |end: SnapshotEnd| end.segment == part.file.number;
            // A replacement that an interrupted copy brought may end with that number, too.
            manifest.end.is_some_and(is_last) && look::is_named(manifest, part.file)
        };
        self.destination.manifest.as_ref().is_some_and(ends_here)
            && self.destination.bytes_of(part.file).is_some()
    }

    /// The state at which the earlier snapshot ends, if that is in this file.
    fn growing_from(&self, part: &Part, header: &SegmentHeader) -> Result<Option<Tip>> {
        let end = self.destination.manifest.as_ref().and_then(|m| m.end);
        let Some(end) = end.filter(|_| self.grows(part)) else {
            return Ok(None);
        };
        let (grown, _) = proof::header_of(&*self.destination.disk, part.file)?;
        if grown == *header {
            return Ok(Some(tip_at(&end)));
        }
        // Without a group one header is as good as the other.
        match end.offset == GROUPS_START {
            true => Ok(None),
            false => Err(StoreError::argument(format!(
                "{} in {} is not the one that the store goes on in; name an empty directory",
                part.file.name(),
                self.destination.disk.describe()
            ))),
        }
    }

    /// Brings one file, and returns the state behind its last group.
    fn bring(&mut self, work: &Work, before: Option<Tip>) -> Result<Tip> {
        let disk = &*self.destination.disk;
        let name = work.part.file.name();
        let tip = match &work.step {
            Step::Grow { from } => {
                self.grow(work, &name, from.mark.offset)?;
                self.brought.kept_bytes += from.mark.offset;
                self.prove(work, &name, *from)?
            }
            Step::Bring { .. } => {
                let (unfinished, begin) = (format!("{name}.part"), Tip::before(&work.header));
                check_follows(&name, before, begin)?;
                let brought = self.bring_whole(work, &unfinished);
                let proven = brought.and_then(|()| self.prove(work, &unfinished, begin));
                let tip = proven.inspect_err(|_| {
                    // Nothing goes on from it, and its space may be what is missing.
                    let _ = disk.remove(&unfinished);
                })?;
                disk.rename(&unfinished, &name)
                    .map_err(|e| writing(disk, &name, e))?;
                tip
            }
        };
        self.progress.done_events += work.events_left();
        self.tell()?;
        Ok(tip)
    }

    /// Copies what the file lacks to its end; nothing behind the earlier snapshot's end counts before the manifest does.
    fn grow(&mut self, work: &Work, name: &str, end: u64) -> Result<()> {
        let disk = &*self.destination.disk;
        let to = disk.open(name, Access::Write);
        let to = to.map_err(|e| writing(disk, name, e))?;
        self.copy(work, &*to, (end, work.bytes))?;
        to.sync_all().map_err(|e| writing(disk, name, e))
    }

    fn bring_whole(&mut self, work: &Work, unfinished: &str) -> Result<()> {
        let disk = &*self.destination.disk;
        let fail = |e| writing(disk, unfinished, e);
        remove_if_there(disk, unfinished).map_err(fail)?;
        if self.share(work, unfinished)? {
            return Ok(());
        }
        let to = disk.open(unfinished, Access::CreateNew).map_err(fail)?;
        match &work.step {
            Step::Bring {
                group: Some((at, bytes)),
            } => {
                self.copy(work, &*to, (0, *at))?;
                write_all_at(&*to, bytes, *at).map_err(|e| fail(e.source))?;
            }
            _ => self.copy(work, &*to, (0, work.bytes))?,
        }
        to.sync_all().map_err(fail)
    }

    /// Has a sealed file without copying it, if that is wanted and can be.
    fn share(&mut self, work: &Work, unfinished: &str) -> Result<bool> {
        let sharing = match self.copying {
            Copying::Copy => return Ok(false),
            Copying::ReflinkOrCopy => Sharing::Reflink,
            Copying::HardLink => Sharing::HardLink,
        };
        let path = self.original.disk.path_of(&work.part.file.name());
        let Some(path) = path.filter(|_| work.part.is_sealed) else {
            return Ok(false);
        };
        let disk = &*self.destination.disk;
        if let Err(error) = disk.share(unfinished, &path, sharing) {
            tracing::debug!(file = unfinished, %error, "the bytes cannot be shared and are copied");
            return Ok(false);
        }
        if sharing == Sharing::Reflink {
            disk.open(unfinished, Access::Write)
                .and_then(|file| file.sync_all())
                .map_err(|e| writing(disk, unfinished, e))?;
        }
        self.brought.shared_bytes += work.bytes;
        self.progress.done_bytes += work.bytes;
        self.tell()?;
        Ok(true)
    }

    fn copy(&mut self, work: &Work, to: &dyn DiskFile, (start, end): (u64, u64)) -> Result<()> {
        let (source, name) = (&*self.original.disk, work.part.file.name());
        let from = source
            .open(&name, Access::Read)
            .map_err(|e| match e.kind() {
                ErrorKind::NotFound => StoreError::not_found(format!("{name} is not there")),
                _ => StoreError::io(format_args!("opening {name}"), e),
            })?;
        let (listening, progress, brought) =
            (&mut *self.listening, &mut self.progress, &mut self.brought);
        let copied = copy_bytes(&*from, to, start..end, &mut self.pace, |len| {
            brought.copied_bytes += len;
            progress.done_bytes += len;
            listening.tell(self.name, *progress).map_err(Stop::Told)
        });
        copied.map_err(|stop| match stop {
            Stop::Told(error) => error,
            Stop::Copy(CopyError::Reading(e)) => {
                StoreError::io(format_args!("reading {name} in {}", source.describe()), e)
            }
            Stop::Copy(CopyError::Writing(e)) => writing(&*self.destination.disk, &name, e),
        })
    }

    /// Reads what was brought again, from the state `from` on.
    fn prove(&mut self, work: &Work, name: &str, from: Tip) -> Result<Tip> {
        let disk = &*self.destination.disk;
        let last = work.part.last;
        let proven = proof::prove(disk, name, &work.header, (from, last), |bytes| {
            self.pace.spend(bytes);
            self.proven_bytes += bytes;
            if self.proven_bytes < PROGRESS_BYTES {
                return Ok(());
            }
            self.proven_bytes = 0;
            self.tell()
        });
        match proven {
            Ok(tip) if tip.digest == work.part.digest => Ok(tip),
            Ok(tip) => Err(StoreError::corrupt(format!(
                "{} at byte {} in {}: its events are not those that the store shows; verify the store",
                work.part.file.name(),
                tip.mark.offset,
                self.original.disk.describe()
            ))),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => Err(self.blame(work, error)),
            Err(error) => Err(error),
        }
    }

    /// Tells damage of the original from that of its copy.
    fn blame(&self, work: &Work, error: StoreError) -> StoreError {
        let (source, name) = (&*self.original.disk, work.part.file.name());
        let (header, last) = (&work.header, work.part.last);
        let sound = match &work.step {
            Step::Bring { group: Some(_) } => {
                proof::cut_behind(source, &name, header, last).map(drop)
            }
            _ => {
                let whole = (Tip::before(header), last);
                proof::prove(source, &name, header, whole, |_| Ok(())).map(drop)
            }
        };
        match (sound, &work.step) {
            (Err(damage), _) => damage,
            (Ok(()), Step::Grow { .. }) => StoreError::argument(format!(
                "{name} in {} does not go on as the store does; name an empty directory",
                self.destination.disk.describe()
            ))
            .with_source(error),
            (Ok(()), _) => StoreError::corrupt(format!(
                "the copy of {name} in {} is not what was written; check that disk, and copy again",
                self.destination.disk.describe()
            ))
            .with_source(error),
        }
    }

    fn tell(&mut self) -> Result<()> {
        self.listening.tell(self.name, self.progress)
    }
}

impl Work {
    fn bytes_left(&self) -> u64 {
        match &self.step {
            Step::Grow { from } => self.bytes.saturating_sub(from.mark.offset),
            Step::Bring { .. } => self.bytes,
        }
    }

    fn events_left(&self) -> u64 {
        let before = match &self.step {
            Step::Grow { from } => from.position,
            Step::Bring { .. } => self.part.first - 1,
        };
        self.part.last.saturating_sub(before)
    }
}

/// Why a copy ended early.
enum Stop {
    Copy(CopyError),
    Told(StoreError),
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

/// Checks that a segment continues the one before it, where that was proven in the same pass.
fn check_follows(name: &str, before: Option<Tip>, begin: Tip) -> Result<()> {
    match before.map(|tip| Tip {
        mark: begin.mark,
        ..tip
    }) {
        Some(tip) if tip != begin => Err(StoreError::corrupt(format!(
            "{name} at byte 0: it does not continue the segment before it; restore both files from a copy"
        ))),
        _ => Ok(()),
    }
}

fn writing(disk: &dyn Disk, name: &str, error: std::io::Error) -> StoreError {
    StoreError::io(format_args!("writing {name} in {}", disk.describe()), error)
}
