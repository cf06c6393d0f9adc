//! Which rows of a sealed segment retention lets go, and what goes with them.
//!
//! Filled row by row, in order, by the thread that plans a compaction, and only read from then on.

use crate::log::event::EventRef;

/// The rows of one segment that go.
#[derive(Debug, Default)]
pub(crate) struct Going {
    /// One bit for each row up to the last that goes; empty if none does.
    rows: Vec<u64>,
    /// For each of those words, by how much the log shrinks before its first row.
    shrunk: Vec<i64>,
    pub(crate) events: u64,
    /// What the events take in the log, in bytes, and what their stubs will.
    pub(crate) removed_bytes: u64,
    pub(crate) stub_bytes: u64,
    /// How many of them belong to another's story.
    pub(crate) correlated: u64,
    /// How many parents they have together.
    pub(crate) parents: u64,
}

impl Going {
    /// Lets the event in `row` go, which is behind every row that goes already.
    pub(crate) fn add(&mut self, row: u64, event: &EventRef<'_>) {
        let (word, bit) = place(row);
        while self.rows.len() <= word {
            self.rows.push(0);
            self.shrunk.push(self.shrinks_by());
        }
        if let Some(word) = self.rows.get_mut(word) {
            *word |= bit;
        }
        self.events += 1;
        self.removed_bytes += event.frame_bytes();
        self.stub_bytes += event.stub_bytes();
        self.correlated += u64::from(event.correlation().as_bytes() != event.id().as_bytes());
        self.parents += event.parents().len() as u64;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Whether the event in `row` goes.
    pub(crate) fn goes(&self, row: u64) -> bool {
        let (word, bit) = place(row);
        self.rows.get(word).is_some_and(|word| word & bit != 0)
    }

    /// By how many bytes the log shrinks; negative where stubs are longer than their events.
    pub(crate) fn shrinks_by(&self) -> i64 {
        signed(self.removed_bytes) - signed(self.stub_bytes)
    }

    /// By how many bytes the log shrinks before `row`; among 64 rows, each that goes has an equal share.
    pub(crate) fn shrinks_before(&self, row: u64) -> i64 {
        let (word, bit) = place(row);
        let (Some(rows), Some(before)) = (self.rows.get(word), self.shrunk.get(word)) else {
            return self.shrinks_by();
        };
        let behind = self.shrunk.get(word + 1).copied();
        let here = behind.unwrap_or(self.shrinks_by()) - before;
        let earlier = rows & (bit - 1);
        let share = here * i64::from(earlier.count_ones()) / i64::from(rows.count_ones().max(1));
        before + share
    }
}

fn place(row: u64) -> (usize, u64) {
    let word = usize::try_from(row / 64).unwrap_or(usize::MAX);
    (word, 1 << (row % 64))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
