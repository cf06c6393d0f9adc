//! Reads the values that are numbers or moments: one of them, a range of them, or a span of time before now.
//!
//! All are pairs of the first and last number meant, both included; runs on the caller's thread.

use alloc::format;
use alloc::string::{String, ToString};
use core::ops::RangeInclusive;

use crate::error::Result;
use crate::event::name;
use crate::event::timestamp::Timestamp;

/// A range that holds nothing.
#[expect(clippy::reversed_empty_ranges, reason = "that is what it is for")]
const NOTHING: RangeInclusive<u64> = 1..=0;
const REVERSED: &str = "the range is reversed; put the smaller end first";
/// Nanoseconds of the units that a span of time is written in.
const UNITS: [(char, u64); 5] = [
    ('s', 1_000_000_000),
    ('m', 60_000_000_000),
    ('h', 3_600_000_000_000),
    ('d', 86_400_000_000_000),
    ('w', 604_800_000_000_000),
];

/// `range = value | [ value ] ".." [ value ] | [ value ] "..=" value`, with the meaning of Rust's ranges.
///
/// `read` turns a value into the first and last number it stands for; a range of values goes from the first number of
/// the one up to the first of the other, or with `=` to its last.
pub(crate) fn range(
    text: &str,
    read: impl Fn(&str) -> Result<RangeInclusive<u64>, String>,
) -> Result<RangeInclusive<u64>, String> {
    let Some((from, to)) = text.split_once("..") else {
        return read(text);
    };
    let first = match from {
        "" => 0,
        from => *read(from)?.start(),
    };
    if to.is_empty() {
        return Ok(first..=u64::MAX);
    }
    if let Some(to) = to.strip_prefix('=') {
        let last = *read(to)?.end();
        return if first > last {
            Err(REVERSED.into())
        } else {
            Ok(first..=last)
        };
    }
    let end = *read(to)?.start();
    if first > end {
        return Err(REVERSED.into());
    }
    Ok(end.checked_sub(1).map_or(NOTHING, |last| first..=last))
}

/// Reads a number, which stands for itself.
pub(crate) fn number(text: &str) -> Result<RangeInclusive<u64>, String> {
    let shown = name::shown(text);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "{shown} is not a number; write digits, as in 5, 5..10, 5..=9, 5.. or ..10"
        ));
    }
    let number: u64 = text
        .parse()
        .map_err(|_| format!("{shown} is too large; the last number is {}", u64::MAX))?;
    Ok(number..=number)
}

/// Reads a time, which stands for the day, minute, second or fraction that it names.
pub(crate) fn period(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = Timestamp::parse_period(text).map_err(|error| error.to_string())?;
    Ok(first.as_nanos()..=last.as_nanos())
}

/// Reads what stands behind `since:`, a time or a span before `now`, as the first nanosecond.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<u64, String> {
    if text.contains('-') {
        return Ok(*period(text)?.start());
    }
    match span(text) {
        Some(nanos) => Ok(now.as_nanos().saturating_sub(nanos)),
        None => Err(format!(
            "{} is neither a span, such as 90s, 15m, 2h, 1d12h or 4w, nor a time, such as 2026-11-20",
            name::shown(text)
        )),
    }
}

/// `span = number unit { number unit }`, in nanoseconds; more than a `u64` holds is its last number.
fn span(text: &str) -> Option<u64> {
    let mut nanos: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|character: char| !character.is_ascii_digit())?;
        let count: u64 = rest[..unit_at].parse().ok()?;
        let (_, unit) = UNITS
            .iter()
            .find(|(unit, _)| rest[unit_at..].starts_with(*unit))?;
        nanos = nanos.saturating_add(count.saturating_mul(*unit));
        rest = &rest[unit_at + 1..];
    }
    (!text.is_empty()).then_some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;
    const NOW: Timestamp = Timestamp::from_nanos(20 * DAY);

    #[test]
    fn ranges_mean_what_they_mean_in_rust() {
        for (text, read) in [
            ("5", 5..=5),
            ("5..10", 5..=9),
            ("5..=10", 5..=10),
            ("5..", 5..=u64::MAX),
            ("..10", 0..=9),
            ("..=10", 0..=10),
            ("..", 0..=u64::MAX),
            ("0", 0..=0),
            ("18446744073709551615", u64::MAX..=u64::MAX),
        ] {
            assert_eq!(range(text, number), Ok(read), "{text}");
        }
        for empty in ["5..5", "..0", "0..0"] {
            assert!(range(empty, number).unwrap().is_empty(), "{empty}");
        }
    }

    #[test]
    fn a_time_in_a_range_is_the_period_it_names() {
        for (text, read) in [
            ("1970-01-02", DAY..=2 * DAY - 1),
            ("1970-01-02..1970-01-04", DAY..=3 * DAY - 1),
            ("1970-01-02..=1970-01-04", DAY..=4 * DAY - 1),
            ("1970-01-02..", DAY..=u64::MAX),
            ("..=1970-01-02", 0..=2 * DAY - 1),
            ("1970-01-02T12:00..=1970-01-02", DAY + DAY / 2..=2 * DAY - 1),
            ("1970-01-01T00:00:00.000000007Z", 7..=7),
            (
                "1970-01-01T00:00:00.5..1970-01-01T00:00:01",
                SECOND / 2..=SECOND - 1,
            ),
            ("1970-01-02 00:00..1970-01-03 00:00", DAY..=2 * DAY - 1),
        ] {
            assert_eq!(range(text, period), Ok(read), "{text}");
        }
    }

    #[test]
    fn since_counts_back_from_now_or_names_a_time() {
        for (text, first) in [
            ("90s", 20 * DAY - 90 * SECOND),
            ("15m", 20 * DAY - 900 * SECOND),
            ("2h", 20 * DAY - 7200 * SECOND),
            ("1d12h", 19 * DAY - DAY / 2),
            ("2w", 6 * DAY),
            ("0s", 20 * DAY),
            ("3w", 0),
            ("18446744073709551615w", 0),
            ("1970-01-03", 2 * DAY),
            ("1970-01-03T01:00+01:00", 2 * DAY),
        ] {
            assert_eq!(since(text, NOW), Ok(first), "{text}");
        }
    }
}
