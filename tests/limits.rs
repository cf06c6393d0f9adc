//! Every bound of `docs/limits.md`, at the bound and one past it, through the public API; what is refused leaves no trace.

#[path = "support/ruled.rs"]
mod ruled;

use quipu::io::MemoryDisk;
use quipu::prelude::*;
use quipu::*;
use ruled::{Gate, Op, Opener, Ruled};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The file that the writer writes to; the others are upkeep's.
const FIRST_SEGMENT: &str = "segments/0000000001.seg";
const KIND: EventKind = EventKind::literal("thing.done");

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn draft() -> EventDraft {
    EventDraft::new(&place(), KIND, &0)
}

fn id(number: usize) -> EventId {
    let mut bytes = [0x11; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    EventId::from_bytes(bytes)
}

/// Asserts that `append` is refused with `kind` and a sentence that has `words`, and that the store is as it was.
fn refused<T: std::fmt::Debug>(
    store: &Store,
    kind: StoreErrorKind,
    words: &str,
    append: impl FnOnce(&Store) -> Result<T>,
) {
    let before = (store.head(), store.stats().log_bytes);
    let error = append(store).expect_err("one past the bound is refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{words:?} in {error}");
    assert_eq!((store.head(), store.stats().log_bytes), before, "{error}");
}

fn too_much<T: std::fmt::Debug>(
    store: &Store,
    words: &str,
    append: impl FnOnce(&Store) -> Result<T>,
) {
    refused(store, StoreErrorKind::Argument, words, append);
}

fn with(store: &Store, options: AppendOptions) -> Result<Receipt> {
    store.append_with_options(&place(), KIND, &0, options)
}

#[test]
fn an_entity_has_1_to_512_bytes() {
    let store = Store::in_memory().unwrap();
    for entity in ["e".repeat(MAX_ENTITY_BYTES), "é".repeat(256), "e".into()] {
        let receipt = store.append(&Coordinate::new(&entity, "s").unwrap(), KIND, &0);
        assert_eq!(receipt.unwrap().revision(), 1);
        assert_eq!(store.revision(&entity).unwrap(), 1);
        assert_eq!(store.stream(&entity).unwrap().count(), 1);
    }
    let long = "e".repeat(MAX_ENTITY_BYTES + 1);
    too_much(&store, "at most 512", |_| Coordinate::new(&long, "s"));
    too_much(&store, "empty", |_| Coordinate::new("", "s"));
    too_much(&store, "at most 512", |s| s.stream(&long));
    too_much(&store, "at most 512", |s| s.view().stream(&long).map(drop));
    too_much(&store, "at most 512", |s| s.revision(&long));
    too_much(&store, "at most 512", |s| {
        s.query(Region::entity_prefix(&long))
    });
    too_much(&store, "at most 512", |s| {
        s.append_batch(Batch::new().event(draft()).expect_revision(&long, 0))
    });
}

#[test]
fn a_scope_has_1_to_512_bytes() {
    let store = Store::in_memory().unwrap();
    let scope = "s".repeat(MAX_SCOPE_BYTES);
    let longest = Coordinate::new("e", &scope).unwrap();
    store.append(&longest, KIND, &0).unwrap();
    assert_eq!(store.by_scope(&scope).unwrap().count(), 1);
    let long = "s".repeat(MAX_SCOPE_BYTES + 1);
    too_much(&store, "at most 512", |_| Coordinate::new("e", &long));
    too_much(&store, "empty", |_| Coordinate::new("e", ""));
    too_much(&store, "at most 512", |s| s.by_scope(&long));
    too_much(&store, "at most 512", |s| {
        s.query(Region::all().scope_prefix(&long))
    });
}

#[test]
fn a_kind_has_1_to_128_bytes() {
    let store = Store::in_memory().unwrap();
    let name = "k".repeat(MAX_KIND_BYTES);
    let kind = EventKind::new(&name).unwrap();
    store.append(&place(), &kind, &0).unwrap();
    assert_eq!(store.by_fact(&kind).unwrap().count(), 1);
    let long = "k".repeat(MAX_KIND_BYTES + 1);
    too_much(&store, "at most 128", |_| EventKind::new(&long));
    too_much(&store, "empty", |_| EventKind::new(""));
    too_much(&store, "at most 128", |s| s.query(Query::kind(&long)));
    too_much(&store, "at most 128", |s| {
        s.query(Query::kind_prefix(&long))
    });
}

#[test]
fn a_tag_has_1_to_256_bytes() {
    let store = Store::in_memory().unwrap();
    let tag = "t".repeat(MAX_TAG_BYTES);
    with(&store, AppendOptions::new().tag(&tag)).unwrap();
    assert_eq!(store.query(Query::tag(&tag)).unwrap().count(), 1);
    let long = "t".repeat(MAX_TAG_BYTES + 1);
    too_much(&store, "at most 256", |s| {
        with(s, AppendOptions::new().tag(&long))
    });
    too_much(&store, "empty", |s| with(s, AppendOptions::new().tag("")));
    too_much(&store, "at most 256", |s| s.query(Query::tag(&long)));
}

#[test]
fn an_event_has_at_most_32_tags() {
    let store = Store::in_memory().unwrap();
    let tags = |count: usize| (0..count).map(|n| format!("tag:{n}"));
    let full = AppendOptions::new().tags(tags(MAX_TAGS));
    let receipt = with(&store, full.clone().tag("tag:0")).unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    assert_eq!(event.tags().len(), MAX_TAGS);
    let all = tags(MAX_TAGS).fold(Region::all(), Region::tag);
    assert_eq!(store.query(all.clone()).unwrap().count(), 1);
    too_much(&store, "at most 32", |s| with(s, full.tag("one more")));
    too_much(&store, "at most 32", |s| s.query(all.tag("one more")));
}

#[test]
fn an_event_has_at_most_64_parents() {
    let store = Store::in_memory().unwrap();
    let events = (0..=MAX_PARENTS).map(|n| draft().event_id(id(n)));
    store.append_batch(Batch::new().events(events)).unwrap();
    let full = (0..MAX_PARENTS).fold(AppendOptions::new(), |o, n| o.caused_by(id(n)));
    let receipt = with(&store, full.clone()).unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    let expected: Vec<EventId> = (0..MAX_PARENTS).map(id).collect();
    assert_eq!(event.parents().collect::<Vec<_>>(), expected);
    too_much(&store, "at most 64", |s| {
        with(s, full.caused_by(id(MAX_PARENTS)))
    });
}

#[test]
fn an_idempotency_key_has_1_to_64_bytes() {
    let store = Store::in_memory().unwrap();
    for key in [vec![0; 1], vec![0xff; MAX_IDEMPOTENCY_KEY_BYTES]] {
        let options = || AppendOptions::new().idempotency_key(&key);
        let first = with(&store, options()).unwrap();
        let again = with(&store, options()).unwrap();
        assert!(again.replay() && again.position() == first.position());
        assert_eq!(store.receipt(&key).unwrap().unwrap().len(), 1);
    }
    for (key, words) in [
        (vec![], "at least one byte"),
        (vec![1; 65], "at most 64"),
        (vec![1; 1000], "at most 64"),
    ] {
        too_much(&store, words, |s| {
            with(s, AppendOptions::new().idempotency_key(&key))
        });
        too_much(&store, words, |s| {
            s.append_batch(Batch::new().event(draft()).idempotency_key(&key))
        });
        too_much(&store, words, |s| s.receipt(&key));
        too_much(&store, words, |s| s.view().receipt(&key));
    }
}

#[test]
fn an_event_has_at_most_32_metadata_entries() {
    let store = Store::in_memory().unwrap();
    let full = (0..MAX_METADATA_ENTRIES).fold(AppendOptions::new(), |options, n| {
        options.metadata(format!("key {n:02}"), "")
    });
    let receipt = with(&store, full.clone()).unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    assert_eq!(event.metadata().len(), MAX_METADATA_ENTRIES);
    too_much(&store, "at most 32", |s| with(s, full.metadata("more", "")));
}

#[test]
fn metadata_is_bounded_by_key_by_value_and_in_all() {
    let store = Store::in_memory().unwrap();
    let one = |key: usize, value: usize| {
        AppendOptions::new().metadata("k".repeat(key), "v".repeat(value))
    };
    let receipt = with(
        &store,
        one(MAX_METADATA_KEY_BYTES, MAX_METADATA_VALUE_BYTES),
    )
    .unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    let (key, value) = event.metadata().next().unwrap();
    assert_eq!((key.len(), value.len()), (128, 1024));
    too_much(&store, "at most 128", |s| with(s, one(129, 0)));
    too_much(&store, "at most 1024", |s| with(s, one(1, 1025)));
    too_much(&store, "empty", |s| with(s, one(0, 1)));
    let full = (0..8).fold(AppendOptions::new(), |options, n| {
        options.metadata(format!("{n}"), "v".repeat(1023))
    });
    with(&store, full.clone()).unwrap();
    assert_eq!(8 * 1024, MAX_METADATA_BYTES);
    too_much(&store, "at most 8192", |s| with(s, full.metadata("x", "")));
}

/// One MessagePack value of `bytes` bytes, more than 65,540.
fn raw(bytes: usize) -> Vec<u8> {
    let mut value = vec![0xc6];
    value.extend_from_slice(&u32::try_from(bytes - 5).unwrap().to_be_bytes());
    value.resize(bytes, 0x5a);
    value
}

#[test]
fn a_payload_has_at_most_16_mib_by_default() {
    let store = Store::in_memory().unwrap();
    let full = raw(16 * 1024 * 1024);
    let receipt = store
        .append(&place(), KIND, &RawPayload::new(&full))
        .unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    assert!(event.payload_bytes().unwrap() == full);
    let over = raw(16 * 1024 * 1024 + 1);
    too_much(&store, "at most 16777216", |s| {
        s.append(&place(), KIND, &RawPayload::new(&over))
    });
}

#[test]
fn a_payload_has_at_most_as_many_bytes_as_are_set() {
    let store = Store::open_with(StoreConfig::in_memory().max_payload_bytes(10)).unwrap();
    store.append(&place(), KIND, "123456789").unwrap();
    too_much(&store, "at most 10", |s| {
        s.append(&place(), KIND, "1234567890")
    });
    too_much(&store, "at most 10", |s| {
        s.submit(&place(), KIND, "1234567890", AppendOptions::new())
    });
}

fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x91; levels];
    *bytes.last_mut().unwrap() = 0x90;
    bytes
}

#[test]
fn a_payload_nests_at_most_128_levels() {
    let store = Store::in_memory().unwrap();
    let deepest = nested(MAX_PAYLOAD_DEPTH);
    let receipt = store
        .append(&place(), KIND, &RawPayload::new(&deepest))
        .unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    let value: serde_json::Value = event.payload().unwrap();
    store.append(&place(), KIND, &value).unwrap();
    let deeper = serde_json::Value::Array(vec![value]);
    refused(&store, StoreErrorKind::Payload, "128", |s| {
        s.append(&place(), KIND, &deeper)
    });
    refused(&store, StoreErrorKind::Payload, "128", |s| {
        let bytes = nested(MAX_PAYLOAD_DEPTH + 1);
        s.append(&place(), KIND, &RawPayload::new(&bytes))
    });
    refused(&store, StoreErrorKind::Payload, "128", |s| {
        let bytes = nested(1_000_000);
        s.append(&place(), KIND, &RawPayload::new(&bytes))
    });
}

#[test]
fn a_batch_has_at_most_65536_events_by_default() {
    let store = Store::in_memory().unwrap();
    let full = Batch::new().events((0..65_536).map(|_| draft()));
    assert_eq!(store.append_batch(full.clone()).unwrap().len(), 65_536);
    too_much(&store, "at most 65536", |s| {
        s.append_batch(full.event(draft()))
    });
}

#[test]
fn a_batch_has_at_least_one_event_and_at_most_as_many_as_are_set() {
    let store = Store::open_with(StoreConfig::in_memory().max_batch_events(3)).unwrap();
    let batch = |count: usize| Batch::new().events((0..count).map(|_| draft()));
    assert_eq!(store.append_batch(batch(3)).unwrap().len(), 3);
    too_much(&store, "at most 3", |s| s.append_batch(batch(4)));
    too_much(&store, "at most 3", |s| s.submit_batch(batch(4)));
    too_much(&store, "at least one", |s| s.append_batch(Batch::new()));
    let expecting = |count: usize| {
        (0..count).fold(batch(1), |b, n| {
            b.expect_revision(format!("other:{n}"), ExpectedRevision::NoStream)
        })
    };
    store.append_batch(expecting(3)).unwrap();
    too_much(&store, "at most 3", |s| s.append_batch(expecting(4)));
}

/// What `docs/limits.md` counts of an event: 256 bytes, its names and payload, 8 bytes beside each tag.
fn counted(tags: usize, tag_bytes: usize, payload: usize) -> usize {
    256 + "thing:1".len() + "here".len() + KIND.as_str().len() + tags * (8 + tag_bytes) + payload
}

#[test]
fn a_batch_has_at_most_as_many_bytes_as_are_set() {
    let bytes = counted(2, 5, 1) + counted(0, 0, 1);
    let batch = || {
        Batch::new()
            .event(draft().tags(["tag:1", "tag:2"]))
            .event(draft())
    };
    let store = Store::open_with(StoreConfig::in_memory().max_batch_bytes(bytes)).unwrap();
    store.append_batch(batch()).unwrap();
    let store = Store::open_with(StoreConfig::in_memory().max_batch_bytes(bytes - 1)).unwrap();
    too_much(&store, &format!("at most {}", bytes - 1), |s| {
        s.append_batch(batch())
    });
    let store = Store::in_memory().unwrap();
    let half = raw(16 * 1024 * 1024);
    let half = || EventDraft::new(&place(), KIND, &RawPayload::new(&half));
    too_much(&store, "at most 33554432", |s| {
        s.append_batch(Batch::new().event(half()).event(half()))
    });
}

#[test]
fn a_group_larger_than_a_segment_still_goes_into_one() {
    let config = StoreConfig::in_memory().segment_bytes(MIN_SEGMENT_BYTES);
    let store = Store::open_with(config).unwrap();
    let large = raw(3 * 1024 * 1024);
    for _ in 0..3 {
        let receipt = store
            .append(&place(), KIND, &RawPayload::new(&large))
            .unwrap();
        let event = store.get(receipt).unwrap().unwrap();
        assert!(event.payload_bytes().unwrap() == large);
    }
    assert!(store.stats().segments >= 3);
}

#[test]
fn a_query_has_at_most_64_regions() {
    let store = Store::in_memory().unwrap();
    with(&store, AppendOptions::new()).unwrap();
    let query = |count: usize| {
        (1..count).fold(Query::all(), |query, n| {
            query.or(Region::entity(format!("thing:{n}")))
        })
    };
    assert_eq!(store.query(query(MAX_QUERY_REGIONS)).unwrap().count(), 1);
    let past = MAX_QUERY_REGIONS + 1;
    too_much(&store, "at most 64", |s| s.query(query(past)));
    too_much(&store, "at most 64", |s| {
        s.view().query(query(past)).map(drop)
    });
    too_much(&store, "at most 64", |s| {
        with(s, AppendOptions::new().unless_any(query(past), 0))
    });
    too_much(&store, "at most 64", |s| {
        with(s, AppendOptions::new().only_if(query(past), 0))
    });
}

#[test]
fn a_region_has_at_most_32_kinds() {
    let store = Store::in_memory().unwrap();
    with(&store, AppendOptions::new()).unwrap();
    let region = |count: usize| {
        (1..count).fold(Region::all().kind("thing.done"), |region, n| {
            region.kind(format!("thing.k{n}"))
        })
    };
    assert_eq!(store.query(region(MAX_REGION_KINDS)).unwrap().count(), 1);
    too_much(&store, "at most 32", |s| s.query(region(33)));
    too_much(&store, "at most 32", |s| {
        s.query(region(32).kind_prefix("thing."))
    });
}

#[test]
fn an_append_has_at_most_16_conditions() {
    let store = Store::in_memory().unwrap();
    let conditions = |count: usize| {
        (0..count).fold(AppendOptions::new(), |options, n| {
            options.unless_any(Query::tag(format!("tag:{n}")), 0)
        })
    };
    with(&store, conditions(MAX_CONDITIONS)).unwrap();
    too_much(&store, "at most 16", |s| with(s, conditions(17)));
    let at_bound = conditions(16);
    too_much(&store, "at most 16", |s| {
        with(s, at_bound.only_if(Query::all(), 0))
    });
}

#[test]
fn a_conflict_names_at_most_16_events() {
    let store = Store::in_memory().unwrap();
    for count in 1..=18_u64 {
        with(&store, AppendOptions::new()).unwrap();
        let named: Vec<u64> = (1..=count.min(16)).collect();
        for options in [
            AppendOptions::new().unless_any(Query::all(), 0),
            AppendOptions::new().expect_no_stream(),
        ] {
            let error = with(&store, options).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Conflict);
            assert_eq!(error.in_the_way(), named, "{count} events");
        }
    }
    assert_eq!(store.head().position, 18);
}

#[test]
fn every_setting_is_refused_past_its_bounds_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let fine = || StoreConfig::new(&path);
    for config in [
        fine().segment_bytes(MIN_SEGMENT_BYTES - 1),
        fine().segment_bytes(MAX_SEGMENT_BYTES + 1),
        fine().queue_capacity(0),
        fine().queue_capacity(MAX_QUEUE_CAPACITY + 1),
        fine().max_payload_bytes(0),
        fine().max_payload_bytes(MAX_PAYLOAD_BYTES + 1),
        fine().max_batch_events(0),
        fine().max_batch_events(MAX_BATCH_EVENTS + 1),
        fine().max_batch_bytes(0),
        fine().max_batch_bytes(MAX_BATCH_BYTES + 1),
        fine().buffered_sync_interval(Duration::ZERO),
    ] {
        let error = Store::open_with(config).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
        assert!(!path.exists(), "{error}");
    }
}

#[test]
fn every_setting_works_at_its_bounds() {
    let fine = StoreConfig::in_memory;
    for config in [
        fine().segment_bytes(MIN_SEGMENT_BYTES),
        fine().segment_bytes(MAX_SEGMENT_BYTES),
        fine().queue_capacity(1),
        fine().queue_capacity(MAX_QUEUE_CAPACITY),
        fine().queue_wait(Duration::ZERO),
        fine().queue_wait(Duration::MAX),
        fine().max_payload_bytes(1),
        fine().max_payload_bytes(MAX_PAYLOAD_BYTES),
        fine().max_batch_events(1),
        fine().max_batch_events(MAX_BATCH_EVENTS),
        fine().max_batch_bytes(MAX_BATCH_BYTES),
        fine().buffered_sync_interval(Duration::from_nanos(1)),
        fine().buffered_sync_interval(Duration::MAX),
    ] {
        let buffered = AppendOptions::new().durability(Durability::Buffered);
        let shown = format!("{config:?}");
        let store = Store::open_with(config).unwrap_or_else(|e| panic!("{shown}: {e}"));
        with(&store, buffered).unwrap();
        assert_eq!(with(&store, AppendOptions::new()).unwrap().revision(), 2);
        store.close().unwrap();
    }
}

/// A store whose writer stands before the gate with one submission while the queue holds two more.
fn full_queue(gate: &Arc<Gate>, wait: Duration) -> (Store, Vec<Ticket>, Opener) {
    let rule = Arc::clone(gate);
    let disk = Ruled::new(MemoryDisk::new(), move |call| {
        if call.op == Op::Sync && call.name == FIRST_SEGMENT {
            rule.pass();
        }
        Ok(())
    });
    let config = StoreConfig::on_disk(Arc::new(disk))
        .queue_capacity(2)
        .queue_wait(wait);
    let store = Store::open_with(config).unwrap();
    store.append(&place(), KIND, &0).unwrap();
    let opener = gate.opener();
    gate.shut();
    let submit = || store.try_submit(&place(), KIND, &0, AppendOptions::new());
    let mut tickets = vec![submit().unwrap()];
    gate.wait_for_someone();
    tickets.extend([submit().unwrap(), submit().unwrap()]);
    (store, tickets, opener)
}

#[test]
fn a_full_queue_is_busy_at_once_for_those_who_only_try() {
    let gate = Arc::new(Gate::default());
    let (store, tickets, _opener) = full_queue(&gate, Duration::from_secs(3600));
    assert_eq!(store.diagnostics().queue_depth, 2);
    let started = Instant::now();
    refused(&store, StoreErrorKind::Busy, "queue_capacity", |s| {
        s.try_submit(&place(), KIND, &0, AppendOptions::new())
    });
    refused(&store, StoreErrorKind::Busy, "2 submissions", |s| {
        s.try_submit_batch(Batch::new().event(draft()))
    });
    assert!(started.elapsed() < Duration::from_secs(5), "it waited");
    gate.open();
    for ticket in tickets {
        assert!(ticket.wait().unwrap().durable());
    }
    assert_eq!(store.head().position, 4, "what was refused was not written");
}

#[test]
fn a_full_queue_is_busy_after_a_wait_for_the_others() {
    let wait = Duration::from_millis(30);
    let gate = Arc::new(Gate::default());
    let (store, tickets, _opener) = full_queue(&gate, wait);
    let started = Instant::now();
    refused(&store, StoreErrorKind::Busy, "try again later", |s| {
        s.append(&place(), KIND, &0)
    });
    assert!(started.elapsed() >= wait);
    refused(&store, StoreErrorKind::Busy, "try again later", |s| {
        s.submit(&place(), KIND, &0, AppendOptions::new())
    });
    refused(&store, StoreErrorKind::Busy, "try again later", |s| {
        s.submit_batch(Batch::new().event(draft()))
    });
    refused(&store, StoreErrorKind::Busy, "try again later", |s| {
        s.append_batch(Batch::new().event(draft()))
    });
    gate.open();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(store.head().position, 4);
}

#[test]
fn a_waiting_append_goes_on_when_the_queue_has_room() {
    let gate = Arc::new(Gate::default());
    let (store, tickets, _opener) = full_queue(&gate, Duration::from_secs(3600));
    let waiting = std::thread::spawn({
        let store = store.clone();
        move || store.append(&place(), KIND, &0)
    });
    gate.open();
    assert!(waiting.join().unwrap().unwrap().durable());
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(store.head().position, 5);
}

/// A store whose disk answers the next so many writes to a segment with "interrupted".
fn interrupted(times: u32) -> (Store, Arc<AtomicU32>) {
    let left = Arc::new(AtomicU32::new(0));
    let rule = Arc::clone(&left);
    let disk = Ruled::new(MemoryDisk::new(), move |call| {
        let ours = call.op == Op::Write && call.name.starts_with("segments/");
        let less = |left: u32| left.checked_sub(1);
        if ours
            && rule
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                .is_ok()
        {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    });
    let store = Store::open_with(StoreConfig::on_disk(Arc::new(disk))).unwrap();
    store.append(&place(), KIND, &0).unwrap();
    left.store(times, Ordering::SeqCst);
    (store, left)
}

#[test]
fn a_write_may_be_interrupted_16_times_in_a_row() {
    let (store, left) = interrupted(16);
    store.append(&place(), KIND, &1).unwrap();
    assert_eq!(left.load(Ordering::SeqCst), 0);
    let (store, _) = interrupted(17);
    let error = store.append(&place(), KIND, &1).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(store.head().position, 1);
}
