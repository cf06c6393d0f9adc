//! What a verification found: how much it went through, and every damage with its place.
//!
//! A value of numbers and sentences, made by one thread and then never changed.

use std::fmt;

use crate::event::digest::Digest;
use crate::event::position::Position;

/// How many damages of each sort are named; those beyond are counted.
pub const MAX_NAMED_DAMAGES: usize = 100;

/// One place where the bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Damage {
    /// The file, relative to the store's directory.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The first event that it concerns, if it concerns one.
    pub position: Option<Position>,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.file, self.offset)?;
        if let Some(position) = self.position {
            write!(f, ", event {position}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What [`Store::verify`](crate::Store::verify) found.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// store.append(&Coordinate::new("lamp:1", "house")?, EventKind::literal("lamp.lit"), &())?;
/// let found = store.verify()?;
/// assert!(found.is_sound());
/// assert_eq!((found.events, found.digest), (1, store.head().digest));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// The last position of the moment that was verified.
    pub position: Position,
    /// The running digest after it, folded from the events: 32 bytes to compare with those kept elsewhere.
    pub digest: Digest,
    /// Events that were gone through.
    pub events: u64,
    /// Stubs that were gone through: events that retention removed.
    pub stubs: u64,
    /// Events and stubs that a damage before them leaves without proof, those that could not be reached included.
    pub unproven: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of the log.
    pub bytes: u64,
    /// Damages that lose an event or may make an answer wrong, the first [`MAX_NAMED_DAMAGES`] of them.
    pub damages: Vec<Damage>,
    /// How many there are of those.
    pub damages_found: u64,
    /// Damages of what is derived from the log: the store notices them by itself and makes anew what it needs.
    pub repairable: Vec<Damage>,
    /// How many there are of those.
    pub repairable_found: u64,
}

impl Verification {
    /// Nothing was looked at yet.
    pub(super) fn begin() -> Self {
        Self {
            position: Position::ZERO,
            digest: Digest::ZERO,
            events: 0,
            stubs: 0,
            unproven: 0,
            segments: 0,
            bytes: 0,
            damages: Vec::new(),
            damages_found: 0,
            repairable: Vec::new(),
            repairable_found: 0,
        }
    }

    /// Whether every event is there, proven, and found: nothing was damaged but what the store mends by itself.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages_found == 0 && self.unproven == 0
    }

    pub(super) fn damaged(&mut self, damage: Damage) {
        self.damages_found += 1;
        if self.damages.len() < MAX_NAMED_DAMAGES {
            self.damages.push(damage);
        }
    }

    pub(super) fn repairable(&mut self, damage: Damage) {
        self.repairable_found += 1;
        if self.repairable.len() < MAX_NAMED_DAMAGES {
            self.repairable.push(damage);
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.is_sound() {
            true => "sound",
            false => "damaged",
        };
        writeln!(
            f,
            "{verdict}: {} events and {} stubs up to position {} in {} segments, {} bytes",
            self.events, self.stubs, self.position, self.segments, self.bytes
        )?;
        write!(f, "digest {}", self.digest)?;
        if self.unproven > 0 {
            write!(f, "\nwithout proof: {} events", self.unproven)?;
        }
        let sorts = [
            ("damages", &self.damages, self.damages_found),
            (
                "made again by the store",
                &self.repairable,
                self.repairable_found,
            ),
        ];
        for (sort, named, found) in sorts.into_iter().filter(|(_, _, found)| *found > 0) {
            write!(f, "\n{sort}: {found}")?;
            named
                .iter()
                .try_for_each(|damage| write!(f, "\n  {damage}"))?;
            let more = found.saturating_sub(named.len() as u64);
            if more > 0 {
                write!(f, "\n  and {more} more")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hundred_damages_are_named_and_the_others_counted() {
        let mut found = Verification::begin();
        for offset in 0..150 {
            let damage = Damage {
                file: String::from("segments/0000000001.seg"),
                offset,
                position: Some(Position::new(7)),
                what: String::from("group checksum"),
            };
            found.repairable(damage.clone());
            assert_eq!(found.is_sound(), offset == 0);
            found.damaged(damage);
        }
        assert_eq!((found.damages.len(), found.damages_found), (100, 150));
        assert_eq!((found.repairable.len(), found.repairable_found), (100, 150));
        let text = found.to_string();
        assert!(text.starts_with("damaged: 0 events"), "{text}");
        assert!(
            text.contains("segments/0000000001.seg at byte 3, event 7: group checksum"),
            "{text}"
        );
        assert_eq!(text.matches("and 50 more").count(), 2, "{text}");
    }

    #[test]
    fn what_is_without_proof_is_not_sound() {
        let mut found = Verification::begin();
        assert!(found.is_sound());
        found.unproven = 1;
        assert!(!found.is_sound());
        assert!(found.to_string().contains("without proof: 1 events"));
    }
}
