//! Reads the text of a query; each rule of the grammar is a function here, or in `query_text_scan.rs` if it is of characters.
//!
//! Whatever the text, the answer is a query that passes its `check`, or an `Argument` that points at the term.
//! Runs on the caller's thread.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use core::str::FromStr;

use crate::error::{Result, StoreError};
use crate::event::id::{CorrelationId, EventId};
use crate::event::name;
use crate::event::query::Query;
use crate::event::query_text_near::{TERMS, nearest};
use crate::event::query_text_range::{number, period, range, since};
use crate::event::query_text_scan::Scanner;
use crate::event::region::{Match, Region};
use crate::event::timestamp::Timestamp;

impl Query {
    /// Reads a query from its text, with `since:2h` counted back from `now`; `str::parse` takes the system's time for it.
    ///
    /// Terms narrow a region, `or` stands between regions, and an empty text means all events. The whole grammar:
    ///
    /// ```text
    /// query  = [ region { "or" region } ]
    /// region = part { part }
    /// part   = "*" | name ":" value
    /// value  = item { "," item }
    /// item   = ( bare | quoted ) [ "*" ] | "*"
    /// bare   = one or more characters, but for white space and " \ * ,
    /// quoted = '"' { character | '\"' | '\\' } '"'
    /// ```
    ///
    /// Parts are apart by white space. What a value may be depends on the name: a list of names (`kind`), a name
    /// with or without a final `*` (`entity`, `scope`), a name (`tag`), a UUID (`correlation`, `cause`), a range of numbers
    /// (`position`, `revision`) or times (`time`), a time or a span (`since`).
    ///
    /// ```
    /// use quipu::{Query, Region, Timestamp};
    ///
    /// let now = Timestamp::from_secs(10_000);
    /// let query = Query::parse_at("kind:order.* since:1h", now)?;
    /// let built = Region::all().kind_prefix("order.").recorded(Timestamp::from_secs(6_400)..);
    /// assert_eq!(query, Query::from(built));
    ///
    /// let error = Query::parse_at("tag:a entty:order:17", now).unwrap_err();
    /// let sentence = r#"unknown term "entty:" at character 7; did you mean "entity:"?"#;
    /// assert_eq!(error.to_string(), sentence);
    /// # Ok::<(), quipu::StoreError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Argument` if the text is longer than [`MAX_QUERY_TEXT_BYTES`](crate::MAX_QUERY_TEXT_BYTES), is not of this
    /// grammar, or means a query that no call would take; the sentence points at the term and says what to write.
    pub fn parse_at(text: &str, now: Timestamp) -> Result<Self> {
        name::check_length(
            "the text of a query",
            text.len(),
            name::MAX_QUERY_TEXT_BYTES,
        )?;
        let query = query(&mut Scanner::new(text), now)?;
        query.check()?;
        Ok(query)
    }
}

/// `query = [ region { "or" region } ]`
fn query(scanner: &mut Scanner<'_>, now: Timestamp) -> Result<Query> {
    if scanner.is_done() {
        return Ok(Query::all());
    }
    let mut query = Query::from(region(scanner, now)?);
    while scanner.take_word("or") {
        query = query.or(region(scanner, now)?);
        query.check_count()?;
    }
    Ok(query)
}

/// `region = part { part }`, up to the end or the next `or`
fn region(scanner: &mut Scanner<'_>, now: Timestamp) -> Result<Region> {
    if scanner.is_done() || scanner.sees_word("or") {
        return Err(region_missing(scanner));
    }
    let mut draft = Draft::default();
    while !scanner.is_done() && !scanner.sees_word("or") {
        if !scanner.take_word("*") {
            draft.term(scanner, now)?;
        }
    }
    draft.finish(scanner)
}

fn region_missing(scanner: &Scanner<'_>) -> StoreError {
    let number = scanner.character(scanner.at());
    StoreError::argument(format!(
        "a term is missing at character {number}; \
         put one on each side of `or`, or write \"or\" in quotes if it is a name, as in tag:\"or\""
    ))
}

/// A region while its terms are read.
#[derive(Default)]
struct Draft {
    region: Region,
    given: Vec<&'static str>,
    /// Where the term `revision:` stands.
    revision: Option<Range<usize>>,
}

impl Draft {
    /// `name ":" value`
    fn term(&mut self, scanner: &mut Scanner<'_>, now: Timestamp) -> Result<()> {
        let start = scanner.at();
        let name = known_name(scanner)?;
        let narrowed = scanner
            .take_value()
            .and_then(|value| self.narrow(name, value, now));
        let place = scanner.term_from(start);
        narrowed.map_err(|fault| scanner.wrong(place.clone(), &fault))?;
        if name == "revision" {
            self.revision = Some(place);
        }
        scanner.skip_space();
        Ok(())
    }

    /// Adds a term, and checks the region at once, so that a fault is told of the term that brings it.
    fn narrow(
        &mut self,
        name: &'static str,
        value: Vec<Match>,
        now: Timestamp,
    ) -> Result<(), String> {
        if name != "tag" && self.given.contains(&name) {
            return Err(given_twice(name));
        }
        self.given.push(name);
        let region = core::mem::take(&mut self.region);
        self.region = match name {
            "entity" => region.with_entity(single(name, value)?),
            "scope" => region.with_scope(single(name, value)?),
            "kind" => region.with_kinds(value),
            "tag" => one_more_tag(region, &whole(name, value)?)?,
            "correlation" => region.correlation(id::<CorrelationId>(&whole(name, value)?)?),
            "cause" => region.caused_by(id::<EventId>(&whole(name, value)?)?),
            "revision" => region.revisions(range(&whole(name, value)?, number)?),
            "position" => region.positions(range(&whole(name, value)?, number)?),
            "time" => recorded(region, range(&whole(name, value)?, period)?),
            _ => recorded(region, since(&whole(name, value)?, now)?..=u64::MAX),
        };
        self.region.check().map_err(|error| error.to_string())
    }

    /// Returns the region if its terms go together.
    fn finish(self, scanner: &Scanner<'_>) -> Result<Region> {
        let one_entity = matches!(self.region.entity_match(), Some(Match::Exact(_)));
        match self.revision {
            Some(place) if !one_entity => Err(scanner.wrong(
                place,
                "revisions count the events of one entity; name it whole, as in entity:order:17 revision:5..",
            )),
            _ => Ok(self.region),
        }
    }
}

fn given_twice(name: &str) -> String {
    match name {
        "kind" => "kind: is given twice; write kind:a,b for either kind".into(),
        _ => format!("{name}: is given twice in one region; put `or` between two regions"),
    }
}

/// Reads the name of a term and its colon.
fn known_name(scanner: &mut Scanner<'_>) -> Result<&'static str> {
    let start = scanner.at();
    let typed = match scanner.take_name() {
        Ok(typed) => typed,
        Err(word) => return Err(scanner.wrong(scanner.term_from(start), &colon_missing(word))),
    };
    if let Some(known) = TERMS.into_iter().find(|term| *term == typed) {
        return Ok(known);
    }
    let shown = name::shown(&format!("{typed}:"));
    let number = scanner.character(start);
    let advice = match nearest(typed) {
        Some(term) => format!("did you mean \"{term}:\"?"),
        None => all_terms(),
    };
    Err(StoreError::argument(format!(
        "unknown term {shown} at character {number}; {advice}"
    )))
}

fn colon_missing(word: &str) -> String {
    match nearest(word) {
        _ if word.ends_with('\'') => {
            "a colon is missing; put a name with a space in double quotes, not single ones".into()
        }
        _ if word.eq_ignore_ascii_case("or") => "write `or` in small letters".into(),
        _ if word.eq_ignore_ascii_case("and") => "leave it out; terms side by side all hold".into(),
        Some(term) => format!("a colon and a value are missing; write {term}: and the value"),
        None => format!(
            "a colon is missing, as in entity:order:17, or double quotes around a name with a space; {}",
            all_terms()
        ),
    }
}

fn all_terms() -> String {
    format!("the terms are {}:", TERMS.join(": "))
}

/// Takes a value that is no list.
fn single(name: &str, value: Vec<Match>) -> Result<Match, String> {
    let joined = if name == "tag" { " " } else { " or " };
    match <[Match; 1]>::try_from(value) {
        Ok([item]) => Ok(item),
        Err(_) => Err(format!(
            "only kind: takes a list; write {name}:a{joined}{name}:b, \
             or put the value in double quotes if the comma belongs to it"
        )),
    }
}

/// Takes a value that is no list and has no `*` at its end.
fn whole(name: &str, value: Vec<Match>) -> Result<Arc<str>, String> {
    match single(name, value)? {
        Match::Exact(text) => Ok(text),
        Match::Prefix(_) => Err(format!(
            "{name}: takes no `*`, which stands only at the end of an entity, a scope or a kind; \
             put the value in double quotes if the `*` belongs to it"
        )),
    }
}

fn one_more_tag(region: Region, tag: &str) -> Result<Region, String> {
    if region.tags().iter().any(|known| &**known == tag) {
        return Err("this tag is given twice; leave one out".into());
    }
    Ok(region.tag(tag))
}

fn id<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        let shown = name::shown(text);
        format!("{shown} is not an id; write a UUID, as in 018f4e5a-7c00-7000-8000-000000000001")
    })
}

/// Narrows recorded times further: `time:` and `since:` in one region hold both.
fn recorded(region: Region, range: RangeInclusive<u64>) -> Region {
    let (first, last) = region.recorded_range();
    let first = Timestamp::from_nanos(first.max(*range.start()));
    let last = Timestamp::from_nanos(last.min(*range.end()));
    region.recorded(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;

    const DAY: u64 = 86_400;
    const NOW: Timestamp = Timestamp::from_secs(20 * DAY);

    fn read(text: &str) -> Query {
        Query::parse_at(text, NOW).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn fault(text: &str) -> String {
        let error = Query::parse_at(text, NOW).expect_err(text);
        assert_eq!(error.kind(), StoreErrorKind::Argument);
        error.to_string()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn every_term_means_what_its_builder_means() {
        let uuid = "07070707-0707-0707-0707-070707070707";
        let id = EventId::from_bytes([7; 16]);
        for (text, region) in [
            ("entity:order:17", Region::entity("order:17")),
            ("entity:order:*", Region::entity_prefix("order:")),
            ("entity:*", Region::entity_prefix("")),
            ("scope:shop", Region::all().scope("shop")),
            ("scope:shop/*", Region::all().scope_prefix("shop/")),
            ("kind:order.paid", Region::all().kind("order.paid")),
            (
                "kind:a,b.*,c",
                Region::all().kind("a").kind_prefix("b.").kind("c"),
            ),
            ("tag:b tag:a", Region::all().tag("b").tag("a")),
            (
                &format!("correlation:{uuid}"),
                Region::all().correlation(id),
            ),
            (&format!("cause:{uuid}"), Region::all().caused_by(id)),
            ("position:5..10", Region::all().positions(5..10)),
            ("entity:a revision:3", Region::entity("a").revisions(3..=3)),
            ("revision:3.. entity:a", Region::entity("a").revisions(3..)),
            (
                "time:1970-01-02",
                Region::all().recorded(at(DAY)..at(2 * DAY)),
            ),
            ("since:1d", Region::all().recorded(at(19 * DAY)..)),
        ] {
            assert_eq!(read(text), Query::from(region), "{text}");
        }
    }

    #[test]
    fn nothing_and_a_star_mean_all_events() {
        for text in ["", "  \n", "*", " * ", "* *"] {
            assert_eq!(read(text), Query::all(), "{text:?}");
        }
        assert_eq!(read("* tag:a"), Query::tag("a"));
        assert_eq!(read("* or tag:a"), Query::all().or(Region::all().tag("a")));
    }

    #[test]
    fn terms_are_anded_and_regions_are_ored() {
        let left = Region::entity("a").scope("s");
        let right = Region::all().kind("k").tag("t");
        assert_eq!(
            read("entity:a\tscope:s\n or  kind:k tag:t "),
            Query::from(left).or(right)
        );
    }

    #[test]
    fn quotes_keep_what_would_mean_something_else() {
        for (text, name) in [
            (r#"tag:"a b""#, "a b"),
            (r#"tag:"a\"b\\""#, r#"a"b\"#),
            (r#"tag:"a*""#, "a*"),
            (r#"tag:"a,b""#, "a,b"),
            (r#"tag:"a""#, "a"),
            (r#"tag:" or ""#, " or "),
            ("tag:or", "or"),
            ("tag:a:b", "a:b"),
            ("tag:..", ".."),
        ] {
            assert_eq!(read(text), Query::tag(name), "{text}");
        }
        assert_eq!(read(r#"entity:"a* "*"#), Query::entity_prefix("a* "));
        assert_eq!(read(r#"entity:""*"#), Query::entity_prefix(""));
        let kinds = Region::all().kind("a,b").kind_prefix("c d");
        assert_eq!(read(r#"kind:"a,b","c d"*"#), Query::from(kinds));
    }

    #[test]
    fn time_and_since_in_one_region_hold_both() {
        let region = Region::all().recorded(at(6 * DAY)..at(9 * DAY));
        let both = Query::from(region);
        assert_eq!(read("time:1970-01-02..1970-01-10 since:2w"), both);
        assert_eq!(read("since:2w time:1970-01-02..1970-01-10"), both);
    }

    #[test]
    fn an_unknown_term_is_told_with_the_one_that_was_meant() {
        assert_eq!(
            fault("tag:größe entty:order:17"),
            r#"unknown term "entty:" at character 11; did you mean "entity:"?"#
        );
        assert_eq!(
            fault("order:17"),
            "unknown term \"order:\" at character 1; the terms are entity: scope: kind: tag: \
             correlation: cause: revision: position: time: since:"
        );
    }

    #[test]
    fn a_fault_is_told_with_the_term_and_its_place() {
        assert_eq!(
            fault("kind:a position:9..3 tag:b"),
            "term \"position:9..3\" at character 8: the range is reversed; put the smaller end first"
        );
        assert!(fault("tag:a entity:a*b tag:c").contains(r#"term "entity:a*b" at"#));
        let long = format!("position:{}", "9".repeat(1000));
        assert!(fault(&long).len() < 250, "{}", fault(&long));
    }

    #[test]
    fn every_fault_says_what_to_do() {
        for (text, said) in [
            ("entity", "write entity: and the value"),
            ("enti ty:a", "write entity: and the value"),
            ("a", "a colon is missing, as in entity:order:17"),
            ("entity:my shelf", "double quotes around a name with"),
            ("tag:'my tag'", "in double quotes, not single ones"),
            ("tag:a OR tag:b", "write `or` in small letters"),
            ("tag:a AND tag:b", "leave it out"),
            ("tag: a", "a value is missing"),
            ("tag:", "a value is missing"),
            ("kind:a,", "a value is missing"),
            ("kind:,a", "a value is missing"),
            (r#"tag:"a b"#, "the quote is not closed"),
            (r#"tag:"a\"#, "the quote is not closed"),
            (r#"tag:"a\n""#, "a backslash before 'n' means nothing"),
            (r"tag:a\*", "a backslash escapes only between quotes"),
            (r#"tag:a"b""#, "a quote stands inside the name"),
            (r#"tag:"a"b"#, "something stands behind the closing quote"),
            ("kind:*.placed", "a `*` stands at the end"),
            ("entity:a*b", "a `*` stands at the end"),
            ("entity:a**", "a `*` stands at the end"),
            ("tag:a*", "tag: takes no `*`"),
            ("position:5*", "position: takes no `*`"),
            ("tag:a,b", "write tag:a tag:b"),
            ("entity:a,b", "write entity:a or entity:b"),
            ("entity:a entity:b", "put `or` between two regions"),
            ("kind:a kind:b", "write kind:a,b for either kind"),
            ("tag:a tag:a", "this tag is given twice"),
            ("position:five", "\"five\" is not a number"),
            ("position:+5", "\"+5\" is not a number"),
            ("position:5...", "\".\" is not a number"),
            ("position:18446744073709551616", "is too large"),
            ("position:5..=", "\"\" is not a number"),
            ("position:5..=4", "the range is reversed"),
            ("time:1970-01-02..1970-01-01", "the range is reversed"),
            ("time:yesterday", "is not a time"),
            ("time:2026-13-01", "months go from 01 to 12"),
            ("since:2", "is neither a span"),
            ("since:h", "is neither a span"),
            ("since:2y", "is neither a span"),
            ("since:1969-12-31", "before 1970"),
            ("correlation:17", "\"17\" is not an id; write a UUID"),
            ("cause:17", "\"17\" is not an id; write a UUID"),
            ("revision:3", "entity:order:17 revision:5.."),
            (
                "revision:3 entity:a*",
                "\"revision:3\" at character 1: revisions count",
            ),
            (
                "entity:a or revision:3",
                "\"revision:3\" at character 13: revisions count",
            ),
            ("or tag:a", "a term is missing at character 1"),
            ("tag:a or", "a term is missing at character 9"),
            ("tag:a or or tag:b", "a term is missing at character 10"),
            (r#"tag:"""#, "tag is empty"),
            ("kind:a..b", "must not hold an empty word"),
            ("\"tag:a\"", "did you mean \"tag:\"?"),
        ] {
            let sentence = fault(text);
            assert!(sentence.contains(said), "{text}: {sentence}");
        }
    }

    #[test]
    fn bounds_hold_while_the_text_is_read() {
        let regions = |count: usize| alloc::vec!["*"; count].join(" or ");
        assert_eq!(read(&regions(64)).regions().len(), 64);
        assert!(fault(&regions(65)).contains("at most 64"));
        let later = format!("{} or entty:a", regions(65));
        assert!(fault(&later).contains("at most 64"), "read no further");
        let tags =
            |count: usize| -> String { (0..count).map(|tag| format!("tag:{tag} ")).collect() };
        assert_eq!(read(&tags(32)).regions()[0].tags().len(), 32);
        assert!(fault(&tags(33)).contains("term \"tag:32\""));
        let kinds = |count: usize| format!("kind:{}", alloc::vec!["a"; count].join(","));
        assert_eq!(read(&kinds(32)).regions()[0].kinds().len(), 32);
        assert!(fault(&kinds(33)).contains("at most 32"));
        assert_eq!(read(&" ".repeat(name::MAX_QUERY_TEXT_BYTES)), Query::all());
        let long = " ".repeat(name::MAX_QUERY_TEXT_BYTES + 1);
        assert!(fault(&long).contains("the text of a query is 2097153 bytes long"));
    }
}
