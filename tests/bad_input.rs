//! What is refused before anything is written: the error's kind, and a sentence that says what to do.

use quipu::prelude::*;
use quipu::{Result, StoreErrorKind as Is};
use std::collections::BTreeSet;
use std::path::Path;

const KIND: EventKind = EventKind::literal("thing.done");

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn draft() -> EventDraft {
    EventDraft::new(&place(), KIND, &0)
}

fn id(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

/// Asserts kind and sentence of a refusal, for one event and for a batch that would be fine without it.
fn refused(options: AppendOptions, kind: Is, words: &str) {
    let store = Store::in_memory().unwrap();
    let first = AppendOptions::new().event_id(id(1));
    store
        .append_with_options(&place(), KIND, &0, first)
        .unwrap();
    let before = (store.head(), store.stats());
    let says = |outcome: Result<()>| {
        let error = outcome.expect_err(words);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{words:?} in {error}");
        assert_eq!((store.head(), store.stats()), before, "{error}");
    };
    let append = |options| store.append_with_options(&place(), KIND, &0, options);
    says(append(options.clone()).map(drop));
    let ticket = store.submit(&place(), KIND, &0, options);
    says(ticket.and_then(Ticket::wait).map(drop));
}

fn batch_refused(batch: Batch, kind: Is, words: &str) {
    let store = Store::in_memory().unwrap();
    let error = store.append_batch(batch).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{words:?} in {error}");
    assert_eq!(store.head().position, 0);
}

fn argument<T: std::fmt::Debug>(outcome: Result<T>, words: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Is::Argument, "{error}");
    assert!(error.to_string().contains(words), "{words:?} in {error}");
}

#[test]
fn names_are_not_empty_and_hold_no_control_characters() {
    let bad = [
        "\0",
        "a\nb",
        "a\tb",
        "\u{7f}",
        "\u{85}",
        "\u{9f}x",
        "\u{1b}[31m",
    ];
    argument(Coordinate::new("", "s"), "give it a name");
    argument(Coordinate::new("e", ""), "give it a name");
    argument(EventKind::new(""), "must not be empty");
    for name in bad {
        argument(Coordinate::new(name, "s"), "leave it out");
        argument(Coordinate::new("e", name), "leave it out");
        argument(EventKind::new(name), "must not hold control");
        refused(AppendOptions::new().tag(name), Is::Argument, "leave it out");
        let metadata = AppendOptions::new().metadata(name, "v");
        refused(metadata, Is::Argument, "leave it out");
    }
    refused(AppendOptions::new().tag(""), Is::Argument, "give it a name");
    batch_refused(
        Batch::new().event(draft()).event(draft().tag("a\nb")),
        Is::Argument,
        "leave it out",
    );
}

#[test]
fn a_kind_is_made_of_words_and_not_reserved() {
    for kind in [".", "a.", ".a", "a..b"] {
        argument(EventKind::new(kind), "write `order.placed`");
    }
    for kind in ["quipu.", "quipu.removed", "quipu.x.y"] {
        argument(EventKind::new(kind), "choose another first word");
        let read = serde_json::from_value::<EventKind>(kind.into());
        assert!(read.is_err(), "{kind} through serde");
    }
    assert!(EventKind::new("quipu").is_ok() && EventKind::new("quipus.x").is_ok());
}

/// Names of every script, names that other programs would fall over, and names that would be paths.
const ODD_NAMES: [&str; 14] = [
    "🧵🪢",
    "👩‍👩‍👧‍👦",
    "עברית",
    "العربية\u{202e}x",
    "漢字",
    "e\u{301}",
    "../x",
    "../../../../etc/passwd",
    "/",
    "CON",
    "NUL.txt",
    "a\\b:c*?\"<>|",
    "$(touch x)`x`",
    "\u{feff}\u{200b}",
];

fn files_of(path: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(path).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn any_other_unicode_is_a_name_and_never_a_file_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    for name in ODD_NAMES {
        let coordinate = Coordinate::new(name, name).unwrap();
        let kind = EventKind::new(name.replace('.', "_")).unwrap();
        let options = AppendOptions::new()
            .tag(name)
            .metadata(name, name)
            .idempotency_key(name);
        store
            .append_with_options(&coordinate, kind, name, options)
            .unwrap();
    }
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    for (position, name) in (1..).zip(ODD_NAMES) {
        let event = store.at(position).unwrap().unwrap();
        assert_eq!((event.entity(), event.scope()), (name, name));
        assert_eq!(event.payload::<&str>().unwrap(), name);
        assert!(event.has_tag(name) && event.metadata().eq([(name, name)]));
        for query in [Query::entity(name), Query::scope(name), Query::tag(name)] {
            let found: Vec<Event> = store.query(query).unwrap().map(|e| e.unwrap()).collect();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].position(), position);
        }
        assert!(store.receipt(name).unwrap().is_some());
    }
    store.close().unwrap();
    assert_eq!(files_of(dir.path()), ["store".to_owned()].into());
    let ours = ["checkpoint", "hint", "lock", "manifest", "segments"];
    assert_eq!(files_of(&path), ours.map(str::to_owned).into());
    let segments = files_of(&path.join("segments"));
    assert_eq!(segments, ["0000000001.seg".to_owned()].into());
}

#[test]
fn a_metadata_key_is_given_once() {
    let twice = AppendOptions::new().metadata("k", "1").metadata("k", "2");
    refused(twice, Is::Argument, "give it once");
    let empty = AppendOptions::new().metadata("", "1");
    refused(empty, Is::Argument, "give it a name");
}

struct Unencodable;

impl serde::Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no such thing"))
    }
}

#[test]
fn a_payload_that_cannot_be_encoded_is_refused() {
    let store = Store::in_memory().unwrap();
    let batch = Batch::new()
        .event(draft())
        .event(EventDraft::new(&place(), KIND, &Unencodable));
    for outcome in [
        store.append(&place(), KIND, &Unencodable).map(drop),
        store.append_batch(batch.clone()).map(drop),
        store.submit_batch(batch).map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), Is::Payload);
        assert!(error.to_string().contains("no such thing"), "{error}");
    }
    assert_eq!(store.head().position, 0);
}

#[test]
fn raw_bytes_are_one_messagepack_value() {
    let store = Store::in_memory().unwrap();
    let bad: [&[u8]; 6] = [
        &[],
        &[0x92, 1],
        &[1, 2],
        &[0xc1],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
    ];
    for bytes in bad {
        let error = store
            .append(&place(), KIND, &RawPayload::new(bytes))
            .expect_err(&format!("{bytes:02x?}"));
        assert_eq!(error.kind(), Is::Payload, "{error}");
    }
    assert_eq!(store.head().position, 0);
}

#[test]
fn a_payload_of_another_type_is_an_error_of_kind_payload() {
    let store = Store::in_memory().unwrap();
    let receipt = store.append(&place(), KIND, "text").unwrap();
    let event = store.get(receipt).unwrap().unwrap();
    let error = event.payload::<u32>().unwrap_err();
    assert_eq!(error.kind(), Is::Payload, "{error}");
}

#[test]
fn a_parent_exists_is_another_event_and_named_once() {
    let caused_by = |ids: &[u8]| {
        ids.iter()
            .fold(AppendOptions::new(), |o, n| o.caused_by(id(*n)))
    };
    refused(caused_by(&[9]), Is::Argument, "append it first");
    refused(caused_by(&[1, 9]), Is::Argument, "append it first");
    refused(caused_by(&[1, 1]), Is::Argument, "give it once");
    refused(
        caused_by(&[8]).event_id(id(8)),
        Is::Argument,
        "leave it out",
    );
    let later = Batch::new()
        .event(draft().caused_by(id(2)))
        .event(draft().event_id(id(2)));
    batch_refused(later, Is::Argument, "append it first");
    let earlier = Batch::new()
        .event(draft().event_id(id(2)))
        .event(draft().caused_by(id(2)));
    let store = Store::in_memory().unwrap();
    assert_eq!(store.append_batch(earlier).unwrap().len(), 2);
}

#[test]
fn a_used_id_is_a_conflict_that_names_its_event() {
    let again = AppendOptions::new().event_id(id(1));
    refused(again.clone(), Is::Conflict, "use an idempotency key");
    let store = Store::in_memory().unwrap();
    store.append(&place(), KIND, &0).unwrap();
    store
        .append_with_options(&place(), KIND, &0, again.clone())
        .unwrap();
    let error = store
        .append_with_options(&place(), KIND, &1, again)
        .unwrap_err();
    assert_eq!(error.in_the_way(), [2]);
    let twice = Batch::new()
        .event(draft().event_id(id(3)))
        .event(draft().event_id(id(3)));
    batch_refused(twice, Is::Argument, "ids are unique");
    batch_refused(Batch::new(), Is::Argument, "at least one");
}

#[test]
fn a_condition_names_no_range() {
    let now = Timestamp::from_secs(1);
    for region in [
        Region::all().positions(1..),
        Region::all().revisions(..5),
        Region::all().recorded(now..),
        Region::all().positions(5..5),
    ] {
        let unless = AppendOptions::new().unless_any(region.clone(), 0);
        refused(unless, Is::Argument, "leave the range out");
        let only = AppendOptions::new().only_if(Query::all().or(region), 0);
        refused(only, Is::Argument, "leave the range out");
    }
}

#[test]
fn a_key_used_for_other_content_is_a_conflict_that_names_its_event() {
    let store = Store::in_memory().unwrap();
    let keyed = |payload: &i32| {
        let options = AppendOptions::new().idempotency_key("k");
        store.append_with_options(&place(), KIND, payload, options)
    };
    keyed(&1).unwrap();
    let error = keyed(&2).unwrap_err();
    assert_eq!(error.kind(), Is::Conflict);
    assert_eq!(error.in_the_way(), [1]);
    assert!(error.to_string().contains("a key of its own"), "{error}");
    assert_eq!(store.head().position, 1);
}

#[test]
fn a_position_that_does_not_exist_yet_has_no_view() {
    let store = Store::in_memory().unwrap();
    assert_eq!(store.view_at(0).unwrap().position(), 0);
    argument(store.view_at(1), "ask for a position that exists");
}
