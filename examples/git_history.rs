//! A git repository's history in a store: imported through the real `git`, asked of the store, compared with git.
//!
//! `cargo run --release --example git_history [-- REPOSITORY [STORE [FILE]]]`; without arguments the repository that it
//! stands in, a store of its own under `target/examples/`, and the file of most changes. Run it again after some
//! commits: only what is new is imported.

#[path = "support/git.rs"]
mod git;
#[path = "support/history.rs"]
mod history;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use quipu::prelude::*;

use git::Repository;

const STORES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/examples");
const SHOWN: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let repository = Repository::at(Path::new(&words.next().unwrap_or_else(|| ".".to_owned())))?;
    let name = name_of(&repository);
    let path = words
        .next()
        .map_or_else(|| default_store(&repository, &name), PathBuf::from);
    println!(
        "{} into {}",
        repository.directory().display(),
        path.display()
    );

    let start = Instant::now();
    let store = Store::open(&path)?;
    say("opened", start);
    import(&store, &repository, &name)?;
    let file = words.next().map(|file| format!("file:{file}"));
    let file = answer(&store, file)?;
    compare(&store, &repository, file.as_deref())?;
    store.close()?;
    Ok(())
}

fn import(store: &Store, repository: &Repository, name: &str) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let known = history::known_commits(store)?;
    let total = repository.count_beyond(&known)?;
    let style = "{bar:40} {pos}/{len} commits, {per_sec}, {eta} to go";
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(style)?);
    let scope = format!("repo:{name}");
    let imported = history::import(store, repository, &scope, &known, || bar.inc(1))?;
    bar.finish_and_clear();
    // The newest commit of the last time is always among those looked at.
    let what = format!(
        "{} new events, {} commits looked at",
        imported.events, imported.commits
    );
    say(&what, start);
    let rate = imported.events as f64 / start.elapsed().max(Duration::from_micros(1)).as_secs_f64();
    println!(
        "{:>12} {rate:.0} events/s, durable, git's own work included",
        ""
    );
    if imported.renamed > 0 {
        println!(
            "{:>12} {} changes are of files whose name is too long, not UTF-8 or holds control characters: their entity is `file-digest:..`, their path in the payload",
            "", imported.renamed,
        );
    }
    Ok(())
}

/// What the store says without git; gives the entity of the file that it told of.
fn answer(store: &Store, file: Option<String>) -> Result<Option<String>, Box<dyn Error>> {
    let start = Instant::now();
    let commits = history::count_commits(store)?;
    say(
        &format!("{commits} commits, {} events in all", store.head().position),
        start,
    );

    let start = Instant::now();
    let authors = history::busiest_authors(store, SHOWN)?;
    say("the busiest authors", start);
    for (author, commits) in authors {
        println!("{commits:>12} {author}");
    }

    let start = Instant::now();
    let files = history::busiest_files(store, SHOWN)?;
    say("the busiest files", start);
    for (entity, changes) in &files {
        println!("{changes:>12} {}", entity.trim_start_matches("file:"));
    }

    let Some(entity) = file.or_else(|| Some(files.first()?.0.clone())) else {
        return Ok(None);
    };
    let start = Instant::now();
    let shas = history::file_history(store, &entity)?;
    say(
        &format!("{} commits in the history of {entity}", shas.len()),
        start,
    );
    for sha in shas.iter().take(SHOWN) {
        if let Some(commit) = history::commit(store, sha)? {
            println!(
                "{:>12.10} {} ({})",
                commit.sha, commit.subject, commit.author
            );
        }
    }
    Ok(Some(entity))
}

/// git's own answers beside the store's.
fn compare(
    store: &Store,
    repository: &Repository,
    entity: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (ours, gits) = (history::count_commits(store)?, repository.count()?);
    say(
        &format!(
            "git rev-list --count HEAD: {gits}, {}",
            verdict(ours == gits)
        ),
        start,
    );
    let Some(file) = entity.and_then(|entity| entity.strip_prefix("file:")) else {
        return Ok(());
    };
    let start = Instant::now();
    let mut gits = repository.history_of(file)?;
    let mut ours = history::file_history(store, &format!("file:{file}"))?;
    gits.sort();
    ours.sort();
    let said = format!(
        "git log --full-history -- {file}: {}, {}",
        gits.len(),
        verdict(ours == gits)
    );
    say(&said, start);
    Ok(())
}

/// A store remembers what a rewritten branch forgot, so the two may part for an honest reason.
fn verdict(equal: bool) -> &'static str {
    if equal {
        "as the store says"
    } else {
        "not as the store says: did HEAD leave commits behind?"
    }
}

fn say(what: &str, since: Instant) {
    println!("{:>9.1} ms {what}", since.elapsed().as_secs_f64() * 1_000.0);
}

fn name_of(repository: &Repository) -> String {
    let name = repository
        .directory()
        .file_name()
        .map(|name| name.to_string_lossy());
    name.map_or_else(
        || "root".to_owned(),
        |name| name.replace(char::is_control, "?"),
    )
}

/// One store for each repository: the digest keeps those of one name apart.
fn default_store(repository: &Repository, name: &str) -> PathBuf {
    let digest = blake3::hash(repository.directory().as_os_str().as_encoded_bytes()).to_hex();
    Path::new(STORES).join(format!("{name}-{}.quipu", &digest[..8]))
}
