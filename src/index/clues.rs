//! Which layers a query can pass over, as the runs that they stand under tell it.
//!
//! A run knows of each of its files whether it has a name or an id at all, so that a walk over many segments opens
//! those alone which may hold a match. Runs on the thread that walks.

use std::ops::Range;

use crate::event::hash::entity_digest;
use crate::event::region::{Match, Region};
use crate::format::sidx::{Axis16, NameAxis};
use crate::index::layers::Layers;
use crate::index::run::{ALL_FILES, FileSet, Run};
use crate::sync::Arc;

/// What one query asks of the runs, and what the one asked last said; for the layers of one picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skips {
    /// Made when the first run is met.
    clues: Option<Arc<[RegionClues]>>,
    /// The layers of the run asked last, and which of them may hold a match.
    asked: Option<(Range<usize>, FileSet)>,
}

/// What an event of a region has, each of these.
type RegionClues = Vec<Term>;

/// What an event that a term means has, one of these.
type Term = Vec<Clue>;

#[derive(Debug)]
enum Clue {
    Key(Axis16, [u8; 16]),
    Prefix(NameAxis, Arc<str>),
}

impl Skips {
    /// Whether the layer at a place has nothing that the query means; `true` is certain.
    pub(crate) fn passes_over(&mut self, at: usize, layers: &Layers, regions: &[Region]) -> bool {
        let known = self.asked.take().filter(|(under, _)| under.contains(&at));
        self.asked = known.or_else(|| {
            let (under, run) = layers.run_over(at)?;
            let clues = self
                .clues
                .get_or_insert_with(|| regions.iter().map(clues_of).collect());
            Some((under.clone(), files_with(run, clues)))
        });
        self.asked
            .as_ref()
            .is_some_and(|(under, files)| files >> (at - under.start) & 1 == 0)
    }
}

/// The files in which every term of one of the regions may be met.
fn files_with(run: &Run, regions: &[RegionClues]) -> FileSet {
    let any = |term: &Term| term.iter().fold(0, |files, clue| files | clue.files(run));
    let every = |terms: &RegionClues| {
        terms.iter().fold(ALL_FILES, |files, term| match files {
            0 => 0,
            _ => files & any(term),
        })
    };
    regions
        .iter()
        .fold(0, |files, region| files | every(region))
}

impl Clue {
    fn of(axis: NameAxis, wanted: &Match) -> Self {
        match wanted {
            Match::Exact(name) => Self::Key(axis.digests(), entity_digest(name)),
            Match::Prefix(prefix) => Self::Prefix(axis, Arc::clone(prefix)),
        }
    }

    fn files(&self, run: &Run) -> FileSet {
        match self {
            Self::Key(axis, key) => match run.may_contain(*axis, key) {
                true => ALL_FILES,
                false => 0,
            },
            Self::Prefix(axis, prefix) => run.files_with(*axis, prefix),
        }
    }
}

fn clues_of(region: &Region) -> RegionClues {
    let named =
        |axis, wanted: &[Match]| -> Term { wanted.iter().map(|one| Clue::of(axis, one)).collect() };
    let entity = region.entity_match().map(std::slice::from_ref);
    let scope = region.scope_match().map(std::slice::from_ref);
    let kinds = Some(region.kinds()).filter(|kinds| !kinds.is_empty());
    let tags = region.tags().iter();
    let tags = tags.map(|tag| vec![Clue::Key(Axis16::Tag, entity_digest(tag))]);
    let effects = |id| vec![Clue::Key(Axis16::Parent, id)];
    // The event whose id a story has may belong to it, too.
    let story = |id| [Axis16::Correlation, Axis16::Id].map(|axis| Clue::Key(axis, id));
    let terms = [
        entity.map(|entity| named(NameAxis::Entity, entity)),
        scope.map(|scope| named(NameAxis::Scope, scope)),
        kinds.map(|kinds| named(NameAxis::Kind, kinds)),
        region.cause().map(|id| effects(*id.as_bytes())),
        region
            .correlation_id()
            .map(|id| story(*id.as_bytes()).into()),
    ];
    terms.into_iter().flatten().chain(tags).collect()
}
