//! What the caller's thread finds out before it queues a submission, so that the writer need not.
//!
//! Each answer holds for the view's position; the writer adds what came after it.

use std::collections::HashMap;

use crate::error::{MAX_IN_THE_WAY, Result};
use crate::event::batch::PreparedBatch;
use crate::event::condition::Condition;
use crate::event::draft::PreparedEvent;
use crate::event::hash::{Facts, facts_digest};
use crate::index::layer::Direction;
use crate::index::picture::{Picture, StreamHead};
use crate::index::walk::Walk;

/// The ids of the events of one batch, given or made.
#[derive(Debug)]
pub(crate) struct Ids {
    list: Vec<[u8; 16]>,
    /// Where each stands; empty for a batch in which no event can be another's parent.
    places: HashMap<[u8; 16], usize>,
}

impl Ids {
    pub(crate) fn new(batch: &PreparedBatch, mut make: impl FnMut() -> [u8; 16]) -> Self {
        let list: Vec<_> = batch
            .events
            .iter()
            .map(|event| event.id.map_or_else(&mut make, |id| *id.as_bytes()))
            .collect();
        let related = list.len() > 1 && batch.events.iter().any(|event| !event.parents.is_empty());
        let places = match related {
            true => list
                .iter()
                .enumerate()
                .map(|(index, id)| (*id, index))
                .collect(),
            false => HashMap::new(),
        };
        Self { list, places }
    }

    /// The id of the event at `index`.
    pub(crate) fn of(&self, index: usize) -> [u8; 16] {
        self.list.get(index).copied().unwrap_or_default()
    }

    /// The index of an event that stands before `index` and has this id.
    pub(crate) fn earlier(&self, index: usize, id: &[u8; 16]) -> Option<usize> {
        self.places.get(id).copied().filter(|place| *place < index)
    }
}

/// A parent that was found in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) hash: [u8; 32],
    pub(crate) correlation: [u8; 16],
}

impl Parent {
    /// The event with this id, if its position is above `after`.
    ///
    /// Retention leaves no correlation: what a removed event causes is of the story that its id names, unless it says so.
    pub(crate) fn find(picture: &Picture<'_>, id: &[u8; 16], after: u64) -> Result<Option<Self>> {
        let Some(position) = picture.position_of(id, after)? else {
            return Ok(None);
        };
        if let Some(hit) = picture.event_at(position)? {
            return Ok(Some(Self {
                hash: *hit.event.hash().as_bytes(),
                correlation: *hit.event.correlation().as_bytes(),
            }));
        }
        let removed = picture.kept(position)?;
        Ok(removed.map(|kept| Self {
            hash: kept.hash,
            correlation: kept.id,
        }))
    }
}

/// The answers for one submission.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The position up to which they hold.
    pub(crate) at: u64,
    /// Where the key's submission begins.
    pub(crate) key: Option<u64>,
    /// The event that has an id given here already.
    pub(crate) used_id: Option<u64>,
    /// For each event, the end of its entity's stream.
    pub(crate) heads: Vec<Option<StreamHead>>,
    /// For each expectation, the end of its entity's stream.
    pub(crate) expected: Vec<Option<StreamHead>>,
    /// For each condition, the first positions that match.
    pub(crate) matches: Vec<Vec<u64>>,
    /// For each parent of each event in order, what was found; nothing for those that come earlier in the batch.
    pub(crate) parents: Vec<Option<Parent>>,
    /// For each event its correlation, unless a parent that was not found decides it.
    pub(crate) correlations: Vec<Option<[u8; 16]>>,
    /// For each event whose correlation is known, the digest of its facts.
    pub(crate) facts: Vec<Option<[u8; 32]>>,
}

impl Answers {
    /// Looks everything up in `picture`.
    pub(crate) fn find(batch: &PreparedBatch, ids: &Ids, picture: &Picture<'_>) -> Result<Self> {
        let mut answers = Self {
            at: picture.upto,
            key: None,
            used_id: None,
            heads: Vec::with_capacity(batch.events.len()),
            expected: Vec::new(),
            matches: Vec::new(),
            parents: Vec::new(),
            correlations: Vec::with_capacity(batch.events.len()),
            facts: Vec::with_capacity(batch.events.len()),
        };
        if let Some(key) = &batch.key {
            answers.key = picture.position_of_key(&key.key, 0)?;
        }
        for expectation in &batch.expectations {
            let head = picture.head_of(&expectation.entity, &expectation.entity_digest, 0)?;
            answers.expected.push(head);
        }
        for condition in &batch.conditions {
            answers
                .matches
                .push(matches_after(condition, condition.after().get(), picture)?);
        }
        for (index, event) in batch.events.iter().enumerate() {
            answers.of_event(batch, index, event, ids, picture)?;
        }
        Ok(answers)
    }

    fn of_event(
        &mut self,
        batch: &PreparedBatch,
        index: usize,
        event: &PreparedEvent,
        ids: &Ids,
        picture: &Picture<'_>,
    ) -> Result<()> {
        if let (Some(id), None) = (&event.id, self.used_id) {
            self.used_id = picture.position_of(id.as_bytes(), 0)?;
        }
        self.heads
            .push(picture.head_of(event.coordinate.entity(), &event.entity_digest, 0)?);
        let first_parent = self.parents.len();
        for parent in &event.parents {
            let found = match ids.earlier(index, parent.as_bytes()) {
                Some(_) => None,
                None => Parent::find(picture, parent.as_bytes(), 0)?,
            };
            self.parents.push(found);
        }
        let correlation = match (&event.correlation, event.parents.first()) {
            (Some(correlation), _) => Some(*correlation.as_bytes()),
            (None, None) => Some(ids.of(index)),
            (None, Some(parent)) => match ids.earlier(index, parent.as_bytes()) {
                Some(earlier) => self.correlations.get(earlier).copied().flatten(),
                None => self
                    .parents
                    .get(first_parent)
                    .copied()
                    .flatten()
                    .map(|p| p.correlation),
            },
        };
        self.correlations.push(correlation);
        self.facts.push(
            correlation.and_then(|c| batch.events.get(index).map(|event| facts_of(event, &c))),
        );
        Ok(())
    }
}

/// The digest of an event's facts.
pub(crate) fn facts_of(event: &PreparedEvent, correlation: &[u8; 16]) -> [u8; 32] {
    let facts = Facts {
        schema_version: event.schema_version,
        codec: 0,
        cipher: 0,
        payload_length: event.payload.len() as u64,
        payload_hash: &event.payload_hash,
        labels: &event.labels,
        correlation,
        occurred_at: event.occurred_at.map(|t| t.as_nanos()),
        entity: event.coordinate.entity(),
        scope: event.coordinate.scope(),
        kind: event.kind.as_str(),
        key_reference: &[],
        extension: &[],
    };
    facts_digest(&facts, event.parents.iter().map(|id| *id.as_bytes()))
}

/// The first positions after `after` that match a condition's query: all that a conflict names, or one that suffices.
pub(crate) fn matches_after(
    condition: &Condition,
    after: u64,
    picture: &Picture<'_>,
) -> Result<Vec<u64>> {
    let enough = match condition {
        Condition::UnlessAny(..) => MAX_IN_THE_WAY,
        Condition::OnlyIf(..) => 1,
    };
    let bounds = (after.saturating_add(1), u64::MAX);
    let mut walk = Walk::new(
        condition.query().clone(),
        Direction::Forward,
        bounds,
        enough,
    );
    let mut positions = Vec::new();
    while let Some(hit) = walk.next(picture) {
        positions.push(hit?.event.position().get());
    }
    Ok(positions)
}
