//! What a compaction would do: which segments it would write anew, and what that would free.
//!
//! Nothing is changed here. The predicate is asked once about each event that it may let go, and what it said is kept,
//! one bit for each event of the segments that change, so that the work does what the plan says. Runs on the thread
//! that plans or compacts, which has others ask and measure.

use std::collections::BTreeMap;
use std::fmt;

use crate::engine::compact_config::CompactionConfig;
use crate::engine::compact_size::runs_after;
use crate::engine::shared::{Engine, Published};
use crate::engine::survey::{GoOn, Question, Survey};
use crate::engine::threads::work_out;
use crate::error::Result;
use crate::event::timestamp::Timestamp;
use crate::format::checkpoint::SealedEntry;
use crate::index::going::Going;
use crate::index::merged_size::{IndexSize, Merged, index_size};
use crate::index::picture::Picture;
use crate::index::sidx::RunShare;
use crate::log::lengths::Lengths;
use crate::log::scan::GROUPS_START;
use crate::log::seal::footer_start;

/// How many of the files that are written a plan shows when it is printed.
const SHOWN_REWRITES: usize = 10;

/// What a compaction would do, or did: the figures of a dry run.
///
/// Freed is what the files of the segments and the runs over them shrink by; it is negative where stubs and their places
/// in the index take more than the events that they stand for. The log is counted; the length of an index is told from
/// those that it takes the place of. Together they are right within a tenth, or within 4096 bytes for each file: a file
/// system rounds up, and the manifest and the checkpoint, which list the files, are not counted.
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
    /// Bytes of those files that there are, and of indexes made beside them.
    pub disk_bytes_before: u64,
    /// Bytes of those files that there will be, foreseen.
    pub disk_bytes_after: u64,
    /// Bytes of the runs that there are: filters and names of many segments.
    pub run_bytes_before: u64,
    /// Bytes of the runs that there will be, foreseen: upkeep makes them after the compaction.
    pub run_bytes_after: u64,
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
    /// Bytes of the files that it takes the place of, and of indexes made beside them.
    pub disk_bytes_before: u64,
    /// Its own bytes, foreseen.
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
        let before = i128::from(self.disk_bytes_before) + i128::from(self.run_bytes_before);
        before - i128::from(self.disk_bytes_after) - i128::from(self.run_bytes_after)
    }

    /// Says of one file how long it became.
    pub(super) fn has_written(&mut self, index: usize, file_bytes: u64) {
        if let Some(rewrite) = self.rewrites.get_mut(index) {
            let foreseen = std::mem::replace(&mut rewrite.disk_bytes_after, file_bytes);
            self.disk_bytes_after = self.disk_bytes_after - foreseen + file_bytes;
        }
    }
}

impl fmt::Display for CompactionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(
                f,
                "nothing to do in {} sealed files; the newest segment's turn comes once it is full",
                self.files_before
            );
        }
        writeln!(
            f,
            "{} events go ({} bytes), their stubs stay ({} bytes)",
            self.events_removed, self.removed_bytes, self.stub_bytes
        )?;
        write!(
            f,
            "{} files of {} bytes become {} of {} bytes: {} bytes freed, {} of the log written anew",
            self.files_before,
            self.disk_bytes_before,
            self.files_after,
            self.disk_bytes_after,
            self.freed_bytes(),
            self.rewritten_bytes
        )?;
        for rewrite in self.rewrites.iter().take(SHOWN_REWRITES) {
            write!(f, "\n  {rewrite}")?;
        }
        match self.rewrites.len().saturating_sub(SHOWN_REWRITES) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more files"),
        }
    }
}

impl fmt::Display for PlannedRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "segments {} to {}: {} files, {} events go, {} bytes become {}",
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
    /// What goes of each.
    going: Vec<Going>,
}

impl Task {
    /// Whether the content of the event at `position` goes.
    pub(super) fn goes(&self, position: u64) -> bool {
        let source = self
            .sources
            .partition_point(|entry| entry.last_position < position);
        let (Some(entry), Some(going)) = (self.sources.get(source), self.going.get(source)) else {
            return false;
        };
        let row = position.checked_sub(entry.first_position);
        row.is_some_and(|row| going.goes(row))
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

/// The last position whose content may go, whatever a predicate says: what a named consumer has not read stays.
///
/// There are none yet: when they come, this is where their bookmarks, and those of caches, are asked.
fn floor(_engine: &Engine) -> Option<u64> {
    None
}

/// Looks at every sealed segment; `go_on` is asked now and then and may stop it.
pub(super) fn plan(engine: &Engine, config: &CompactionConfig, go_on: &GoOn<'_>) -> Result<Work> {
    let go_on = &|| {
        std::thread::yield_now();
        go_on()
    };
    engine.backlog.wait_for_those_of_now();
    let (sealed, published) = sealed_and_shown(engine);
    let picture = Picture {
        layers: &published.layers,
        upto: published.durable,
        staged: None,
    };
    let question = Question {
        predicate: config.removed.as_deref(),
        min_freed_percent: config.min_freed_percent,
        now: Timestamp::from_nanos(engine.config.clock.now()),
        picture,
        upto: floor(engine).unwrap_or(u64::MAX),
    };
    let surveys = question.ask_of(&sealed, go_on)?;
    let limits = Limits {
        small: config
            .merge_below
            .unwrap_or(engine.config.segment_bytes / 2),
        most: engine.config.segment_bytes,
    };
    let lengths = Lengths::list(&*engine.disk)?;
    let mut work = Work::default();
    let mut shares = BTreeMap::new();
    let groups = divide(surveys, &limits);
    let indexes = work_out("quipu-plan", &groups, || {
        |group: &Vec<Survey<'_>>| index_of(group, go_on)
    })?;
    for (group, index) in groups.into_iter().zip(indexes) {
        shares.extend(work.add(group, index, &lengths));
    }
    work.plan.run_bytes_before = lengths.of_runs();
    work.plan.run_bytes_after = match work.tasks.is_empty() {
        true => lengths.of_runs(),
        false => runs_after(
            engine,
            &work.sealed_after(sealed),
            &shares,
            &lengths,
            |number| {
                let all = &picture.layers.all;
                let layer = all.iter().find(|layer| layer.segment().number() == number);
                Ok(layer
                    .map(|layer| layer.run_share())
                    .transpose()?
                    .unwrap_or_default())
            },
        )?,
    };
    Ok(work)
}

/// The sealed segments and what readers see, of one moment: both locks, in the order of a compaction that switches.
fn sealed_and_shown(engine: &Engine) -> (Vec<SealedEntry>, Published) {
    let sealed = engine.sealed.lock();
    let published = engine.front.published.read().clone();
    (sealed.clone(), published)
}

impl Survey<'_> {
    /// Where its log would end.
    fn log_end(&self) -> u64 {
        self.entry
            .log_end
            .saturating_add_signed(-self.going.shrinks_by())
    }
}

/// What makes segments worth merging.
struct Limits {
    /// Shorter logs than this are merged.
    small: u64,
    /// No merged log is longer.
    most: u64,
}

/// Says which segments become one file; one that is alone may stay as it is.
fn divide<'a>(surveys: Vec<Survey<'a>>, limits: &Limits) -> Vec<Vec<Survey<'a>>> {
    let mut groups: Vec<Vec<Survey<'a>>> = Vec::new();
    for next in surveys {
        match groups.last_mut() {
            Some(group) if joins(group, &next, limits) => group.push(next),
            _ => groups.push(vec![next]),
        }
    }
    groups
}

/// Whether a segment becomes part of the file that the group before it becomes.
fn joins(group: &[Survey<'_>], next: &Survey<'_>, limits: &Limits) -> bool {
    let Some(last) = group.last() else {
        return true;
    };
    // What is not small is never joined to, so that the last one speaks for all.
    last.entry.last_position + 1 == next.entry.first_position
        && last.log_end().max(next.log_end()) < limits.small
        && merged_log_end(group.iter().chain([next])) <= limits.most
}

fn merged_log_end<'a>(group: impl IntoIterator<Item = &'a Survey<'a>>) -> u64 {
    let log_bytes = |survey: &Survey<'_>| survey.log_end() - GROUPS_START;
    GROUPS_START + group.into_iter().map(log_bytes).sum::<u64>()
}

impl Work {
    /// Takes in segments that become one file with this index, or one that stays as it is; which adds what to a run.
    fn add(
        &mut self,
        group: Vec<Survey<'_>>,
        index: Option<IndexSize>,
        lengths: &Lengths,
    ) -> Option<(u64, RunShare)> {
        let (first, last) = (group.first()?, group.last()?);
        let sum = |of: fn(&Going) -> u64| group.iter().map(|s| of(&s.going)).sum::<u64>();
        let before = group.iter().map(|s| lengths.of_sealed(&s.entry)).sum();
        let (files, events) = (group.len() as u64, sum(|going| going.events));
        let plan = &mut self.plan;
        plan.files_before += files;
        plan.disk_bytes_before += before;
        plan.files_after += 1;
        let Some(index) = index else {
            plan.disk_bytes_after += before;
            return None;
        };
        let share = (last.entry.number, index.run_share);
        let after = footer_start(merged_log_end(&group)) + index.bytes;
        plan.disk_bytes_after += after;
        plan.events_removed += events;
        plan.removed_bytes += sum(|going| going.removed_bytes);
        plan.stub_bytes += sum(|going| going.stub_bytes);
        plan.rewrites.push(PlannedRewrite {
            first_segment: first.entry.first,
            last_segment: last.entry.number,
            files,
            events_removed: events,
            disk_bytes_before: before,
            disk_bytes_after: after,
        });
        let (sources, going) = group.into_iter().map(|s| (s.entry, s.going)).unzip();
        let task = Task { sources, going };
        plan.rewritten_bytes += task.log_bytes();
        self.tasks.push(task);
        Some(share)
    }

    /// What of `sealed` there will be, and a file for each task; only of their numbers is anything known.
    fn sealed_after(&self, mut sealed: Vec<SealedEntry>) -> Vec<SealedEntry> {
        for task in &self.tasks {
            let (Some(first), Some(last)) = (task.sources.first(), task.sources.last()) else {
                continue;
            };
            sealed.retain(|entry| entry.number < first.first || last.number <= entry.number);
            if let Some(entry) = sealed.iter_mut().find(|entry| entry.number == last.number) {
                entry.first = first.first;
            }
        }
        sealed
    }
}

/// The index over segments that become one file; `None` for one that stays as it is.
fn index_of(group: &[Survey<'_>], go_on: &GoOn<'_>) -> Result<Option<IndexSize>> {
    if let [alone] = group
        && alone.going.is_empty()
    {
        return Ok(None);
    }
    let merged = group.iter().map(|survey| Merged {
        layer: survey.layer,
        going: &survey.going,
    });
    index_size(&merged.collect::<Vec<_>>(), &mut || go_on()).map(Some)
}
