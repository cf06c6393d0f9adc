//! Where two histories part: the first position at which two stores hold different events.
//!
//! Running digests tell of whole prefixes whether they are the same, so that a binary search over one side's segments
//! finds the one to look into, and only that one is read event by event. Any thread asks.

use std::fmt;
use std::path::Path;

use crate::engine::open;
use crate::error::{Result, StoreError};
use crate::event::position::Position;
use crate::index::view::View;
use crate::options::StoreConfig;

/// How two histories differ.
///
/// An event that retention removed is the same as before: what stays of it names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub enum Difference {
    /// Both hold the same events.
    Equal,
    /// The first is the beginning of the second, and ends at this position.
    Behind(Position),
    /// The second is the beginning of the first, and ends at this position.
    Ahead(Position),
    /// This is the first position at which they hold different events.
    At(Position),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal => f.write_str("both hold the same events"),
            Self::Behind(end) => write!(f, "the first ends at position {end}, the second goes on"),
            Self::Ahead(end) => write!(f, "the second ends at position {end}, the first goes on"),
            Self::At(first) => write!(f, "they part at position {first}"),
        }
    }
}

/// Says where the histories of two stores part; each is a directory, opened only for reading.
///
/// It goes by the digests that both wrote of themselves. That the events behind them are sound as well,
/// [`Store::verify`](crate::Store::verify) proves.
///
/// ```
/// use quipu::prelude::*;
/// use quipu::Difference;
///
/// # fn main() -> quipu::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("quipu-doc-diff-{}", std::process::id()));
/// # let (store_path, backup_path) = (folder.join("store"), folder.join("backup"));
/// let store = Store::open(&store_path)?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// store.snapshot(&backup_path)?;
/// store.append(&lamp, EventKind::literal("lamp.dimmed"), &3)?;
/// let difference = quipu::diff(&backup_path, &store_path)?;
/// assert_eq!(difference, Difference::Behind(Position::new(1)));
/// assert_eq!(difference.to_string(), "the first ends at position 1, the second goes on");
/// # store.close()?;
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Store::open_read_only`](crate::Store::open_read_only), and `Corrupt` when an event on the way is damaged.
pub fn diff(first: impl AsRef<Path>, second: impl AsRef<Path>) -> Result<Difference> {
    let view = |path: &Path| -> Result<View> {
        open::open_read_only(StoreConfig::new(path)).map(|front| front.last_view())
    };
    view(first.as_ref())?.difference(&view(second.as_ref())?)
}

impl View {
    /// Where this history and another one part, each as far as its view goes.
    ///
    /// Reads the hashes of at most two segments of either side and a part of one for each step of a binary search; of
    /// stores that share their segments, as copies and forks do, the search itself reads nothing.
    ///
    /// # Errors
    /// `Corrupt` when an event on the way is damaged.
    pub fn difference(&self, other: &View) -> Result<Difference> {
        let (own, others) = (self.position(), other.position());
        let common = own.min(others);
        if self.digest_at(common)? == other.digest_at(common)? {
            return Ok(match own.cmp(&others) {
                std::cmp::Ordering::Equal => Difference::Equal,
                std::cmp::Ordering::Less => Difference::Behind(own),
                std::cmp::Ordering::Greater => Difference::Ahead(others),
            });
        }
        let (shared, parted) = self.parting_segment(other, common)?;
        for position in shared.get() + 1..=parted.get() {
            let position = Position::new(position);
            if self.hash_at(position)? != other.hash_at(position)? {
                return Ok(Difference::At(position));
            }
        }
        Err(StoreError::corrupt(format!(
            "the digests of two histories part behind event {shared} and their events do not; verify both stores"
        )))
    }

    /// A position up to which both are the same, and one up to which they are not, at most one segment further.
    fn parting_segment(&self, other: &View, common: Position) -> Result<(Position, Position)> {
        let ends = self.segment_ends(common);
        let (mut low, mut high) = (0, ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let is_same = match ends.get(middle) {
                Some(end) => self.digest_at(*end)? == other.digest_at(*end)?,
                None => false,
            };
            match is_same {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let before = low.checked_sub(1).and_then(|at| ends.get(at));
        Ok((
            before.copied().unwrap_or(Position::ZERO),
            ends.get(low).copied().unwrap_or(common),
        ))
    }
}
