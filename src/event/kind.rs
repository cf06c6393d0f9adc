//! The dotted type name of an event.

use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Result, StoreError};
use crate::event::name;

/// The dotted type name of an event, such as `order.placed`; its first word is the category.
///
/// 1 to 128 bytes, no empty words, no control characters; `quipu.` is reserved.
///
/// ```
/// use quipu::EventKind;
///
/// const PLACED: EventKind = EventKind::literal("order.placed");
/// assert_eq!(PLACED.category(), "order");
/// ```
#[derive(Clone)]
pub struct EventKind(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl EventKind {
    /// The kind of an event that ends its entity's stream for good; only the store itself appends it.
    pub(crate) const TOMBSTONE: Self = Self(Text::Static("quipu.tombstone"));

    /// Makes a kind of a literal, checked when the program is compiled if used in a `const`.
    ///
    /// ```compile_fail,E0080
    /// # use quipu::EventKind;
    /// const WRONG: EventKind = EventKind::literal("order..placed");
    /// ```
    ///
    /// ```compile_fail,E0080
    /// # use quipu::EventKind;
    /// const RESERVED: EventKind = EventKind::literal("quipu.placed");
    /// ```
    ///
    /// # Panics
    ///
    /// If the text is not a valid kind; in a `const` that is a compile error.
    #[must_use]
    pub const fn literal(text: &'static str) -> Self {
        match name::own_kind_fault(text) {
            None => Self(Text::Static(text)),
            Some(fault) => panic!("{}", fault),
        }
    }

    /// Makes a kind of text that is known only at run time.
    ///
    /// # Errors
    ///
    /// `Argument` if the text is not a valid kind or is reserved.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        name::check_own_kind(text)?;
        Ok(Self(Text::Shared(text.into())))
    }

    /// Returns the whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }

    /// Returns the first word of the name, the whole of it if it has no dot.
    #[must_use]
    pub fn category(&self) -> &str {
        category(self.as_str())
    }
}

/// Returns the part of a kind before its first dot.
pub(crate) fn category(kind: &str) -> &str {
    kind.split_once('.').map_or(kind, |(first, _)| first)
}

impl AsRef<str> for EventKind {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Reads a kind as [`EventKind::new`] does.
impl FromStr for EventKind {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl From<&EventKind> for EventKind {
    fn from(kind: &EventKind) -> Self {
        kind.clone()
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventKind({:?})", self.as_str())
    }
}

impl PartialEq for EventKind {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for EventKind {}

impl PartialEq<str> for EventKind {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for EventKind {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for EventKind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EventKind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for EventKind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = alloc::string::String::deserialize(deserializer)?;
        Self::new(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACED: EventKind = EventKind::literal("order.placed");

    #[test]
    fn a_literal_equals_the_same_kind_made_at_run_time() {
        let made = EventKind::new("order.placed").unwrap();
        assert_eq!(made, PLACED);
        assert_eq!(made.cmp(&PLACED), Ordering::Equal);
        assert_eq!(made, "order.placed");
        assert_eq!(EventKind::from(&made), made);
    }

    #[test]
    fn the_category_is_the_first_word() {
        assert_eq!(PLACED.category(), "order");
        assert_eq!(EventKind::literal("ping").category(), "ping");
    }

    #[test]
    fn a_wrong_kind_is_refused_also_by_serde() {
        assert!(EventKind::new("quipu.removed").is_err());
        assert!(EventKind::new("x".repeat(129)).is_err());
        assert!(EventKind::new("x".repeat(128)).is_ok());
        assert!("a..b".parse::<EventKind>().is_err());
        assert!(serde_json::from_str::<EventKind>("\"a..b\"").is_err());
        assert_eq!(
            serde_json::from_str::<EventKind>("\"order.placed\"").unwrap(),
            PLACED
        );
    }

    #[test]
    #[should_panic(expected = "reserved")]
    fn a_reserved_literal_panics() {
        let _ = EventKind::literal("quipu.removed");
    }
}
