//! A cursor: pulls the events that match in order, never skips one, and says where it is.
//!
//! Its position belongs to the caller, who may keep it anywhere and go on from it in another process. Any one thread
//! has the cursor; nothing of it runs on the writer's.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::front::{Front, Listener};
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::digest::EventHash;
use crate::event::position::Position;
use crate::event::query::Query;
use crate::event::timestamp::Timestamp;
use crate::feed::reader::Reader;
use crate::feed::sleep::sleep_until;
use crate::index::view::View;
use crate::log::event::Event;
use crate::sync::Arc;

/// Where a cursor has come to, with the hash of the event there: a value to store and to go on from.
///
/// Everything that matches at or below the position was read. The hash names the history that it was read from: a
/// position is refused by a store that holds another event there.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::in_memory()?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// for level in 1..=3 {
///     store.append(&lamp, EventKind::literal("lamp.dimmed"), &level)?;
/// }
/// let mut cursor = store.cursor(Query::all())?;
/// cursor.next_batch(2)?;
/// let saved = serde_json::to_string(&cursor.position()?)?;
///
/// let place: CursorPosition = serde_json::from_str(&saved)?;
/// let mut cursor = store.cursor_from(Query::all(), place)?;
/// assert_eq!(cursor.next().transpose()?.map(|event| event.position().get()), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CursorPosition {
    position: Position,
    hash: EventHash,
}

impl CursorPosition {
    /// The position; 0 is before everything.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The hash of the event at the position; all zeros before everything.
    #[must_use]
    pub fn hash(&self) -> EventHash {
        self.hash
    }
}

impl fmt::Display for CursorPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}, event hash {}", self.position, self.hash)
    }
}

/// Where a cursor begins.
///
/// A position, a [`CursorPosition`] and a time are each a `Start` by themselves.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// let lit = store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// assert_eq!(store.cursor_from(Query::all(), Start::Beginning)?.count(), 1);
/// assert_eq!(store.cursor_from(Query::all(), lit.recorded_at())?.count(), 1);
/// assert_eq!(store.cursor_from(Query::all(), lit.position())?.count(), 0);
/// assert_eq!(store.cursor_from(Query::all(), Start::Now)?.count(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the first event.
    #[default]
    Beginning,
    /// With the first event after a position.
    After(Position),
    /// Where a cursor had come to, if this is still the same history.
    Saved(CursorPosition),
    /// With the first event that was recorded then or later.
    Since(Timestamp),
    /// With what is appended from now on.
    Now,
}

impl From<CursorPosition> for Start {
    fn from(saved: CursorPosition) -> Self {
        Self::Saved(saved)
    }
}

impl From<Position> for Start {
    fn from(position: Position) -> Self {
        Self::After(position)
    }
}

impl From<Timestamp> for Start {
    fn from(time: Timestamp) -> Self {
        Self::Since(time)
    }
}

impl Start {
    /// The position after which to begin, and what the query becomes.
    fn resolve(self, view: &View, query: Query) -> Result<(u64, Query)> {
        let end = view.position();
        let after = match self {
            Self::Beginning => Position::ZERO,
            Self::After(position) if position > end => {
                return Err(StoreError::argument(format!(
                    "position {position} is above the last one, {end}; begin at one that exists"
                )));
            }
            Self::After(position) => position,
            Self::Saved(saved) => {
                check_history(view, saved)?;
                saved.position
            }
            // A time that is still to come is held against what is appended later.
            Self::Since(time) => {
                let before = time.as_nanos().checked_sub(1).map(Timestamp::from_nanos);
                let passed = match before {
                    Some(before) => view.at_time(before)?.position(),
                    None => Position::ZERO,
                };
                return Ok((passed.get(), query.narrowed(0, time.as_nanos())));
            }
            Self::Now => end,
        };
        Ok((after.get(), query))
    }
}

/// Refuses a position that was saved on a history other than this one.
fn check_history(view: &View, saved: CursorPosition) -> Result<()> {
    let (position, end) = (saved.position, view.position());
    let other = |what: String| {
        StoreError::new(
            StoreErrorKind::Conflict,
            format!(
                "the cursor's position was saved on another history: {what}; find out which store it is of, or begin anew"
            ),
        )
    };
    if position > end {
        return Err(other(format!(
            "it is {position}, and this one ends at {end}"
        )));
    }
    let hash = view.hash_at(position)?;
    if hash != saved.hash {
        return Err(other(format!(
            "its event {position} has the hash {}, and this one's {hash}",
            saved.hash
        ))
        .with_positions(vec![position.get()]));
    }
    Ok(())
}

/// Pulls the events that match, in order, from where it begins to the end, and goes on when there are more.
///
/// As an iterator it ends when it has caught up, and may be asked again; [`Cursor::wait`] waits for more. No event is
/// left out and none comes twice; one that retention removed before it was read is passed over. A cursor does not keep its store open: after a close it reads what was there, and
/// `wait` returns `Closed`. After any other error it has ended: `next` returns `None`, every other call the error.
///
/// ```
/// use quipu::prelude::*;
/// use std::time::Duration;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// let mut cursor = store.cursor(Query::entity("lamp:1"))?;
/// assert_eq!(cursor.by_ref().count(), 1);
///
/// let writer = store.clone();
/// let later = std::thread::spawn(move || writer.append(&lamp, EventKind::literal("lamp.dimmed"), &3));
/// assert!(cursor.wait(Duration::from_secs(60))?);
/// for event in cursor.by_ref() {
///     assert_eq!(event?.kind(), "lamp.dimmed");
/// }
/// # later.join().expect("it does not panic")?;
/// # Ok(())
/// # }
/// ```
pub struct Cursor {
    reader: Reader,
    /// Found by `wait`, and not handed out yet.
    ahead: Option<Event>,
    /// All that matches at or below it was handed out; the hash, if the event there was.
    given: (u64, Option<EventHash>),
    failed: Option<StoreError>,
    listener: Listener,
}

impl fmt::Debug for Cursor {
    /// What it reads and how far it has come; the store behind it would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("query", &format_args!("{}", self.reader.query()))
            .field("position", &self.given.0)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Cursor {
    pub(crate) fn open(front: Arc<Front>, query: Query, start: Start) -> Result<Self> {
        query.check()?;
        let (after, query) = start.resolve(&front.view()?, query)?;
        Ok(Self {
            reader: Reader::new(Arc::clone(&front), query, after),
            ahead: None,
            given: (after, None),
            failed: None,
            listener: Listener::new(front),
        })
    }

    /// At most `most` events, those that are there; none when it has caught up.
    ///
    /// # Errors
    /// `Corrupt` and `Io` when an event cannot be read; those before it come first, and the error with the next call.
    pub fn next_batch(&mut self, most: usize) -> Result<Vec<Event>> {
        let mut batch = Vec::new();
        while batch.len() < most {
            match self.pull() {
                Ok(Some(event)) => batch.push(event),
                Ok(None) => break,
                Err(error) if batch.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    /// Waits until there is an event to read; `false` when the timeout passes first.
    ///
    /// # Errors
    /// `Closed` once the store is closed and everything is read; `Corrupt` and `Io` when an event cannot be read, and
    /// `NotFound` when the store that another process writes is gone.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        if self.ahead.is_some() {
            return Ok(true);
        }
        self.check_failed()?;
        let deadline = Instant::now().checked_add(timeout);
        let Self {
            reader,
            failed,
            listener,
            ..
        } = self;
        self.ahead = sleep_until(listener, deadline, || {
            reader
                .next()
                .inspect_err(|error| *failed = Some(error.duplicate()))
        })?;
        if self.ahead.is_none() {
            self.pass_over();
        }
        Ok(self.ahead.is_some())
    }

    /// Where it is: everything that matches at or below was handed out. Store it to go on from here.
    ///
    /// It is never above what is durable: behind buffered appends it stays at the last durable event, so that a position
    /// that was stored never names an event that a power cut takes back. Going on from there repeats those appends.
    ///
    /// # Errors
    /// `Corrupt` and `Io` when the event there cannot be read.
    // By `&mut`, or `Iterator::position` would be meant where the cursor itself is behind a `&mut`.
    pub fn position(&mut self) -> Result<CursorPosition> {
        let (given, hash) = self.given;
        let front = self.reader.front();
        let position = Position::new(given.min(front.durable()));
        let hash = match hash.filter(|_| position == given) {
            Some(hash) => hash,
            None => front.last_view().hash_at(position)?,
        };
        if position == given {
            self.given.1 = Some(hash);
        }
        Ok(CursorPosition { position, hash })
    }

    fn pull(&mut self) -> Result<Option<Event>> {
        self.check_failed()?;
        let event = match self.ahead.take() {
            Some(event) => Some(event),
            None => {
                let found = self.reader.next();
                found.inspect_err(|error| self.failed = Some(error.duplicate()))?
            }
        };
        match &event {
            Some(event) => self.given = (event.position().get(), Some(event.hash())),
            None => self.pass_over(),
        }
        Ok(event)
    }

    /// Nothing that matches is left: it has come to the end of what was read.
    fn pass_over(&mut self) {
        if self.reader.read() != self.given.0 {
            self.given = (self.reader.read(), None);
        }
    }

    fn check_failed(&self) -> Result<()> {
        match &self.failed {
            Some(error) => Err(error.duplicate()),
            None => Ok(()),
        }
    }
}

impl Iterator for Cursor {
    type Item = Result<Event>;

    /// The next event; `None` when it has caught up, or has ended after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed.is_some() {
            return None;
        }
        self.pull().transpose()
    }
}
