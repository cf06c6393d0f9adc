//! What an event led to: its descendants, by ascending position, and the story that it belongs to.
//!
//! Children stand above their parents, and each footer lists them by parent, so that every event that was given names the
//! next of its children, and the nearest of all those is the next to give. Runs on the thread that asks.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::event::id::{CorrelationId, EventId};
use crate::event::query::Query;
use crate::format::sidx::Axis16;
use crate::index::layer::Axis;
use crate::index::view::{EventRefs, View};
use crate::lineage::{event_at, position_of};
use crate::log::event::Event;

impl View {
    /// The events that this one caused, directly or through others: at most `limit` of them, each once, by ascending
    /// position. The event itself is not among them.
    ///
    /// They are looked for as they are asked for; what is not among them is not touched, however long the log is. Memory is
    /// some 24 bytes for each event that was given and has more children to come.
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
    /// store.append_with_options(&lamp, EventKind::literal("lamp.heated"), &(), by(lit.id()))?;
    /// assert_eq!(store.descendants(dusk, usize::MAX)?.count(), 2);
    /// assert_eq!(store.descendants(dusk, 1)?.count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NotFound` when there is no such event in this view; `Corrupt` when an index is damaged.
    pub fn descendants(&self, id: impl Into<EventId>, limit: usize) -> Result<Descendants> {
        let id = id.into();
        let position = position_of(&self.picture(), id)?;
        let mut descendants = Descendants {
            view: self.clone(),
            left: limit,
            last: position,
            frontier: BTreeSet::new(),
            #[cfg(test)]
            touched: Touched::default(),
        };
        if limit > 0 {
            descendants.follow(id, position)?;
        }
        Ok(descendants)
    }

    /// The events of one story, first to last: those of this correlation, and the event whose id it is.
    ///
    /// # Errors
    /// None for now; reading them may fail.
    pub fn story(&self, correlation: impl Into<CorrelationId>) -> Result<EventRefs<'_>> {
        self.query(Query::correlation(correlation))
    }
}

/// The events that an event led to, by ascending position; ends for good after an error.
///
/// It comes from [`View::descendants`] and holds its view.
#[derive(Clone, Debug)]
pub struct Descendants {
    view: View,
    /// More than 0 as long as the frontier is not empty.
    left: usize,
    /// The position of the event that was given last, which may be a child of several.
    last: u64,
    /// For each event that has children to come, the position of the next and the event's id.
    frontier: BTreeSet<(u64, EventId)>,
    #[cfg(test)]
    touched: Touched,
}

/// What a walk has cost.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    /// Children that an index named.
    rows: u64,
    /// Layers that were asked, be it to hear that their filter denies.
    layers: u64,
}

impl Descendants {
    fn advance(&mut self) -> Result<Option<Event>> {
        while let Some((position, parent)) = self.frontier.pop_first() {
            self.follow(parent, position)?;
            if position == self.last {
                continue;
            }
            self.last = position;
            let event = event_at(&self.view.picture(), position)?.owned();
            self.left -= 1;
            match self.left {
                0 => self.frontier.clear(),
                _ => self.follow(event.id(), position)?,
            }
            return Ok(Some(event));
        }
        Ok(None)
    }

    /// Takes in the next child of an event above position `after`.
    fn follow(&mut self, parent: EventId, after: u64) -> Result<()> {
        let picture = self.view.picture();
        let axis = Axis::Effects(*parent.as_bytes());
        let mut from = picture.layer_of(after).unwrap_or(0);
        while let Some(at) =
            picture
                .layers
                .next_that_may_hold(Axis16::Parent, parent.as_bytes(), from)
        {
            let layer = picture.layers.all.get(at);
            let Some(layer) = layer.filter(|layer| layer.first_position() <= picture.upto) else {
                break;
            };
            #[cfg(test)]
            (self.touched.layers += 1);
            if let Some(row) = layer.next_row(&axis, layer.rows_upto(after))? {
                let position = layer.position(row);
                #[cfg(test)]
                (self.touched.rows += 1);
                if position <= picture.upto {
                    self.frontier.insert((position, parent));
                }
                break;
            }
            from = at + 1;
        }
        Ok(())
    }
}

impl Iterator for Descendants {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        if found.is_err() {
            self.frontier.clear();
        }
        found.transpose()
    }
}

impl std::iter::FusedIterator for Descendants {}
