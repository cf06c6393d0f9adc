//! Two branches beside each other: the store and git agree on where they part, whatever the repository looks like.

use crate::branches::{self, Fork};
use crate::fixture::Fixture;
use crate::git::{Repository, Tip};
use crate::{SCOPE, fixture, history, import};
use quipu::prelude::*;

/// What both say of the two tips, imported into a store of their own.
fn agreed(repository: &Repository, pair: &[Tip; 2]) -> Fork {
    let store = Store::in_memory().expect("a store");
    import(&store, repository, pair);
    agreed_in(&store, repository, pair)
}

fn agreed_in(store: &Store, repository: &Repository, [one, other]: &[Tip; 2]) -> Fork {
    let ours = branches::of_store(store, [one, other]).expect("the store answers");
    let gits = branches::of_git(repository, [one, other]).expect("git answers");
    assert_eq!(ours, gits, "{} and {}", one.name, other.name);
    ours
}

fn pair(repository: &Repository, names: [&str; 2]) -> [Tip; 2] {
    names.map(|name| repository.tip(name).expect("a commit"))
}

fn names(pair: &[Tip; 2]) -> [&str; 2] {
    pair.each_ref().map(|tip| tip.name.as_str())
}

fn open(fixture: &Fixture) -> Repository {
    Repository::at(&fixture.path).expect("a repository")
}

#[test]
fn branches_part_where_git_says() {
    let (_directory, mut fixture) = fixture(60);
    fixture.leave("topic", fixture.tip, 5);
    fixture.grow(30);
    fixture.merge_crosswise();
    let repository = open(&fixture);
    let store = Store::in_memory().expect("a store");
    import(&store, &repository, &pair(&repository, ["HEAD", "topic"]));

    let fork = agreed_in(&store, &repository, &pair(&repository, ["HEAD", "topic"]));
    assert_eq!((fork.bases.len(), fork.alone[1]), (1, 5));
    let around = agreed_in(&store, &repository, &pair(&repository, ["topic", "HEAD"]));
    assert_eq!(around.alone, [5, fork.alone[0]]);
    let crossed = agreed_in(
        &store,
        &repository,
        &pair(&repository, ["HEAD^1", "HEAD^2"]),
    );
    assert_eq!((crossed.bases.len(), crossed.alone), (2, [1, 1]));
    let merges = fixture::git(&fixture.path, &["rev-list", "--merges", "HEAD"]);
    for merge in merges.lines() {
        let sides = [format!("{merge}^1"), format!("{merge}^2")];
        let sides = pair(&repository, sides.each_ref().map(String::as_str));
        agreed_in(&store, &repository, &sides);
    }
    assert!(merges.lines().count() > 5);
}

#[test]
fn a_branch_beside_head_is_imported_once() {
    let (_directory, mut fixture) = fixture(20);
    fixture.leave("topic", fixture.tip, 30);
    let repository = open(&fixture);
    let tips = || pair(&repository, ["HEAD", "topic"]);
    let store = Store::in_memory().expect("a store");
    let head = [repository.tip("HEAD").expect("a commit")];
    let alone = import(&store, &repository, &head).commits;
    let both = import(&store, &repository, &tips());
    assert_eq!((both.commits, both.events), (31, 60), "the newest again");

    // More than are named to git one by one.
    fixture.leave("main", fixture.tip, 1_001);
    import(&store, &repository, &tips());
    let again = import(&store, &repository, &tips());
    assert_eq!((again.commits, again.events), (1, 0));
    let view = store.view();
    let reached = branches::reached(&view, &tips()[0]).expect("the store answers");
    assert_eq!(reached.len() as u64, alone + 1_001, "without the branch");
    assert_eq!(repository.count("HEAD").expect("a count"), alone + 1_001);
    let all = history::count_commits(&store).expect("a count");
    assert_eq!(all, alone + 1_001 + 30);
}

#[test]
fn histories_with_nothing_in_common_have_no_base() {
    let (_directory, mut fixture) = fixture(10);
    fixture.leave("pages", None, 3);
    let repository = open(&fixture);
    let fork = agreed(&repository, &pair(&repository, ["HEAD", "pages"]));
    let main = repository.count("HEAD").expect("a count");
    assert_eq!((fork.bases.len(), fork.alone), (0, [main, 3]));
}

#[test]
fn the_two_tips_are_the_best_that_there_are() {
    let (_directory, mut fixture) = fixture(1);
    // Far enough apart that no odd clock makes the older branch the newer one.
    fixture.pace = 3_600;
    let repository = open(&fixture);
    let tips = || repository.two_tips().expect("git answers");
    assert_eq!(names(&tips()), ["HEAD", "HEAD~0"]);
    let fork = agreed(&repository, &tips());
    assert_eq!(fork.bases, [tips()[0].sha.as_str()]);
    assert_eq!(fork.alone, [0, 0]);

    fixture.leave("main", fixture.tip, 3);
    assert_eq!(names(&tips()), ["HEAD", "HEAD~3"], "a straight line");
    assert_eq!(agreed(&repository, &tips()).alone, [3, 0]);
    fixture.leave("main", fixture.tip, 20);
    assert_eq!(names(&tips()), ["HEAD", "HEAD~10"]);

    fixture.merge_crosswise();
    fixture::git(&fixture.path, &["branch", "-D", "side"]);
    let merge = fixture::git(&fixture.path, &["rev-parse", "HEAD"]);
    let sides = [format!("{merge:.10}^1"), format!("{merge:.10}^2")];
    assert_eq!(names(&tips()), sides, "the last merge");
    assert_eq!(agreed(&repository, &tips()).alone, [1, 1]);

    fixture.leave("old", fixture.tip, 1);
    fixture.leave("new", fixture.tip, 2);
    fixture::git(&fixture.path, &["branch", "here", "HEAD"]);
    assert_eq!(names(&tips()), ["HEAD", "new"], "the newest elsewhere");
    assert_eq!(agreed(&repository, &tips()).alone, [0, 2]);
    assert!(repository.tip("nowhere").is_err());
}

fn shallow_clone(fixture: &Fixture, depth: usize) -> Repository {
    let path = fixture.path.with_file_name(format!("depth-{depth}.git"));
    let (from, to) = (fixture.path.display(), path.display());
    let words = ["clone", "--quiet", "--bare", &format!("--depth={depth}")];
    let places = [&*format!("file://{from}"), &*to.to_string()];
    fixture::git(&fixture.path, &[&words[..], &places].concat());
    Repository::at(&path).expect("a repository")
}

#[test]
fn a_shallow_clone_is_compared_as_far_as_it_reaches() {
    let (_directory, fixture) = fixture(60);
    let repository = shallow_clone(&fixture, 4);
    let count = repository.count("HEAD").expect("a count");
    assert!((4..60).contains(&count), "{count} commits are shallow");
    agreed(&repository, &repository.two_tips().expect("git answers"));
    agreed(&repository, &pair(&repository, ["HEAD", "HEAD~2"]));
}

/// A store that was filled from a shallow clone which then was deepened.
fn deepened(depth: usize) -> (tempfile::TempDir, Repository, Store) {
    let (directory, fixture) = fixture(60);
    let repository = shallow_clone(&fixture, depth);
    let store = Store::in_memory().expect("a store");
    import(&store, &repository, &pair(&repository, ["HEAD", "HEAD"]));
    let words = ["fetch", "--quiet", "--unshallow"];
    fixture::git(repository.directory(), &words);
    (directory, repository, store)
}

fn assert_told(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(text.contains("import into a new store"), "{text}");
}

/// The newest commit, which is asked for again, had no parents and now has; the import ended in a bare `Conflict`.
#[test]
fn a_commit_that_was_given_parents_is_told_of() {
    let (_directory, repository, store) = deepened(1);
    let tips = pair(&repository, ["HEAD", "HEAD~20"]);
    let known = history::known_commits(&store, &tips).expect("the store answers");
    let again = history::import(&store, &repository, &tips, SCOPE, &known, || {});
    assert_told(&*again.expect_err("the commit has parents now"));
}

/// What was known hides what is missing behind it; the comparison ended in a bare `NotFound`.
#[test]
fn commits_missing_behind_those_that_are_there_are_told_of() {
    let (_directory, repository, store) = deepened(4);
    let tips = pair(&repository, ["HEAD", "HEAD~20"]);
    assert_eq!(import(&store, &repository, &tips).events, 0);
    let fork = branches::of_store(&store, tips.each_ref());
    assert_told(&*fork.expect_err("the store has four commits or so"));
}

#[test]
fn a_rewritten_head_is_compared_by_what_it_reaches() {
    let (_directory, mut fixture) = fixture(60);
    let repository = open(&fixture);
    let store = Store::in_memory().expect("a store");
    let head = || [repository.tip("HEAD").expect("a commit")];
    import(&store, &repository, &head());
    fixture::git(&fixture.path, &["update-ref", "HEAD", "HEAD~3"]);
    fixture.leave("main", Some(1), 4);

    assert_eq!(import(&store, &repository, &head()).events, 8);
    assert_eq!(import(&store, &repository, &head()).events, 0);
    let reached = branches::reached(&store.view(), &head()[0]).expect("the store answers");
    assert_eq!(reached.len() as u64, repository.count("HEAD").expect("one"));
    assert!(history::count_commits(&store).expect("a count") >= 64);
    agreed_in(&store, &repository, &pair(&repository, ["HEAD", "HEAD~1"]));
}
