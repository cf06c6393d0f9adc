//! The layers of a store, in order of position, and the runs over the first of them.
//!
//! Never changed, only replaced as a whole, so that a view keeps the ones of its moment. Any thread reads; the turn's
//! holder and upkeep replace.

use crate::format::run::RUN_SEGMENTS;
use crate::format::sidx::Axis16;
use crate::index::layer::Layer;
use crate::index::run::Run;
use crate::sync::Arc;

/// All layers, and a run for each whole group of sealed segments.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) all: Vec<Arc<Layer>>,
    pub(crate) runs: Vec<Arc<Run>>,
}

/// Puts the one layer of a sealed segment in the place of all that its segment has.
pub(crate) fn put_sealed(layers: &mut Vec<Arc<Layer>>, sealed: Arc<Layer>) {
    let number = sealed.segment().number();
    let from = layers.partition_point(|layer| layer.segment().number() < number);
    let to = layers.partition_point(|layer| layer.segment().number() <= number);
    layers.splice(from..to, [sealed]);
}

impl Layers {
    /// Other layers and the same runs, which hold for segments, not for layers.
    pub(crate) fn with_all(&self, all: Vec<Arc<Layer>>) -> Arc<Self> {
        Arc::new(Self {
            all,
            runs: self.runs.clone(),
        })
    }

    /// The same layers and other runs.
    pub(crate) fn with_runs(&self, runs: Vec<Arc<Run>>) -> Arc<Self> {
        Arc::new(Self {
            all: self.all.clone(),
            runs,
        })
    }

    /// The layers that may hold a key, reach past position `after` and begin no later than `upto`, newest first.
    pub(crate) fn that_may_hold(
        &self,
        axis: Axis16,
        key: &[u8; 16],
        (after, upto): (u64, u64),
    ) -> impl Iterator<Item = &Arc<Layer>> {
        let mut end = self
            .all
            .partition_point(|layer| layer.first_position() <= upto);
        std::iter::from_fn(move || {
            loop {
                let layer = self.all.get(end.checked_sub(1)?)?;
                if layer.last_position() <= after {
                    return None;
                }
                if !self.deny(end, layer, axis, key) {
                    end -= 1;
                    return Some(layer);
                }
                end -= RUN_SEGMENTS;
            }
        })
    }

    /// The place of the first layer from `at` on that may hold a key.
    pub(crate) fn next_that_may_hold(
        &self,
        axis: Axis16,
        key: &[u8; 16],
        mut at: usize,
    ) -> Option<usize> {
        while at < self.all.len() {
            // A run may also be asked from the middle of its layers: it speaks of all of them.
            let end = (at + 1).next_multiple_of(RUN_SEGMENTS);
            let last = self.all.get(end - 1);
            if !last.is_some_and(|last| self.deny(end, last, axis, key)) {
                return Some(at);
            }
            at = end;
        }
        None
    }

    /// Whether a run says that none of the `RUN_SEGMENTS` layers before `end`, `last` being the last, holds the key.
    fn deny(&self, end: usize, last: &Layer, axis: Axis16, key: &[u8; 16]) -> bool {
        // A segment has one layer or, unsealed, more: with segment n in place n, each before has one, in its place.
        if !end.is_multiple_of(RUN_SEGMENTS) || last.segment().number() != end as u64 {
            return false;
        }
        let run = self.runs.get(end / RUN_SEGMENTS - 1);
        run.is_some_and(|run| !run.may_contain(axis, key))
    }
}
