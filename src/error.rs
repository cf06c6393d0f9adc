//! The one error type of the crate: opaque, pointer-wide, and clear about what the caller does next.
//!
//! A sentence says what happened, where, and what to do; [`StoreError::kind`] says the same to a program.

use core::error::Error;
use core::fmt;
use std::io;

/// A result whose error is a [`StoreError`] unless said otherwise.
pub type Result<T, E = StoreError> = core::result::Result<T, E>;

/// How many events of those in its way a conflict names at most.
pub(crate) const MAX_IN_THE_WAY: usize = 16;

/// What a failed call means for the caller, and so what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The call itself is wrong: a name, limit or combination; change the call.
    Argument,
    /// A condition did not hold and nothing was written; read again and decide again. Of a cursor: its position was saved
    /// on another history; find the store that it is of, or begin anew.
    Conflict,
    /// A queue stayed full; nothing was written, try again later.
    Busy,
    /// What was asked for by name is not there, or retention removed it; of a directory: there is no store in it, or none
    /// any more.
    NotFound,
    /// The store was closed.
    Closed,
    /// The store was opened for reading only.
    ReadOnly,
    /// Another process or handle holds the directory, to write the store or to copy one there.
    Locked,
    /// Bytes of the store are damaged; the sentence names file and offset, and `docs/backup.md` says what to do.
    Corrupt,
    /// The store, or a value in it, needs a newer version of this crate.
    Unsupported,
    /// An earlier write or sync failed; open the store again to go on writing.
    Poisoned,
    /// The write may or may not survive; open again and look, or retry with an idempotency key.
    OutcomeUnknown,
    /// A payload could not be encoded or decoded.
    Payload,
    /// The caller stopped the work, by its progress callback or by [`CompactionJob::cancel`](crate::CompactionJob::cancel);
    /// start it again.
    Cancelled,
    /// The operating system refused; the source has its error.
    Io,
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Argument => "argument",
            Self::Conflict => "conflict",
            Self::Busy => "busy",
            Self::NotFound => "not found",
            Self::Closed => "closed",
            Self::ReadOnly => "read only",
            Self::Locked => "locked",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Poisoned => "poisoned",
            Self::OutcomeUnknown => "outcome unknown",
            Self::Payload => "payload",
            Self::Cancelled => "cancelled",
            Self::Io => "io",
        })
    }
}

/// Why a call failed: a kind for the program and a sentence for people.
///
/// ```
/// use quipu::{Coordinate, StoreErrorKind};
///
/// let error = Coordinate::new("", "orders").unwrap_err();
/// assert_eq!(error.kind(), StoreErrorKind::Argument);
/// assert_eq!(error.to_string(), "entity is empty; give it a name");
/// ```
pub struct StoreError(Box<Inner>);

struct Inner {
    kind: StoreErrorKind,
    message: String,
    in_the_way: Vec<u64>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Says what the failure means for the caller.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    /// Returns the positions of the events that a conflict lost to, at most 16; empty for other kinds.
    #[must_use]
    pub fn in_the_way(&self) -> &[u64] {
        &self.0.in_the_way
    }

    pub(crate) fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            in_the_way: Vec::new(),
            source: None,
        }))
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Argument, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Conflict, message)
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Busy, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::NotFound, message)
    }

    pub(crate) fn read_only() -> Self {
        Self::new(
            StoreErrorKind::ReadOnly,
            "the store is open only for reading; open it with `Store::open` to write",
        )
    }

    pub(crate) fn closed() -> Self {
        Self::new(StoreErrorKind::Closed, "the store is closed; open it again")
    }

    pub(crate) fn locked(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Locked, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unsupported, message)
    }

    pub(crate) fn poisoned(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Poisoned, message)
    }

    pub(crate) fn outcome_unknown(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::OutcomeUnknown, message)
    }

    pub(crate) fn payload(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Payload, message)
    }

    /// Reports a refusal of the operating system; `context` says what was tried and where.
    pub(crate) fn io(context: impl fmt::Display, source: io::Error) -> Self {
        let message = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("{context}: disk full: free space, then go on")
            }
            io::ErrorKind::PermissionDenied => {
                format!("{context}: permission denied: give this user access to the store")
            }
            _ => context.to_string(),
        };
        Self::new(StoreErrorKind::Io, message).with_source(source)
    }

    /// Keeps `source` as the cause and ends the sentence with its text.
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        self.0.message = format!("{}: {source}", self.0.message);
        self.0.source = Some(source);
        self
    }

    /// Names the events in the way; those past the first 16 are left out.
    pub(crate) fn with_positions(mut self, mut positions: Vec<u64>) -> Self {
        positions.truncate(MAX_IN_THE_WAY);
        self.0.in_the_way = positions;
        self
    }

    /// Says in which directory a file is damaged, too new or out of reach, unless the sentence does.
    pub(crate) fn in_place(mut self, place: &str) -> Self {
        let is_of_a_file = matches!(
            self.0.kind,
            StoreErrorKind::Corrupt | StoreErrorKind::Unsupported | StoreErrorKind::Io
        );
        if is_of_a_file && !self.0.message.contains(place) {
            self.0.message = format!("in {place}: {}", self.0.message);
        }
        self
    }

    /// Returns the same answer for another caller of a failed group; the cause goes along as text.
    pub(crate) fn duplicate(&self) -> Self {
        Self::new(self.0.kind, self.0.message.clone()).with_positions(self.0.in_the_way.clone())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.message)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if !self.0.in_the_way.is_empty() {
            write!(f, " (in the way: {:?})", self.0.in_the_way)?;
        }
        Ok(())
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<StoreError>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn an_error_crosses_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<StoreError>();
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let error = StoreError::io(
            "segments/0000000001.seg: write",
            io::ErrorKind::StorageFull.into(),
        );
        assert_eq!(error.kind(), StoreErrorKind::Io);
        assert!(
            error
                .to_string()
                .contains("disk full: free space, then go on"),
            "{error}"
        );
        assert!(error.source().is_some());
    }

    #[test]
    fn a_refused_access_says_so() {
        let error = StoreError::io("lock", io::ErrorKind::PermissionDenied.into());
        assert!(
            error.to_string().contains("lock: permission denied"),
            "{error}"
        );
    }

    #[test]
    fn a_duplicate_keeps_kind_sentence_and_positions() {
        let error = StoreError::conflict("lost")
            .with_positions(vec![3, 5])
            .with_source("why");
        let copy = error.duplicate();
        assert_eq!(copy.kind(), StoreErrorKind::Conflict);
        assert_eq!(copy.to_string(), "lost: why");
        assert_eq!(copy.in_the_way(), [3, 5]);
        assert!(copy.source().is_none());
    }

    #[test]
    fn a_conflict_names_at_most_sixteen_events() {
        let sixteen = StoreError::conflict("lost").with_positions((1..=16).collect());
        let more = StoreError::conflict("lost").with_positions((1..=17).collect());
        assert_eq!(sixteen.in_the_way().len(), 16);
        assert_eq!(more.in_the_way(), sixteen.in_the_way());
    }

    #[test]
    fn debug_reads_as_kind_and_sentence() {
        let error = StoreError::conflict("lost").with_positions(vec![7]);
        assert_eq!(format!("{error:?}"), "Conflict: lost (in the way: [7])");
        assert_eq!(
            StoreErrorKind::OutcomeUnknown.to_string(),
            "outcome unknown"
        );
    }
}
