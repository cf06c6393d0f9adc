//! Random submissions: what is submitted, what the model says of it, and whether the store agrees.

use crate::plain::{Ask, Fact};
use crate::world::{Used, World};
use quipu::Result;
use quipu::prelude::*;

const ENTITIES: [&str; 9] = [
    "order:1",
    "order:10",
    "order:2",
    "o",
    "órder:é",
    "Ω",
    "ω:🦙",
    "stock:7",
    "../x",
];
const SCOPES: [&str; 4] = ["shop", "shop/eu", "shop/us", "ört"];
pub(crate) const KINDS: [&str; 6] = [
    "order.placed",
    "order.paid",
    "order",
    "orders.x",
    "stock.moved",
    "größe.neu",
];
pub(crate) const TAGS: [&str; 7] = ["t", "t:0", "t:1", "t:2", "customer:1", "customer:10", "🧵"];

/// One event to be appended: what the caller says of it.
#[derive(Clone, Debug)]
struct Wish {
    fact: Fact,
    given_id: Option<[u8; 16]>,
    correlation: Option<[u8; 16]>,
}

#[derive(Clone, Debug)]
enum Wanted {
    Unless(Ask, u64),
    Only(Ask, u64),
}

/// Everything of one submission.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    wishes: Vec<Wish>,
    expected: Vec<(String, ExpectedRevision)>,
    conditions: Vec<Wanted>,
    key: Option<Vec<u8>>,
    buffered: bool,
}

/// What must come of it.
#[derive(Debug)]
enum Verdict {
    Accepted,
    Replay(u64),
    Conflict(Vec<u64>),
    NoParent,
    Beyond,
}

macro_rules! describe {
    ($builder:expr, $wish:expr) => {{
        let fact = &$wish.fact;
        let mut builder = $builder
            .tags(&fact.tags)
            .schema_version(fact.schema_version);
        for (key, value) in fact.metadata.iter().rev() {
            builder = builder.metadata(key, value);
        }
        for id in &fact.parents {
            builder = builder.caused_by(EventId::from_bytes(*id));
        }
        if let Some(id) = $wish.correlation {
            builder = builder.correlation(CorrelationId::from_bytes(id));
        }
        if let Some(id) = $wish.given_id {
            builder = builder.event_id(EventId::from_bytes(id));
        }
        if let Some(time) = fact.occurred_at {
            builder = builder.occurred_at(Timestamp::from_nanos(time));
        }
        builder
    }};
}

macro_rules! set_terms {
    ($builder:expr, $submission:expr) => {{
        let mut builder = $builder;
        for condition in &$submission.conditions {
            builder = match condition {
                Wanted::Unless(ask, after) => builder.unless_any(ask.query(), *after),
                Wanted::Only(ask, after) => builder.only_if(ask.query(), *after),
            };
        }
        if let Some(key) = &$submission.key {
            builder = builder.idempotency_key(key);
        }
        if $submission.buffered {
            builder = builder.durability(Durability::Buffered);
        }
        builder
    }};
}

impl Wish {
    fn coordinate(&self) -> Coordinate {
        Coordinate::new(&self.fact.entity, &self.fact.scope).unwrap()
    }

    fn kind(&self) -> EventKind {
        EventKind::new(&self.fact.kind).unwrap()
    }

    fn draft(&self) -> EventDraft {
        let payload = RawPayload::new(&self.fact.payload);
        describe!(
            EventDraft::new(&self.coordinate(), self.kind(), &payload),
            self
        )
    }
}

impl Submission {
    fn batch(&self) -> Batch {
        let mut batch = Batch::new().events(self.wishes.iter().map(Wish::draft));
        for (entity, expected) in &self.expected {
            batch = batch.expect_revision(entity, *expected);
        }
        set_terms!(batch, self)
    }

    /// The options, if it is one event and expects nothing of other entities.
    fn options(&self) -> Option<AppendOptions> {
        let [wish] = &self.wishes[..] else {
            return None;
        };
        let options = match &self.expected[..] {
            [] => AppendOptions::new(),
            [(entity, expected)] if *entity == wish.fact.entity => {
                AppendOptions::new().expect_revision(*expected)
            }
            _ => return None,
        };
        Some(set_terms!(describe!(options, wish), self))
    }

    fn append(&self, store: &Store) -> Result<Vec<Receipt>> {
        let Some(options) = self.options() else {
            return store.append_batch(self.batch());
        };
        let wish = &self.wishes[0];
        let payload = RawPayload::new(&wish.fact.payload);
        store
            .append_with_options(&wish.coordinate(), wish.kind(), &payload, options)
            .map(|receipt| vec![receipt])
    }
}

impl World {
    fn wish(&mut self, earlier: &[Wish]) -> Wish {
        let entity = match self.dice.one_in(4) {
            true => format!("e:{}", self.dice.below(300)),
            false => self.dice.pick(&ENTITIES).to_owned(),
        };
        let mut tags: Vec<String> = (0..self.dice.below(4))
            .map(|_| self.dice.pick(&TAGS).to_owned())
            .collect();
        tags.sort();
        tags.dedup();
        let mut parents = Vec::new();
        while self.dice.one_in(3) {
            let in_batch = earlier.iter().rev().find_map(|wish| wish.given_id);
            let parent = match in_batch.filter(|_| self.dice.one_in(2)) {
                Some(id) => Some(id),
                None => self.some_fact().map(|fact| fact.id),
            };
            parents.extend(parent.filter(|id| !parents.contains(id)));
        }
        let given_id = self.dice.one_in(3).then(|| self.new_id());
        let correlation = match self.dice.below(6) {
            0 => Some(self.dice.bytes16()),
            1 => self.some_fact().map(|fact| fact.correlation),
            2 => given_id,
            _ => None,
        };
        let metadata = (0..self.dice.below(3))
            .map(|n| (format!("k{n}"), "v".repeat(self.dice.index(40))))
            .collect();
        let fact = Fact {
            entity,
            scope: self.dice.pick(&SCOPES).to_owned(),
            kind: self.dice.pick(&KINDS).to_owned(),
            payload: self.payload(),
            schema_version: if self.dice.one_in(5) { 7 } else { 1 },
            tags,
            metadata,
            parents,
            occurred_at: self.dice.one_in(4).then(|| self.dice.bits()),
            ..Fact::default()
        };
        Wish {
            fact,
            given_id,
            correlation,
        }
    }

    /// A MessagePack value: mostly 1 to 4 KiB of noise, sometimes a number.
    fn payload(&mut self) -> Vec<u8> {
        if self.dice.one_in(6) {
            return vec![self.dice.bits().to_le_bytes()[0] & 0x7f];
        }
        let len = 1024 + self.dice.below(3072);
        let mut value = vec![0xc5];
        value.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        while (value.len() as u64) < len + 3 {
            value.extend_from_slice(&self.dice.bits().to_le_bytes());
        }
        value.truncate(usize::try_from(len).unwrap() + 3);
        value
    }

    pub(crate) fn submission(&mut self) -> Submission {
        let count = match self.dice.below(10) {
            0 => 2 + self.dice.below(30),
            1..4 => 2 + self.dice.below(4),
            _ => 1,
        };
        let mut wishes = Vec::new();
        for _ in 0..count {
            let wish = self.wish(&wishes);
            wishes.push(wish);
        }
        let mut submission = Submission {
            wishes,
            expected: Vec::new(),
            conditions: Vec::new(),
            key: None,
            buffered: self.dice.one_in(3),
        };
        self.add_terms(&mut submission);
        match self.dice.below(25) {
            0 => self.use_an_id_again(&mut submission),
            1 => submission.wishes.last_mut().unwrap().fact.parents = vec![[0xab; 16]],
            2..5 => self.retry(&mut submission),
            _ => {}
        }
        submission
    }

    fn add_terms(&mut self, submission: &mut Submission) {
        while self.dice.one_in(4) {
            let entity = match self.dice.one_in(3) {
                true => self.dice.pick(&ENTITIES).to_owned(),
                false => submission.wishes[0].fact.entity.clone(),
            };
            let actual = self.model.last_of(&entity).map_or(0, |last| last.revision);
            let expected = match self.dice.below(8) {
                0 => ExpectedRevision::Any,
                1 => ExpectedRevision::NoStream,
                2 => ExpectedRevision::StreamExists,
                3 => self.dice.below(actual + 2).into(),
                _ => actual.into(),
            };
            submission.expected.push((entity, expected));
        }
        while self.dice.one_in(4) {
            let ask = self.ask(false);
            let after = match self.dice.one_in(3) {
                true => self.dice.below(self.model.head() + 2),
                false => self.model.head().saturating_sub(self.dice.below(12)),
            };
            submission.conditions.push(match self.dice.one_in(2) {
                true => Wanted::Unless(ask, after),
                false => Wanted::Only(ask, after),
            });
        }
        if self.dice.one_in(4) {
            submission.key = Some(self.new_id()[8..].to_vec());
        }
    }

    fn use_an_id_again(&mut self, submission: &mut Submission) {
        let used = self.some_fact().map(|fact| fact.id);
        let last = submission.wishes.last_mut().unwrap();
        last.given_id = used.filter(|id| !last.fact.parents.contains(id));
    }

    /// The content of an earlier submission under its key, with everything else different; or other content.
    fn retry(&mut self, submission: &mut Submission) {
        if self.used.is_empty() {
            return;
        }
        let index = self.dice.index(self.used.len());
        let Used { key, facts } = self.used[index].clone();
        submission.key = Some(key);
        if self.dice.one_in(4) {
            return;
        }
        submission.wishes = facts
            .into_iter()
            .map(|fact| Wish {
                fact: Fact {
                    parents: vec![self.dice.bytes16()],
                    metadata: vec![("retry".into(), "yes".into())],
                    occurred_at: Some(self.dice.bits()),
                    ..fact
                },
                given_id: None,
                correlation: Some(self.dice.bytes16()),
            })
            .collect();
        if self.dice.one_in(2) {
            submission.wishes[0].given_id = self.some_fact().map(|fact| fact.id);
        }
    }

    /// What the model says: the first rule that is broken, in the order of the promise.
    fn verdict(&self, submission: &Submission) -> Verdict {
        if let Some(first) = submission.key.as_ref().and_then(|k| self.model.by_key(k)) {
            let same = first.len() == submission.wishes.len()
                && first.iter().zip(&submission.wishes).all(|(old, new)| {
                    let content = |f: &Fact| {
                        let names = [&f.entity, &f.scope, &f.kind].map(String::clone);
                        (names, f.schema_version, f.payload.clone(), f.tags.clone())
                    };
                    content(old) == content(&new.fact)
                });
            return match same {
                true => Verdict::Replay(first[0].position),
                false => Verdict::Conflict(vec![first[0].position]),
            };
        }
        let given = submission.wishes.iter().filter_map(|wish| wish.given_id);
        if let Some(used) = given.filter_map(|id| self.model.by_id(&id)).next() {
            return Verdict::Conflict(vec![used.position]);
        }
        for (entity, expected) in &submission.expected {
            if let Some(lost) = self.unexpected(entity, *expected) {
                return Verdict::Conflict(lost);
            }
        }
        for condition in &submission.conditions {
            let (ask, after) = match condition {
                Wanted::Unless(ask, after) | Wanted::Only(ask, after) => (ask, *after),
            };
            if after > self.model.head() {
                return Verdict::Beyond;
            }
            let fitting = self.model.facts.iter().filter(|f| f.position > after);
            let found: Vec<u64> = fitting
                .filter(|fact| ask.fits(fact))
                .map(|fact| fact.position)
                .take(16)
                .collect();
            match condition {
                Wanted::Unless(..) if !found.is_empty() => return Verdict::Conflict(found),
                Wanted::Only(..) if found.is_empty() => return Verdict::Conflict(found),
                _ => {}
            }
        }
        self.check_parents(submission)
    }

    fn unexpected(&self, entity: &str, expected: ExpectedRevision) -> Option<Vec<u64>> {
        let actual = self.model.last_of(entity).map_or(0, |last| last.revision);
        let (holds, known) = match expected {
            ExpectedRevision::Any => (true, 0),
            ExpectedRevision::NoStream => (actual == 0, 0),
            ExpectedRevision::StreamExists => (actual > 0, 0),
            ExpectedRevision::Exactly(revision) => (revision == actual, revision.get()),
            other => panic!("teach the model {other:?}"),
        };
        let newer = self.model.facts.iter();
        let newer = newer.filter(|f| f.entity == entity && f.revision > known);
        (!holds).then(|| newer.map(|f| f.position).take(16).collect())
    }

    fn check_parents(&self, submission: &Submission) -> Verdict {
        for (index, wish) in submission.wishes.iter().enumerate() {
            let known = |id: &[u8; 16]| {
                let earlier = &submission.wishes[..index];
                self.model.by_id(id).is_some() || earlier.iter().any(|w| w.given_id == Some(*id))
            };
            if !wish.fact.parents.iter().all(known) {
                return Verdict::NoParent;
            }
        }
        Verdict::Accepted
    }

    /// Holds the store's answer against the model's, and appends to the model what was accepted.
    fn settle(&mut self, submission: &Submission, outcome: Result<Vec<Receipt>>) {
        match (self.verdict(submission), outcome) {
            (Verdict::Accepted, Ok(receipts)) => self.accept(submission, &receipts),
            (Verdict::Replay(first), Ok(receipts)) => {
                self.said.replays += 1;
                assert!(receipts.iter().all(Receipt::replay));
                assert!(submission.buffered || receipts.iter().all(Receipt::durable));
                self.assert_receipts(first, &receipts);
            }
            (Verdict::Conflict(lost), Err(error)) => {
                self.said.conflicts += 1;
                assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
                assert_eq!(error.in_the_way(), lost, "{error}");
            }
            (Verdict::NoParent, Err(error)) => {
                self.said.refused += 1;
                assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
                assert!(error.to_string().contains("append it first"), "{error}");
            }
            (Verdict::Beyond, Err(error)) => {
                self.said.refused += 1;
                assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
                assert!(error.to_string().contains("looks after"), "{error}");
            }
            (verdict, outcome) => panic!("{verdict:?} expected of {submission:?}, got {outcome:?}"),
        }
    }

    fn accept(&mut self, submission: &Submission, receipts: &[Receipt]) {
        self.said.accepted += 1;
        assert_eq!(receipts.len(), submission.wishes.len());
        let mut facts: Vec<Fact> = Vec::new();
        for (wish, receipt) in submission.wishes.iter().zip(receipts) {
            let id = *receipt.id().as_bytes();
            assert!(wish.given_id.is_none_or(|given| given == id));
            let parent = wish.fact.parents.first().map(|parent| {
                let earlier = facts.iter().find(|fact| fact.id == *parent);
                earlier.or(self.model.by_id(parent)).unwrap().correlation
            });
            facts.push(Fact {
                id,
                correlation: wish.correlation.or(parent).unwrap_or(id),
                ..wish.fact.clone()
            });
        }
        if let Some(key) = submission.key.clone() {
            let facts = facts.clone();
            self.used.push(Used { key, facts });
        }
        let first = self.model.head() + 1;
        let now = quipu::io::Clock::now(&*self.hands);
        self.model.append(facts, submission.key.as_deref(), now);
        assert!(!receipts.iter().any(Receipt::replay));
        assert!(submission.buffered || receipts.iter().all(Receipt::durable));
        self.assert_receipts(first, receipts);
    }

    pub(crate) fn assert_receipts(&self, first: u64, receipts: &[Receipt]) {
        for (position, receipt) in (first..).zip(receipts) {
            let fact = self.model.at(position).unwrap();
            assert_eq!(receipt.position(), position);
            assert_eq!(*receipt.id().as_bytes(), fact.id);
            assert_eq!(receipt.revision(), fact.revision);
            assert_eq!(receipt.recorded_at().as_nanos(), fact.recorded_at);
            assert_eq!(*receipt.hash().as_bytes(), fact.hash, "position {position}");
        }
    }

    /// One submission, waited for.
    pub(crate) fn append(&mut self) {
        self.tick();
        let submission = self.submission();
        let outcome = submission.append(self.store());
        self.settle(&submission, outcome);
        self.assert_head();
    }

    /// Several submissions at once, as tickets; they are decided in the order in which they were queued.
    pub(crate) fn pipeline(&mut self) {
        self.tick();
        let count = 2 + self.dice.below(12);
        let submissions: Vec<_> = (0..count).map(|_| self.submission()).collect();
        let tickets: Vec<_> = submissions
            .iter()
            .map(|submission| self.store().submit_batch(submission.batch()).unwrap())
            .collect();
        for (submission, ticket) in submissions.iter().zip(tickets) {
            self.settle(submission, ticket.wait());
        }
        self.assert_head();
    }
}
