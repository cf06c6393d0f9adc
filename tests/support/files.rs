//! The files of a store that is closed: each has its place, and nothing is left of what was replaced or begun.

use quipu::io::Disk;

const SMALL: [&str; 5] = ["checkpoint", "hint", "lock", "manifest", "segments"];

/// The segments that a file stands for.
fn range_of(name: &str) -> Option<(u64, u64)> {
    let numbers: Result<Vec<u64>, _> = name
        .strip_suffix(".seg")?
        .split('-')
        .map(str::parse)
        .collect();
    match *numbers.ok()? {
        [number] => Some((number, number)),
        [first, last, _generation] => Some((first, last)),
        _ => None,
    }
}

/// The runs that are there.
pub(crate) fn runs_of(disk: &dyn Disk) -> Vec<String> {
    let entries = disk.list("segments").unwrap().into_iter();
    let runs = entries.filter(|entry| entry.name.ends_with(".run"));
    runs.map(|entry| format!("segments/{}", entry.name))
        .collect()
}

/// Asserts that the files of the log stand for every segment once, and that there are no others; returns their ranges.
pub(crate) fn assert_all_named(disk: &dyn Disk) -> Vec<(u64, u64)> {
    for entry in disk.list("").unwrap() {
        assert!(
            SMALL.contains(&entry.name.as_str()),
            "{} is left",
            entry.name
        );
    }
    let entries = disk.list("segments").unwrap().into_iter();
    let mut names: Vec<String> = entries.map(|entry| entry.name).collect();
    let all = names.clone();
    // A run may be being made. Beside its segment stands the index of one whose footer a kill left half written, and the
    // tail that an append left.
    let is_beside_its_segment = |name: &str| {
        name.split_once('.').is_some_and(|(stem, kind)| {
            let is_beside = kind == "sidx" || kind.starts_with("torn-");
            is_beside && all.contains(&format!("{stem}.seg"))
        })
    };
    names.retain(|name| !name.contains(".run") && !is_beside_its_segment(name));
    let mut ranges: Vec<_> = names.iter().map(|name| range_of(name)).collect();
    ranges.sort_unstable();
    let mut next = 1;
    for range in &ranges {
        let (first, last) = range.unwrap_or_else(|| panic!("not all are segments: {names:?}"));
        assert_eq!(first, next, "not once each: {names:?}");
        next = last + 1;
    }
    ranges.into_iter().flatten().collect()
}
