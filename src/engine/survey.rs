//! What of each sealed segment may go: the predicate is asked about its events.
//!
//! Several threads of low priority ask, each about one segment after the other, so that appends go first; which events
//! there are to ask about is asked once, before. What was said is kept, one bit for each event.

use crate::engine::threads::work_out;
use crate::error::Result;
use crate::event::kind::EventKind;
use crate::event::query::Query;
use crate::event::timestamp::Timestamp;
use crate::format::checkpoint::SealedEntry;
use crate::index::going::Going;
use crate::index::layer::{Direction, Layer};
use crate::index::picture::Picture;
use crate::index::retention::{RetentionMoment, RetentionPredicate};
use crate::index::walk::Walk;

/// How many events are asked about before the plan looks whether it is to stop.
const EVENTS_BETWEEN_STOPS: u32 = 1024;

/// Whether the work may go on; asked now and then, by any thread.
pub(super) type GoOn<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// A predicate, and the query that finds the events it is asked about.
type Asked<'a> = (&'a dyn RetentionPredicate, Query);

/// What would become of one sealed segment.
pub(super) struct Survey<'a> {
    pub(super) entry: SealedEntry,
    pub(super) layer: &'a Layer,
    pub(super) going: Going,
}

impl Survey<'_> {
    /// Lets everything stay after all if what goes frees too little.
    fn settle(&mut self, min_freed_percent: u8) {
        let freed = u64::try_from(self.going.shrinks_by()).unwrap_or(0);
        if freed * 100 < self.entry.log_end * u64::from(min_freed_percent) {
            self.going = Going::default();
        }
    }
}

/// What is asked about every event, and when.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// Whether it may go; without one, nothing may.
    pub(super) predicate: Option<&'a dyn RetentionPredicate>,
    pub(super) min_freed_percent: u8,
    pub(super) now: Timestamp,
    /// What is durable by then.
    pub(super) picture: Picture<'a>,
    /// The last position whose content may go.
    pub(super) upto: u64,
}

impl<'a> Question<'a> {
    /// Asks it of these segments; of one that readers do not see yet there is no answer, the next compaction sees it.
    pub(super) fn ask_of(
        self,
        sealed: &[SealedEntry],
        go_on: &GoOn<'_>,
    ) -> Result<Vec<Survey<'a>>> {
        let asked = match self.predicate {
            Some(predicate) => {
                let candidates = predicate.candidates(self.now);
                candidates.check()?;
                Some((predicate, candidates))
            }
            None => None,
        };
        let asked = asked.as_ref();
        let surveys = work_out("quipu-plan", sealed, || {
            let moment = RetentionMoment::new(self.now, self.picture);
            move |entry: &SealedEntry| self.survey(entry, asked, &moment, go_on)
        })?;
        Ok(surveys.into_iter().flatten().collect())
    }

    fn survey(
        &self,
        entry: &SealedEntry,
        asked: Option<&Asked<'_>>,
        moment: &RetentionMoment<'_>,
        go_on: &GoOn<'_>,
    ) -> Result<Option<Survey<'a>>> {
        go_on()?;
        let Some(layer) = self.layer_of(entry) else {
            return Ok(None);
        };
        let mut survey = Survey {
            entry: *entry,
            layer,
            going: Going::default(),
        };
        let rows = layer.rows_upto(u64::MAX);
        if let Some(asked) = asked
            && layer.kept_between((0, rows))? > 0
        {
            self.ask(asked, &mut survey, moment, go_on)?;
            survey.settle(self.min_freed_percent);
        }
        Ok(Some(survey))
    }

    /// The layer of a sealed segment, once readers see it.
    fn layer_of(&self, entry: &SealedEntry) -> Option<&'a Layer> {
        let at = self.picture.layer_of(entry.first_position)?;
        let layer = self.picture.layers.all.get(at)?;
        let spanned = (layer.first_position(), layer.last_position());
        (spanned == (entry.first_position, entry.last_position)).then_some(layer)
    }

    fn ask(
        &self,
        (predicate, candidates): &Asked<'_>,
        survey: &mut Survey<'_>,
        moment: &RetentionMoment<'_>,
        go_on: &GoOn<'_>,
    ) -> Result<()> {
        let span = (
            survey.entry.first_position,
            survey.entry.last_position.min(self.upto),
        );
        let mut walk = Walk::new(candidates.clone(), Direction::Forward, span, usize::MAX);
        let mut asked = 0_u32;
        while let Some(hit) = walk.next(&self.picture) {
            let event = hit?.event;
            asked = asked.wrapping_add(1);
            if asked.is_multiple_of(EVENTS_BETWEEN_STOPS) {
                go_on()?;
            }
            if EventKind::TOMBSTONE != event.kind() && predicate.may_go(&event, moment)? {
                let row = event.position().get() - survey.layer.first_position();
                survey.going.add(row, &event);
            }
        }
        Ok(())
    }
}
