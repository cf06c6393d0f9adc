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
use crate::index::walk::Hit;
use crate::lineage::position_of;
use crate::log::event::Event;

impl View {
    /// The events that this one caused, directly or through others: at most `limit` of them, each once, by ascending
    /// position. The event itself is not among them.
    ///
    /// They are looked for as they are asked for; what is not among them is not touched, however long the log is. Memory is
    /// some 24 bytes for each event that was given and has more children to come.
    ///
    /// The event may be one that retention removed: it is still a parent. Removed descendants are not among those that are
    /// given, nor is what they led to where it is not reached through kept events, too: a stub does not name its parents, so
    /// that nothing is left to tell that they were descendants.
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
    /// Those that retention removed are not among them, and a stub does not say which story it was of. What was appended
    /// later with a removed event as its first parent, and no correlation of its own, is of the story that its id names.
    ///
    /// # Errors
    /// None; reading the events may fail.
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
            let kept = self.view.picture().event_at(position)?;
            let Some(event) = kept.map(Hit::owned) else {
                continue;
            };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::open::open;
    use crate::engine::runs;
    use crate::engine::shared::Engine;
    use crate::event::batch::Batch;
    use crate::event::coordinate::Coordinate;
    use crate::event::draft::EventDraft;
    use crate::event::kind::EventKind;
    use crate::format::run::RUN_SEGMENTS;
    use crate::io::MemoryDisk;
    use crate::options::{MIN_SEGMENT_BYTES, StoreConfig};
    use crate::sync::Arc;

    /// A family of events among many that are not of it.
    struct Log {
        disk: MemoryDisk,
        engine: Arc<Engine>,
        family: Vec<EventId>,
        /// How many parents the family has named.
        edges: u64,
        stranger: Option<EventId>,
    }

    impl Log {
        fn new() -> Self {
            let disk = MemoryDisk::new();
            let engine = Self::open(&disk);
            let mut log = Self {
                disk,
                engine,
                family: Vec::new(),
                edges: 0,
                stranger: None,
            };
            log.family = vec![log.append(10, &[])];
            log
        }

        fn open(disk: &MemoryDisk) -> Arc<Engine> {
            let config = StoreConfig::on_disk(Arc::new(disk.clone()));
            open(config.segment_bytes(MIN_SEGMENT_BYTES)).unwrap()
        }

        fn append(&self, bytes: usize, parents: &[EventId]) -> EventId {
            let place = Coordinate::new("box:1", "house").unwrap();
            let kind = EventKind::literal("box.filled");
            let draft = EventDraft::new(&place, kind, &"x".repeat(bytes));
            let draft = parents.iter().fold(draft, |draft, id| draft.caused_by(*id));
            self.engine.append(Batch::new().event(draft)).unwrap()[0].id()
        }

        /// Appends strangers, each caused by the one before, until there are so many segments.
        fn lengthen(&mut self, segments: u64) {
            while self.engine.stats().segments < segments {
                let parent = self.stranger;
                self.stranger = Some(self.append(400_000, parent.as_slice()));
            }
        }

        /// A child of the first of the family and of its last.
        fn bear(&mut self) {
            let mut parents = vec![self.family[0]];
            parents.extend(self.family.iter().skip(1).next_back());
            self.family.push(self.append(10, &parents));
            self.edges += parents.len() as u64;
        }

        /// Opens the log again, so that all is sealed, and makes all runs.
        fn settle(&mut self) {
            self.engine.close().unwrap();
            self.engine = Self::open(&self.disk);
            let groups = self.engine.sealed.lock().len() / RUN_SEGMENTS;
            (0..groups).for_each(|group| runs::merge(&self.engine, group));
        }

        /// What it costs to find all of the family.
        fn cost(&self) -> Touched {
            let view = self.engine.front.view().unwrap();
            let mut walk = view.descendants(self.family[0], usize::MAX).unwrap();
            let found: Vec<EventId> = walk.by_ref().map(|event| event.unwrap().id()).collect();
            assert_eq!(found, self.family[1..]);
            walk.touched
        }
    }

    #[test]
    fn descendants_cost_what_there_is_of_them_however_long_the_log() {
        let mut log = Log::new();
        for segments in 2..=24 {
            log.lengthen(segments);
            log.bear();
        }
        log.settle();
        let short = log.cost();
        // The runs leave out as many segments as before, so that only whole runs were added.
        log.lengthen(24 + 5 * 16);
        log.settle();
        let long = log.cost();
        println!(
            "{} descendants: {short:?}, then {long:?}",
            log.family.len() - 1
        );
        assert_eq!(
            short.rows, log.edges,
            "each child is looked at once for each parent"
        );
        assert_eq!(long.rows, short.rows);
        // The runs pass over 80 more segments, but for a wrong yes now and then.
        assert!(long.layers < 2 * short.layers, "{short:?}, then {long:?}");
        log.engine.close().unwrap();
    }
}
