//! Two branches in the graph of commits: where they part, and what each has that the other has not.
//!
//! The store answers from the parents of its events, without git; what git says stands beside it, in the same form.

use std::collections::HashSet;
use std::io;

use quipu::prelude::*;

use crate::git::{Repository, Tip};
use crate::history::{Outcome, event_id, parted};

/// Two branches beside each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fork {
    /// Their nearest common ancestors by sha, sorted; several where branches were merged crosswise, none where two
    /// histories have nothing in common.
    pub(crate) bases: Vec<String>,
    /// How many commits the first one has alone, and the other.
    pub(crate) alone: [u64; 2],
}

/// What the store says.
pub(crate) fn of_store(store: &Store, [one, other]: [&Tip; 2]) -> Outcome<Fork> {
    let view = store.view();
    let bases = view.common_ancestors(event_id(&one.sha), event_id(&other.sha));
    let bases = bases.map_err(parted)?;
    let shas = bases
        .iter()
        .filter_map(|event| event.entity().strip_prefix("commit:"));
    let mut bases: Vec<String> = shas.map(str::to_owned).collect();
    bases.sort();
    let (ours, theirs) = (reached(&view, one)?, reached(&view, other)?);
    let alone = [&ours - &theirs, &theirs - &ours].map(|commits| commits.len() as u64);
    Ok(Fork { bases, alone })
}

/// What git says.
pub(crate) fn of_git(repository: &Repository, [one, other]: [&Tip; 2]) -> io::Result<Fork> {
    let mut bases = repository.merge_bases(one, other)?;
    bases.sort();
    let alone = |has: &Tip, not: &Tip| repository.count(&format!("{}..{}", not.sha, has.sha));
    let alone = [alone(one, other)?, alone(other, one)?];
    Ok(Fork { bases, alone })
}

/// A tip and all the commits before it.
pub(crate) fn reached(view: &View, tip: &Tip) -> Outcome<HashSet<EventId>> {
    let id = event_id(&tip.sha);
    let mut ids = HashSet::from([id]);
    for event in view.walk_ancestors(id, usize::MAX).map_err(parted)? {
        ids.insert(event?.id());
    }
    Ok(ids)
}
