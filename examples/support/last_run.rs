//! What is new since the last run: a cursor over the commits, whose position is kept in a small file beside the store.
//!
//! The file is replaced whole, after what it stands for was told. It carries the hash of an event, so that it cannot be
//! used on another history; then, and when it is damaged, it stays as it is until somebody deletes it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quipu::prelude::*;

use crate::history::{COMMIT_MADE, CommitMade, Outcome};

/// Where the next reading begins.
pub(crate) enum Resumed {
    /// There is no file: with the first commit.
    First(Cursor),
    /// Behind the last commit that was told.
    Since(Cursor),
    /// There is a file, and it is of no use: why.
    Refused(String),
}

/// What a cursor found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) commits: u64,
    pub(crate) changes: usize,
    /// The authors by email with their commits and changes of files, most commits first.
    pub(crate) authors: Vec<(String, u64, usize)>,
}

/// The file of a store that exists: its path with `.last-run.json` behind it.
pub(crate) fn file_beside(store: &Path) -> io::Result<PathBuf> {
    let mut path = OsString::from(store.canonicalize()?);
    path.push(".last-run.json");
    Ok(PathBuf::from(path))
}

/// A cursor that goes on where the last run came to.
pub(crate) fn resume(store: &Store, file: &Path) -> Outcome<Resumed> {
    let commits = || Query::kind(COMMIT_MADE.as_str());
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Resumed::First(store.cursor(commits())?));
        }
        Err(error) => return Err(error.into()),
    };
    let saved: CursorPosition = match serde_json::from_slice(&text) {
        Ok(saved) => saved,
        Err(error) => return Ok(Resumed::Refused(format!("it holds no position: {error}"))),
    };
    match store.cursor_from(commits(), saved) {
        Ok(cursor) => Ok(Resumed::Since(cursor)),
        Err(error) if error.kind() == StoreErrorKind::Conflict => {
            Ok(Resumed::Refused(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads on to the end.
pub(crate) fn read_on(cursor: &mut Cursor) -> Outcome<News> {
    let mut news = News::default();
    let mut authors: HashMap<String, (u64, usize)> = HashMap::new();
    for event in cursor {
        let commit: CommitMade = event?.payload()?;
        news.commits += 1;
        news.changes += commit.files;
        let (commits, changes) = authors.entry(commit.email).or_default();
        *commits += 1;
        *changes += commit.files;
    }
    let authors = authors.into_iter();
    news.authors = authors
        .map(|(author, (commits, changes))| (author, commits, changes))
        .collect();
    news.authors
        .sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(news)
}

/// Writes a file beside and gives it the name: whoever reads finds the old position or the new one.
pub(crate) fn keep(file: &Path, position: &CursorPosition) -> io::Result<()> {
    let unfinished = file.with_extension("json.new");
    let mut output = File::create(&unfinished)?;
    output.write_all(&serde_json::to_vec_pretty(position)?)?;
    output.sync_all()?;
    fs::rename(&unfinished, file)
}
