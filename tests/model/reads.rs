//! Random reads: every way to ask, held against a look at every event of the model.

use crate::acts::{KINDS, TAGS};
use crate::plain::{Ask, Fact, Patch, Term, Who};
use crate::world::World;
use quipu::EventRefs;
use quipu::prelude::*;
use std::ops::Bound;

/// How a read goes; both sides can be told.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    backward: bool,
    from_revision: u64,
    after: u64,
    before: Option<u64>,
    since: u64,
    limit: Option<usize>,
}

impl Way {
    fn options(self) -> ReadOptions {
        let mut options = ReadOptions::new()
            .from_revision(self.from_revision)
            .after(self.after)
            .since(Timestamp::from_nanos(self.since));
        if self.backward {
            options = options.backward();
        }
        if let Some(before) = self.before {
            options = options.before(before);
        }
        if let Some(limit) = self.limit {
            options = options.limit(limit);
        }
        options
    }

    fn fits(&self, fact: &Fact) -> bool {
        fact.revision >= self.from_revision
            && fact.position > self.after
            && self.before.is_none_or(|before| fact.position < before)
            && fact.recorded_at >= self.since
    }
}

impl World {
    fn bounds(&mut self, low: u64, high: u64) -> (Bound<u64>, Bound<u64>) {
        let mut bound = || {
            let number = low + self.dice.below((high - low).saturating_add(2));
            match self.dice.below(3) {
                0 => Bound::Included(number),
                1 => Bound::Excluded(number),
                _ => Bound::Unbounded,
            }
        };
        (bound(), bound())
    }

    fn times(&self) -> (u64, u64) {
        let facts = &self.model.facts;
        let first = facts.first().map_or(0, |fact| fact.recorded_at);
        (first, facts.last().map_or(0, |fact| fact.recorded_at))
    }

    fn term(&mut self, ranges: bool) -> Term {
        let prefix = |name: &str, dice: &mut crate::plain::Dice| -> String {
            name.chars().take(dice.index(name.len() + 1)).collect()
        };
        match self.dice.below(if ranges { 9 } else { 6 }) {
            0 => Term::Scope(self.dice.pick(&["shop", "shop/eu", "nowhere"]).into()),
            1 => {
                let scope = self.dice.pick(&["shop/eu", "ört", "x"]);
                Term::ScopePrefix(prefix(scope, &mut self.dice))
            }
            2 => Term::Kind(self.dice.pick(&KINDS).into()),
            3 => {
                let kind = self.dice.pick(&KINDS);
                Term::KindPrefix(prefix(kind, &mut self.dice))
            }
            4 => Term::Tag(self.dice.pick(&TAGS).into()),
            5 => {
                let story = self.some_fact().map(|fact| fact.correlation);
                Term::Correlation(story.unwrap_or([1; 16]))
            }
            6 => {
                let (from, to) = self.bounds(0, self.model.head());
                Term::Positions(from, to)
            }
            7 => {
                let (from, to) = self.bounds(0, 30);
                Term::Revisions(from, to)
            }
            _ => {
                let (first, last) = self.times();
                let (from, to) = self.bounds(first, last);
                Term::Recorded(from, to)
            }
        }
    }

    fn patch(&mut self, ranges: bool) -> Patch {
        let name = self.some_fact().map_or("order:1".into(), |f| f.entity);
        let who = match self.dice.below(4) {
            0 => Who::Entity(name),
            1 => Who::EntityPrefix(name.chars().take(self.dice.index(name.len())).collect()),
            _ => Who::Anyone,
        };
        let mut terms: Vec<Term> = Vec::new();
        while self.dice.below(3) > 0 {
            let term = self.term(ranges);
            let like = |t: &Term| match (t, &term) {
                (Term::Kind(_) | Term::KindPrefix(_) | Term::Tag(_), _) => false,
                (Term::Scope(_) | Term::ScopePrefix(_), Term::Scope(_) | Term::ScopePrefix(_)) => {
                    true
                }
                (old, new) => std::mem::discriminant(old) == std::mem::discriminant(new),
            };
            if !terms.iter().any(like) {
                terms.push(term);
            }
        }
        Patch { who, terms }
    }

    /// A query of one or several regions; conditions know no ranges.
    pub(crate) fn ask(&mut self, ranges: bool) -> Ask {
        let mut patches = vec![self.patch(ranges)];
        while self.dice.one_in(3) {
            let patch = self.patch(ranges);
            patches.push(patch);
        }
        Ask(patches)
    }

    fn way(&mut self) -> Way {
        let head = self.model.head();
        let (first, last) = self.times();
        Way {
            backward: self.dice.one_in(2),
            from_revision: if self.dice.one_in(6) {
                self.dice.below(20)
            } else {
                0
            },
            after: if self.dice.one_in(4) {
                self.dice.below(head + 2)
            } else {
                0
            },
            before: self.dice.one_in(4).then(|| self.dice.below(head + 2)),
            since: if self.dice.one_in(5) {
                first + self.dice.below(last - first + 2)
            } else {
                0
            },
            limit: (!self.dice.one_in(4)).then(|| self.dice.index(40)),
        }
    }

    /// What the model finds up to a position.
    fn found(&self, upto: u64, way: Way, fits: impl Fn(&Fact) -> bool) -> Vec<&Fact> {
        let upto = usize::try_from(upto).unwrap();
        let facts = self.model.facts[..upto].iter();
        let facts = facts.filter(|fact| way.fits(fact) && fits(fact));
        let mut found: Vec<&Fact> = facts.collect();
        if way.backward {
            found.reverse();
        }
        found.truncate(way.limit.unwrap_or(usize::MAX));
        found
    }

    fn assert_found(&self, events: EventRefs<'_>, facts: &[&Fact], shown: &str) {
        let mut events = events;
        for (index, fact) in facts.iter().enumerate() {
            let event = events.next().unwrap_or_else(|| {
                panic!(
                    "{shown}: {} expected at {index}, and there is nothing",
                    fact.position
                )
            });
            let event = event.unwrap();
            assert_eq!(event.position(), fact.position, "{shown}, at {index}");
            fact.assert_is(&event);
        }
        let more = events.next().map(|event| event.unwrap().position());
        assert_eq!(more, None, "{shown}: {} expected", facts.len());
        assert!(events.next().is_none(), "fused");
    }

    /// Some view: of now, of an earlier position or time, or one that was taken before.
    fn some_view(&mut self) -> View {
        let head = self.model.head();
        match self.dice.below(6) {
            0 => {
                let position = self.dice.below(head + 1);
                let view = self.store().view_at(position).unwrap();
                let whole = |upto: &u64| {
                    let next = self.model.at(*upto + 1);
                    next.is_none_or(|fact| fact.batch_index == 0)
                };
                let expected = (0..=position).rev().find(whole).unwrap();
                assert_eq!(view.position(), expected, "view at {position}");
                view
            }
            1 => {
                let (first, last) = self.times();
                let time = (first + self.dice.below(last - first + 2)).saturating_sub(1);
                let view = self.store().view_at_time(Timestamp::from_nanos(time));
                let facts = &self.model.facts;
                let mut upto = facts.partition_point(|fact| fact.recorded_at <= time);
                while facts.get(upto).is_some_and(|fact| fact.batch_index > 0) {
                    upto -= 1;
                }
                let view = view.unwrap();
                assert_eq!(view.position(), upto as u64, "view at time {time}");
                view
            }
            2 if !self.views.is_empty() => {
                let index = self.dice.index(self.views.len());
                self.views.swap_remove(index)
            }
            _ => self.store().view(),
        }
    }

    pub(crate) fn read(&mut self) {
        let view = self.some_view();
        let upto = view.position().get();
        let (ask, way) = (self.ask(true), self.way());
        let facts = self.found(upto, way, |fact| ask.fits(fact));
        let shown = format!("{ask:?} {way:?} upto {upto}");
        let events = view.query_with(ask.query(), way.options()).unwrap();
        self.assert_found(events, &facts, &shown);
        let read_events = facts.len() as u64;
        self.said.reads += 1;
        self.said.read_events += read_events;
        self.read_a_stream(&view);
        self.look_up(&view);
        if self.dice.one_in(10) {
            self.assert_view_head(&view);
        }
        if self.dice.one_in(3) {
            self.read_through_the_store();
        }
        if self.dice.one_in(8) {
            self.views.push(view);
            self.views.truncate(20);
        }
    }

    fn assert_view_head(&self, view: &View) {
        let upto = view.position().get();
        let head = view.head().unwrap();
        let index = usize::try_from(upto).unwrap();
        assert_eq!(*head.digest.as_bytes(), self.model.digests[index]);
        let last = self.model.at(upto).map_or(0, |fact| fact.recorded_at);
        assert_eq!(
            (head.position.get(), head.recorded_at.as_nanos()),
            (upto, last)
        );
    }

    fn read_a_stream(&mut self, view: &View) {
        let entity = self.some_fact().map_or("nobody".into(), |f| f.entity);
        let (upto, way) = (view.position().get(), self.way());
        let facts = self.found(upto, way, |fact| fact.entity == entity);
        let events = view.stream_with(&entity, way.options()).unwrap();
        self.assert_found(events, &facts, &format!("{entity} {way:?} upto {upto}"));
        let all = self.found(upto, Way::default(), |fact| fact.entity == entity);
        assert_eq!(
            view.revision(&entity).unwrap(),
            all.last().map_or(0, |f| f.revision)
        );
    }

    /// By id, by position, along the chain, by key: in the view and not above it.
    fn look_up(&mut self, view: &View) {
        let upto = view.position().get();
        let Some(fact) = self.some_fact() else { return };
        let seen = fact.position <= upto;
        let by_id = view.get(EventId::from_bytes(fact.id)).unwrap();
        let at = view.at(fact.position).unwrap();
        assert_eq!((by_id.is_some(), at.is_some()), (seen, seen));
        for event in [by_id, at].into_iter().flatten() {
            fact.assert_is(&event);
            let previous = view.previous(&event).unwrap();
            assert_eq!(previous.is_some(), fact.revision > 1);
            if let Some(previous) = previous {
                self.model.at(fact.previous).unwrap().assert_is(&previous);
                assert_eq!(previous.revision().get() + 1, fact.revision);
            }
        }
        let unknown = EventId::from_bytes(self.dice.bytes16());
        assert!(view.get(unknown).unwrap().is_none());
        assert!(view.at(0).unwrap().is_none() && view.at(upto + 1).unwrap().is_none());
        assert!(view.receipt(b"never used").unwrap().is_none());
        if let Some(key) = fact.key.as_deref() {
            let receipts = view.receipt(key).unwrap();
            assert_eq!(receipts.is_some(), seen);
            if let Some(receipts) = receipts {
                assert_eq!(receipts.len() as u64, u64::from(fact.batch_len));
                self.assert_receipts(fact.position, &receipts);
            }
        }
    }

    /// The shorthands of the handle, whose events own what they show.
    fn read_through_the_store(&mut self) {
        let (ask, way) = (self.ask(true), self.way());
        let facts = self.found(self.model.head(), way, |fact| ask.fits(fact));
        let events = self.store().query_with(ask.query(), way.options()).unwrap();
        let events: Vec<Event> = events.map(|event| event.unwrap()).collect();
        assert_eq!(events.len(), facts.len(), "{ask:?} {way:?}");
        for (event, fact) in events.iter().zip(facts) {
            fact.assert_is(&event.borrowed());
        }
        let Some(fact) = self.some_fact() else { return };
        let store = self.store();
        let event = store.get(EventId::from_bytes(fact.id)).unwrap().unwrap();
        fact.assert_is(&event.borrowed());
        let previous = store.previous(&event).unwrap();
        assert_eq!(previous.map_or(0, |e| e.position().get()), fact.previous);
        let at = store.at(fact.position).unwrap().unwrap();
        assert_eq!(at.hash(), event.hash());
        let count = |fits: &dyn Fn(&Fact) -> bool| {
            self.model.facts.iter().filter(|fact| fits(fact)).count()
        };
        let stream = store.stream(&fact.entity).unwrap().count();
        assert_eq!(stream, count(&|f| f.entity == fact.entity));
        assert_eq!(store.revision(&fact.entity).unwrap(), stream as u64);
        let scope = store.by_scope(&fact.scope).unwrap().count();
        assert_eq!(scope, count(&|f| f.scope == fact.scope));
        let kind = EventKind::new(&fact.kind).unwrap();
        let of_kind = store.by_fact(kind).unwrap().count();
        assert_eq!(of_kind, count(&|f| f.kind == fact.kind));
    }
}
