//! Decides whether a submission is accepted: pure, from the caller's answers and everything after them.
//!
//! The order is fixed: first the key, so that a retry always gets its first receipts; then ids, expectations and
//! queries, all of which see the state before the batch; then parents. Runs in the writer's turn.

use crate::engine::answers::{Answers, Ids, Parent, matches_after};
use crate::engine::heads::Heads;
use crate::error::{MAX_IN_THE_WAY, Result, StoreError};
use crate::event::batch::{KeyDigests, PreparedBatch};
use crate::event::condition::{Condition, ExpectedRevision};
use crate::event::position::{Position, Revision};
use crate::event::receipt::Receipt;
use crate::event::region::Region;
use crate::index::layer::Direction;
use crate::index::picture::{Picture, StreamHead, receipts_of};
use crate::index::walk::Walk;

/// What becomes of a submission.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It is appended; the parents of all its events, in order.
    Accept(Vec<KnownParent>),
    /// Its key was used with the same content: the first receipts.
    Replay(Vec<Receipt>),
}

/// A parent that exists.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KnownParent {
    /// In the store.
    Stored(Parent),
    /// Earlier in the same batch, at this index.
    Earlier(usize),
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) batch: &'a PreparedBatch,
    pub(crate) ids: &'a Ids,
    pub(crate) answers: &'a Answers,
    /// Everything that is committed or staged.
    pub(crate) now: &'a Picture<'a>,
    pub(crate) heads: &'a Heads,
}

/// Decides one submission.
pub(crate) fn decide(case: &Case<'_>) -> Result<Decision> {
    if let Some(key) = &case.batch.key
        && let Some(receipts) = replay(case, key)?
    {
        return Ok(Decision::Replay(receipts));
    }
    check_ids(case)?;
    check_expectations(case)?;
    check_conditions(case)?;
    Ok(Decision::Accept(find_parents(case)?))
}

fn replay(case: &Case<'_>, key: &KeyDigests) -> Result<Option<Vec<Receipt>>> {
    let first = match case.answers.key {
        Some(position) => Some(position),
        None => case.now.position_of_key(&key.key, case.answers.at)?,
    };
    let Some(first) = first.map(|at| case.now.kept(at)).transpose()?.flatten() else {
        return Ok(None);
    };
    let position = first.position;
    if first.key.is_none_or(|stored| stored.content != key.content) {
        return Err(StoreError::conflict(format!(
            "the idempotency key was used at position {position} with other content; give each request a key of its own"
        ))
        .with_positions(vec![position]));
    }
    receipts_of(case.now, position, first.batch.len).map(Some)
}

fn check_ids(case: &Case<'_>) -> Result<()> {
    let mut used = case.answers.used_id;
    for event in &case.batch.events {
        let Some(id) = &event.id else { continue };
        if used.is_none() {
            used = case.now.position_of(id.as_bytes(), case.answers.at)?;
        }
    }
    match used {
        None => Ok(()),
        Some(position) => Err(StoreError::conflict(format!(
            "an id given here is that of event {position}; use an idempotency key for retries"
        ))
        .with_positions(vec![position])),
    }
}

fn check_expectations(case: &Case<'_>) -> Result<()> {
    for (index, expectation) in case.batch.expectations.iter().enumerate() {
        let answered = case.answers.expected.get(index).copied().flatten();
        let head = head_of(
            case,
            &expectation.entity,
            &expectation.entity_digest,
            answered,
        )?;
        let actual = head.map_or(0, |head| head.revision);
        if !expectation.expected.holds(Revision::new(actual)) {
            return Err(unexpected(
                case,
                &expectation.entity,
                expectation.expected,
                head,
            ));
        }
    }
    Ok(())
}

/// The end of a stream now, given what the caller found.
pub(crate) fn head_of(
    case: &Case<'_>,
    entity: &str,
    digest: &[u8; 16],
    answered: Option<StreamHead>,
) -> Result<Option<StreamHead>> {
    if let Some(head) = case.heads.get(digest) {
        return Ok(Some(head));
    }
    if case.heads.is_complete_after(case.answers.at) {
        return Ok(answered);
    }
    Ok(case
        .now
        .head_of(entity, digest, case.answers.at)?
        .or(answered))
}

fn unexpected(
    case: &Case<'_>,
    entity: &str,
    expected: ExpectedRevision,
    head: Option<StreamHead>,
) -> StoreError {
    let wanted = match expected {
        ExpectedRevision::Any => "anything".to_owned(),
        ExpectedRevision::NoStream => "no stream".to_owned(),
        ExpectedRevision::StreamExists => "a stream".to_owned(),
        ExpectedRevision::Exactly(revision) => format!("revision {revision}"),
    };
    let found = match head {
        None => "has no events".to_owned(),
        Some(head) => format!("is at revision {}", head.revision),
    };
    let known = match expected {
        ExpectedRevision::Exactly(revision) => revision.get(),
        _ => 0,
    };
    let region = Region::entity(entity).revisions(known.saturating_add(1)..);
    let mut walk = Walk::new(
        region.into(),
        Direction::Forward,
        (1, u64::MAX),
        MAX_IN_THE_WAY,
    );
    let mut positions = Vec::new();
    while let Some(Ok(hit)) = walk.next(case.now) {
        positions.push(hit.event.position().get());
    }
    if positions.is_empty() {
        // Retention removed all that came, and the end of the stream still stands there.
        let end = head.filter(|head| head.revision > known);
        positions.extend(end.map(|head| head.position));
    }
    StoreError::conflict(format!(
        "{entity} {found}, {wanted} was expected; read it, decide again, and retry with what you read"
    ))
    .with_positions(positions)
}

fn check_conditions(case: &Case<'_>) -> Result<()> {
    for (index, condition) in case.batch.conditions.iter().enumerate() {
        if condition.after().get() > case.now.upto {
            return Err(StoreError::argument(format!(
                "a condition looks after position {}, and the last is {}; give the position that you read up to",
                condition.after(),
                case.now.upto
            )));
        }
        let mut found = case.answers.matches.get(index).cloned().unwrap_or_default();
        if found.len() < MAX_IN_THE_WAY {
            let after = condition.after().get().max(case.answers.at);
            found.extend(matches_after(condition, after, case.now)?);
        }
        match condition {
            Condition::UnlessAny(..) if !found.is_empty() => {
                return Err(in_the_way(condition.after(), found));
            }
            Condition::OnlyIf(..) if found.is_empty() => {
                return Err(StoreError::conflict(format!(
                    "no event after position {} matches, and one must; read again and decide again",
                    condition.after()
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn in_the_way(after: Position, positions: Vec<u64>) -> StoreError {
    let first = positions.first().copied().unwrap_or_default();
    StoreError::conflict(format!(
        "event {first} came after position {after} and matches; read from there and decide again"
    ))
    .with_positions(positions)
}

fn find_parents(case: &Case<'_>) -> Result<Vec<KnownParent>> {
    let mut known = Vec::with_capacity(case.answers.parents.len());
    for (index, event) in case.batch.events.iter().enumerate() {
        for parent in &event.parents {
            if let Some(earlier) = case.ids.earlier(index, parent.as_bytes()) {
                known.push(KnownParent::Earlier(earlier));
                continue;
            }
            let found = match case.answers.parents.get(known.len()).copied().flatten() {
                Some(found) => Some(found),
                None => Parent::find(case.now, parent.as_bytes(), case.answers.at)?,
            };
            known.push(KnownParent::Stored(found.ok_or_else(|| {
                StoreError::argument(format!(
                    "the parent {parent} is neither in the store nor earlier in the batch; append it first"
                ))
            })?));
        }
    }
    Ok(known)
}
