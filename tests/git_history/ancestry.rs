//! The graph of commits, asked of the store alone and of git: ancestors, merge bases, children, descendants.

use crate::fixture::{Fixture, git};
use crate::{SCOPE, fixture, history, run, sorted};
use quipu::prelude::*;

/// Commits with branches, merges and crosswise merges, and a store that holds them.
struct Graph {
    _directory: tempfile::TempDir,
    fixture: Fixture,
    store: Store,
    /// Newest first.
    commits: Vec<String>,
}

impl Graph {
    fn new() -> Self {
        let (directory, mut fixture) = fixture(80);
        fixture.merge_crosswise();
        fixture.grow(60);
        fixture.merge_crosswise();
        let store = Store::in_memory().expect("a store");
        run(&store, &fixture.path);
        let mut graph = Self {
            _directory: directory,
            fixture,
            store,
            commits: Vec::new(),
        };
        graph.commits = graph.git(&["rev-list", "--topo-order", "HEAD"]);
        graph
    }

    /// The lines that git says.
    fn git(&self, words: &[&str]) -> Vec<String> {
        let said = git(&self.fixture.path, words);
        said.lines().map(str::to_owned).collect()
    }

    /// The shas of those events that are commits, sorted; files changed hang on commits, too.
    fn shas(&self, events: impl Iterator<Item = quipu::Result<Event>>) -> Vec<String> {
        let events = events.map(|event| event.expect("an event"));
        let commits = events.filter(|event| event.kind() == history::COMMIT_MADE.as_str());
        let sha = |event: Event| event.entity().strip_prefix("commit:").map(str::to_owned);
        sorted(commits.map(|event| sha(event).expect("a commit")).collect())
    }
}

#[test]
fn every_commit_has_the_ancestors_that_git_tells() {
    let graph = Graph::new();
    for sha in &graph.commits {
        let id = history::event_id(sha);
        let walk = graph.store.walk_ancestors(id, usize::MAX).expect("a walk");
        let gits = sorted(graph.git(&["rev-list", &format!("{sha}^@")]));
        assert_eq!(graph.shas(walk), gits, "{sha}");

        let walk = graph.store.walk_ancestors(id, 20).expect("a walk");
        let positions: Vec<Position> = walk.map(|event| event.expect("one").position()).collect();
        assert_eq!(positions.len(), gits.len().min(20));
        assert!(positions.is_sorted_by(|near, far| near > far), "{sha}");
    }
}

#[test]
fn every_pair_has_the_merge_bases_that_git_tells() {
    let graph = Graph::new();
    let (mut pairs, mut several) = (0, 0);
    for (at, a) in graph.commits.iter().enumerate() {
        // Neighbours in the list stand on different branches most often; some pairs are far apart.
        for apart in [0, 1, 2, 3, 5, 40] {
            let Some(b) = graph.commits.get(at + apart) else {
                continue;
            };
            let ids = [a, b].map(|sha| history::event_id(sha));
            let bases = graph.store.common_ancestors(ids[0], ids[1]);
            let bases = graph.shas(bases.expect("an answer").into_iter().map(Ok));
            assert_eq!(
                bases,
                sorted(graph.git(&["merge-base", "--all", a, b])),
                "{a} {b}"
            );
            let leads = graph.store.is_ancestor(ids[1], ids[0]).expect("an answer");
            assert_eq!(leads, apart > 0 && bases == [b.as_str()], "{b} to {a}");
            pairs += 1;
            several += usize::from(bases.len() > 1);
        }
    }
    assert!(
        pairs > 700 && several > 1,
        "{several} of {pairs} pairs have several"
    );
}

#[test]
fn every_commit_has_the_children_and_descendants_that_git_tells() {
    let graph = Graph::new();
    for line in graph.git(&["rev-list", "--children", "HEAD"]) {
        let mut shas = line.split(' ').map(str::to_owned);
        let sha = shas.next().expect("a commit");
        let id = history::event_id(&sha);
        let made = Region::all()
            .scope(SCOPE)
            .kind(history::COMMIT_MADE.as_str());
        let children = graph.store.query(made.caused_by(id)).expect("a query");
        assert_eq!(graph.shas(children), sorted(shas.collect()), "{sha}");

        let walk = graph.store.descendants(id, usize::MAX).expect("a walk");
        let gits = graph.git(&["rev-list", "--ancestry-path", &format!("{sha}..HEAD")]);
        assert_eq!(graph.shas(walk), sorted(gits), "{sha}");
    }
}
