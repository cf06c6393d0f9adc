//! Holds a store against its model: every event, every axis of the index, every key, every digest, and the proof of the log.

use crate::plain::{Branch, ENTITIES, KINDS, TAGS};
use quipu::prelude::*;

/// Of how many events the children are looked up, about.
const PARENTS: usize = 60;

pub(crate) fn positions(view: &View, query: impl Into<Query>) -> Vec<u64> {
    let events = view.query(query.into()).unwrap();
    events
        .map(|event| event.unwrap().position().get())
        .collect()
}

/// Asserts that the store, open for writing or only for reading, holds what the model holds.
pub(crate) fn assert_holds(store: &Store, branch: &Branch) {
    let view = store.view();
    assert_eq!(store.head().position, branch.end());
    assert_eq!(view.position(), branch.end());
    assert_events(&view, branch);
    assert_index(&view, branch);
    let ends = branch.all().filter(|(_, fact)| fact.digest.is_some());
    for (position, fact) in ends.step_by(7) {
        let head = store.view_at(position).unwrap().head().unwrap();
        assert_eq!(Some(*head.digest.as_bytes()), fact.digest, "at {position}");
    }
    let proof = store.verify().unwrap();
    assert!(proof.is_sound(), "{proof}");
    assert_eq!(proof.repairable_found, 0, "{proof}");
}

fn assert_events(view: &View, branch: &Branch) {
    for (position, fact) in branch.all() {
        match view.at(position) {
            Ok(event) => {
                assert!(!branch.removed.contains(&position), "{position} is there");
                fact.assert_is(&event.unwrap(), position);
            }
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
                assert!(branch.removed.contains(&position), "{error}");
            }
        }
    }
}

fn assert_index(view: &View, branch: &Branch) {
    assert_eq!(positions(view, Query::all()), branch.kept(|_| true));
    for entity in (0..ENTITIES).map(|number| format!("e{number}")) {
        let kept = branch.kept(|fact| fact.entity == entity);
        assert_eq!(positions(view, Query::entity(&entity)), kept, "{entity}");
        assert_eq!(view.stream(&entity).unwrap().count(), kept.len());
        let revision = branch.revision(&entity);
        assert_eq!(view.revision(&entity).unwrap(), revision, "{entity}");
    }
    for tag in (0..TAGS).map(|number| format!("t{number}")) {
        let kept = branch.kept(|fact| fact.tag.as_ref() == Some(&tag));
        assert_eq!(positions(view, Query::tag(&tag)), kept, "{tag}");
        let count = view.count(Query::tag(&tag)).unwrap();
        assert_eq!(count, kept.len() as u64, "{tag}");
    }
    for kind in KINDS {
        let kept = branch.kept(|fact| fact.kind == kind);
        let query = Query::kind(EventKind::literal(kind));
        assert_eq!(positions(view, query), kept, "{kind}");
    }
    let step = 1 + branch.facts.len() / PARENTS;
    for (position, fact) in branch.all().step_by(step) {
        let kept = branch.kept(|child| child.parents.contains(&fact.id));
        let children = Region::all().caused_by(fact.id);
        assert_eq!(positions(view, children), kept, "children of {position}");
    }
}

/// Asserts that every batch that has a key is answered as it was, also where its events were removed.
pub(crate) fn assert_replays(store: &Store, branch: &Branch) {
    for keyed in &branch.keyed {
        let again = store.append_batch(keyed.batch.clone()).unwrap();
        let ids: Vec<_> = again.iter().map(Receipt::id).collect();
        assert_eq!(ids, keyed.ids);
        assert_eq!(again.last().unwrap().position(), keyed.end);
    }
    assert_eq!(store.head().position, branch.end(), "a replay was appended");
}
