//! Limits: reaching a bound is a clear error before anything is written.
//!
//! `tests/limits.rs` tests each bound of `docs/limits.md` by itself, with its words and its edge cases; the table here
//! shows what all of them promise: the bound is accepted, one past it is an `Argument`, and that leaves no trace.

use crate::support::held::Held;
use crate::support::places::on_each;
use crate::support::script::KIND;
use quipu::prelude::*;
use quipu::*;
use std::time::Duration;

fn named(entity: usize, scope: usize) -> Result<Coordinate> {
    Coordinate::new("e".repeat(entity), "s".repeat(scope))
}

fn place() -> Coordinate {
    named(1, 1).unwrap()
}

fn with(store: &Store, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(), KIND, &0, options)
}

fn metadata(entries: usize, key: usize, value: usize) -> AppendOptions {
    let key_of = |n: usize| format!("{n:0key$}");
    let none = AppendOptions::new();
    (0..entries).fold(none, |o, n| o.metadata(key_of(n), "v".repeat(value)))
}

fn parents(store: &Store, count: usize) -> Result<Receipt> {
    let drafts = (0..count).map(|_| EventDraft::new(&place(), KIND, &0));
    let known = store.append_batch(Batch::new().events(drafts))?;
    let none = AppendOptions::new();
    with(store, known.iter().fold(none, |o, r| o.caused_by(r)))
}

fn nested(levels: usize) -> Vec<u8> {
    // An array of one element, over and over, around a nil.
    let mut bytes = vec![0x91; levels];
    bytes.push(0xc0);
    bytes
}

fn regions(count: usize) -> Query {
    (1..count).fold(Query::tag("t:0"), |query, n| {
        query.or(Region::all().tag(format!("t:{n}")))
    })
}

fn kinds(count: usize) -> Region {
    (0..count).fold(Region::all(), |region, n| region.kind(format!("k.{n}")))
}

fn conditions(count: usize) -> AppendOptions {
    let none = AppendOptions::new();
    (0..count).fold(none, |o, _| o.unless_any(Query::tag("none"), 0))
}

/// Uses so much of what is bounded.
type Use = fn(&Store, usize) -> Result<()>;

const BOUNDS: [(&str, usize, Use); 17] = [
    ("entity", MAX_ENTITY_BYTES, |s, n| {
        s.append(&named(n, 1)?, KIND, &0).map(drop)
    }),
    ("scope", MAX_SCOPE_BYTES, |s, n| {
        s.append(&named(1, n)?, KIND, &0).map(drop)
    }),
    ("kind", MAX_KIND_BYTES, |s, n| {
        s.append(&place(), EventKind::new("k".repeat(n))?, &0)
            .map(drop)
    }),
    ("tag", MAX_TAG_BYTES, |s, n| {
        with(s, AppendOptions::new().tag("t".repeat(n))).map(drop)
    }),
    ("tags", MAX_TAGS, |s, n| {
        let tags = (0..n).map(|n| format!("t:{n}"));
        with(s, AppendOptions::new().tags(tags)).map(drop)
    }),
    ("key", MAX_IDEMPOTENCY_KEY_BYTES, |s, n| {
        with(s, AppendOptions::new().idempotency_key(vec![7; n])).map(drop)
    }),
    ("metadata entries", MAX_METADATA_ENTRIES, |s, n| {
        with(s, metadata(n, 2, 1)).map(drop)
    }),
    ("metadata key", MAX_METADATA_KEY_BYTES, |s, n| {
        with(s, metadata(1, n, 1)).map(drop)
    }),
    ("metadata value", MAX_METADATA_VALUE_BYTES, |s, n| {
        with(s, metadata(1, 1, n)).map(drop)
    }),
    ("metadata in all", MAX_METADATA_BYTES / 16, |s, n| {
        with(s, metadata(16, 2, n - 2)).map(drop)
    }),
    ("depth", MAX_PAYLOAD_DEPTH, |s, n| {
        s.append(&place(), KIND, &RawPayload::new(&nested(n)))
            .map(drop)
    }),
    ("regions", MAX_QUERY_REGIONS, |s, n| {
        s.query(regions(n)).map(drop)
    }),
    ("kinds", MAX_REGION_KINDS, |s, n| {
        s.query(kinds(n)).map(drop)
    }),
    ("conditions", MAX_CONDITIONS, |s, n| {
        with(s, conditions(n)).map(drop)
    }),
    ("payload", 1_000, |s, n| {
        // A MessagePack value of n bytes: three bytes of head say how many follow.
        let length = u16::try_from(n - 3).unwrap().to_be_bytes();
        let bytes = [&[0xc5], &length[..], &vec![0; n - 3]].concat();
        s.append(&place(), KIND, &RawPayload::new(&bytes)).map(drop)
    }),
    ("batch events", 100, |s, n| {
        let drafts = (0..n).map(|_| EventDraft::new(&place(), KIND, &0));
        s.append_batch(Batch::new().events(drafts)).map(drop)
    }),
    ("regions of a condition", MAX_QUERY_REGIONS, |s, n| {
        with(s, AppendOptions::new().unless_any(regions(n), 0)).map(drop)
    }),
];

fn store() -> Store {
    let config = StoreConfig::in_memory()
        .max_payload_bytes(1_000)
        .max_batch_events(100);
    Store::open_with(config).unwrap()
}

#[test]
fn each_bound_is_accepted_and_one_past_it_leaves_no_trace() {
    for (name, bound, use_so_much) in BOUNDS {
        let store = store();
        use_so_much(&store, bound).unwrap_or_else(|e| panic!("{name} at {bound}: {e}"));
        let before = (store.head(), store.stats().log_bytes);
        let error = use_so_much(&store, bound + 1).expect_err(name);
        assert!(
            matches!(
                error.kind(),
                StoreErrorKind::Argument | StoreErrorKind::Payload
            ),
            "{name}: {error}"
        );
        assert_eq!((store.head(), store.stats().log_bytes), before, "{name}");
        assert!(store.append(&place(), KIND, &0).is_ok(), "{name}: goes on");
    }
}

/// The parents are events themselves, so this one cannot stand in the table.
#[test]
fn an_event_past_its_parents_leaves_no_trace() {
    let store = store();
    parents(&store, MAX_PARENTS).unwrap();
    let error = parents(&store, MAX_PARENTS + 1).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    let written = (2 * MAX_PARENTS + 2) as u64;
    assert_eq!(store.head().position, written, "the parents alone");
}

#[test]
fn a_full_queue_is_busy_and_what_was_refused_is_not_written() {
    let held = Held::with(|config| config.queue_capacity(2).queue_wait(Duration::ZERO));
    let store = &held.store;
    let queued = held.in_one_group(|store| {
        let submit = || store.submit(&place(), KIND, &0, AppendOptions::new());
        let queued = [submit().unwrap(), submit().unwrap()];
        let error = submit().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Busy, "{error}");
        assert!(error.to_string().contains("queue_capacity"), "{error}");
        queued
    });
    for ticket in queued {
        ticket.wait().unwrap();
    }
    assert_eq!(store.stream("e").unwrap().count(), 2);
}

/// A read pages: what it holds does not grow with what it finds.
#[test]
fn a_read_takes_one_event_at_a_time() {
    on_each(|open| {
        let store = open();
        for n in 0..50 {
            let buffered = AppendOptions::new().durability(Durability::Buffered);
            store
                .append_with_options(&place(), KIND, &n, buffered)
                .unwrap();
        }
        let mut events = store.query(Query::all()).unwrap();
        let first = events.next().unwrap().unwrap();
        assert_eq!(first.position(), 1);
        let limited = ReadOptions::new().limit(3).after(10);
        let some = store.query_with(Query::all(), limited).unwrap();
        let positions = some.map(|event| event.unwrap().position().get());
        assert!(positions.eq(11..14));
        assert_eq!(events.count(), 49);
    });
}
