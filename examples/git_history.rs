//! A git repository's history in a store: imported through the real `git`, asked of the store, compared with git.
//!
//! `cargo run --release --example git_history [-- REPOSITORY [STORE [FILE [BRANCH [BRANCH]]]]]`; without arguments the
//! repository that it stands in, a store of its own under `target/examples/`, the file of most changes, and `HEAD` beside
//! another branch. Run it again after some commits: only what is new is imported, and it says what that was.

#[path = "support/branches.rs"]
mod branches;
#[path = "support/chart.rs"]
mod chart;
#[path = "support/git.rs"]
mod git;
#[path = "support/history.rs"]
mod history;
#[path = "support/last_run.rs"]
mod last_run;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use quipu::prelude::*;

use git::{Repository, Tip};
use history::Outcome;
use last_run::Resumed;

const STORES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/examples");
const SHOWN: usize = 5;
const MONTHS: u32 = 24;
/// Where a line's text begins, behind its time or number.
const INDENT: usize = 13;
/// The columns of a chart that goes into a file or a pipe.
const COLUMNS: u16 = 80;

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let repository = Repository::at(Path::new(words.next().as_deref().unwrap_or(".")))?;
    let name = repository.name();
    let path = words.next().map(PathBuf::from);
    let path = path.unwrap_or_else(|| default_store(&repository, &name));
    let file = words.next().map(|file| format!("file:{file}"));
    let tips = tips(&repository, words)?;
    let [head, one, other] = &tips;
    let directory = repository.directory().display();
    println!("{directory} into {}", path.display());

    let start = Instant::now();
    let store = Store::open(&path)?;
    say(start, "opened");
    import(&store, &repository, &tips, &name)?;
    tell_news(&store, &path)?;
    let file = answer(&store, file)?;
    draw_chart(&store)?;
    compare(&store, &repository, head, file.as_deref())?;
    compare_branches(&store, &repository, [one, other])?;
    Ok(store.close()?)
}

/// `HEAD`, and two to compare; all that they reach is imported.
fn tips(repository: &Repository, mut words: impl Iterator<Item = String>) -> Outcome<[Tip; 3]> {
    let head = repository.tip("HEAD")?;
    let [one, other] = match (words.next(), words.next()) {
        (None, _) => repository.two_tips()?,
        (Some(one), None) => [head.clone(), repository.tip(&one)?],
        (Some(one), Some(other)) => [repository.tip(&one)?, repository.tip(&other)?],
    };
    Ok([head, one, other])
}

fn import(store: &Store, repository: &Repository, tips: &[Tip], name: &str) -> Outcome<()> {
    let start = Instant::now();
    let known = history::known_commits(store, tips)?;
    let total = repository.count_beyond(tips, &known)?;
    let style = "{bar:40} {pos}/{len} commits, {per_sec}, {eta} to go";
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(style)?);
    let scope = format!("repo:{name}");
    let done = history::import(store, repository, tips, &scope, &known, || bar.inc(1))?;
    bar.finish_and_clear();
    // The newest commit of the last time is always among those looked at.
    let (events, commits) = (done.events, done.commits);
    let what = format!("{events} new events, {commits} commits looked at");
    say(start, &what);
    let rate = events as f64 / start.elapsed().max(Duration::from_micros(1)).as_secs_f64();
    let what = format!("{rate:.0} events/s, durable, git's own work included");
    note(&what);
    if done.renamed > 0 {
        let what =
            "changes of files with long or odd names: under `file-digest:..`, path in payload";
        note(&format!("{} {what}", done.renamed));
    }
    Ok(())
}

/// What is new since the last run, which kept the position that its cursor had come to.
fn tell_news(store: &Store, path: &Path) -> Outcome<()> {
    let start = Instant::now();
    let file = last_run::file_beside(path)?;
    let (since, mut cursor) = match last_run::resume(store, &file)? {
        Resumed::First(cursor) => ("in this first run", cursor),
        Resumed::Since(cursor) => ("since the last run", cursor),
        Resumed::Refused(why) => {
            note(&format!("what is new is not known: {why}"));
            note(&format!("to begin anew, delete {}", file.display()));
            return Ok(());
        }
    };
    let news = last_run::read_on(&mut cursor)?;
    let (commits, changes) = (news.commits, news.changes);
    let what = format!("new {since}: {commits} commits, {changes} changes of files");
    say(start, &what);
    for (author, commits, changes) in news.authors.iter().take(SHOWN) {
        count(*commits, &format!("{author}, {changes} changes of files"));
    }
    Ok(last_run::keep(&file, &cursor.position()?)?)
}

/// What the store says without git; gives the entity of the file that it told of.
fn answer(store: &Store, file: Option<String>) -> Outcome<Option<String>> {
    let start = Instant::now();
    let (commits, events) = (history::count_commits(store)?, store.head().position);
    let what = format!("{commits} commits, {events} events in all");
    say(start, &what);

    let start = Instant::now();
    let authors = history::busiest_authors(store, SHOWN)?;
    say(start, "the busiest authors");
    for (author, commits) in &authors {
        count(*commits, author);
    }

    let start = Instant::now();
    let files = history::busiest_files(store, SHOWN)?;
    say(start, "the busiest files");
    for (entity, changes) in &files {
        count(*changes, entity.trim_start_matches("file:"));
    }

    let Some(entity) = file.or_else(|| Some(files.first()?.0.clone())) else {
        return Ok(None);
    };
    let start = Instant::now();
    let shas = history::file_history(store, &entity)?;
    let what = format!("{} commits in the history of {entity}", shas.len());
    say(start, &what);
    show(store, &shas)?;
    Ok(Some(entity))
}

/// Events by the time of their commit; the log's own time is that of the import.
fn draw_chart(store: &Store) -> Outcome<()> {
    let start = Instant::now();
    let now = Timestamp::from(SystemTime::now());
    let months = chart::by_month(&store.view(), now, MONTHS)?;
    let events: u64 = months.iter().map(|(_, events)| events).sum();
    let what = format!("{events} events by month of their commit, {MONTHS} months at most");
    say(start, &what);
    let (_, columns) = Term::stdout().size_checked().unwrap_or((0, COLUMNS));
    let width = usize::from(columns).saturating_sub(INDENT);
    for line in chart::lines(&months, width) {
        note(&line);
    }
    Ok(())
}

/// git's own answers beside the store's, of what `HEAD` reaches.
fn compare(
    store: &Store,
    repository: &Repository,
    head: &Tip,
    entity: Option<&str>,
) -> Outcome<()> {
    let start = Instant::now();
    let reached = branches::reached(&store.view(), head)?;
    let what = format!("{} commits are HEAD or led to it", reached.len());
    say(start, &what);
    let start = Instant::now();
    let gits = repository.count("HEAD")?;
    let equal = verdict(gits == reached.len() as u64);
    let what = format!("git rev-list --count HEAD: {gits}, {equal}");
    say(start, &what);

    let Some(file) = entity.and_then(|entity| entity.strip_prefix("file:")) else {
        return Ok(());
    };
    let mut ours = history::file_history(store, &format!("file:{file}"))?;
    ours.retain(|sha| reached.contains(&history::event_id(sha)));
    let start = Instant::now();
    let mut gits = repository.history_of(file)?;
    gits.sort();
    ours.sort();
    let (commits, equal) = (gits.len(), verdict(ours == gits));
    let what = format!("git log --full-history -- {file}: {commits}, {equal}");
    say(start, &what);
    Ok(())
}

/// Where two branches part, and how far each has gone from there.
fn compare_branches(store: &Store, repository: &Repository, pair: [&Tip; 2]) -> Outcome<()> {
    let start = Instant::now();
    let ours = branches::of_store(store, pair)?;
    let ([one, other], [ahead, behind]) = (pair.map(|tip| &tip.name), ours.alone);
    let bases = ours.bases.len();
    let what =
        format!("{one} is {ahead} ahead of {other}, {behind} behind; {bases} nearest in both");
    say(start, &what);
    show(store, &ours.bases)?;
    let start = Instant::now();
    let gits = branches::of_git(repository, pair)?;
    let equal = verdict(ours == gits);
    let what = format!("git merge-base --all, git rev-list --count ONE..OTHER: {equal}");
    say(start, &what);
    Ok(())
}

/// They part in a shallow clone that was deepened after the import, and behind a merge of more than 64 parents.
fn verdict(equal: bool) -> &'static str {
    if equal {
        "as the store says"
    } else {
        "but the store says otherwise"
    }
}

fn show(store: &Store, shas: &[String]) -> Outcome<()> {
    for sha in shas.iter().take(SHOWN) {
        if let Some(commit) = history::commit(store, sha)? {
            println!("{sha:>12.10} {} ({})", commit.subject, commit.author);
        }
    }
    Ok(())
}

fn say(since: Instant, what: &str) {
    println!("{:>9.1} ms {what}", since.elapsed().as_secs_f64() * 1_000.0);
}

fn count(number: u64, of: &str) {
    println!("{number:>12} {of}");
}

fn note(what: &str) {
    println!("{:INDENT$}{what}", "");
}

/// One store for each repository: the digest keeps those of one name apart.
fn default_store(repository: &Repository, name: &str) -> PathBuf {
    let digest = blake3::hash(repository.directory().as_os_str().as_encoded_bytes()).to_hex();
    Path::new(STORES).join(format!("{name}-{}.quipu", &digest[..8]))
}
