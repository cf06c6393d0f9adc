//! What the example tells of time: the chart by months, and what is new since the last run.

use std::collections::BTreeMap;
use std::fs;

use crate::chart::{self, Month};
use crate::last_run::{self, News, Resumed};
use crate::{fixture, history, run};
use quipu::prelude::*;

fn moment(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn store_of(moments: &[&str]) -> Store {
    let store = Store::in_memory().expect("a store");
    let at = Coordinate::new("lamp:1", "house").expect("names");
    for text in moments {
        let options = AppendOptions::new().occurred_at(moment(text));
        let lit = EventKind::literal("lamp.lit");
        store
            .append_with_options(&at, lit, &(), options)
            .expect("an append");
    }
    store
}

fn months(store: &Store, now: &str, most: u32) -> Vec<(String, u64)> {
    let months = chart::by_month(&store.view(), moment(now), most).expect("the store answers");
    let named = |(month, count): (Month, u64)| (month.to_string(), count);
    months.into_iter().map(named).collect()
}

fn expected(months: &[(&str, u64)]) -> Vec<(String, u64)> {
    let months = months.iter();
    months
        .map(|(month, count)| ((*month).to_owned(), *count))
        .collect()
}

#[test]
fn months_begin_and_end_at_midnight_and_leave_no_gap() {
    let store = store_of(&[
        "2023-12-31T23:59:59.999999999Z",
        "2024-02-29T23:59:59Z",
        "2024-02-01",
        "2024-01-01",
        "2024-04-30T23:00:00-02:00",
    ]);
    let all = [
        ("2023-12", 1),
        ("2024-01", 1),
        ("2024-02", 2),
        ("2024-03", 0),
        ("2024-04", 0),
        ("2024-05", 1),
    ];
    assert_eq!(months(&store, "2024-05-01", 24), expected(&all));
    assert_eq!(months(&store, "2026-11-21", 6), expected(&all));
    assert_eq!(months(&store, "2026-11-21", 4), expected(&all[2..]));
}

#[test]
fn clocks_that_run_ahead_do_not_empty_the_chart() {
    let store = store_of(&["2024-01-05", "2024-02-05", "2099-01-01"]);
    let known = expected(&[("2024-01", 1), ("2024-02", 1)]);
    assert_eq!(months(&store, "2026-11-21", 24), known);
    assert_eq!(months(&store, "2024-02-01", 24), known, "all of this month");
    assert_eq!(months(&store, "2024-01-31", 24), known[..1]);
    assert_eq!(months(&store, "2023-12-31", 24), []);
    assert_eq!(months(&store_of(&[]), "2026-11-21", 24), []);
}

#[test]
fn months_hold_what_git_dates_into_them() {
    let (_directory, mut fixture) = fixture(10);
    fixture.pace = 2 * 86_400;
    fixture.grow(200);
    let store = Store::in_memory().expect("a store");
    run(&store, &fixture.path);

    let words = ["log", "--date=format-local:%Y-%m", "--format=%cd %H"];
    let mut gits: BTreeMap<String, u64> = BTreeMap::new();
    for line in fixture::git(&fixture.path, &words).lines() {
        let (month, sha) = line.split_once(' ').expect("two words");
        let commit = history::commit(&store, sha).expect("a read").expect("it");
        *gits.entry(month.to_owned()).or_default() += 1 + commit.files as u64;
    }
    assert!(gits.len() > 12, "{gits:?}");
    let all = months(&store, "2026-11-21", 1_000);
    assert_eq!(all, gits.into_iter().collect::<Vec<_>>());
    let sum: u64 = all.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, store.head().position.get());
}

#[test]
fn bars_fill_the_width_and_show_the_least() {
    let month = |text| Month::of(moment(text));
    let months = [
        (month("2023-12-05"), 5),
        (month("2024-01-05"), 1_000),
        (month("2024-02-05"), 0),
        (month("2024-03-05"), 501),
    ];
    let lines = chart::lines(&months, 24);
    assert_eq!(
        lines,
        [
            "2023-12     5 #",
            "2024-01  1000 ##########",
            "2024-02     0",
            "2024-03   501 ######",
        ]
    );
    for width in [0, 1, 15, 80, 300] {
        let lines = chart::lines(&months, width);
        let longest = lines.iter().map(String::len).max();
        assert_eq!(longest, Some(width.max(15)), "one mark at least");
    }
    assert!(chart::lines(&[], 80).is_empty());
    assert_eq!(chart::lines(&months[2..3], 80), ["2024-02  0"]);
}

/// Reads what is new and keeps the position, as the example does.
fn told(store: &Store, file: &std::path::Path) -> (&'static str, News) {
    let (when, mut cursor) = match last_run::resume(store, file).expect("the store answers") {
        Resumed::First(cursor) => ("first", cursor),
        Resumed::Since(cursor) => ("since", cursor),
        Resumed::Refused(why) => panic!("{why}"),
    };
    let news = last_run::read_on(&mut cursor).expect("the store answers");
    let position = cursor.position().expect("a position");
    last_run::keep(file, &position).expect("it is written");
    (when, news)
}

fn refused(store: &Store, file: &std::path::Path) -> String {
    let before = fs::read(file).expect("the file");
    match last_run::resume(store, file).expect("the store answers") {
        Resumed::Refused(why) => {
            assert_eq!(fs::read(file).expect("the file"), before, "left as it is");
            why
        }
        Resumed::First(_) | Resumed::Since(_) => panic!("the position was taken"),
    }
}

#[test]
fn each_run_tells_what_came_after_the_one_before() {
    let (directory, mut fixture) = fixture(50);
    let path = directory.path().join("store.quipu");
    let mut reached = 0;
    for (grow, wanted) in [(0, "first"), (0, "since"), (30, "since"), (1, "since")] {
        fixture.grow(grow);
        let store = Store::open(&path).expect("a store");
        run(&store, &fixture.path);
        let file = last_run::file_beside(&path).expect("the store is there");
        let (when, news) = told(&store, &file);
        assert_eq!(when, wanted);
        let words = ["log", "--format=%ae"];
        let gits = fixture::git(&fixture.path, &words);
        let total = gits.lines().count() as u64;
        assert_eq!(news.commits, total - reached);
        let sums = news.authors.iter().fold((0, 0), |sums, author| {
            (sums.0 + author.1, sums.1 + author.2)
        });
        assert_eq!(sums, (news.commits, news.changes));
        if when == "first" {
            for (author, commits, _) in &news.authors {
                let gits = gits.lines().filter(|email| email == author).count();
                assert_eq!(*commits, gits as u64, "{author}");
            }
            assert_eq!(news.changes as u64, store.head().position.get() - total);
        }
        assert!(news.authors.is_sorted_by(|a, b| a.1 >= b.1));
        reached = total;
        store.close().expect("it closes");
    }
    let mut names: Vec<_> = fs::read_dir(directory.path()).expect("a list").collect();
    names.retain(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with("store")
    });
    assert_eq!(names.len(), 2, "the store and its file, nothing unfinished");
    let file = last_run::file_beside(&path.join(".")).expect("the store is there");
    assert!(file.ends_with("store.quipu.last-run.json"), "{file:?}");
}

#[test]
fn news_that_were_not_kept_are_told_again() {
    let (directory, fixture) = fixture(20);
    let store = Store::in_memory().expect("a store");
    run(&store, &fixture.path);
    let file = directory.path().join("last-run.json");
    let Resumed::First(mut cursor) = last_run::resume(&store, &file).expect("an answer") else {
        panic!("there is no file");
    };
    let lost = last_run::read_on(&mut cursor).expect("the store answers");
    assert_eq!(told(&store, &file), ("first", lost));
    assert_eq!(told(&store, &file), ("since", News::default()));
}

#[test]
fn a_position_of_another_history_is_refused_until_it_is_deleted() {
    let (directory, mut fixture) = fixture(20);
    let file = directory.path().join("last-run.json");
    let store = Store::in_memory().expect("a store");
    run(&store, &fixture.path);
    told(&store, &file);

    // The same commits, imported anew: longer, and as the clock of this import had it.
    fixture.grow(5);
    let anew = Store::in_memory().expect("a store");
    run(&anew, &fixture.path);
    let shorter = store_of(&["2024-01-01"]);
    for other in [&anew, &shorter] {
        let why = refused(other, &file);
        assert!(why.contains("another history"), "{why}");
    }
    assert_eq!(told(&store, &file).0, "since", "it is still of its own");

    fs::remove_file(&file).expect("it is there");
    let (when, news) = told(&anew, &file);
    let commits = history::count_commits(&anew).expect("a count");
    assert_eq!((when, news.commits), ("first", commits));
}

#[test]
fn a_damaged_file_is_refused_and_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("last-run.json");
    let store = store_of(&["2024-01-01"]);
    for text in ["", "{\"position\": 1", "[]"] {
        fs::write(&file, text).expect("it is written");
        let why = refused(&store, &file);
        assert!(why.contains("holds no position"), "{why}");
    }
}
