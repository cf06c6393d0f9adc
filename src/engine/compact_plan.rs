//! What a compaction would do: which segments it would write anew, and what that would free.
//!
//! Nothing is changed here. The predicate is asked once about each event that it may let go, and what it said is kept,
//! one bit for each event of the segments that change, so that the work does what the plan says. Runs on the thread
//! that plans or compacts.

use std::fmt;

use crate::engine::compact::CompactionConfig;
use crate::engine::shared::Engine;
use crate::error::Result;
use crate::event::kind::EventKind;
use crate::event::timestamp::Timestamp;
use crate::format::checkpoint::SealedEntry;
use crate::index::layer::{Direction, Layer};
use crate::index::picture::Picture;
use crate::index::retention::{RetentionMoment, RetentionPredicate};
use crate::index::walk::Walk;
use crate::log::scan::GROUPS_START;
use crate::log::seal::footer_start;

/// How many events are asked about before the plan looks whether it is to stop.
const EVENTS_BETWEEN_STOPS: u32 = 1024;

/// What a compaction would do, or did: the figures of a dry run.
///
/// Freed is what the files of the segments shrink by; it is negative where stubs and their places in the index take more
/// than the events that they stand for. An estimate: the indexes are not made to learn their length.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CompactionPlan {
    /// Events whose content goes; a stub of each stays.
    pub events_removed: u64,
    /// Bytes of those events in the log.
    pub removed_bytes: u64,
    /// Bytes of the stubs that take their places.
    pub stub_bytes: u64,
    /// Sealed segment files that there are.
    pub files_before: u64,
    /// Sealed segment files that there will be.
    pub files_after: u64,
    /// Bytes of those files that there are.
    pub disk_bytes_before: u64,
    /// Bytes of those files that there will be, estimated.
    pub disk_bytes_after: u64,
    /// Bytes of the log that are read and written anew.
    pub rewritten_bytes: u64,
    /// Each file that is written, in order.
    pub rewrites: Vec<PlannedRewrite>,
}

/// One file that a compaction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PlannedRewrite {
    /// The first segment that it stands for.
    pub first_segment: u64,
    /// The last segment that it stands for.
    pub last_segment: u64,
    /// How many files it takes the place of.
    pub files: u64,
    /// Events whose content goes.
    pub events_removed: u64,
    /// Bytes of the files that it takes the place of.
    pub disk_bytes_before: u64,
    /// Its own bytes, estimated.
    pub disk_bytes_after: u64,
}

impl CompactionPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rewrites.is_empty()
    }

    /// By how many bytes the files shrink; negative where they grow.
    #[must_use]
    pub fn freed_bytes(&self) -> i128 {
        i128::from(self.disk_bytes_before) - i128::from(self.disk_bytes_after)
    }
}

impl CompactionPlan {
    /// Says of one file how long it became.
    pub(super) fn has_written(&mut self, index: usize, file_bytes: u64) {
        if let Some(rewrite) = self.rewrites.get_mut(index) {
            let estimated = std::mem::replace(&mut rewrite.disk_bytes_after, file_bytes);
            self.disk_bytes_after = self.disk_bytes_after - estimated + file_bytes;
        }
    }
}

impl fmt::Display for CompactionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "nothing to do in {} files", self.files_before);
        }
        writeln!(
            f,
            "{} events go ({} bytes), their stubs stay ({} bytes)",
            self.events_removed, self.removed_bytes, self.stub_bytes
        )?;
        write!(
            f,
            "{} files of {} bytes become {} files of about {} bytes; {} bytes of the log are written anew",
            self.files_before,
            self.disk_bytes_before,
            self.files_after,
            self.disk_bytes_after,
            self.rewritten_bytes
        )?;
        for rewrite in &self.rewrites {
            write!(f, "\n  {rewrite}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PlannedRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segments {} to {}: {} files, {} events go, {} bytes become about {}",
            self.first_segment,
            self.last_segment,
            self.files,
            self.events_removed,
            self.disk_bytes_before,
            self.disk_bytes_after
        )
    }
}

/// What is to be done, and what of it may be shown.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) plan: CompactionPlan,
    pub(super) tasks: Vec<Task>,
}

/// Segments that become one file.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) sources: Vec<SealedEntry>,
    surveys: Vec<Survey>,
}

impl Task {
    /// Whether the content of the event at `position` goes.
    pub(super) fn goes(&self, position: u64) -> bool {
        let after = self
            .surveys
            .partition_point(|survey| survey.first_position <= position);
        let survey = after.checked_sub(1).and_then(|at| self.surveys.get(at));
        survey.is_some_and(|survey| survey.goes(position))
    }

    /// Bytes of the log that it goes through.
    pub(super) fn log_bytes(&self) -> u64 {
        self.sources
            .iter()
            .map(|entry| entry.log_end - GROUPS_START)
            .sum()
    }

    /// Events and stubs that it goes through.
    pub(super) fn events(&self) -> u64 {
        let rows = |entry: &SealedEntry| entry.last_position + 1 - entry.first_position;
        self.sources.iter().map(rows).sum()
    }
}

/// What would become of one sealed segment.
#[derive(Debug, Default)]
struct Survey {
    first_position: u64,
    /// One bit for each position; empty if nothing goes.
    going: Vec<u64>,
    events: u64,
    removed_bytes: u64,
    stub_bytes: u64,
    /// Where its log would end.
    log_end: u64,
    /// How long its index would be.
    footer_bytes: u64,
}

impl Survey {
    fn add(&mut self, position: u64, removed_bytes: u64, stub_bytes: u64) {
        let (word, bit) = self.place(position);
        if self.going.len() <= word {
            self.going.resize(word + 1, 0);
        }
        if let Some(word) = self.going.get_mut(word) {
            *word |= bit;
        }
        self.events += 1;
        self.removed_bytes += removed_bytes;
        self.stub_bytes += stub_bytes;
        self.log_end = self.log_end + stub_bytes - removed_bytes;
    }

    fn goes(&self, position: u64) -> bool {
        let (word, bit) = self.place(position);
        self.going.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(&self, position: u64) -> (usize, u64) {
        let row = position.saturating_sub(self.first_position);
        let word = usize::try_from(row / 64).unwrap_or(usize::MAX);
        (word, 1 << (row % 64))
    }

    /// Nothing goes.
    fn of(entry: &SealedEntry) -> Self {
        Self {
            first_position: entry.first_position,
            log_end: entry.log_end,
            footer_bytes: entry.file_bytes.saturating_sub(footer_start(entry.log_end)),
            ..Self::default()
        }
    }

    /// Lets everything stay after all if that frees too little, and estimates the index.
    fn settle(&mut self, entry: &SealedEntry, layer: &Layer, min_freed_percent: u8) -> Result<()> {
        let freed = self.removed_bytes.saturating_sub(self.stub_bytes);
        if freed * 100 < entry.log_end * u64::from(min_freed_percent) {
            *self = Self::of(entry);
        }
        if self.events > 0 {
            self.footer_bytes = layer.index_bytes_with_stubs(self.events)?;
        }
        Ok(())
    }
}

/// The last position whose content may go, whatever a predicate says: what a named consumer has not read stays.
///
/// There are none yet: when they come, this is where their bookmarks, and those of caches, are asked.
fn floor(_engine: &Engine) -> Option<u64> {
    None
}

/// Looks at every sealed segment; `go_on` is asked now and then and may stop it.
pub(super) fn plan(
    engine: &Engine,
    config: &CompactionConfig,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Work> {
    let sealed = engine.sealed.lock().clone();
    let published = engine.front.published.read().clone();
    let picture = Picture {
        layers: &published.layers,
        upto: published.durable,
        staged: None,
    };
    let now = Timestamp::from_nanos(engine.config.clock.now());
    let moment = RetentionMoment::new(now, picture);
    let highest = floor(engine).unwrap_or(u64::MAX);
    let mut segments = Vec::with_capacity(sealed.len());
    for entry in sealed {
        go_on()?;
        let Some(layer) = layer_of(&picture, &entry) else {
            // It was sealed a moment ago; the next compaction sees it.
            continue;
        };
        let mut survey = Survey::of(&entry);
        if let Some(predicate) = &config.removed {
            let question = Question {
                predicate: predicate.as_ref(),
                moment: &moment,
                picture: &picture,
                layer,
                span: (entry.first_position, entry.last_position.min(highest)),
            };
            question.ask(&mut survey, go_on)?;
            survey.settle(&entry, layer, config.min_freed_percent)?;
        }
        segments.push((entry, survey));
    }
    let small = engine.config.segment_bytes / 2;
    let limits = Limits {
        small: config.merge_below.unwrap_or(small),
        most: engine.config.segment_bytes,
    };
    Ok(divide(segments, &limits))
}

/// The layer of a sealed segment, once readers see it.
fn layer_of<'a>(picture: &Picture<'a>, entry: &SealedEntry) -> Option<&'a Layer> {
    let layer = picture
        .layers
        .all
        .get(picture.layer_of(entry.first_position)?)?;
    let spanned = (layer.first_position(), layer.last_position());
    (spanned == (entry.first_position, entry.last_position)).then_some(layer)
}

/// What of one segment may go.
struct Question<'a> {
    predicate: &'a dyn RetentionPredicate,
    moment: &'a RetentionMoment<'a>,
    picture: &'a Picture<'a>,
    layer: &'a Layer,
    span: (u64, u64),
}

impl Question<'_> {
    fn ask(&self, survey: &mut Survey, go_on: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let rows = self.layer.rows_upto(u64::MAX);
        if self.layer.kept_between((0, rows))? == 0 {
            return Ok(());
        }
        let query = self.predicate.candidates(self.moment.now());
        let mut walk = Walk::new(query, Direction::Forward, self.span, usize::MAX);
        let mut asked = 0_u32;
        while let Some(hit) = walk.next(self.picture) {
            let event = hit?.event;
            asked = asked.wrapping_add(1);
            if asked.is_multiple_of(EVENTS_BETWEEN_STOPS) {
                go_on()?;
            }
            if EventKind::TOMBSTONE != event.kind() && self.predicate.may_go(&event, self.moment)? {
                let position = event.position().get();
                survey.add(position, event.frame_bytes(), event.stub_bytes());
            }
        }
        Ok(())
    }
}

/// What makes segments worth merging.
struct Limits {
    /// Shorter logs than this are merged.
    small: u64,
    /// No merged log is longer.
    most: u64,
}

/// Says which segments become one file and which stay as they are.
fn divide(segments: Vec<(SealedEntry, Survey)>, limits: &Limits) -> Work {
    let mut work = Work::default();
    let mut group: Vec<(SealedEntry, Survey)> = Vec::new();
    for next in segments {
        if !joins(&group, &next, limits) {
            work.add(std::mem::take(&mut group));
        }
        group.push(next);
    }
    work.add(group);
    work
}

/// Whether a segment becomes part of the file that the group before it becomes.
fn joins(group: &[(SealedEntry, Survey)], next: &(SealedEntry, Survey), limits: &Limits) -> bool {
    let Some((last, survey)) = group.last() else {
        return true;
    };
    // What is not small is never joined to, so that the last one speaks for all.
    last.last_position + 1 == next.0.first_position
        && survey.log_end.max(next.1.log_end) < limits.small
        && merged_log_end(group.iter().chain([next])) <= limits.most
}

fn merged_log_end<'a>(group: impl IntoIterator<Item = &'a (SealedEntry, Survey)>) -> u64 {
    let log_bytes = |(_, survey): &(SealedEntry, Survey)| survey.log_end - GROUPS_START;
    GROUPS_START + group.into_iter().map(log_bytes).sum::<u64>()
}

impl Work {
    fn add(&mut self, group: Vec<(SealedEntry, Survey)>) {
        let (Some((first, _)), Some((last, _))) = (group.first(), group.last()) else {
            return;
        };
        let sum = |of: fn(&Survey) -> u64| group.iter().map(|(_, survey)| of(survey)).sum::<u64>();
        let (files, before) = (
            group.len() as u64,
            group.iter().map(|(entry, _)| entry.file_bytes).sum(),
        );
        let events = sum(|survey| survey.events);
        let plan = &mut self.plan;
        plan.files_before += files;
        plan.disk_bytes_before += before;
        plan.files_after += 1;
        if group.len() == 1 && events == 0 {
            plan.disk_bytes_after += before;
            return;
        }
        let after = footer_start(merged_log_end(&group)) + sum(|survey| survey.footer_bytes);
        plan.disk_bytes_after += after;
        plan.events_removed += events;
        plan.removed_bytes += sum(|survey| survey.removed_bytes);
        plan.stub_bytes += sum(|survey| survey.stub_bytes);
        plan.rewrites.push(PlannedRewrite {
            first_segment: first.first,
            last_segment: last.number,
            files,
            events_removed: events,
            disk_bytes_before: before,
            disk_bytes_after: after,
        });
        let (sources, surveys) = group.into_iter().unzip();
        let task = Task { sources, surveys };
        plan.rewritten_bytes += task.log_bytes();
        self.tasks.push(task);
    }
}
