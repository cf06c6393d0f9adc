//! The text of a query, held against the builders: random queries read back as themselves, and garbage gets an answer.
//!
//! `QUIPU_QUERY_SEED` repeats a run; each test prints its seed.

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use quipu::prelude::*;
use quipu::*;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::time::SystemTime;

const ROUNDS: usize = 2000;
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// What means something in a text, what looks like space, and what is long in UTF-8.
const NASTY: [&str; 26] = [
    "\"", "\\", " ", "  ", ":", ",", "*", "or", " or ", "=", "..", "'", "(", "a", "B", "7", "-",
    ".", "é", "ß", "𝄞", "\u{a0}", "\u{3000}", "\u{200b}", "tag:", "\\\"",
];

fn dice() -> Dice {
    let told = std::env::var("QUIPU_QUERY_SEED").ok();
    let seed = told.map_or_else(
        || RandomState::new().hash_one(0),
        |seed| seed.parse().unwrap(),
    );
    println!("repeat with QUIPU_QUERY_SEED={seed}");
    Dice::new(seed)
}

fn read(text: &str) -> Result<Query> {
    Query::parse_at(text, NOW)
}

fn pick<'a>(dice: &mut Dice, words: &[&'a str]) -> &'a str {
    words[dice.below(words.len())]
}

/// One to six pieces, now and then a plain word.
fn name(dice: &mut Dice) -> String {
    if dice.one_in(4) {
        return "order:17".into();
    }
    (0..=dice.below(6)).map(|_| pick(dice, &NASTY)).collect()
}

fn prefix(dice: &mut Dice) -> String {
    if dice.one_in(8) {
        String::new()
    } else {
        name(dice)
    }
}

/// A name that may be a kind.
fn kind(dice: &mut Dice) -> String {
    loop {
        let name = name(dice);
        if EventKind::new(&name).is_ok() {
            return name;
        }
    }
}

fn number(dice: &mut Dice) -> u64 {
    match dice.below(4) {
        0 => [0, 1, 2, u64::MAX - 1, u64::MAX][dice.below(5)],
        1 => dice.next(),
        _ => dice.next() % 20,
    }
}

fn bound(dice: &mut Dice) -> Bound<u64> {
    match dice.below(3) {
        0 => Bound::Included(number(dice)),
        1 => Bound::Excluded(number(dice)),
        _ => Bound::Unbounded,
    }
}

fn id(dice: &mut Dice) -> EventId {
    EventId::v7(dice.next() >> 16, u128::from(dice.next()))
}

/// A valid region whose terms are each there or not; revisions only with one entity, as the text wants it.
fn region(dice: &mut Dice) -> Region {
    let mut region = match dice.below(3) {
        0 => Region::all(),
        1 => Region::entity_prefix(prefix(dice)),
        _ => Region::entity(name(dice)).revisions((bound(dice), bound(dice))),
    };
    region = match dice.below(3) {
        0 => region,
        1 => region.scope(name(dice)),
        _ => region.scope_prefix(prefix(dice)),
    };
    for _ in 0..dice.below(4) {
        region = match dice.below(2) {
            0 => region.kind(kind(dice)),
            _ => region.kind_prefix(prefix(dice)),
        };
    }
    for _ in 0..dice.below(4) {
        region = region.tag(name(dice));
    }
    if dice.one_in(4) {
        region = region.correlation(id(dice));
    }
    if dice.one_in(4) {
        region = region.caused_by(id(dice));
    }
    if dice.one_in(2) {
        region = region.positions((bound(dice), bound(dice)));
    }
    if dice.one_in(2) {
        let (first, last) = (bound(dice), bound(dice));
        let moment = Timestamp::from_nanos;
        region = region.recorded((first.map(moment), last.map(moment)));
    }
    region
}

fn query(dice: &mut Dice) -> Query {
    let first = Query::from(region(dice));
    (0..dice.below(4)).fold(first, |query, _| query.or(region(dice)))
}

/// Whatever the text, it is refused in a sentence that points into it, or read as a query that reads back.
fn answered(text: &str) {
    match read(text) {
        Ok(query) => {
            let shown = query.to_string();
            assert_eq!(read(&shown).unwrap(), query, "{text:?} became {shown:?}");
        }
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Argument);
            let sentence = error.to_string();
            let (_, behind) = sentence.split_once(" at character ").expect(&sentence);
            let digits = behind.split(|next: char| !next.is_ascii_digit()).next();
            let number: usize = digits.unwrap().parse().expect(&sentence);
            assert!(
                (1..=text.chars().count() + 1).contains(&number),
                "{sentence}"
            );
            assert!(
                sentence.len() < 800 && !sentence.contains('\n'),
                "{sentence}"
            );
        }
    }
}

#[test]
fn a_query_reads_back_as_itself_whatever_its_names() {
    let mut dice = dice();
    for _ in 0..ROUNDS {
        let query = query(&mut dice);
        let text = query.to_string();
        let back = read(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(back, query, "{text:?}");
        assert_eq!(back.to_string(), text);
    }
}

#[test]
fn the_longest_valid_query_reads_back_as_itself() {
    let long = |bytes: usize| "\"".repeat(bytes);
    let mut region = Region::entity(long(MAX_ENTITY_BYTES))
        .scope_prefix(long(MAX_SCOPE_BYTES))
        .correlation(EventId::from_bytes([255; 16]))
        .caused_by(EventId::from_bytes([255; 16]))
        .positions(u64::MAX - 2..u64::MAX)
        .revisions(u64::MAX - 2..u64::MAX)
        .recorded(Timestamp::from_nanos(1)..Timestamp::from_nanos(u64::MAX));
    for _ in 0..MAX_REGION_KINDS {
        region = region.kind_prefix(long(MAX_KIND_BYTES));
    }
    for tag in 0..MAX_TAGS {
        let distinct = char::from(b'A' + u8::try_from(tag).unwrap());
        region = region.tag(format!("{distinct}{}", long(MAX_TAG_BYTES - 1)));
    }
    let more = |query: Query, _| query.or(region.clone());
    let query = (1..MAX_QUERY_REGIONS).fold(Query::from(region.clone()), more);
    let text = query.to_string();
    assert!(
        text.len() > MAX_QUERY_TEXT_BYTES / 2,
        "{} bytes",
        text.len()
    );
    assert_eq!(read(&text).unwrap(), query);
}

#[test]
fn random_bytes_get_an_answer() {
    let mut dice = dice();
    for _ in 0..ROUNDS {
        let bytes: Vec<u8> = (0..dice.below(60))
            .map(|_| dice.next().to_le_bytes()[0])
            .collect();
        answered(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn random_pieces_of_the_grammar_get_an_answer() {
    let pieces = [
        "entity:",
        "scope:",
        "kind:",
        "tag:",
        "correlation:",
        "cause:",
        "revision:",
        "position:",
        "time:",
        "since:",
        "or",
        " ",
        " ",
        " ",
        "*",
        ",",
        "\"",
        "\\",
        "..",
        "..=",
        "=",
        "5",
        "10",
        "2h",
        "2026-11-20",
        "T10:00",
        ":30",
        ".5",
        "Z",
        "+02:00",
        "a",
        "é",
        "018f4e5a-7c00-7000-8000-000000000001",
    ];
    let mut dice = dice();
    for _ in 0..ROUNDS * 4 {
        let text: String = (0..dice.below(12))
            .map(|_| pick(&mut dice, &pieces))
            .collect();
        answered(&text);
    }
}

#[test]
fn a_text_with_slips_gets_an_answer() {
    let mut dice = dice();
    for _ in 0..ROUNDS {
        let mut text: Vec<char> = query(&mut dice).to_string().chars().collect();
        for _ in 0..=dice.below(3) {
            let at = dice.below(text.len() + 1);
            let piece = pick(&mut dice, &NASTY).chars();
            match dice.below(3) {
                0 => text.truncate(at),
                1 => text.drain(at..text.len().min(at + 1)).for_each(drop),
                _ => text.splice(at..at, piece).for_each(drop),
            }
        }
        answered(&text.into_iter().collect::<String>());
    }
}

#[test]
fn parse_counts_back_from_the_time_of_the_system() {
    let earlier = Timestamp::from(SystemTime::now());
    let parsed: Query = "tag:a since:1h".parse().unwrap();
    let later = Timestamp::from(SystemTime::now());
    let text = parsed.to_string();
    let first = text
        .strip_prefix("tag:a time:")
        .and_then(|text| text.strip_suffix(".."));
    let first: Timestamp = first.unwrap().parse().unwrap();
    let hour = 3_600_000_000_000;
    let bounds = earlier.as_nanos() - hour..=later.as_nanos() - hour;
    assert!(bounds.contains(&first.as_nanos()), "{text}");
}

#[test]
fn revisions_without_one_entity_are_shown_but_not_read() {
    let built = Query::from(Region::entity_prefix("order:").revisions(5..));
    let text = built.to_string();
    assert_eq!(text, "entity:order:* revision:5..");
    assert!(
        read(&text)
            .unwrap_err()
            .to_string()
            .contains("\"revision:5..\" at character 16")
    );
}

#[test]
fn a_store_answers_a_query_that_was_read() -> Result<()> {
    let store = Store::open_with(StoreConfig::in_memory())?;
    let paid = EventKind::literal("order.paid");
    for (entity, scope, tag) in [
        ("order:1", "shop", "a"),
        ("order:2", "shop", "b"),
        ("my order", "till", "a"),
    ] {
        let options = AppendOptions::new().tag(tag);
        store.append_with_options(&Coordinate::new(entity, scope)?, paid.clone(), &0, options)?;
    }
    for (text, positions) in [
        ("", vec![1, 2, 3]),
        ("entity:order:*", vec![1, 2]),
        ("entity:order:* tag:a", vec![1]),
        (r#"entity:"my order" or tag:b"#, vec![2, 3]),
        ("kind:order.* position:2..", vec![2, 3]),
        ("kind:order since:2h", vec![]),
    ] {
        let events = store.query(text.parse::<Query>()?)?;
        let found: Result<Vec<u64>> = events.map(|event| Ok(event?.position().get())).collect();
        assert_eq!(found?, positions, "{text}");
    }
    Ok(())
}
