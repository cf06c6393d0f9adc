//! What led to an event: its ancestors, nearest first, and the nearest that two events share.
//!
//! A walk by descending position meets an event only after all of its children, so that each is looked at once, with no
//! memory of those that were. What retention removed has lost its parents: a walk passes it over and goes no further
//! there, and one that would begin there is told so.
//! Runs on the thread that asks.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Result, StoreError};
use crate::event::id::EventId;
use crate::index::picture::Picture;
use crate::index::view::View;
use crate::lineage::position_of;
use crate::log::event::{Event, EventRef};

impl View {
    /// The events that caused this one, directly or through others: at most `limit` of them, each once, nearest first, which
    /// is by descending position. The event itself is not among them.
    ///
    /// They are looked for as they are asked for. Memory is eight bytes or so for each event whose turn has not come and
    /// that is a parent of one that was given: the width of the graph, not its length.
    ///
    /// An event that retention removed is passed over, and so is what led to it and to no kept event that is found: its
    /// stub does not name its parents. [`Ancestors::removed`] counts them.
    ///
    /// ```
    /// use quipu::prelude::*;
    ///
    /// # fn main() -> quipu::Result<()> {
    /// let store = Store::in_memory()?;
    /// let lamp = Coordinate::new("lamp:1", "house")?;
    /// let by = |id| AppendOptions::new().caused_by(id);
    /// let dusk = store.append(&lamp, EventKind::literal("light.faded"), &())?;
    /// let lit = store.append_with_options(&lamp, EventKind::literal("lamp.lit"), &(), by(dusk.id()))?;
    /// let hot = store.append_with_options(&lamp, EventKind::literal("lamp.heated"), &(), by(lit.id()))?;
    /// let causes = store.walk_ancestors(hot, 10)?;
    /// let ids: Vec<EventId> = causes.map(|e| e.map(|e| e.id())).collect::<quipu::Result<_>>()?;
    /// assert_eq!(ids, [lit.id(), dusk.id()]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such event in this view or retention removed it; `Corrupt` when it is damaged.
    pub fn walk_ancestors(&self, id: impl Into<EventId>, limit: usize) -> Result<Ancestors> {
        let picture = self.picture();
        let position = position_of(&picture, id.into())?;
        let mut frontier = BTreeSet::new();
        if let Some(hit) = picture.at(position)?.filter(|_| limit > 0) {
            frontier = parents_of(&picture, &hit.event).collect::<Result<_>>()?;
        }
        Ok(Ancestors {
            view: self.clone(),
            left: limit,
            removed: 0,
            frontier,
        })
    }

    /// Whether the first event caused the second, directly or through others; an event did not cause itself.
    ///
    /// It looks at ancestors of the second that come after the first, and stops when there are no more. The first may be
    /// one that retention removed.
    ///
    /// # Errors
    /// `NotFound` when one of them is not in this view, and when it cannot be told: retention removed the second, or one of
    /// its ancestors that came after the first, whose causes went with it, and no other way leads to the first. `Corrupt`
    /// when an event on the way is damaged.
    pub fn is_ancestor(&self, a: impl Into<EventId>, b: impl Into<EventId>) -> Result<bool> {
        let picture = self.picture();
        let wanted = position_of(&picture, a.into())?;
        let caused = position_of(&picture, b.into())?;
        picture.at(caused)?;
        let (mut frontier, mut removed) = (BTreeSet::from([caused]), None);
        while let Some(position) = frontier.pop_last().filter(|position| *position > wanted) {
            let Some(hit) = picture.event_at(position)? else {
                removed = Some(position);
                continue;
            };
            for parent in parents_of(&picture, &hit.event) {
                let parent = parent?;
                match parent.cmp(&wanted) {
                    Ordering::Equal => return Ok(true),
                    Ordering::Greater => drop(frontier.insert(parent)),
                    Ordering::Less => {}
                }
            }
        }
        match removed {
            None => Ok(false),
            Some(position) => Err(StoreError::not_found(format!(
                "whether event {wanted} led to event {caused} cannot be told: event {position} on the way was removed by retention"
            ))),
        }
    }

    /// The best common ancestors of two events, by ascending position: of what led to both, that which led to no other such
    /// event. Here an event counts as its own ancestor, as for `git merge-base --all`.
    ///
    /// There is one, or none, where history only splits; two and more where branches were merged crosswise. Memory is the
    /// width of the graph, as for [`View::walk_ancestors`]. An event that retention removed is never one, nor is what is
    /// reached through it alone: they are the best that kept events tell of, and where one led to another through removed
    /// events alone, both are given.
    ///
    /// ```
    /// use quipu::prelude::*;
    ///
    /// # fn main() -> quipu::Result<()> {
    /// let store = Store::in_memory()?;
    /// let page = Coordinate::new("page:1", "wiki")?;
    /// let edited = EventKind::literal("page.edited");
    /// let by = |id| AppendOptions::new().caused_by(id);
    /// let draft = store.append(&page, EventKind::literal("page.drafted"), &())?;
    /// let ours = store.append_with_options(&page, edited.clone(), &"ours", by(draft.id()))?;
    /// let theirs = store.append_with_options(&page, edited, &"theirs", by(draft.id()))?;
    /// let shared = store.common_ancestors(ours, theirs)?;
    /// assert_eq!(shared[0].id(), draft.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` when one of them is not in this view or retention removed it; `Corrupt` when an event on the way is
    /// damaged.
    pub fn common_ancestors(
        &self,
        a: impl Into<EventId>,
        b: impl Into<EventId>,
    ) -> Result<Vec<Event>> {
        let picture = self.picture();
        let mut frontier = Painted::default();
        for (id, paint) in [(a.into(), FROM_A), (b.into(), FROM_B)] {
            let position = position_of(&picture, id)?;
            picture.at(position)?;
            frontier.paint(position, paint);
        }
        let mut best = Vec::new();
        while let Some((position, mut paint)) = frontier.pop() {
            let Some(hit) = picture.event_at(position)? else {
                continue;
            };
            if paint == FROM_A | FROM_B {
                best.push(hit.owned());
                paint |= STALE;
            }
            for parent in parents_of(&picture, &hit.event) {
                frontier.paint(parent?, paint);
            }
        }
        best.reverse();
        Ok(best)
    }
}

/// The positions of an event's parents, all below its own.
fn parents_of<'a>(
    picture: &Picture<'a>,
    event: &EventRef<'a>,
) -> impl Iterator<Item = Result<u64>> + use<'a> {
    let position = event.position().get();
    let below = Picture {
        upto: position.saturating_sub(1),
        ..*picture
    };
    event.parents().map(move |id| {
        below.position_of(id.as_bytes(), 0)?.ok_or_else(|| {
            StoreError::corrupt(format!(
                "the parent {id} of event {position} is not below it; rebuild the index from the log"
            ))
        })
    })
}

/// The events that led to an event, nearest first; ends for good after an error.
///
/// It comes from [`View::walk_ancestors`] and holds its view.
#[derive(Clone, Debug)]
pub struct Ancestors {
    view: View,
    /// More than 0 as long as the frontier is not empty.
    left: usize,
    removed: u64,
    /// The positions of parents whose turn has not come.
    frontier: BTreeSet<u64>,
}

impl Ancestors {
    /// How many ancestors that retention removed were passed over so far; what led to them may be missing, too.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.removed
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        let picture = self.view.picture();
        while let Some(position) = self.frontier.pop_last() {
            let Some(hit) = picture.event_at(position)? else {
                self.removed += 1;
                continue;
            };
            self.left -= 1;
            if self.left == 0 {
                self.frontier.clear();
            } else {
                for parent in parents_of(&picture, &hit.event) {
                    self.frontier.insert(parent?);
                }
            }
            return Ok(Some(hit.owned()));
        }
        Ok(None)
    }
}

impl Iterator for Ancestors {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        if found.is_err() {
            self.frontier.clear();
        }
        found.transpose()
    }
}

impl std::iter::FusedIterator for Ancestors {}

const FROM_A: u8 = 1;
const FROM_B: u8 = 2;
/// Leads to a common ancestor that was found: common itself, and not a best one.
const STALE: u8 = 4;

/// What leads to one of two events and whose turn has not come, by position, and to which of the two it leads.
#[derive(Default)]
struct Painted {
    paint: BTreeMap<u64, u8>,
    /// How many of them are not stale: with none left, nothing better can be found.
    fresh: usize,
}

impl Painted {
    fn paint(&mut self, position: u64, paint: u8) {
        let is_fresh = |paint: u8| paint & STALE == 0;
        let before = self.paint.get(&position).copied();
        let after = before.unwrap_or(0) | paint;
        self.fresh -= usize::from(before.is_some_and(is_fresh));
        self.fresh += usize::from(is_fresh(after));
        self.paint.insert(position, after);
    }

    fn pop(&mut self) -> Option<(u64, u8)> {
        if self.fresh == 0 {
            return None;
        }
        let (position, paint) = self.paint.pop_last()?;
        self.fresh -= usize::from(paint & STALE == 0);
        Some((position, paint))
    }
}
