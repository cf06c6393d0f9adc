//! The git example holds what it says: the same commits, parents and file histories as git, and nothing twice.

#[path = "git_history/ancestry.rs"]
mod ancestry;
#[path = "../examples/support/branches.rs"]
mod branches;
#[path = "../examples/support/chart.rs"]
mod chart;
#[path = "git_history/fixture.rs"]
mod fixture;
#[path = "git_history/forks.rs"]
mod forks;
#[path = "../examples/support/git.rs"]
mod git;
#[path = "../examples/support/history.rs"]
mod history;
#[path = "../examples/support/last_run.rs"]
mod last_run;
#[path = "git_history/news.rs"]
mod news;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use fixture::Fixture;
use git::{Change, Repository, Tip};
use history::Imported;
use quipu::prelude::*;

const SEED: u64 = 0x0071_7569_7075;
const SCOPE: &str = "repo:fixture";

/// As the example does, of what `HEAD` reaches.
fn run(store: &Store, path: &Path) -> Imported {
    let repository = Repository::at(path).expect("a repository");
    let tips = [repository.tip("HEAD").expect("a commit")];
    import(store, &repository, &tips)
}

fn import(store: &Store, repository: &Repository, tips: &[Tip]) -> Imported {
    let known = history::known_commits(store, tips).expect("the store answers");
    history::import(store, repository, tips, SCOPE, &known, || {}).expect("it is imported")
}

/// Everything that `HEAD` reaches, known or not.
fn run_from_nothing(store: &Store, repository: &Repository) -> Imported {
    let tips = [repository.tip("HEAD").expect("a commit")];
    history::import(store, repository, &tips, SCOPE, &[], || {}).expect("it is imported")
}

fn fixture(commits: usize) -> (tempfile::TempDir, Fixture) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("repository.git");
    std::fs::create_dir(&path).expect("a directory");
    let mut fixture = Fixture::new(&path, SEED);
    fixture.grow(commits);
    (directory, fixture)
}

fn sorted(mut shas: Vec<String>) -> Vec<String> {
    shas.sort();
    shas
}

fn history_in_store(store: &Store, path: &[u8]) -> Vec<String> {
    let file = Change {
        path: path.to_vec(),
        letter: 'M',
    };
    sorted(history::file_history(store, &history::file_entity(&file)).expect("the store answers"))
}

#[test]
fn every_file_has_the_history_that_git_tells() {
    let (_directory, fixture) = fixture(200);
    let store = Store::in_memory().expect("a store");
    let imported = run(&store, &fixture.path);
    let repository = Repository::at(&fixture.path).expect("a repository");

    assert_eq!(
        history::count_commits(&store).expect("a count"),
        repository.count("HEAD").expect("one")
    );
    assert_eq!(store.head().position, imported.events);
    assert!(imported.renamed > 0, "the odd names were touched");
    assert!(repository.directory().ends_with("repository.git"));
    assert_eq!(repository.name(), "repository.git");
    let mut touched = 0;
    for path in &fixture.paths {
        // Not every name of a file can be an argument of git here; that one is only counted.
        let Ok(name) = std::str::from_utf8(path) else {
            continue;
        };
        let gits = sorted(repository.history_of(name).expect("git answers"));
        assert_eq!(history_in_store(&store, path), gits, "{name:?}");
        touched += usize::from(!gits.is_empty());
    }
    assert!(touched > 100, "only {touched} files were ever touched");
}

#[test]
fn commits_have_their_parents_time_and_author() {
    let (_directory, fixture) = fixture(200);
    let store = Store::in_memory().expect("a store");
    run(&store, &fixture.path);

    let log = fixture::git(
        &fixture.path,
        &["log", "--format=%H%x09%ct%x09%ae%x09%s%x09%P"],
    );
    let mut commits_of: HashMap<String, u64> = HashMap::new();
    for line in log.lines() {
        let [sha, time, email, subject, parents] = line
            .split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .expect("five fields");
        let event = store
            .get(history::event_id(sha))
            .expect("a read")
            .expect("the commit");
        let nanos = time.parse::<u64>().expect("a time") * 1_000_000_000;
        let wanted: Vec<EventId> = parents
            .split(' ')
            .filter(|p| !p.is_empty())
            .map(history::event_id)
            .collect();
        let commit = history::commit(&store, sha)
            .expect("a read")
            .expect("the commit");

        assert_eq!(event.parents().collect::<Vec<_>>(), wanted, "{sha}");
        assert_eq!(event.occurred_at(), Some(Timestamp::from_nanos(nanos)));
        assert_eq!(
            (commit.sha.as_str(), commit.subject.as_str()),
            (sha, subject)
        );
        assert_eq!(
            (commit.email.as_str(), commit.parents.join(" ").as_str()),
            (email, parents)
        );
        assert!(commit.author.starts_with("Person ") && commit.authored > 0);
        *commits_of.entry(email.to_owned()).or_default() += 1;
    }
    let busiest = history::busiest_authors(&store, usize::MAX).expect("an answer");
    assert_eq!(busiest.into_iter().collect::<HashMap<_, _>>(), commits_of);
}

#[test]
fn files_changed_hang_on_their_commit_in_one_batch() {
    let (_directory, fixture) = fixture(60);
    let store = Store::in_memory().expect("a store");
    run(&store, &fixture.path);

    for event in store.query(Query::kind("file.changed")).expect("a query") {
        let event = event.expect("an event");
        let changed: history::FileChanged = event.payload().expect("a payload");
        let commit = history::commit(&store, &changed.commit)
            .expect("a read")
            .expect("its commit");
        assert_eq!(event.causation(), Some(history::event_id(&changed.commit)));
        assert_eq!(
            usize::try_from(event.batch_len()).expect("small"),
            commit.files + 1
        );
        assert!("AMD".contains(changed.letter));
    }
    let (busiest, changes) = history::busiest_files(&store, 1)
        .expect("an answer")
        .remove(0);
    assert_eq!(
        history::file_history(&store, &busiest).expect("one").len() as u64,
        changes
    );
}

#[test]
fn a_second_run_imports_only_what_is_new() {
    let (directory, mut fixture) = fixture(150);
    let path = directory.path().join("store");
    let store = Store::open(&path).expect("a store");
    let first = run(&store, &fixture.path);
    store.close().expect("it closes");

    let store = Store::open(&path).expect("a store");
    let again = run(&store, &fixture.path);
    assert_eq!(
        (again.events, again.commits),
        (0, 1),
        "the newest commit is asked for again"
    );

    fixture.grow(40);
    let repository = Repository::at(&fixture.path).expect("a repository");
    let tips = [repository.tip("HEAD").expect("a commit")];
    let known = history::known_commits(&store, &tips).expect("the store answers");
    let beyond = repository.count_beyond(&tips, &known).expect("git answers");
    let more = run(&store, &fixture.path);
    let total = repository.count("HEAD").expect("a count");
    assert_eq!(
        (more.commits, beyond),
        (total - first.commits + 1, total - first.commits + 1)
    );
    assert_eq!(history::count_commits(&store).expect("a count"), total);
    assert_eq!(store.head().position, first.events + more.events);
}

#[test]
fn everything_again_adds_nothing() {
    let (_directory, fixture) = fixture(150);
    let store = Store::in_memory().expect("a store");
    let first = run(&store, &fixture.path);
    let head = store.head();

    let repository = Repository::at(&fixture.path).expect("a repository");
    let again = run_from_nothing(&store, &repository);
    assert_eq!(
        (again.commits, again.events),
        (first.commits, 0),
        "each key finds its commit"
    );
    assert_eq!(store.head().digest, head.digest);
}

#[test]
fn an_import_that_was_cut_short_goes_on() {
    let (_directory, fixture) = fixture(150);
    let whole = Store::in_memory().expect("a store");
    let wanted = run(&whole, &fixture.path).events;
    let store = Store::in_memory().expect("a store");
    let repository = Repository::at(&fixture.path).expect("a repository");

    // What a killed import leaves: the first commits, parents first.
    let old = fixture::git(
        &fixture.path,
        &["rev-list", "--topo-order", "--reverse", "HEAD"],
    );
    let later: Vec<&str> = old.lines().skip(70).collect();
    let cut = later[0];
    fixture::git(&fixture.path, &["branch", "cut", cut]);
    let head = fixture::git(&fixture.path, &["rev-parse", "HEAD"]);
    fixture::git(&fixture.path, &["symbolic-ref", "HEAD", "refs/heads/cut"]);
    let before = run_from_nothing(&store, &repository);
    fixture::git(&fixture.path, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    assert_eq!(fixture::git(&fixture.path, &["rev-parse", "HEAD"]), head);

    let rest = run(&store, &fixture.path);
    assert_eq!(before.events + rest.events, wanted);
}

#[test]
fn a_commit_of_very_many_files_takes_several_batches() {
    let (_directory, mut fixture) = fixture(3);
    let store = Store::in_memory().expect("a store");
    let before = run(&store, &fixture.path).events;
    fixture.add_many_files(20_001);

    assert_eq!(run(&store, &fixture.path).events, 20_002);
    assert_eq!(
        run(&store, &fixture.path).events,
        0,
        "both batches have their keys"
    );
    assert_eq!(store.head().position, before + 20_002);
    let sha = fixture::git(&fixture.path, &["rev-parse", "HEAD"]);
    assert_eq!(history_in_store(&store, b"many/0/20000"), [sha]);
}

/// The bounds of the issue; run with `cargo test --release --test git_history -- --ignored --nocapture`.
#[test]
#[ignore = "takes about a minute"]
fn fifty_thousand_commits_in_a_minute_and_nothing_twice() {
    let (directory, fixture) = fixture(50_000);
    let path = directory.path().join("store");
    let repository = Repository::at(&fixture.path).expect("a repository");

    let start = Instant::now();
    let store = Store::open(&path).expect("a store");
    let first = run(&store, &fixture.path);
    store.close().expect("it closes");
    let first_time = start.elapsed();

    let start = Instant::now();
    let store = Store::open(&path).expect("a store");
    let second = run(&store, &fixture.path);
    let second_time = start.elapsed();
    println!("{} commits, {} events", first.commits, first.events);
    println!("first import {first_time:.2?}, second {second_time:.2?}");

    assert_eq!(second.events, 0);
    let total = repository.count("HEAD").expect("a count");
    assert!(total >= 50_000);
    assert_eq!(history::count_commits(&store).expect("a count"), total);
    let (busiest, _) = history::busiest_files(&store, 1)
        .expect("an answer")
        .remove(0);
    let name = busiest.trim_start_matches("file:");
    let gits = sorted(repository.history_of(name).expect("git answers"));
    assert_eq!(history_in_store(&store, name.as_bytes()), gits);
    assert!(
        first_time < Duration::from_secs(60),
        "the first import took {first_time:?}"
    );
    assert!(
        second_time < Duration::from_secs(3),
        "the second import took {second_time:?}"
    );
}
