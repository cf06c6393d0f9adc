//! The reading side of a store that another process may be writing: the log as far as it is proven durable, and what
//! is added to it.
//!
//! It changes nothing in the directory, and no event is shown that the hint, the checkpoint, a later segment's header or
//! a group's `synced through` does not prove durable. It needs no thread: whoever owns it calls, one at a time.

mod exchange;

use crate::engine::chain;
use crate::engine::load;
use crate::engine::runs;
use crate::engine::shared::{Published, head_of};
use crate::error::{Result, StoreError};
use crate::format::checkpoint::{Checkpoint, SealedEntry};
use crate::format::codec::DecodeError;
use crate::format::group::GroupHeader;
use crate::format::hint::Slot;
use crate::format::manifest::{Manifest, SnapshotEnd};
use crate::format::segment::SegmentHeader;
use crate::index::layer::Layer;
use crate::index::layers::{Layers, put_sealed};
use crate::index::live::LiveIndex;
use crate::index::run::Run;
use crate::index::sidx::Sidx;
use crate::io::{Access, Disk, DiskFile, Entry, Overlay};
use crate::log::files::{
    HINT, MANIFEST, SEGMENTS, SegmentFile, UNFINISHED, UNFINISHED_COPY, decode_error, read_hint,
    read_manifest, read_small,
};
use crate::log::look::{self, Listed};
use crate::log::plan::{Damage, TailEvidence, Verdict, judge, proven, proven_by};
use crate::log::scan::{Mark, Scan, Step, Tip};
use crate::log::seal::with_row;
use crate::log::segment::Segment;
use crate::sync::Arc;

/// How often an opening begins again because a writer was at work in the directory meanwhile.
pub(crate) const MAX_OPENING_ATTEMPTS: u32 = 16;

/// The log as far as it was read, and where to go on.
#[derive(Debug)]
pub(crate) struct Follower {
    disk: Arc<dyn Disk>,
    /// The manifest that says what is read.
    manifest: Manifest,
    /// The end of what was read; all of it is proven and indexed.
    tip: Tip,
    /// The header of the segment that the tip is in; none before the first.
    header: Option<SegmentHeader>,
    /// The file of that segment, once something of it was read.
    file: Option<Arc<dyn DiskFile>>,
    /// The length of the log in all segments before that one.
    full_bytes: u64,
    layers: Vec<Arc<Layer>>,
    /// The segments whose layer is their footer.
    sealed: Vec<SealedEntry>,
    /// The headers of segments that are full and indexed in memory, each with its successor's.
    unsealed: Vec<(SegmentHeader, SegmentHeader)>,
    runs: Vec<Arc<Run>>,
    /// Files were exchanged since a picture was made.
    is_exchanged: bool,
}

impl Follower {
    /// Reads the store on `disk` as far as it is proven durable.
    ///
    /// # Errors
    /// `NotFound` when there is no store, `Unsupported` for a newer format, `Corrupt` for damage below what is proven.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<(Self, Published)> {
        let disk: Arc<dyn Disk> = Arc::new(Overlay::new(disk));
        manifest_of(&*disk)?;
        for _ in 1..MAX_OPENING_ATTEMPTS {
            let before = Surroundings::of(&*disk)?;
            match Self::read(&disk) {
                Err(error) if Surroundings::of(&*disk)? != before => {
                    tracing::debug!(%error, "the store changed while it was read; it is read again");
                }
                read => return read.map(Self::with_picture),
            }
        }
        Self::read(&disk).map(Self::with_picture)
    }

    /// Looks how far the log is durable now; a new picture if that is further than in the `current` one.
    ///
    /// # Errors
    /// `NotFound` when the store is gone or another one is in its place, `Corrupt` for damage below what is proven;
    /// after either it may be called again.
    pub(crate) fn refresh(&mut self, current: &Published) -> Result<Option<Published>> {
        self.catch_up()?;
        let shown = current.full_bytes + current.end;
        let moved = shown != self.full_bytes + self.tip.mark.offset;
        let news = moved || std::mem::take(&mut self.is_exchanged);
        Ok(news.then(|| self.published()))
    }

    /// Looks once; whoever asks looks again if a file that it wanted was replaced meanwhile.
    fn look(&mut self) -> Result<()> {
        let segment = self.tip.mark.segment;
        let hinted = self.hinted()?;
        let told = hinted.map_or(0, |slot| slot.manifest_generation);
        // While nobody wrote to a snapshot no hint is there to tell.
        if self.manifest.end.is_some() || hinted.is_none() || told > self.manifest.generation {
            self.adopt_manifest()?;
        }
        if let Some(slot) = hinted.filter(|_| self.manifest.end.is_none()) {
            self.advance(proven(Some(&slot), None), &[])?;
        }
        if self.tip.mark.segment > segment {
            self.use_footers();
        }
        Ok(())
    }

    /// The state of the log as far as it was read.
    pub(crate) fn tip(&self) -> Tip {
        self.tip
    }

    fn with_picture(self) -> (Self, Published) {
        let published = self.published();
        (self, published)
    }

    fn published(&self) -> Published {
        Published {
            head: head_of(&self.tip),
            durable: self.tip.position,
            full_bytes: self.full_bytes,
            end: self.tip.mark.offset,
            layers: Layers::new(self.layers.clone(), self.runs.clone()),
        }
    }

    /// The hint comes before the rest: what it proves is there, whatever a writer does meanwhile.
    fn read(disk: &Arc<dyn Disk>) -> Result<Self> {
        let manifest = manifest_of(&**disk)?;
        let mut follower = Self {
            disk: Arc::clone(disk),
            manifest: manifest.clone(),
            tip: Tip::NOTHING,
            header: None,
            file: None,
            full_bytes: 0,
            layers: Vec::new(),
            sealed: Vec::new(),
            unsealed: Vec::new(),
            runs: Vec::new(),
            is_exchanged: false,
        };
        match &manifest.end {
            Some(end) => follower.read_snapshot(end)?,
            None => follower.read_log()?,
        }
        follower.runs = runs::over(disk, &manifest.store_id, &follower.sealed);
        Ok(follower)
    }

    fn read_log(&mut self) -> Result<()> {
        let manifest = self.manifest.clone();
        let hint = read_hint(&*self.disk, &manifest.store_id)?;
        let checkpoint = chain::read_checkpoint(&*self.disk, &manifest.store_id)?;
        let known = proven(hint.as_ref(), checkpoint.as_ref().map(|(c, _)| c));
        let known = known.max(proven_by(&manifest));
        let entries = checkpoint
            .as_ref()
            .map_or_else(Vec::new, |(c, _)| c.sealed.clone());
        let mut segments = look::list_segments(&*self.disk, &manifest)?;
        load::leave_half_made(&self.disk, &manifest, &mut segments, known, |_| Ok(()))?;
        self.enter_up_to(known.segment, &entries)?;
        self.use_checkpoint(checkpoint)?;
        self.advance(known, &entries)?;
        match segments.last() {
            Some(newest) => self.look_on(*newest, known, &entries),
            None => Ok(()),
        }
    }

    /// Reads a snapshot up to its end, behind which nothing counts, whatever else says so.
    fn read_snapshot(&mut self, end: &SnapshotEnd) -> Result<()> {
        look::list_segments(&*self.disk, &self.manifest)?;
        self.advance(load::end_mark(end), &[])?;
        load::check_end(end, &self.tip)
    }

    /// Takes the events that the checkpoint's index covers, once their groups are checked.
    fn use_checkpoint(&mut self, checkpoint: Option<(Checkpoint, Option<Sidx>)>) -> Result<()> {
        let Some(header) = self.header else {
            return Ok(());
        };
        let (file, name) = (self.file(&header)?, self.place(&header).name());
        let mut scan = Scan::begin(Arc::clone(&file), name, &header)?;
        if let Some((index, tip)) = load::walk_to_checkpoint(&mut scan, &header, checkpoint)? {
            let segment = self.segment(&header, &*file)?;
            let layer = load::checkpoint_layer(segment, &header, index, &tip);
            self.layers.push(layer);
            self.tip = tip;
        }
        Ok(())
    }

    /// Goes on behind the `known` place as far as headers and groups prove that more is durable.
    ///
    /// What stands in the newest segment is judged as the writer judges it when it opens the store, but for what no
    /// evidence covers: that is not shown, whatever it looks like, since it may be just being written.
    fn look_on(&mut self, newest: Listed, known: Mark, entries: &[SealedEntry]) -> Result<()> {
        let header = chain::header_of(&*self.disk, newest, &self.manifest)?;
        if self.tip.mark.segment < header.number {
            // A segment is synced to its end before the next one's header is written.
            self.enter_up_to(header.number - 1, entries)?;
            self.finish(&header, entries)?;
        }
        let name = newest.file.name();
        let file = look::open(&*self.disk, &name, Access::Read)?;
        let mut scan = Scan::begin(file, name, &header)?;
        if self.tip.mark.segment == header.number {
            scan.resume_at(self.tip);
        }
        let (why, extent) = loop {
            if let Step::End { why, extent } = scan.step()? {
                break (why, extent);
            }
        };
        let evidence = TailEvidence {
            segment: header.number,
            header_valid: true,
            valid_end: scan.tip.mark.offset,
            rest: look::look_behind(&mut scan, &header, extent)?,
            durable: known.max(scan.synced),
        };
        match judge(&evidence) {
            Verdict::Refuse(damage @ (Damage::Lost(_) | Damage::UnderAcknowledged(_))) => {
                Err(load::refusal(newest.file, damage, why))
            }
            _ => self.advance(evidence.proven(), entries),
        }
    }

    /// Reads up to a place that is proven durable; one that was passed is no news.
    fn advance(&mut self, durable: Mark, entries: &[SealedEntry]) -> Result<()> {
        self.enter_up_to(durable.segment, entries)?;
        if durable > self.tip.mark {
            self.index_up_to(durable.offset, u64::MAX)?;
        }
        match &self.header {
            Some(header) => chain::check_reach(&self.manifest, header, self.tip.position),
            None => Ok(()),
        }
    }

    /// Reads every segment before `segment` to its end, and begins that one.
    ///
    /// A segment is begun only when something says that its header is durable: one that could not be begun after all
    /// is taken away again, and the log goes on in the one before it.
    fn enter_up_to(&mut self, segment: u64, entries: &[SealedEntry]) -> Result<()> {
        while self.tip.mark.segment < segment {
            let entered = self.enter_next(entries);
            entered.or_else(|error| self.enter_replaced(error, entries))?;
        }
        Ok(())
    }

    fn enter_next(&mut self, entries: &[SealedEntry]) -> Result<()> {
        let file = SegmentFile::holding(&self.manifest, self.tip.mark.segment + 1);
        let next = chain::header_of(&*self.disk, self.find(file)?, &self.manifest)?;
        self.finish(&next, entries)?;
        if let Some(header) = self.header.filter(|header| !self.is_sealed(header)) {
            self.unsealed.push((header, next));
        }
        self.full_bytes += self.tip.mark.offset;
        self.tip = Tip::before(&next);
        self.header = Some(next);
        self.file = None;
        Ok(())
    }

    /// Reads the segment at the tip to the end at which `next` continues it: from its footer, or else from its groups.
    fn finish(&mut self, next: &SegmentHeader, entries: &[SealedEntry]) -> Result<()> {
        if let Some(header) = self.header.filter(|header| !self.is_sealed(header)) {
            // Once more, since the writer may seal it meanwhile and cut the file behind the footer.
            chain::check_reach(&self.manifest, &header, next.first_position - 1)?;
            self.read_to_end(&header, next, entries)
                .or_else(|_| self.read_to_end(&header, next, entries))?;
        }
        let begin = Tip::before(next);
        let end = Tip {
            mark: begin.mark,
            ..self.tip
        };
        match end == begin && next.predecessor == self.tip.mark.segment {
            true => Ok(()),
            false => {
                let file = SegmentFile::holding(&self.manifest, self.tip.mark.segment);
                Err(chain::continues_others(file, self.tip.mark, next))
            }
        }
    }

    fn read_to_end(
        &mut self,
        header: &SegmentHeader,
        next: &SegmentHeader,
        entries: &[SealedEntry],
    ) -> Result<()> {
        match self.use_footer(header, next, entries)? {
            true => Ok(()),
            false => self.index_up_to(u64::MAX, next.first_position - 1),
        }
    }

    /// Whether the segment at the tip, which has this header, is read from its footer.
    fn is_sealed(&self, header: &SegmentHeader) -> bool {
        let last = self.sealed.last();
        last.is_some_and(|entry| entry.number == header.number)
    }

    /// Replaces all that is known of a segment by its footer; whether it has a usable one.
    fn use_footer(
        &mut self,
        header: &SegmentHeader,
        next: &SegmentHeader,
        entries: &[SealedEntry],
    ) -> Result<bool> {
        let listed = self.find(self.place(header))?;
        let entry = chain::find_entry(&self.disk, listed, header, next, entries)?;
        let Some(entry) = entry.filter(|entry| self.goes_on_to(entry)) else {
            return Ok(false);
        };
        let layer = chain::layer_of(&self.disk, &entry, header.digest_before);
        // Mapped while the file is there: compaction takes it away when the writer's own views let go of it.
        layer.segment().map()?;
        put_sealed(&mut self.layers, Arc::new(layer));
        let place = self.sealed.partition_point(|e| e.number < entry.number);
        self.sealed.insert(place, entry);
        if entry.number == self.tip.mark.segment {
            self.tip = end_of(&entry);
        }
        Ok(true)
    }

    /// Whether an entry leaves nothing out that was read of its segment.
    fn goes_on_to(&self, entry: &SealedEntry) -> bool {
        entry.number != self.tip.mark.segment
            || (entry.last_position, entry.log_end) >= (self.tip.position, self.tip.mark.offset)
    }

    /// Replaces indexes in memory of segments that were sealed meanwhile, and takes in the runs over them.
    fn use_footers(&mut self) {
        for (header, next) in std::mem::take(&mut self.unsealed) {
            match self.use_footer(&header, &next, &[]) {
                Ok(true) => {}
                Ok(false) => self.unsealed.push((header, next)),
                Err(error) => {
                    tracing::debug!(segment = header.number, %error, "a footer cannot be read");
                    self.unsealed.push((header, next));
                }
            }
        }
        self.renew_runs();
    }

    /// Takes in which runs there are to be now.
    fn renew_runs(&mut self) {
        let mut runs = runs::over(&self.disk, &self.manifest.store_id, &self.sealed);
        // One that was asked for too early would be taken for missing for good.
        self.runs.retain(|known| known.is_usable());
        runs::keep_known(&mut runs, &self.runs);
        self.runs = runs;
    }

    /// Indexes the groups behind the tip up to byte `limit` of the segment or to event `last`, all of them proven.
    fn index_up_to(&mut self, limit: u64, last: u64) -> Result<()> {
        let Some(header) = self.header else {
            return Ok(());
        };
        let (file, name) = (self.file(&header)?, self.place(&header).name());
        let mut scan = Scan::begin(Arc::clone(&file), name, &header)?;
        scan.limit_to(limit);
        scan.resume_at(self.tip);
        while scan.tip.mark.offset < limit && scan.tip.position < last {
            match scan.step()? {
                Step::Group(group) => self.index(&header, &file, &scan, &group)?,
                Step::End { why, .. } => {
                    let damage = Damage::UnderAcknowledged(scan.tip.mark.offset);
                    return Err(load::refusal(self.place(&header), damage, why));
                }
            }
        }
        Ok(())
    }

    /// Adds the group that the scan stepped over; of one that fails nothing stays.
    fn index(
        &mut self,
        header: &SegmentHeader,
        file: &Arc<dyn DiskFile>,
        scan: &Scan,
        group: &GroupHeader,
    ) -> Result<()> {
        let layer = self.live_layer(header, &**file, group.end())?;
        let Some(live) = layer.live_index() else {
            return Err(StoreError::argument("the newest layer is not live"));
        };
        let (place, rows) = (self.place(header), live.read().rows());
        scan.frames(group, |offset, position, frame| {
            with_row(place, offset, position, frame, |row| {
                live.write().push(row);
            })
        })
        .inspect_err(|_| live.write().truncate(rows))?;
        self.tip = scan.tip;
        Ok(())
    }

    /// The layer that new events go into, whose map reaches as far as `end`.
    ///
    /// A file may grow beyond the map that it has: closing cuts it to its log, and the next writer lengthens it again.
    /// The rows then go on over a longer map, so that a segment does not get a layer from every writer that opens it.
    fn live_layer(
        &mut self,
        header: &SegmentHeader,
        file: &dyn DiskFile,
        end: u64,
    ) -> Result<Arc<Layer>> {
        let last = self.layers.last();
        let last = last.filter(|layer| layer.segment().number() == header.number);
        let segment = match last {
            Some(layer) if layer.segment().map()?.len() >= end => {
                if layer.live_index().is_some() {
                    return Ok(Arc::clone(layer));
                }
                Arc::clone(layer.segment())
            }
            _ => self.segment(header, file)?,
        };
        let layer = match last.and_then(|layer| layer.over(&segment)) {
            Some(longer) => {
                self.layers.pop();
                longer
            }
            None => {
                let index = LiveIndex::new(self.tip.position + 1);
                Layer::live(segment, self.tip.digest, index)
            }
        };
        let layer = Arc::new(layer);
        self.layers.push(Arc::clone(&layer));
        Ok(layer)
    }

    /// The segment at the tip, mapped as long as its file is now.
    fn segment(&self, header: &SegmentHeader, file: &dyn DiskFile) -> Result<Arc<Segment>> {
        let place = self.place(header);
        let fail = |e| {
            let name = place.name();
            StoreError::io(format_args!("asking for the length of {name}"), e)
        };
        let bytes = file.len().map_err(fail)?;
        Segment::active(Arc::clone(&self.disk), place, file, header, bytes).map(Arc::new)
    }

    /// The file of the segment at the tip.
    fn file(&mut self, header: &SegmentHeader) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = look::open(&*self.disk, &self.place(header).name(), Access::Read)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The file that a header was read from.
    fn place(&self, header: &SegmentHeader) -> SegmentFile {
        SegmentFile::holding(&self.manifest, header.number)
    }

    /// A segment that must be there.
    fn find(&self, place: SegmentFile) -> Result<Listed> {
        let name = place.name();
        let fail = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => StoreError::corrupt(format!(
                "{name} is missing and holds acknowledged events; restore it from a copy"
            )),
            _ => StoreError::io(format_args!("opening {name}"), e),
        };
        let file = self.disk.open(&name, Access::Read).map_err(fail)?;
        let bytes = file.len().map_err(fail)?;
        Ok(Listed { file: place, bytes })
    }

    /// What the hint says; `None` when it says nothing, as while it is written.
    fn hinted(&self) -> Result<Option<Slot>> {
        let Some(bytes) = read_small(&*self.disk, HINT)? else {
            return Ok(None);
        };
        match Slot::newest(&bytes, &self.manifest.store_id) {
            Ok(slot) => Ok(Some(slot)),
            Err(DecodeError::Corrupt(_)) => Ok(None),
            Err(error) => Err(decode_error(HINT, 0, &error)),
        }
    }
}

/// The state behind the last group of a sealed segment.
fn end_of(entry: &SealedEntry) -> Tip {
    Tip {
        mark: Mark {
            segment: entry.number,
            offset: entry.log_end,
        },
        position: entry.last_position,
        sequence: entry.last_group_sequence,
        checksum: entry.last_group_checksum,
        recorded_at: entry.last_recorded,
        digest: entry.digest,
    }
}

/// What a writer changes while it works: what went wrong between two equal looks was not its doing.
#[derive(PartialEq)]
struct Surroundings {
    manifest: Option<Vec<u8>>,
    hint: Option<Vec<u8>>,
    files: Vec<Entry>,
}

impl Surroundings {
    fn of(disk: &dyn Disk) -> Result<Self> {
        Ok(Self {
            manifest: read_small(disk, MANIFEST)?,
            hint: read_small(disk, HINT)?,
            files: disk
                .list(SEGMENTS)
                .map_err(|e| StoreError::io(format_args!("listing {SEGMENTS}"), e))?,
        })
    }
}

fn manifest_of(disk: &dyn Disk) -> Result<Manifest> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let none_yet = |what: &str| {
        StoreError::not_found(format!(
            "there is no store in {}: {what}; name the directory of one, or wait until it is opened for writing",
            disk.describe()
        ))
    };
    let files = match disk.list("") {
        Ok(files) => files,
        Err(e) if e.kind() == NotFound => return Err(none_yet("it does not exist")),
        Err(e) if e.kind() == NotADirectory => {
            return Err(StoreError::argument(format!(
                "{} is not a directory; a store is one: name it",
                disk.describe()
            )));
        }
        Err(e) => {
            return Err(StoreError::io(
                format_args!("listing {}", disk.describe()),
                e,
            ));
        }
    };
    let Some(manifest) = read_manifest(disk)? else {
        let has = |name: &str| files.iter().any(|entry| entry.name == name);
        return Err(match (has(HINT), has(UNFINISHED)) {
            (true, _) => StoreError::corrupt(format!(
                "{MANIFEST} is missing in {}; restore it from a copy",
                disk.describe()
            )),
            (false, true) => StoreError::not_found(format!(
                "there is no store in {}: {UNFINISHED_COPY}",
                disk.describe()
            )),
            (false, false) => none_yet(&format!("it holds no {MANIFEST}")),
        });
    };
    Ok(manifest)
}
