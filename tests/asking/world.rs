//! Random stores of several segments, the facts in them, and random questions that a plain filter answers, too.

use crate::dice::Dice;
use quipu::MIN_SEGMENT_BYTES;
use quipu::io::{Access, Disk, MemoryDisk};
use quipu::prelude::*;
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::Arc;

const ENTITIES: [&str; 8] = [
    "order:1",
    "order:10",
    "order:2",
    "o",
    "órder:é",
    "Ω",
    "ω:🦙",
    "stock:7",
];
const SCOPES: [&str; 4] = ["shop", "shop/eu", "shop/us", "ört"];
const KINDS: [&str; 5] = [
    "order.placed",
    "order.paid",
    "order",
    "stock.moved",
    "größe.neu",
];
const TAGS: [&str; 6] = ["t", "t:1", "t:2", "customer:1", "customer:10", "🧵"];

/// What a question may depend on.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) id: EventId,
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) recorded_at: u64,
    pub(crate) entity: String,
    pub(crate) scope: String,
    pub(crate) kind: String,
    pub(crate) tags: Vec<String>,
    pub(crate) correlation: CorrelationId,
    pub(crate) parents: Vec<EventId>,
}

impl Fact {
    pub(crate) fn of(event: &Event) -> Self {
        Self {
            id: event.id(),
            position: event.position().get(),
            revision: event.revision().get(),
            recorded_at: event.recorded_at().as_nanos(),
            entity: event.entity().into(),
            scope: event.scope().into(),
            kind: event.kind().into(),
            tags: event.tags().map(Into::into).collect(),
            correlation: event.correlation(),
            parents: event.parents().collect(),
        }
    }
}

/// One term of a region, to be told to the store and to be asked of a fact.
#[derive(Clone, Debug)]
enum Term {
    Entity(String),
    EntityPrefix(String),
    Scope(String),
    ScopePrefix(String),
    Kind(String),
    KindPrefix(String),
    Tag(String),
    Story(CorrelationId),
    Cause(EventId),
    Positions(RangeInclusive<u64>),
    Revisions(RangeInclusive<u64>),
    Recorded(RangeInclusive<u64>),
}

/// Regions as their terms; a region with an entity has it first.
#[derive(Clone, Debug)]
pub(crate) struct Ask(Vec<Vec<Term>>);

impl Ask {
    pub(crate) fn query(&self) -> Query {
        let mut regions = self.0.iter().map(|terms| region(terms));
        let first = Query::from(regions.next().unwrap());
        regions.fold(first, Query::or)
    }

    pub(crate) fn fits(&self, fact: &Fact) -> bool {
        self.0.iter().any(|terms| fits(terms, fact))
    }
}

fn region(terms: &[Term]) -> Region {
    let mut region = Region::all();
    for term in terms {
        let time = |range: &RangeInclusive<u64>| {
            Timestamp::from_nanos(*range.start())..=Timestamp::from_nanos(*range.end())
        };
        region = match term {
            Term::Entity(name) => Region::entity(name),
            Term::EntityPrefix(prefix) => Region::entity_prefix(prefix),
            Term::Scope(name) => region.scope(name),
            Term::ScopePrefix(prefix) => region.scope_prefix(prefix),
            Term::Kind(kind) => region.kind(kind),
            Term::KindPrefix(prefix) => region.kind_prefix(prefix),
            Term::Tag(tag) => region.tag(tag),
            Term::Story(id) => region.correlation(*id),
            Term::Cause(id) => region.caused_by(*id),
            Term::Positions(range) => region.positions(range.clone()),
            Term::Revisions(range) => region.revisions(range.clone()),
            Term::Recorded(range) => region.recorded(time(range)),
        };
    }
    region
}

fn fits(terms: &[Term], fact: &Fact) -> bool {
    let of_kind = |term: &Term| match term {
        Term::Kind(kind) => Some(fact.kind == *kind),
        Term::KindPrefix(prefix) => Some(fact.kind.starts_with(prefix)),
        _ => None,
    };
    let kinds: Vec<bool> = terms.iter().filter_map(of_kind).collect();
    let others = terms.iter().all(|term| match term {
        Term::Entity(name) => fact.entity == *name,
        Term::EntityPrefix(prefix) => fact.entity.starts_with(prefix),
        Term::Scope(name) => fact.scope == *name,
        Term::ScopePrefix(prefix) => fact.scope.starts_with(prefix),
        Term::Kind(_) | Term::KindPrefix(_) => true,
        Term::Tag(tag) => fact.tags.contains(tag),
        Term::Story(id) => fact.correlation == *id,
        Term::Cause(id) => fact.parents.contains(id),
        Term::Positions(range) => range.contains(&fact.position),
        Term::Revisions(range) => range.contains(&fact.revision),
        Term::Recorded(range) => range.contains(&fact.recorded_at),
    });
    others && (kinds.is_empty() || kinds.contains(&true))
}

/// A store and the facts in it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) facts: Vec<Fact>,
    pub(crate) dice: Dice,
    disk: Arc<MemoryDisk>,
}

pub(crate) fn open(disk: &Arc<MemoryDisk>) -> Store {
    let config = StoreConfig::on_disk(Arc::clone(disk) as _).segment_bytes(MIN_SEGMENT_BYTES);
    Store::open_with(config).unwrap()
}

impl World {
    /// An empty store and dice whose seed is printed, `QUIPU_ASKING_SEED` if that is set.
    pub(crate) fn new() -> Self {
        let given = std::env::var("QUIPU_ASKING_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().hash_one(0),
            |seed| seed.parse().unwrap(),
        );
        println!("repeat with QUIPU_ASKING_SEED={seed}");
        let disk = Arc::new(MemoryDisk::new());
        Self {
            store: open(&disk),
            facts: Vec::new(),
            dice: Dice::new(seed),
            disk,
        }
    }

    /// Appends random batches until there are `events` more, large enough that a segment takes some 250 of them.
    pub(crate) fn grow(&mut self, events: usize) {
        let wanted = self.facts.len() + events;
        while self.facts.len() < wanted {
            let drafts: Vec<_> = (0..=self.dice.below(5)).map(|_| self.draft()).collect();
            for receipt in self
                .store
                .append_batch(Batch::new().events(drafts))
                .unwrap()
            {
                let event = self.store.get(receipt).unwrap().unwrap();
                self.facts.push(Fact::of(&event));
            }
        }
    }

    pub(crate) fn pick(&mut self, names: &[&str]) -> String {
        names[self.dice.below(names.len())].to_owned()
    }

    fn draft(&mut self) -> EventDraft {
        let entity = match self.dice.below(3) {
            0 => format!("customer:{}", self.dice.below(200)),
            _ => self.pick(&ENTITIES),
        };
        let place = Coordinate::new(entity, self.pick(&SCOPES)).unwrap();
        let kind = EventKind::new(self.pick(&KINDS)).unwrap();
        let payload = "x".repeat(self.dice.below(10_000));
        let mut draft = EventDraft::new(&place, kind, &payload);
        for _ in 0..self.dice.below(3) {
            draft = draft.tag(self.pick(&TAGS));
        }
        if let Some(parent) = self.some_fact().filter(|_| self.dice.one_in(2)) {
            draft = draft.caused_by(parent.id);
            if self.dice.one_in(3) {
                draft = draft.correlation(parent.id);
            }
        }
        draft
    }

    pub(crate) fn some_fact(&mut self) -> Option<Fact> {
        let index = self.dice.below(self.facts.len().max(1));
        self.facts.get(index).cloned()
    }

    pub(crate) fn reopen(&mut self) {
        self.store.clone().close().unwrap();
        self.store = open(&self.disk);
    }

    /// Turns the letters of long payloads into others, which only their checksums tell.
    pub(crate) fn spoil_payloads_of_segment(&mut self, number: u64) {
        self.store.clone().close().unwrap();
        let name = format!("segments/{number:010}.seg");
        let file = self.disk.open(&name, Access::Write).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        let runs = bytes.chunk_by_mut(|one, next| one == next);
        let long = runs.filter(|run| run[0] == b'x' && run.len() > 100);
        // The next frame may begin with the same byte.
        long.for_each(|run| run[..90].fill(b'y'));
        assert_eq!(file.write_at(&bytes, 0).unwrap(), bytes.len());
        self.store = open(&self.disk);
    }

    /// A view of now or of an earlier position, and the facts in it.
    pub(crate) fn some_view(&mut self) -> (View, Vec<Fact>) {
        let mut view = self.store.view();
        if self.dice.one_in(2) {
            let position = self.dice.next() % (view.position().get() + 1);
            view = view.at_position(Position::new(position)).unwrap();
        }
        let seen = usize::try_from(view.position().get()).unwrap();
        (view, self.facts[..seen].to_vec())
    }

    /// The beginning of a name that some fact bears.
    pub(crate) fn some_prefix(&mut self, names: fn(&Fact) -> Vec<&str>) -> String {
        let fact = self.some_fact().unwrap();
        let name = names(&fact).first().copied().unwrap_or("x");
        self.prefix(name)
    }

    fn prefix(&mut self, name: &str) -> String {
        let chars = self.dice.below(name.chars().count() + 1);
        name.chars().take(chars).collect()
    }

    fn range(&mut self, (low, high): (u64, u64)) -> RangeInclusive<u64> {
        let mut number = || low + self.dice.next() % (high - low + 2);
        let (one, other) = (number(), number());
        one.min(other)..=one.max(other)
    }

    fn term(&mut self, like: &Fact) -> Term {
        let times = self.facts.first().map_or(0, |fact| fact.recorded_at);
        let last = self.facts.last().map_or(0, |fact| fact.recorded_at);
        match self.dice.below(12) {
            0 => Term::Scope(like.scope.clone()),
            1 => Term::ScopePrefix(self.prefix(&like.scope)),
            2 | 3 => Term::Kind(like.kind.clone()),
            4 => Term::KindPrefix(self.prefix(&like.kind)),
            5 | 6 => Term::Tag(self.pick(&TAGS)),
            7 => Term::Story(like.correlation),
            8 => Term::Cause(*like.parents.first().unwrap_or(&like.id)),
            9 => Term::Positions(self.range((0, self.facts.len() as u64))),
            10 => Term::Revisions(self.range((0, 60))),
            _ => Term::Recorded(self.range((times, last))),
        }
    }

    fn region(&mut self) -> Vec<Term> {
        let like = self.some_fact().unwrap();
        let mut terms = match self.dice.below(4) {
            0 => vec![Term::Entity(like.entity.clone())],
            1 => vec![Term::EntityPrefix(self.prefix(&like.entity))],
            _ => Vec::new(),
        };
        while self.dice.one_in(2) {
            let term = self.term(&like);
            let many =
                |term: &Term| matches!(term, Term::Kind(_) | Term::KindPrefix(_) | Term::Tag(_));
            let same = |old: &Term| match (old, &term) {
                (Term::Scope(_) | Term::ScopePrefix(_), Term::Scope(_) | Term::ScopePrefix(_)) => {
                    true
                }
                (old, new) => std::mem::discriminant(old) == std::mem::discriminant(new),
            };
            if many(&term) || !terms.iter().any(same) {
                terms.push(term);
            }
        }
        terms
    }

    /// A query of one region or more.
    pub(crate) fn ask(&mut self) -> Ask {
        let mut regions = vec![self.region()];
        while self.dice.one_in(3) {
            regions.push(self.region());
        }
        Ask(regions)
    }
}
