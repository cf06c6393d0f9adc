//! A compaction, and what the model says of it: what goes, what the plan foretold, and what those see who read meanwhile.

use crate::answers::assert_answers;
use crate::plain::Branch;
use crate::rules::{Ends, Rule};
use crate::same::positions;
use crate::world::World;
use quipu::io::Clock;
use quipu::prelude::*;
use quipu::{
    CompactionConfig, CompactionPlan, MIN_SEGMENT_BYTES, Result, RetentionMoment,
    RetentionPredicate,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A file system rounds up: so far a plan may miss with each file.
const ROUNDED_BYTES: u64 = 4096;

/// Lets nothing go, and takes down what it was asked about.
#[derive(Clone, Debug, Default)]
struct Asked(Arc<Mutex<BTreeSet<u64>>>);

impl RetentionPredicate for Asked {
    fn may_go(&self, event: &EventRef<'_>, _: &RetentionMoment<'_>) -> Result<bool> {
        let position = event.position().get();
        assert!(self.0.lock().unwrap().insert(position), "{position} twice");
        Ok(false)
    }
}

/// The events that retention may be asked about: all in sealed segments but tombstones and what went before.
fn asked(branch: &Branch, store: &Store) -> BTreeSet<u64> {
    let asked = Asked::default();
    let config = CompactionConfig::new().remove(asked.clone());
    let plan = store.plan_compaction(&config).unwrap();
    assert_eq!(plan.events_removed, 0, "{plan}");
    assert_eq!(plan.files_before + 1, store.stats().segments, "{plan}");
    let asked = asked.0.lock().unwrap().clone();
    let end = asked.last().copied().unwrap_or(0);
    let kept = branch.kept(|fact| !fact.is_tombstone());
    let expected = kept.into_iter().take_while(|position| *position <= end);
    assert!(asked.iter().copied().eq(expected), "{asked:?}");
    asked
}

/// Asserts that the plan said what was done, within the bounds that it promises.
fn assert_foretold(plan: &CompactionPlan, done: &CompactionPlan) {
    assert_eq!(plan.events_removed, done.events_removed, "{plan}\n{done}");
    let missed_by = plan.disk_bytes_after.abs_diff(done.disk_bytes_after);
    let missed_by = u128::from(missed_by);
    let rounded = ROUNDED_BYTES * (plan.rewrites.len() as u64 + 1);
    let tenth = plan.freed_bytes().unsigned_abs() / 10;
    assert!(missed_by <= tenth.max(rounded.into()), "{plan}\n{done}");
}

impl World {
    /// Removes by a random rule, and merges, while a view and a store that is only read are held.
    pub(crate) fn compact(&mut self, branch: &mut Branch, store: &Store) {
        let (held, reader) = (store.view(), self.open_read_only(branch));
        let (then, before) = (branch.clone(), branch.kept(|_| true));
        let (going, config) = self.policy(branch, store);
        let plan = store.plan_compaction(&config).unwrap();
        assert_eq!(plan.events_removed, going.len() as u64, "{plan}");
        let done = store.compact(config.clone()).unwrap().wait().unwrap();
        assert_foretold(&plan, &done);
        self.said.removed += going.len() as u64;
        self.said.merged_files += plan.files_before - plan.files_after;
        if let Some(fork) = &mut branch.fork {
            fork.is_compacted |= !plan.rewrites.is_empty();
        }
        branch.removed.extend(going);
        let again = store.plan_compaction(&config).unwrap();
        assert_eq!(again.events_removed, 0, "{again}");
        assert_eq!(positions(&held, Query::all()), before, "a view changed");
        for position in before.iter().step_by(5) {
            let event = held.at(*position).unwrap().unwrap();
            branch.at(*position).assert_is(&event, *position);
        }
        assert_answers(&held, &then, &mut self.dice);
        assert_answers(&reader.view(), branch, &mut self.dice);
    }

    /// A random rule, as a compaction and as what must go by it.
    fn policy(&mut self, branch: &Branch, store: &Store) -> (BTreeSet<u64>, CompactionConfig) {
        let now = self.hands.now();
        let rule = Rule::random(&mut self.dice, branch, now, 2);
        println!("  without {rule:?}");
        let ends = Ends::of(branch);
        let mut going = asked(branch, store);
        going.retain(|position| ends.fits(&rule, *position, branch.at(*position)));
        let config = CompactionConfig::new().remove(rule.retention());
        let config = match self.dice.below(3) {
            0 => config.merge_below(0),
            1 => config.merge_below(MIN_SEGMENT_BYTES),
            _ => config,
        };
        (going, config)
    }
}
