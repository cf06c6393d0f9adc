//! Writes a query as its canonical text: one spelling for each query, and it reads back as the same query.
//!
//! Two queries have the same text only if they are equal. Nothing here allocates; runs on the caller's thread.

use core::fmt::{self, Display, Formatter, Write};

use crate::event::query::Query;
use crate::event::query_text_scan::needs_quotes;
use crate::event::region::{EVERYTHING, Match, Region};
use crate::event::timestamp::Timestamp;

/// Writes the canonical text; [`Query::parse_at`] reads it back as the same query if the query is valid.
///
/// The text of all events is `*`. Times are absolute, ranges are half open (`5..10`), and an empty range is `0..0`.
/// Builders can make one thing that the text refuses: revisions without one exact entity.
///
/// ```
/// use quipu::{Query, Region};
///
/// let query = Query::kind_prefix("order.").or(Region::entity("my shelf").positions(5..=9));
/// assert_eq!(query.to_string(), r#"kind:order.* or entity:"my shelf" position:5..10"#);
/// assert_eq!(Query::all().to_string(), "*");
/// ```
impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, region) in self.regions().iter().enumerate() {
            f.write_str(if at == 0 { "" } else { " or " })?;
            region.fmt(f)?;
        }
        Ok(())
    }
}

/// Writes the region as a query of it alone is written.
impl Display for Region {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut terms = Terms { f, separator: "" };
        if let Some(entity) = self.entity_match() {
            terms.names("entity", [entity])?;
        }
        if let Some(scope) = self.scope_match() {
            terms.names("scope", [scope])?;
        }
        if !self.kinds().is_empty() {
            terms.names("kind", self.kinds())?;
        }
        for tag in self.tags() {
            terms.begin("tag")?;
            write_name(terms.f, tag)?;
        }
        if let Some(id) = self.correlation_id() {
            terms.begin("correlation")?;
            write!(terms.f, "{id}")?;
        }
        if let Some(id) = self.cause() {
            terms.begin("cause")?;
            write!(terms.f, "{id}")?;
        }
        terms.range("revision", self.revision_range(), |number| number)?;
        terms.range("position", self.position_range(), |number| number)?;
        terms.range("time", self.recorded_range(), Timestamp::from_nanos)?;
        terms.end()
    }
}

/// The terms of one region, written one after another.
struct Terms<'a, 'f> {
    f: &'a mut Formatter<'f>,
    /// Stands before the next term: nothing before the first.
    separator: &'static str,
}

impl Terms<'_, '_> {
    fn begin(&mut self, name: &str) -> fmt::Result {
        write!(self.f, "{}{name}:", self.separator)?;
        self.separator = " ";
        Ok(())
    }

    fn names<'m>(
        &mut self,
        name: &str,
        any_of: impl IntoIterator<Item = &'m Match>,
    ) -> fmt::Result {
        self.begin(name)?;
        for (at, wanted) in any_of.into_iter().enumerate() {
            self.f.write_str(if at == 0 { "" } else { "," })?;
            match wanted {
                Match::Exact(whole) => write_name(self.f, whole)?,
                Match::Prefix(prefix) if prefix.is_empty() => self.f.write_str("*")?,
                Match::Prefix(prefix) => {
                    write_name(self.f, prefix)?;
                    self.f.write_str("*")?;
                }
            }
        }
        Ok(())
    }

    /// Writes a range, both ends of which are included, half open; `shown` makes a value of a number.
    fn range<D: Display>(
        &mut self,
        name: &str,
        (first, last): (u64, u64),
        shown: impl Fn(u64) -> D,
    ) -> fmt::Result {
        if (first, last) == EVERYTHING {
            return Ok(());
        }
        self.begin(name)?;
        if first > last {
            return write!(self.f, "{0}..{0}", shown(0));
        }
        if first == last {
            return write!(self.f, "{}", shown(first));
        }
        if first > 0 {
            write!(self.f, "{}", shown(first))?;
        }
        self.f.write_str("..")?;
        match last.checked_add(1) {
            None => Ok(()),
            Some(after) => write!(self.f, "{}", shown(after)),
        }
    }

    /// A region without terms means all events.
    fn end(self) -> fmt::Result {
        self.f
            .write_str(if self.separator.is_empty() { "*" } else { "" })
    }
}

/// Writes a name as it is, or between quotes if some character asks for them.
fn write_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if !name.is_empty() && !name.contains(needs_quotes) {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for character in name.chars() {
        if matches!(character, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::id::EventId;
    use alloc::string::ToString;

    #[test]
    fn each_term_has_its_spelling_and_its_place() {
        let id = EventId::from_bytes([7; 16]);
        let hour = Timestamp::from_secs(3600)..Timestamp::from_secs(7200);
        let region = Region::entity("order:17")
            .recorded(hour)
            .positions(5..)
            .revisions(..3)
            .caused_by(id)
            .correlation(id)
            .tag("b")
            .tag("a")
            .kind("order.paid")
            .kind_prefix("stock.")
            .scope_prefix("shop/");
        assert_eq!(
            region.to_string(),
            "entity:order:17 scope:shop/* kind:order.paid,stock.* tag:b tag:a \
             correlation:07070707-0707-0707-0707-070707070707 \
             cause:07070707-0707-0707-0707-070707070707 revision:..3 position:5.. \
             time:1970-01-01T01:00:00.000000000Z..1970-01-01T02:00:00.000000000Z"
        );
    }

    #[test]
    fn only_names_that_need_quotes_have_them() {
        for (name, text) in [
            ("order:17", "tag:order:17"),
            ("or", "tag:or"),
            ("größe", "tag:größe"),
            ("", r#"tag:"""#),
            ("a b", r#"tag:"a b""#),
            ("a\u{a0}b", "tag:\"a\u{a0}b\""),
            ("a,b", r#"tag:"a,b""#),
            ("a*", r#"tag:"a*""#),
            (r#"a"b\"#, r#"tag:"a\"b\\""#),
        ] {
            assert_eq!(Query::tag(name).to_string(), text);
        }
        assert_eq!(Query::entity_prefix("").to_string(), "entity:*");
        assert_eq!(Query::entity_prefix("a b").to_string(), r#"entity:"a b"*"#);
        assert_eq!(Query::kind("").to_string(), r#"kind:"""#);
    }

    #[test]
    fn ranges_are_half_open_and_one_value_stands_alone() {
        for (region, text) in [
            (Region::all().positions(0..), "*"),
            (Region::all().positions(..=u64::MAX), "*"),
            (Region::all().positions(1..), "position:1.."),
            (Region::all().positions(..=9), "position:..10"),
            (Region::all().positions(5..=9), "position:5..10"),
            (Region::all().positions(5..=5), "position:5"),
            (Region::all().positions(0..1), "position:0"),
            (Region::all().positions(5..5), "position:0..0"),
            (
                Region::all().positions(u64::MAX..),
                "position:18446744073709551615",
            ),
            (
                Region::all().positions(1..u64::MAX),
                "position:1..18446744073709551615",
            ),
        ] {
            assert_eq!(region.to_string(), text);
        }
    }

    #[test]
    fn all_events_are_a_star_also_between_regions() {
        let query = Query::all()
            .or(Query::tag("a").regions()[0].clone())
            .or(Region::all());
        assert_eq!(query.to_string(), "* or tag:a or *");
    }
}
