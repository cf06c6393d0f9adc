//! Random rules of retention: the same rule for the store and, without any of its code, for the model.

use crate::plain::{Branch, Fact, KINDS, TAGS};
use crate::support::dice::Dice;
use quipu::prelude::*;
use quipu::{Result, Retention, RetentionMoment, RetentionPredicate};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// By the store's clock, which stands there.
    OlderThan {
        age: u64,
        now: u64,
    },
    RecordedBefore(u64),
    AllButNewest(u64),
    Tombstoned,
    Kinds(Vec<&'static str>),
    Tag(usize),
    Positions(u64, u64),
    Own(EveryNth),
    Both(Box<Self>, Box<Self>),
    Either(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

/// A predicate of the caller's: every so many positions, up to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EveryNth {
    nth: u64,
    upto: u64,
}

impl EveryNth {
    fn takes(self, position: u64) -> bool {
        position.is_multiple_of(self.nth) && position <= self.upto
    }
}

impl RetentionPredicate for EveryNth {
    fn may_go(&self, event: &EventRef<'_>, _: &RetentionMoment<'_>) -> Result<bool> {
        Ok(self.takes(event.position().get()))
    }

    fn candidates(&self, _: Timestamp) -> Query {
        match self.upto {
            u64::MAX => Query::all(),
            upto => Region::all().positions(..=upto).into(),
        }
    }
}

impl Rule {
    /// A rule for a store that is not empty, composed up to `depth` times.
    pub(crate) fn random(dice: &mut Dice, branch: &Branch, now: u64, depth: usize) -> Self {
        let time = branch.facts[dice.below(branch.facts.len())].recorded_at;
        let from = dice.next() % (branch.end() + 2);
        let span = dice.next() % (branch.end() + 2);
        let rare = dice.one_in(6);
        let mut part = || Box::new(Self::random(dice, branch, now, depth - 1));
        if depth > 0 {
            let (a, b) = (part(), part());
            match dice.below(12) {
                0 | 1 => return Self::Both(a, b),
                2 => return Self::Either(a, b),
                3 => return Self::Not(a),
                _ => {}
            }
        }
        match dice.below(8) {
            0 => Self::RecordedBefore(if rare { u64::MAX } else { time }),
            1 => Self::AllButNewest(if rare { u64::MAX } else { dice.next() % 20 }),
            2 => Self::Tombstoned,
            3 => Self::Kinds(KINDS[dice.below(3)..].to_vec()),
            4 => Self::Tag(dice.below(TAGS)),
            5 => Self::Positions(from, from + span),
            6 => Self::OlderThan {
                age: now.saturating_sub(time),
                now,
            },
            _ => Self::Own(EveryNth {
                nth: 1 + dice.next() % 5,
                upto: if rare { from } else { u64::MAX },
            }),
        }
    }

    pub(crate) fn retention(&self) -> Retention {
        match self {
            Self::OlderThan { age, .. } => Retention::older_than(Duration::from_nanos(*age)),
            Self::RecordedBefore(time) => Retention::recorded_before(Timestamp::from_nanos(*time)),
            Self::AllButNewest(count) => Retention::all_but_newest(*count),
            Self::Tombstoned => Retention::tombstoned(),
            Self::Kinds(kinds) => Retention::kinds(kinds),
            Self::Tag(tag) => Retention::query(Query::tag(format!("t{tag}"))),
            Self::Positions(from, to) => Retention::query(Region::all().positions(*from..=*to)),
            Self::Own(own) => Retention::kinds([""; 0]).or(*own),
            Self::Both(a, b) => match **b {
                Self::Own(own) => a.retention().and(own),
                _ => a.retention().and(b.retention()),
            },
            Self::Either(a, b) => match **b {
                Self::Own(own) => a.retention().or(own),
                _ => a.retention().or(b.retention()),
            },
            Self::Not(a) => a.retention().not(),
        }
    }
}

/// What rules ask of the whole store.
pub(crate) struct Ends<'a> {
    revisions: HashMap<&'a str, u64>,
    ended: BTreeSet<&'a str>,
}

impl<'a> Ends<'a> {
    pub(crate) fn of(branch: &'a Branch) -> Self {
        let revisions = branch
            .facts
            .iter()
            .map(|fact| (&*fact.entity, fact.revision));
        Self {
            revisions: revisions.collect(),
            ended: branch.ended(),
        }
    }

    /// Whether the event at `position` may go by the rule.
    pub(crate) fn fits(&self, rule: &Rule, position: u64, fact: &Fact) -> bool {
        match rule {
            Rule::OlderThan { age, now } => fact.recorded_at + age < *now,
            Rule::RecordedBefore(time) => fact.recorded_at < *time,
            Rule::AllButNewest(count) => self.revisions[&*fact.entity] - fact.revision >= *count,
            Rule::Tombstoned => self.ended.contains(&*fact.entity),
            Rule::Kinds(kinds) => kinds.contains(&&*fact.kind),
            Rule::Tag(tag) => fact.tag == Some(format!("t{tag}")),
            Rule::Positions(from, to) => (*from..=*to).contains(&position),
            Rule::Own(own) => own.takes(position),
            Rule::Both(a, b) => self.fits(a, position, fact) && self.fits(b, position, fact),
            Rule::Either(a, b) => self.fits(a, position, fact) || self.fits(b, position, fact),
            Rule::Not(a) => !self.fits(a, position, fact),
        }
    }
}
