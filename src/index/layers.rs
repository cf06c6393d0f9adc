//! The layers of a store, in order of position, and the runs over the first of them.
//!
//! Never changed, only replaced as a whole, so that a view keeps the ones of its moment. Any thread reads; the turn's
//! holder and upkeep replace.

use std::ops::Range;

use crate::format::sidx::Axis16;
use crate::index::layer::Layer;
use crate::index::run::Run;
use crate::sync::Arc;

/// All layers, and the runs that there are to be.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) all: Vec<Arc<Layer>>,
    pub(crate) runs: Vec<Arc<Run>>,
    /// The runs whose files are layers of their own here, one behind the other, and where; in order.
    standing: Vec<(Range<usize>, Arc<Run>)>,
}

/// Puts the one layer of a sealed file in the place of all that its segments have.
pub(crate) fn put_sealed(layers: &mut Vec<Arc<Layer>>, sealed: Arc<Layer>) {
    let place = sealed.segment().place();
    let from = layers.partition_point(|layer| layer.segment().number() < place.first);
    let to = layers.partition_point(|layer| layer.segment().number() <= place.number);
    layers.splice(from..to, [sealed]);
}

impl Layers {
    pub(crate) fn new(all: Vec<Arc<Layer>>, runs: Vec<Arc<Run>>) -> Arc<Self> {
        let standing = runs.iter().filter_map(|run| {
            let place = place_of(&all, run)?;
            Some((place, Arc::clone(run)))
        });
        let standing = standing.collect();
        Arc::new(Self {
            all,
            runs,
            standing,
        })
    }

    /// Other layers and the same runs, which hold for files, not for layers.
    pub(crate) fn with_all(&self, all: Vec<Arc<Layer>>) -> Arc<Self> {
        Self::new(all, self.runs.clone())
    }

    /// The same layers and other runs.
    pub(crate) fn with_runs(&self, runs: Vec<Arc<Run>>) -> Arc<Self> {
        Self::new(self.all.clone(), runs)
    }

    /// The layers that a run speaks of; `None` if they are not those of its files.
    pub(crate) fn under(&self, run: &Run) -> Option<&[Arc<Layer>]> {
        self.all.get(place_of(&self.all, run)?)
    }

    /// The run that the layer at a place stands under, and the places of all that do.
    pub(crate) fn run_over(&self, at: usize) -> Option<(&Range<usize>, &Arc<Run>)> {
        let behind = self.standing.partition_point(|(place, _)| place.end <= at);
        let (place, run) = self.standing.get(behind)?;
        place.contains(&at).then_some((place, run))
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
        let mut runs = self.standing.partition_point(|(place, _)| place.end <= end);
        std::iter::from_fn(move || {
            loop {
                let layer = self.all.get(end.checked_sub(1)?)?;
                if layer.last_position() <= after {
                    return None;
                }
                let run = runs.checked_sub(1).and_then(|last| self.standing.get(last));
                match run {
                    Some((place, run)) if place.end == end => {
                        runs -= 1;
                        if !run.may_contain(axis, key) {
                            end = place.start;
                            continue;
                        }
                    }
                    _ => {}
                }
                end -= 1;
                return Some(layer);
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
        let behind = self.standing.partition_point(|(place, _)| place.end <= at);
        // A run may also be asked from the middle of its layers: it speaks of all of them.
        for (place, run) in self.standing.iter().skip(behind) {
            if !place.contains(&at) || run.may_contain(axis, key) {
                break;
            }
            at = place.end;
        }
        (at < self.all.len()).then_some(at)
    }
}

/// Where the files of a run are layers, each one layer: an unsealed one may have more, and moves the others.
fn place_of(all: &[Arc<Layer>], run: &Run) -> Option<Range<usize>> {
    let files = run.files();
    let first = files.first()?;
    let start = all.partition_point(|layer| layer.segment().number() < first.number);
    let place = start..start + files.len();
    let layers = all.get(place.clone())?;
    let are_those = layers
        .iter()
        .zip(files)
        .all(|(layer, file)| layer.segment().place() == *file);
    are_those.then_some(place)
}
