//! Results by work and contestant, and the table of medians and ratios that they make.

use std::path::Path;

use crate::measure::{grouped, median};
use crate::peer::Tally;

/// All measurements so far, in the order in which each work was first seen.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    work: &'static str,
    unit: &'static str,
    values: [Vec<f64>; 3],
}

impl Table {
    pub(crate) fn add(
        &mut self,
        work: &'static str,
        unit: &'static str,
        lane: usize,
        value: Option<f64>,
    ) {
        let at = self
            .rows
            .iter()
            .position(|row| row.work == work)
            .unwrap_or_else(|| {
                self.rows.push(Row {
                    work,
                    unit,
                    values: Default::default(),
                });
                self.rows.len() - 1
            });
        self.rows[at].values[lane].extend(value);
    }

    /// A contestant that lost or changed an event has no place in the table.
    pub(crate) fn check_same_events(
        &self,
        scans: impl Iterator<Item = Option<Tally>>,
        events: usize,
    ) {
        let scans: Vec<Tally> = scans.flatten().collect();
        assert!(
            scans.iter().all(|scan| scan.events == events),
            "an event is missing: {scans:?}"
        );
        assert_eq!(
            scans[0].sum, scans[1].sum,
            "quipu and tephra read the same payloads"
        );
    }

    pub(crate) fn print(&self) {
        println!();
        println!("| work | unit | quipu | tephra | file | quipu/tephra | quipu/file |");
        println!("|---|---|--:|--:|--:|--:|--:|");
        for row in &self.rows {
            let [quipu, tephra, file] = row.values.each_ref().map(|values| middle(values));
            println!(
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.work,
                row.unit,
                number(quipu),
                number(tephra),
                number(file),
                ratio(quipu, tephra),
                ratio(quipu, file),
            );
        }
    }
}

fn middle(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| median(values))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), grouped)
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
        _ => "-".to_owned(),
    }
}

/// What the files under `path` take on the disk, holes not counted.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).expect("a directory of a store");
    let bytes = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("its size");
        if meta.is_dir() {
            allocated_bytes(&entry.path())
        } else {
            meta.blocks() * 512
        }
    });
    bytes.sum()
}
