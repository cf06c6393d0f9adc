//! A git history as events, and the questions that the store then answers alone.
//!
//! A commit is one atomic batch with its sha as the idempotency key: a `commit.made` event of the entity `commit:SHA`,
//! whose id is made from the sha and whose parents are the events of the parent commits, and behind it one
//! `file.changed` event for each file, of the entity `file:PATH`, caused by the commit.

use std::collections::VecDeque;
use std::error::Error;

use quipu::prelude::*;
use quipu::{MAX_ENTITY_BYTES, MAX_PARENTS, MAX_TAG_BYTES};
use serde::{Deserialize, Serialize};

use crate::git::{Change, Commit, Repository, Tip};

/// The events of a git history.
pub(crate) const COMMIT_MADE: EventKind = EventKind::literal("commit.made");
pub(crate) const FILE_CHANGED: EventKind = EventKind::literal("file.changed");

/// Tickets that may be open at once: enough that the disk always has a full group to sync.
const OPEN_TICKETS: usize = 1_000;
/// More files than this in one commit go into further batches with keys of their own.
const FILES_PER_BATCH: usize = 20_000;
/// How many of the newest commits are named to git as known.
const KNOWN_COMMITS: usize = 1_000;

pub(crate) type Outcome<T> = std::result::Result<T, Box<dyn Error>>;

/// The payload of `commit.made`.
#[derive(Serialize, Deserialize)]
pub(crate) struct CommitMade {
    pub(crate) sha: String,
    pub(crate) parents: Vec<String>,
    pub(crate) author: String,
    pub(crate) email: String,
    pub(crate) authored: i64,
    pub(crate) subject: String,
    pub(crate) files: usize,
}

/// The payload of `file.changed`.
#[derive(Serialize, Deserialize)]
pub(crate) struct FileChanged {
    pub(crate) commit: String,
    pub(crate) letter: char,
    /// Only where the entity cannot carry the file's name; then as near to it as text can be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) path: Option<String>,
}

/// What an import did.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Commits that git gave, known ones included.
    pub(crate) commits: u64,
    /// Events that the store did not have.
    pub(crate) events: u64,
    /// Changes of files whose name cannot be an entity's; they are found under a digest of it.
    pub(crate) renamed: u64,
}

/// Writes what the store does not have yet; `progress` hears of each durable batch.
pub(crate) fn import(
    store: &Store,
    repository: &Repository,
    tips: &[Tip],
    scope: &str,
    known: &[String],
    progress: impl Fn(),
) -> Outcome<Imported> {
    let mut imported = Imported::default();
    let mut open = VecDeque::with_capacity(OPEN_TICKETS);
    let mut commits = repository.commits_beyond(tips, known)?;
    while let Some(commit) = commits.next_commit()? {
        imported.commits += 1;
        imported.renamed += commit
            .files
            .iter()
            .filter(|file| plain(file).is_none())
            .count() as u64;
        for batch in batches(&commit, scope)? {
            if open.len() == OPEN_TICKETS {
                settle(&mut open, &mut imported)?;
                progress();
            }
            open.push_back(store.submit_batch(batch)?);
        }
    }
    while !open.is_empty() {
        settle(&mut open, &mut imported)?;
        progress();
    }
    Ok(imported)
}

/// Waits for the oldest batch.
fn settle(open: &mut VecDeque<Ticket<Vec<Receipt>>>, imported: &mut Imported) -> Outcome<()> {
    if let Some(ticket) = open.pop_front() {
        let receipts = ticket.wait().map_err(parted)?;
        imported.events += receipts.iter().filter(|receipt| !receipt.replay()).count() as u64;
    }
    Ok(())
}

/// Says what it means that a commit is there with other parents, or is missing behind one that is there.
pub(crate) fn parted(error: StoreError) -> Box<dyn Error> {
    match error.kind() {
        StoreErrorKind::Conflict | StoreErrorKind::NotFound => {
            let why =
                "git tells of other commits than before, as when a shallow clone was deepened";
            format!("{why}; import into a new store: {error}").into()
        }
        _ => error.into(),
    }
}

/// Commits below which nothing is new, from the store alone.
///
/// Commits are appended parents first, so the log holds the ancestors of each commit that it holds. The newest may lack
/// the last of its files after a kill, so its parents stand for it and it is asked for again: its key makes that
/// harmless.
pub(crate) fn known_commits(store: &Store, tips: &[Tip]) -> Outcome<Vec<String>> {
    let newest = ReadOptions::new().backward().limit(KNOWN_COMMITS);
    let mut commits = store.query_with(Query::kind(COMMIT_MADE.as_str()), newest)?;
    let Some(newest) = commits.next().transpose()? else {
        return Ok(Vec::new());
    };
    let mut known = newest.payload::<CommitMade>()?.parents;
    for event in commits {
        known.extend(event?.entity().strip_prefix("commit:").map(str::to_owned));
    }
    // A branch that has rested for long is not among the newest.
    for tip in tips {
        let id = event_id(&tip.sha);
        if id != newest.id() && store.get(id)?.is_some() {
            known.push(tip.sha.clone());
        }
    }
    Ok(known)
}

/// The batches of one commit: one, but for a commit of very many files.
fn batches(commit: &Commit, scope: &str) -> Outcome<Vec<Batch>> {
    let id = event_id(&commit.sha);
    let mut parts = commit.files.chunks(FILES_PER_BATCH);
    let first = Batch::new()
        .idempotency_key(&commit.sha)
        .event(commit_made(commit, id, scope)?)
        .events(files_changed(
            commit,
            parts.next().unwrap_or_default(),
            id,
            scope,
        )?);
    let mut batches = vec![first];
    for (number, part) in parts.enumerate() {
        // A sha256 takes all of a key's 64 bytes, so the name of a further part is cut from it.
        let key = format!("{}+{number}", &commit.sha[..40.min(commit.sha.len())]);
        let drafts = files_changed(commit, part, id, scope)?;
        batches.push(Batch::new().idempotency_key(key).events(drafts));
    }
    Ok(batches)
}

fn commit_made(commit: &Commit, id: EventId, scope: &str) -> Outcome<EventDraft> {
    let at = Coordinate::new(format!("commit:{}", commit.sha), scope)?;
    let payload = CommitMade {
        sha: commit.sha.clone(),
        parents: commit.parents.clone(),
        author: commit.author.clone(),
        email: commit.email.clone(),
        authored: commit.authored,
        subject: commit.subject.clone(),
        files: commit.files.len(),
    };
    let mut draft = EventDraft::new(&at, COMMIT_MADE, &payload).event_id(id);
    // Merges of more parents than an event may have exist; the payload names them all.
    let mut parents: Vec<EventId> = Vec::new();
    for parent in commit.parents.iter().map(|sha| event_id(sha)) {
        if !parents.contains(&parent) && parents.len() < MAX_PARENTS {
            parents.push(parent);
            draft = draft.caused_by(parent);
        }
    }
    Ok(occurred(draft.tag(author_tag(commit)), commit))
}

fn files_changed(
    commit: &Commit,
    files: &[Change],
    id: EventId,
    scope: &str,
) -> Outcome<Vec<EventDraft>> {
    let mut drafts = Vec::with_capacity(files.len());
    for file in files {
        let at = Coordinate::new(file_entity(file), scope)?;
        let lossy = || String::from_utf8_lossy(&file.path).into_owned();
        let path = if plain(file).is_none() {
            Some(lossy())
        } else {
            None
        };
        let payload = FileChanged {
            commit: commit.sha.clone(),
            letter: file.letter,
            path,
        };
        let draft = EventDraft::new(&at, FILE_CHANGED, &payload).caused_by(id);
        drafts.push(occurred(draft, commit));
    }
    Ok(drafts)
}

/// The commit's time as the occurred time; commits before 1970 and beyond 2554 claim none.
fn occurred(draft: EventDraft, commit: &Commit) -> EventDraft {
    let seconds = u64::try_from(commit.committed).unwrap_or(0);
    match seconds.checked_mul(1_000_000_000) {
        Some(nanos) if nanos > 0 => draft.occurred_at(Timestamp::from_nanos(nanos)),
        _ => draft,
    }
}

/// The first 16 bytes of the sha as a UUID of version 8 (RFC 9562, section 5.8): the same sha is the same event.
pub(crate) fn event_id(sha: &str) -> EventId {
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(sha.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    EventId::from_bytes(id)
}

/// `file:PATH`, or a digest of the path where quipu would refuse the name.
pub(crate) fn file_entity(file: &Change) -> String {
    match plain(file) {
        Some(path) => format!("file:{path}"),
        None => format!("file-digest:{}", blake3::hash(&file.path)),
    }
}

/// The path, if it can be part of an entity's name: UTF-8, not too long, no control characters.
fn plain(file: &Change) -> Option<&str> {
    let path = std::str::from_utf8(&file.path).ok()?;
    let fits = "file:".len() + path.len() <= MAX_ENTITY_BYTES;
    (fits && !path.contains(char::is_control)).then_some(path)
}

fn author_tag(commit: &Commit) -> String {
    let mut tag: String = format!("author:{}", commit.email.replace(char::is_control, "?"));
    while tag.len() > MAX_TAG_BYTES {
        tag.pop();
    }
    tag
}

/// How many commits the store holds.
pub(crate) fn count_commits(store: &Store) -> Outcome<u64> {
    Ok(store.count(Query::kind(COMMIT_MADE.as_str()))?)
}

/// The authors of most commits, most first.
pub(crate) fn busiest_authors(store: &Store, limit: usize) -> Outcome<Vec<(String, u64)>> {
    let mut authors = most(store.tags("author:")?, limit)?;
    for (author, _) in &mut authors {
        author.drain(.."author:".len());
    }
    Ok(authors)
}

/// The files of most changes, most first, by the names of their entities: `file:` and `file-digest:`.
pub(crate) fn busiest_files(store: &Store, limit: usize) -> Outcome<Vec<(String, u64)>> {
    most(store.entities("file")?, limit)
}

fn most(names: Names, limit: usize) -> Outcome<Vec<(String, u64)>> {
    let ranked = names.map(|entry| entry.map(|entry| (entry.name().to_owned(), entry.events())));
    let mut ranked: Vec<(String, u64)> = ranked.collect::<Result<_, _>>()?;
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranked.truncate(limit);
    Ok(ranked)
}

/// The shas of the commits that touched a file, newest first.
pub(crate) fn file_history(store: &Store, entity: &str) -> Outcome<Vec<String>> {
    let mut shas = Vec::new();
    for event in store.stream_with(entity, ReadOptions::new().backward())? {
        shas.push(event?.payload::<FileChanged>()?.commit);
    }
    Ok(shas)
}

/// One commit, by sha.
pub(crate) fn commit(store: &Store, sha: &str) -> Outcome<Option<CommitMade>> {
    let event = store.get(event_id(sha))?;
    Ok(event.map(|event| event.payload()).transpose()?)
}
