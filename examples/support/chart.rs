//! How much happened in each month, as bars of plain characters.
//!
//! A month has the events that occurred in it, which for a commit and its files is when it was committed, in UTC; the
//! log's own time is that of the import. Months between two that are shown are shown, however empty.

use std::collections::BTreeMap;

use quipu::prelude::*;

use crate::history::Outcome;

/// A month, counted from the beginning of the year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Month(u32);

impl Month {
    /// The month of a moment, whose text begins `YYYY-MM-`.
    pub(crate) fn of(moment: Timestamp) -> Self {
        let text = moment.to_string();
        let mut numbers = text.split('-').map_while(|number| number.parse().ok());
        let (year, month): (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(1));
        Self(year * 12 + month - 1)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

/// The events of each of the `most` months, or fewer, that end with the last one in which any occurred. Months after that of
/// `now` are left out: there are clocks that run ahead.
pub(crate) fn by_month(view: &View, now: Timestamp, most: u32) -> Outcome<Vec<(Month, u64)>> {
    let mut counts: BTreeMap<Month, u64> = BTreeMap::new();
    for event in view.query(Query::all())? {
        if let Some(moment) = event?.occurred_at() {
            *counts.entry(Month::of(moment)).or_default() += 1;
        }
    }
    counts.retain(|month, _| *month <= Month::of(now));
    let (Some((first, _)), Some((last, _))) = (counts.first_key_value(), counts.last_key_value())
    else {
        return Ok(Vec::new());
    };
    let months = first.0.max((last.0 + 1).saturating_sub(most))..=last.0;
    let count = |month| counts.get(&month).copied().unwrap_or(0);
    Ok(months
        .map(Month)
        .map(|month| (month, count(month)))
        .collect())
}

/// A line for each month, the longest `width` characters; where anything happened there is a bar.
pub(crate) fn lines(months: &[(Month, u64)], width: usize) -> Vec<String> {
    let most = months.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let digits = most.to_string().len();
    let labels = "YYYY-MM  ".len() + digits + 1;
    let room = width.saturating_sub(labels).max(1) as u64;
    let line = |(month, count): &(Month, u64)| {
        let bar = (count * room).div_ceil(most.max(1));
        let bar = "#".repeat(usize::try_from(bar).unwrap_or(0));
        format!("{month}  {count:>digits$} {bar}")
            .trim_end()
            .to_owned()
    };
    months.iter().map(line).collect()
}
