//! A moment: nanoseconds since 1970-01-01 UTC, printed and read as RFC 3339.

use alloc::format;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::event::name;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// A second has this many decimal places in nanoseconds.
const NANO_DIGITS: usize = 9;

/// A moment in nanoseconds since 1970-01-01 UTC, up to the year 2554.
///
/// ```
/// use quipu::Timestamp;
///
/// let moment = Timestamp::from_secs(951_782_400);
/// assert_eq!(moment.to_string(), "2000-02-29T00:00:00.000000000Z");
/// assert!(Timestamp::from(std::time::SystemTime::now()) > moment);
/// ```
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Makes a moment from nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes a moment from seconds since 1970-01-01 UTC; seconds past the year 2554 give the last moment.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Returns the nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Reads the first and last moment that a text stands for: a date is its whole day, a minute its 60 seconds.
    pub(crate) fn parse_period(text: &str) -> Result<(Self, Self)> {
        Reader { rest: text }.period().map_err(|fault| {
            let shown = name::shown(text);
            StoreError::argument(format!(
                "{shown} is not a time: {fault}; write it as in 2026-11-20 or 2026-11-20T10:00:00Z"
            ))
        })
    }
}

/// Reads RFC 3339, of which seconds, their fraction (to nanoseconds), offset and the whole time of day may be left out.
///
/// What is left out is zero, and UTC is meant where no offset is given. A leap second (`:60`) is refused.
///
/// ```
/// use quipu::Timestamp;
///
/// let moment: Timestamp = "2000-02-29T02:00+02:00".parse()?;
/// assert_eq!(moment, "2000-02-29".parse()?);
/// # Ok::<(), quipu::StoreError>(())
/// ```
impl FromStr for Timestamp {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self::parse_period(text)?.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NANOS_PER_SECOND;
        let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
        let of_day = seconds % SECONDS_PER_DAY;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60,
            self.0 % NANOS_PER_SECOND,
        )
    }
}

/// What is wrong with a text that should be a time.
type Fault = &'static str;

/// Reads a time from left to right.
struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    /// `date [ ( "T" | "t" | " " ) time-of-day ]`
    fn period(mut self) -> Result<(Timestamp, Timestamp), Fault> {
        let day = self.date()?;
        let mut start = i128::from(day) * i128::from(SECONDS_PER_DAY * NANOS_PER_SECOND);
        let mut length = SECONDS_PER_DAY * NANOS_PER_SECOND;
        if self.take("T") || self.take("t") || self.take(" ") {
            let (of_day, precision) = self.time_of_day()?;
            start += i128::from(of_day) - i128::from(self.offset()?);
            length = precision;
        }
        if !self.rest.is_empty() {
            return Err("something is left behind it");
        }
        let first = u64::try_from(start).map_err(|_| match start {
            ..0 => "it is before 1970",
            _ => "it is past the year 2554",
        })?;
        let last = first.saturating_add(length - 1);
        Ok((Timestamp(first), Timestamp(last)))
    }

    /// `YYYY-MM-DD`, as days since 1970-01-01.
    fn date(&mut self) -> Result<i64, Fault> {
        let year = self.number(4, "a year has four digits")?;
        self.expect("-", "a `-` must stand behind the year")?;
        let month = self.number(2, "a month has two digits")?;
        self.expect("-", "a `-` must stand behind the month")?;
        let day = self.number(2, "a day has two digits")?;
        if !(1..=12).contains(&month) {
            return Err("months go from 01 to 12");
        }
        if !(1..=days_of_month(year, month)).contains(&day) {
            return Err("the month has no such day");
        }
        Ok(days_from_civil(year, month, day))
    }

    /// `hh:mm[:ss[.fraction]]`, as nanoseconds of the day and the length of the last unit given.
    fn time_of_day(&mut self) -> Result<(u64, u64), Fault> {
        let (hours, minutes) = self.hours_and_minutes()?;
        let minute = (hours * 60 + minutes) * 60 * NANOS_PER_SECOND;
        if !self.take(":") {
            return Ok((minute, 60 * NANOS_PER_SECOND));
        }
        let seconds = self.number(2, "a second has two digits")?;
        if seconds > 59 {
            return Err("seconds go from 00 to 59");
        }
        let second = minute + seconds * NANOS_PER_SECOND;
        if !self.take(".") {
            return Ok((second, NANOS_PER_SECOND));
        }
        let (nanos, precision) = self.fraction()?;
        Ok((second + nanos, precision))
    }

    /// One to nine decimal places, as nanoseconds and the length of the last place.
    fn fraction(&mut self) -> Result<(u64, u64), Fault> {
        let places = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=NANO_DIGITS).contains(&places) {
            return Err("a fraction of a second has one to nine digits");
        }
        let precision = (places..NANO_DIGITS).fold(1, |length, _| length * 10);
        let digits = self.number(places, "a fraction is made of digits")?;
        Ok((digits * precision, precision))
    }

    /// `[ Z | z | ( + | - ) hh:mm ]`, as nanoseconds ahead of UTC.
    fn offset(&mut self) -> Result<i64, Fault> {
        let sign = if self.take("+") {
            1
        } else if self.take("-") {
            -1
        } else {
            let _utc = self.take("Z") || self.take("z");
            return Ok(0);
        };
        let (hours, minutes) = self.hours_and_minutes()?;
        let ahead = (hours * 60 + minutes) * 60 * NANOS_PER_SECOND;
        Ok(sign * i64::try_from(ahead).expect("a day has fewer nanoseconds than an i64 holds"))
    }

    fn hours_and_minutes(&mut self) -> Result<(u64, u64), Fault> {
        let hours = self.number(2, "an hour has two digits")?;
        self.expect(":", "minutes must follow the hour behind a `:`")?;
        let minutes = self.number(2, "a minute has two digits")?;
        if hours > 23 || minutes > 59 {
            return Err("hours go from 00 to 23 and minutes from 00 to 59");
        }
        Ok((hours, minutes))
    }

    fn number(&mut self, digits: usize, fault: Fault) -> Result<u64, Fault> {
        let (number, rest) = self.rest.split_at_checked(digits).ok_or(fault)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fault);
        }
        self.rest = rest;
        number.parse().map_err(|_| fault)
    }

    fn expect(&mut self, mark: &str, fault: Fault) -> Result<(), Fault> {
        if self.take(mark) { Ok(()) } else { Err(fault) }
    }

    fn take(&mut self, mark: &str) -> bool {
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let leaps = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leaps => 29,
        2 => 28,
        _ => 31,
    }
}

/// Turns (year, month, day) into days since 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`, for years of four digits.
fn days_from_civil(year: u64, month: u64, day: u64) -> i64 {
    // Years begin on 1 March, so that a leap day ends its year; one more era keeps the year 0000 above zero.
    let shifted_year = year + 400 - u64::from(month <= 2);
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days =
        i64::try_from(era * 146_097 + day_of_era).expect("years of four digits are few days");
    days - 146_097 - 719_468
}

/// Turns days since 1970-01-01 into (year, month, day).
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, without the negative half.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // counted from 0000-03-01, so that a leap day ends its year
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_rfc_3339() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_868_799_999_999_999, "2000-02-29T23:59:59.999999999Z"),
            (951_868_800_000_000_000, "2000-03-01T00:00:00.000000000Z"),
            (4_107_542_399_000_000_001, "2100-02-28T23:59:59.000000001Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            assert_eq!(Timestamp::from_nanos(nanos).to_string(), text);
        }
    }

    #[test]
    fn seconds_past_the_range_give_the_last_moment() {
        assert_eq!(Timestamp::from_secs(u64::MAX).as_nanos(), u64::MAX);
        assert_eq!(Timestamp::from_secs(2).as_nanos(), 2_000_000_000);
    }

    fn read(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for nanos in [0, 1, 951_868_799_999_999_999, u64::MAX - 1, u64::MAX] {
            let moment = Timestamp::from_nanos(nanos);
            assert_eq!(read(&moment.to_string()), moment);
        }
    }

    #[test]
    fn what_is_left_out_is_zero_and_utc() {
        for (text, full) in [
            ("2026-11-20", "2026-11-20T00:00:00.000000000Z"),
            ("2026-11-20T10:07", "2026-11-20T10:07:00.000000000Z"),
            ("2026-11-20t10:07z", "2026-11-20T10:07:00.000000000Z"),
            ("2026-11-20 10:07:09", "2026-11-20T10:07:09.000000000Z"),
            ("2026-11-20T10:07:09Z", "2026-11-20T10:07:09.000000000Z"),
            ("2026-11-20T10:07:09.25", "2026-11-20T10:07:09.250000000Z"),
            ("2026-11-20T10:07+02:30", "2026-11-20T07:37:00.000000000Z"),
            ("2026-11-20T23:07-01:00", "2026-11-21T00:07:00.000000000Z"),
            ("1969-12-31T23:30-01:00", "1970-01-01T00:30:00.000000000Z"),
        ] {
            assert_eq!(read(text).to_string(), full, "{text}");
        }
    }

    #[test]
    fn a_period_ends_where_the_next_one_begins() {
        for (text, next) in [
            ("2024-02-28", "2024-02-29"),
            ("2026-11-20T10:59", "2026-11-20T11:00"),
            ("2026-11-20T10:59:59", "2026-11-20T11:00:00"),
            ("2026-11-20T10:59:59.9", "2026-11-20T11:00:00.0"),
            (
                "1970-01-01T00:00:00.000000009",
                "1970-01-01T00:00:00.000000010",
            ),
        ] {
            let (first, last) = Timestamp::parse_period(text).unwrap();
            assert_eq!(first, read(text));
            assert_eq!(last.as_nanos() + 1, read(next).as_nanos(), "{text}");
        }
        let (_, last) = Timestamp::parse_period("2554-07-21").unwrap();
        assert_eq!(last.as_nanos(), u64::MAX);
    }

    #[test]
    fn a_text_that_is_no_time_says_why() {
        for (text, fault) in [
            ("", "a year has four digits"),
            ("26-11-20", "a year has four digits"),
            ("+026-11-20", "a year has four digits"),
            ("2026/11/20", "behind the year"),
            ("2026-1-20", "a month has two digits"),
            ("2026-11", "behind the month"),
            ("2026-11-2", "a day has two digits"),
            ("2026-11-2é", "a day has two digits"),
            ("2026-13-01", "months go from 01 to 12"),
            ("2026-00-01", "months go from 01 to 12"),
            ("2026-02-29", "the month has no such day"),
            ("2100-02-29", "the month has no such day"),
            ("2026-04-31", "the month has no such day"),
            ("2026-04-00", "the month has no such day"),
            ("2026-11-20T", "an hour has two digits"),
            ("2026-11-20T10", "minutes must follow"),
            ("2026-11-20T24:00", "hours go from"),
            ("2026-11-20T10:60", "hours go from"),
            ("2026-11-20T10:00:60", "seconds go from"),
            ("2026-11-20T10:00:00.", "one to nine digits"),
            ("2026-11-20T10:00:00.1234567890", "one to nine digits"),
            ("2026-11-20T10:00+2", "an hour has two digits"),
            ("2026-11-20Z", "something is left"),
            ("2026-11-20T10:00ZZ", "something is left"),
            ("1969-12-31", "before 1970"),
            ("0000-01-01", "before 1970"),
            ("2554-07-21T23:34:33.709551616Z", "past the year 2554"),
            ("9999-12-31", "past the year 2554"),
        ] {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert_eq!(error.kind(), crate::error::StoreErrorKind::Argument);
            assert!(error.to_string().contains(fault), "{text}: {error}");
        }
    }

    #[test]
    fn days_and_dates_stand_for_each_other() {
        for day in 0..213_503 {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(
                days_from_civil(year, month, date),
                i64::try_from(day).unwrap()
            );
        }
        assert_eq!(days_from_civil(1969, 12, 31), -1);
        assert_eq!(days_from_civil(0, 3, 1), -719_468);
        assert_eq!(days_from_civil(0, 2, 29), -719_469);
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = civil_from_days(0);
        assert_eq!(before, (1970, 1, 1));
        for day in 1..213_503 {
            let (year, month, date) = civil_from_days(day);
            let follows = match date {
                1 if month == 1 => before == (year - 1, 12, 31),
                1 => before.0 == year && before.1 == month - 1 && before.2 >= 28,
                _ => before == (year, month, date - 1),
            };
            assert!(
                follows,
                "day {day}: {before:?} then {:?}",
                (year, month, date)
            );
            before = (year, month, date);
        }
    }
}
