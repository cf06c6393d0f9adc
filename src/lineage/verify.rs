//! Verification: everything that the log says of itself, read again and proven from the first event to the last.
//!
//! It works on the picture of one moment, changes nothing, and holds no lock that the writer waits for. Log, footers and
//! derived files are read from the disk and not through the maps that readers share; only what an event links to is looked
//! up as readers do. Damage does not end it. Runs on the thread that asks.

use std::io::ErrorKind;

use crate::engine::front::Front;
use crate::engine::shared::Published;
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::digest::Digest;
use crate::event::position::Position;
use crate::format::codec::DecodeError;
use crate::format::group::GroupHeader;
use crate::format::record::Record;
use crate::format::segment::{SEGMENT_PAGE_BYTES, SegmentHeader};
use crate::index::layers::Layers;
use crate::io::{Access, Disk, DiskFile, read_exact_at};
use crate::lineage::derived::{Derived, Indexing};
use crate::lineage::proof::{Prover, Verdict, is_damage};
use crate::lineage::verification::{Damage, Verification};
use crate::log::files::decode_error;
use crate::log::scan::{Mark, Scan, Step, Tip};
use crate::log::segment::Segment;
use crate::options::{Control, Listening, Progress};
use crate::sync::Arc;

/// How often a verification begins again because files that it was to read were replaced meanwhile.
const MAX_ATTEMPTS: u32 = 16;
/// How much is verified between two calls of the progress callback, in bytes.
const PROGRESS_BYTES: u64 = 1024 * 1024;
/// What the work is called where it is cancelled.
const WORK: &str = "verification";

/// How a store is verified; everything has a default.
///
/// ```
/// use quipu::{Control, Store, VerifyOptions};
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let options = VerifyOptions::new().progress(|progress| {
///     println!("{} of {} bytes", progress.done_bytes, progress.total_bytes);
///     Control::Continue
/// });
/// assert!(store.verify_with(options)?.is_sound());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct VerifyOptions {
    listening: Listening,
}

impl VerifyOptions {
    /// The defaults: nobody is told how far it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `callback` at the beginning, about every MiB and at the end; its answer may cancel the work.
    #[must_use]
    pub fn progress(mut self, callback: impl FnMut(Progress) -> Control + Send + 'static) -> Self {
        self.listening = Listening::new(callback);
        self
    }
}

/// The positions that one segment file has in the picture.
#[derive(Clone, Debug)]
struct Part {
    segment: Arc<Segment>,
    first: u64,
    last: u64,
    /// The layer is the footer.
    is_sealed: bool,
}

/// The segments of the picture, in order.
fn parts_of(layers: &Layers, upto: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for layer in &layers.all {
        let first = layer.first_position();
        if let Some(part) = parts.last_mut() {
            if Arc::ptr_eq(&part.segment, layer.segment())
                || part.segment.number() == layer.segment().number()
            {
                continue;
            }
            part.last = first - 1;
        }
        parts.push(Part {
            segment: Arc::clone(layer.segment()),
            first,
            last: upto,
            is_sealed: layer.is_sealed(),
        });
    }
    parts
}

/// Verifies what a store shows at this moment.
///
/// # Errors
/// `Io` when something cannot be read, `Unsupported` for a newer format, `Cancelled`.
pub(crate) fn verify(front: &Front, options: VerifyOptions) -> Result<Verification> {
    let mut listening = options.listening;
    for _ in 1..MAX_ATTEMPTS {
        let published = front.picture()?;
        let verifier = Verifier::new(front, &published, &mut listening);
        match verifier.run(Gone::IsAsked) {
            Err(error) if error.kind() == StoreErrorKind::NotFound => {}
            verified => return verified,
        }
    }
    let published = front.picture()?;
    Verifier::new(front, &published, &mut listening).run(Gone::IsDamage)
}

/// What it means that a segment's file is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    /// Another process may have replaced it: a newer picture tells.
    IsAsked,
    IsDamage,
}

/// The state between two segments, and what was found before.
struct Verifier<'a> {
    front: &'a Front,
    published: &'a Published,
    prover: Prover<'a>,
    found: Verification,
    /// What the next segment continues; unknown behind damage.
    tip: Option<Tip>,
    /// Offset and position of the frame under way, by which damage is named.
    at: (u64, u64),
    listening: &'a mut Listening,
    progress: Progress,
    told_bytes: u64,
}

impl<'a> Verifier<'a> {
    fn new(front: &'a Front, published: &'a Published, listening: &'a mut Listening) -> Self {
        let upto = published.head.position.get();
        let progress = Progress {
            total_bytes: published.log_bytes(),
            total_events: upto,
            ..Progress::default()
        };
        Self {
            front,
            published,
            prover: Prover::new(&published.layers, upto),
            found: Verification::begin(),
            tip: Some(Tip::NOTHING),
            at: (0, 0),
            listening,
            progress,
            told_bytes: 0,
        }
    }

    fn run(mut self, gone: Gone) -> Result<Verification> {
        self.listening.tell(WORK, self.progress)?;
        let derived = Derived::open(&*self.front.disk, &mut self.found)?;
        for part in parts_of(&self.published.layers, self.progress.total_events) {
            self.segment(&derived, &part, gone)?;
        }
        Derived::check_runs(&self.published.layers, &mut self.found)?;
        self.finish()
    }

    fn segment(&mut self, derived: &Derived, part: &Part, gone: Gone) -> Result<()> {
        self.found.segments += 1;
        self.at = (0, part.first);
        let name = part.segment.name();
        let done_before = self.progress.done_bytes;
        match self.walk(derived, part, &name) {
            Err(error) if error.kind() == StoreErrorKind::NotFound && gone == Gone::IsAsked => {
                let now = self.front.picture()?;
                let is_listed = now.layers.all.iter().any(|l| l.segment().name() == name);
                if !is_listed {
                    return Err(error);
                }
                self.pass_over(part, &name, &error);
            }
            Err(error) if is_damage(&error) || error.kind() == StoreErrorKind::NotFound => {
                self.pass_over(part, &name, &error);
            }
            walked => walked?,
        }
        self.found.bytes += self.progress.done_bytes - done_before;
        Ok(())
    }

    /// Reads one segment from its header to its footer.
    fn walk(&mut self, derived: &Derived, part: &Part, name: &str) -> Result<()> {
        let file = open(&*self.front.disk, name)?;
        let header = read_header(&*file, part, name)?;
        self.enter(&header, name);
        let mut scan = Scan::begin(Arc::clone(&file), name.to_owned(), &header)?;
        let mut indexing = derived.indexing(&header, part.is_sealed.then_some(part.last));
        let done_before = self.progress.done_bytes;
        while scan.tip.position < part.last {
            self.at = (scan.tip.mark.offset, scan.tip.position + 1);
            let group = match scan.step()? {
                Step::Group(group) => group,
                Step::End { why, .. } => return Err(StoreError::corrupt(why)),
            };
            self.group(&scan, &group, &header, indexing.as_mut())?;
            if let Some(indexing) = indexing.take_if(|i| i.is_done(scan.tip.position)) {
                // Not opened again: it may not be there any more.
                let (disk, segment) = (&*self.front.disk, (&*part.segment, &*file));
                let place = (&header, scan.tip);
                derived.compare(disk, segment, place, indexing, &mut self.found)?;
            }
            self.progress.done_bytes = done_before + scan.tip.mark.offset;
            self.tell()?;
        }
        self.progress.done_bytes = done_before + scan.tip.mark.offset;
        self.tip = Some(Tip {
            checksum: header.continued_checksum(scan.tip.sequence, scan.tip.checksum),
            ..scan.tip
        });
        Ok(())
    }

    /// Proves the events of a group that the scan has just stepped over.
    fn group(
        &mut self,
        scan: &Scan,
        group: &GroupHeader,
        header: &SegmentHeader,
        mut indexing: Option<&mut Indexing>,
    ) -> Result<()> {
        let seed = header.seed();
        scan.frames(group, |offset, position, frame| {
            self.at = (offset, position);
            let record = Record::decode(frame, &seed, offset, position).map_err(|e| match e {
                DecodeError::Corrupt(what) => StoreError::corrupt(what),
                DecodeError::Unsupported(_) => decode_error(scan.name(), offset, &e),
            })?;
            let verdict = self.prover.prove(&record, frame, position)?;
            self.note(scan.name(), &record, verdict);
            if let Some(indexing) = &mut indexing {
                indexing.push(&record, frame, offset);
            }
            Ok(())
        })?;
        if !self.prover.end_group() {
            self.damaged(scan.name(), "its batch does not end in its group");
        }
        if self.prover.digest() != scan.tip.digest {
            self.damaged(
                scan.name(),
                "the running digest behind it is not that of the events",
            );
            self.prover.go_on_from(scan.tip.digest);
        }
        Ok(())
    }

    fn note(&mut self, name: &str, record: &Record, verdict: Verdict) {
        match record {
            Record::Event(_) => self.found.events += 1,
            Record::Stub(_) => self.found.stubs += 1,
        }
        self.progress.done_events += 1;
        match verdict {
            Verdict::Proven => {}
            Verdict::Unproven => self.found.unproven += 1,
            Verdict::Wrong(what) => self.damaged(name, what),
        }
    }

    /// Checks that a segment continues the one before it, and goes on behind its header.
    fn enter(&mut self, header: &SegmentHeader, name: &str) {
        let follows = self.tip.take().map(|tip| {
            Tip {
                mark: Mark::default(),
                ..tip
            } == Tip {
                mark: Mark::default(),
                ..Tip::before(header)
            } && header.predecessor == tip.mark.segment
        });
        if follows == Some(false) {
            self.damaged(name, "its header does not continue the segment before it");
        }
        if follows != Some(true) {
            self.prover
                .pass_over(header.recorded_before, header.digest_before);
        }
    }

    /// Names the damage that ended the walk over a segment; the events behind it are without proof.
    fn pass_over(&mut self, part: &Part, name: &str, error: &StoreError) {
        let (_, position) = self.at;
        self.damaged(name, error);
        let missed = (part.last + 1).saturating_sub(position);
        self.found.unproven += missed;
        self.progress.done_events += missed;
        self.tip = None;
    }

    fn damaged(&mut self, name: &str, what: impl ToString) {
        let (offset, position) = self.at;
        self.found.damaged(Damage {
            file: name.to_owned(),
            offset,
            position: Some(Position::new(position)),
            what: what.to_string(),
        });
    }

    fn tell(&mut self) -> Result<()> {
        if self.progress.done_bytes < self.told_bytes + PROGRESS_BYTES {
            return Ok(());
        }
        self.told_bytes = self.progress.done_bytes;
        self.listening.tell(WORK, self.progress)
    }

    /// The end of all segments must be the head that readers are shown.
    fn finish(mut self) -> Result<Verification> {
        let head = self.published.head;
        if self.tip.is_some() && self.prover.digest() != *head.digest.as_bytes() {
            let newest = self.published.layers.all.last();
            let name = newest.map_or_else(String::new, |layer| layer.segment().name());
            self.damaged(&name, "the log ends in another digest than the store shows");
        }
        self.found.position = head.position;
        self.found.digest = Digest::from_bytes(self.prover.digest());
        self.progress.done_bytes = self.progress.total_bytes;
        self.progress.done_events = self.progress.total_events;
        self.listening.tell(WORK, self.progress)?;
        Ok(self.found)
    }
}

fn open(disk: &dyn Disk, name: &str) -> Result<Arc<dyn DiskFile>> {
    disk.open(name, Access::Read).map_err(|e| match e.kind() {
        ErrorKind::NotFound => StoreError::not_found("the file is not there"),
        ErrorKind::InvalidData => StoreError::corrupt(e.to_string()),
        _ => StoreError::io(format_args!("opening {name}"), e),
    })
}

fn read_header(file: &dyn DiskFile, part: &Part, name: &str) -> Result<SegmentHeader> {
    let mut page = [0; SEGMENT_PAGE_BYTES];
    read_exact_at(file, &mut page, 0).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => StoreError::corrupt("the file ends in its header"),
        _ => StoreError::io(format_args!("reading {name}"), e),
    })?;
    let header = SegmentHeader::decode(&page).map_err(|e| match e {
        DecodeError::Corrupt(what) => StoreError::corrupt(what),
        DecodeError::Unsupported(_) => decode_error(name, 0, &e),
    })?;
    if !part.segment.place().has(&header) || header.store_id != *part.segment.store_id() {
        return Err(StoreError::corrupt("it is another segment"));
    }
    Ok(header)
}
