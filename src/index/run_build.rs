//! Makes the bytes of a run: the keys and names of up to sixteen footers, merged.
//!
//! The same footers give the same bytes. Runs on the upkeep thread, and on one that verifies; lets others by.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::Result;
use crate::event::hash::entity_digest;
use crate::format::run::{Bearers, RunBuilder, RunHead, TableBuilder};
use crate::format::sidx::NameAxis;
use crate::index::sidx::Sidx;
use crate::sync::Arc;

/// How many keys are gathered before other threads are let by.
const KEYS_BETWEEN_YIELDS: u64 = 4096;
/// A table of names is kept if so many names of the footers, or more, share one of its own on average: one that is
/// hardly shorter than theirs would save a reader little.
const NAMES_SHARING: u64 = 2;

/// The bytes of the run over these footers, which are in order; `None` if they are so large that it would be too long,
/// or once `go_on` says no.
pub(crate) fn build(
    head: RunHead,
    footers: &[Arc<Sidx>],
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<u8>>> {
    let keys = footers.iter().map(|footer| footer.run_share().keys).sum();
    let Some(mut builder) = RunBuilder::new(head, keys) else {
        return Ok(None);
    };
    let mut added = 0_u64;
    let mut goes_on = || {
        added += 1;
        if !added.is_multiple_of(KEYS_BETWEEN_YIELDS) {
            return true;
        }
        std::thread::yield_now();
        go_on()
    };
    for footer in footers {
        if !go_on() {
            return Ok(None);
        }
        footer.each_key(|axis, key| {
            builder.add(axis, key);
            goes_on();
            Ok(())
        })?;
    }
    for axis in NameAxis::ALL {
        let before: u64 = footers.iter().map(|f| u64::from(f.name_count(axis))).sum();
        let mut table = Some(TableBuilder::default());
        let whole = each_name(footers, axis, |name, bearers| {
            builder.add(axis.digests(), &entity_digest(name));
            // Given up as soon as it has too many names.
            table = table
                .take()
                .filter(|table| (table.names() + 1) * NAMES_SHARING <= before);
            table = table
                .take()
                .and_then(|mut table| table.push(name, bearers).then_some(table));
            goes_on()
        })?;
        if !whole {
            return Ok(None);
        }
        if let Some(table) = table {
            builder.put_table(axis, &table);
        }
    }
    Ok(Some(builder.finish()))
}

/// Shows `visit` the names of an axis in byte order, each once, until it says no; says whether it was shown all.
fn each_name(
    footers: &[Arc<Sidx>],
    axis: NameAxis,
    mut visit: impl FnMut(&str, Bearers) -> bool,
) -> Result<bool> {
    let first_position = footers.first().map_or(0, |footer| footer.first_position());
    // The next name of each footer, first the one that comes first, and of the same the one of the first footer.
    let mut next = BinaryHeap::with_capacity(footers.len());
    for (at, footer) in footers.iter().enumerate() {
        if footer.name_count(axis) > 0 {
            next.push(Reverse((footer.nth_name(axis, 0)?.0, at, 0)));
        }
    }
    while let Some(&Reverse((name, ..))) = next.peek() {
        let mut bearers = Bearers::default();
        while let Some(&Reverse((same, at, place))) = next.peek()
            && same == name
            && let Some(footer) = footers.get(at)
        {
            next.pop();
            let rows = footer.nth_name(axis, place)?.1;
            let rows_before = footer.first_position().saturating_sub(first_position);
            let last = rows_before + u64::from(rows.nth(rows.len().saturating_sub(1))?);
            bearers.events = bearers.events.saturating_add(rows.len());
            bearers.last = u32::try_from(last).unwrap_or(u32::MAX);
            bearers.files |= 1 << at;
            if place + 1 < footer.name_count(axis) {
                next.push(Reverse((
                    footer.nth_name(axis, place + 1)?.0,
                    at,
                    place + 1,
                )));
            }
        }
        if !visit(name, bearers) {
            return Ok(false);
        }
    }
    Ok(true)
}
