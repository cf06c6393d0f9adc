//! Holds what a view answers against the model: random queries, counted and walked either way, and lists of names.

use crate::plain::{Branch, ENTITIES, Fact, KINDS, TAGS};
use crate::same::positions;
use crate::support::dice::Dice;
use quipu::Names;
use quipu::prelude::*;
use std::collections::BTreeMap;

/// How many queries are asked of a view.
const QUERIES: usize = 8;

/// What an event must have, without any code of the store.
#[derive(Clone, Debug)]
enum Term {
    Entity(String),
    EntityPrefix(String),
    Kinds(Vec<String>),
    Tag(String),
    Story(EventId),
    Cause(EventId),
    Positions(u64, u64),
}

impl Term {
    fn random(dice: &mut Dice, branch: &Branch) -> Self {
        let some = branch.facts.get(dice.below(branch.facts.len().max(1)));
        let id = some.map_or(EventId::from_bytes([7; 16]), |fact| fact.id);
        match dice.below(8) {
            0 => Self::Entity(format!("e{}", dice.below(ENTITIES + 2))),
            1 => Self::EntityPrefix(["", "e", "e1", "e2", "f"][dice.below(5)].to_owned()),
            2 => Self::Kinds(
                (0..=dice.below(2))
                    .map(|_| ["", "order.", "stock.moved", "order.p", "stock.taken"][dice.below(5)])
                    .map(str::to_owned)
                    .collect(),
            ),
            3 => Self::Kinds(vec![KINDS[dice.below(KINDS.len())].to_owned()]),
            4 => Self::Tag(format!("t{}", dice.below(TAGS + 1))),
            5 => Self::Story(some.map_or(id, |fact| fact.story)),
            6 => Self::Cause(
                some.and_then(|fact| fact.parents.first().copied())
                    .unwrap_or(id),
            ),
            _ => {
                let first = dice.next() % (branch.end() + 2);
                Self::Positions(first, first + dice.next() % (branch.end() + 2))
            }
        }
    }

    fn narrow(&self, region: Region) -> Region {
        match self {
            Self::Entity(_) | Self::EntityPrefix(_) => region,
            Self::Kinds(kinds) => {
                kinds
                    .iter()
                    .fold(region, |region, kind| match KINDS.contains(&&**kind) {
                        true => region.kind(kind),
                        false => region.kind_prefix(kind),
                    })
            }
            Self::Tag(tag) => region.tag(tag),
            Self::Story(id) => region.correlation(*id),
            Self::Cause(id) => region.caused_by(*id),
            Self::Positions(first, last) => region.positions(*first..=*last),
        }
    }

    fn fits(&self, position: u64, fact: &Fact) -> bool {
        match self {
            Self::Entity(name) => fact.entity == *name,
            Self::EntityPrefix(prefix) => fact.entity.starts_with(prefix),
            Self::Kinds(kinds) => kinds.iter().any(|kind| match KINDS.contains(&&**kind) {
                true => fact.kind == *kind,
                false => fact.kind.starts_with(kind),
            }),
            Self::Tag(tag) => fact.tag.as_ref() == Some(tag),
            Self::Story(id) => fact.story == *id,
            Self::Cause(id) => fact.parents.contains(id),
            Self::Positions(first, last) => (*first..=*last).contains(&position),
        }
    }
}

/// Terms of different sorts that must all hold.
fn terms(dice: &mut Dice, branch: &Branch) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    for _ in 0..=dice.below(3) {
        let term = Term::random(dice, branch);
        let sort = |term: &Term| match term {
            Term::EntityPrefix(_) => std::mem::discriminant(&Term::Entity(String::new())),
            other => std::mem::discriminant(other),
        };
        if terms.iter().all(|known| sort(known) != sort(&term)) {
            terms.push(term);
        }
    }
    terms
}

fn region_of(terms: &[Term]) -> Region {
    let entity = terms.iter().find_map(|term| match term {
        Term::Entity(name) => Some(Region::entity(name)),
        Term::EntityPrefix(prefix) => Some(Region::entity_prefix(prefix)),
        _ => None,
    });
    let region = entity.unwrap_or_else(Region::all);
    terms
        .iter()
        .fold(region, |region, term| term.narrow(region))
}

/// Asserts that a view, of now or of an earlier position, answers as the model does.
pub(crate) fn assert_answers(view: &View, branch: &Branch, dice: &mut Dice) {
    for _ in 0..QUERIES {
        assert_query(view, branch, dice);
    }
    for prefix in ["", ["e1", "order.", "t", "s", "x"][dice.below(5)]] {
        let names = |fact: &Fact| vec![fact.entity.clone()];
        assert_listed(view.entities(prefix).unwrap(), names, prefix, view, branch);
        let names = |fact: &Fact| vec![fact.scope.clone()];
        assert_listed(view.scopes(prefix).unwrap(), names, prefix, view, branch);
        let names = |fact: &Fact| vec![fact.kind.clone()];
        assert_listed(view.kinds(prefix).unwrap(), names, prefix, view, branch);
        let names = |fact: &Fact| fact.tag.iter().cloned().collect();
        assert_listed(view.tags(prefix).unwrap(), names, prefix, view, branch);
    }
}

fn assert_query(view: &View, branch: &Branch, dice: &mut Dice) {
    let regions: Vec<_> = (0..=dice.below(2)).map(|_| terms(dice, branch)).collect();
    let mut query = Query::from(region_of(&regions[0]));
    for region in &regions[1..] {
        query = query.or(region_of(region));
    }
    let shown = branch.kept_upto(view.position().get());
    let fits = |position, fact: &Fact| {
        let fits = |terms: &Vec<Term>| terms.iter().all(|term| term.fits(position, fact));
        regions.iter().any(fits)
    };
    let mut expected: Vec<u64> = shown
        .filter(|(position, fact)| fits(*position, fact))
        .map(|(position, _)| position)
        .collect();
    assert_eq!(positions(view, query.clone()), expected, "{query}");
    let count = view.count(query.clone()).unwrap();
    assert_eq!(count, expected.len() as u64, "{query}");
    let took = view.explain(query.clone()).unwrap();
    assert_eq!(took.matched(), count, "{query}");
    assert!(took.segments_read() <= took.segments(), "{query}: {took}");
    let limit = dice.below(20);
    expected.reverse();
    expected.truncate(limit);
    let options = ReadOptions::new().backward().limit(limit);
    let last = view.query_with(query.clone(), options).unwrap();
    let last = last.map(|event| event.unwrap().position().get());
    assert!(last.eq(expected), "the last {limit} of {query}");
}

fn assert_listed(
    listed: Names,
    names: impl Fn(&Fact) -> Vec<String>,
    prefix: &str,
    view: &View,
    branch: &Branch,
) {
    let mut expected = BTreeMap::new();
    for (position, fact) in branch.kept_upto(view.position().get()) {
        for name in names(fact).into_iter().filter(|n| n.starts_with(prefix)) {
            let (events, last) = expected.entry(name).or_insert((0, 0));
            *events += 1;
            *last = position;
        }
    }
    let listed = listed.map(|entry| {
        let entry = entry.unwrap();
        let borne = (entry.events(), entry.last_position().get());
        (entry.name().to_owned(), borne)
    });
    let listed: Vec<_> = listed.collect();
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(listed, expected, "names that begin with {prefix:?}");
}
