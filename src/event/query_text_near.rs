//! Finds the term that was probably meant by a word that is none; runs on the caller's thread, only for an error.

use alloc::vec::Vec;

/// Every term of the text of a query, in the order in which they are listed and written.
pub(crate) const TERMS: [&str; 10] = [
    "entity",
    "scope",
    "kind",
    "tag",
    "correlation",
    "cause",
    "revision",
    "position",
    "time",
    "since",
];

/// Words longer than this are near to nothing.
const LONGEST_WORD: usize = 16;

/// Returns the term that is nearest to a word, if one is near: it begins so, or a third of it is different at most.
pub(crate) fn nearest(word: &str) -> Option<&'static str> {
    if word.is_empty() || word.len() > LONGEST_WORD {
        return None;
    }
    let word = word.to_ascii_lowercase();
    TERMS
        .into_iter()
        .map(|term| (distance(word.as_bytes(), term.as_bytes()), term))
        .filter(|(distance, term)| term.starts_with(&word) || *distance <= term.len() / 3)
        .min()
        .map(|(_, term)| term)
}

/// Counts the bytes to put in, leave out, change or swap with their neighbour (optimal string alignment distance).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut rows: Vec<Vec<usize>> = Vec::with_capacity(from.len() + 1);
    rows.push((0..=to.len()).collect());
    for (at, byte) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(at + 1);
        for (column, other) in to.iter().enumerate() {
            let changed = rows[at][column] + usize::from(byte != other);
            let mut least = changed.min(rows[at][column + 1] + 1).min(row[column] + 1);
            let swapped = at > 0 && column > 0 && *byte == to[column - 1] && from[at - 1] == *other;
            if swapped {
                least = least.min(rows[at - 1][column - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_term() {
        for (word, term) in [
            ("entty", "entity"),
            ("entitys", "entity"),
            ("Entity", "entity"),
            ("ent", "entity"),
            ("scoep", "scope"),
            ("knid", "kind"),
            ("kinds", "kind"),
            ("tags", "tag"),
            ("corr", "correlation"),
            ("corelation", "correlation"),
            ("rev", "revision"),
            ("postion", "position"),
            ("tiem", "time"),
            ("sinse", "since"),
        ] {
            assert_eq!(nearest(word), Some(term), "{word}");
        }
    }

    #[test]
    fn another_word_finds_none() {
        let long = "entity".repeat(1000);
        for word in ["", "order", "where", "größe", "x", &long] {
            assert_eq!(nearest(word), None, "{word}");
        }
    }

    #[test]
    fn distance_counts_slips() {
        for (from, to, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abd", 1),
            ("abc", "ac", 1),
            ("ac", "abc", 1),
            ("abc", "acb", 1),
            ("ab", "ba", 1),
            ("abc", "cab", 2),
        ] {
            assert_eq!(
                distance(from.as_bytes(), to.as_bytes()),
                slips,
                "{from} {to}"
            );
        }
    }
}
