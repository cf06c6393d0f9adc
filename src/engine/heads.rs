//! The ends of the streams that were appended to of late, for the writer alone.
//!
//! Bounded: it is emptied when the segment is full, and then knows from which position on it is complete. Only the
//! holder of the turn touches it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::index::picture::StreamHead;

/// Takes the hash that an entity digest is already.
#[derive(Clone, Copy, Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
}

/// What an entity's head was before a group changed it.
type Undo = ([u8; 16], Option<StreamHead>);

/// Stream heads by entity digest.
#[derive(Debug)]
pub(crate) struct Heads {
    by_entity: HashMap<[u8; 16], StreamHead, BuildHasherDefault<DigestHasher>>,
    complete_after: u64,
    undo: Vec<Undo>,
}

impl Heads {
    /// Knows all that comes after position `after`.
    pub(crate) fn new(after: u64) -> Self {
        Self {
            by_entity: HashMap::default(),
            complete_after: after,
            undo: Vec::new(),
        }
    }

    pub(crate) fn get(&self, entity: &[u8; 16]) -> Option<StreamHead> {
        self.by_entity.get(entity).copied()
    }

    /// Whether every stream that changed after `position` is here.
    pub(crate) fn is_complete_after(&self, position: u64) -> bool {
        position >= self.complete_after
    }

    pub(crate) fn set(&mut self, entity: [u8; 16], head: StreamHead) {
        let before = self.by_entity.insert(entity, head);
        self.undo.push((entity, before));
    }

    /// A place to go back to.
    pub(crate) fn savepoint(&self) -> usize {
        self.undo.len()
    }

    /// Undoes what was set since the savepoint.
    pub(crate) fn roll_back(&mut self, savepoint: usize) {
        while self.undo.len() > savepoint {
            match self.undo.pop() {
                Some((entity, Some(head))) => drop(self.by_entity.insert(entity, head)),
                Some((entity, None)) => drop(self.by_entity.remove(&entity)),
                None => return,
            }
        }
    }

    /// Keeps what was set: the group is written.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Forgets all; from here on it knows what comes after `position`.
    pub(crate) fn forget(&mut self, position: u64) {
        *self = Self::new(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(revision: u64) -> StreamHead {
        StreamHead {
            revision,
            position: revision,
            hash: [0; 32],
            is_closed: false,
        }
    }

    #[test]
    fn rolling_back_restores_every_head_of_the_group() {
        let mut heads = Heads::new(0);
        heads.set([1; 16], head(1));
        heads.keep();
        let savepoint = heads.savepoint();
        heads.set([1; 16], head(2));
        heads.set([2; 16], head(1));
        heads.set([1; 16], head(3));
        heads.roll_back(savepoint);
        assert_eq!(heads.get(&[1; 16]), Some(head(1)));
        assert_eq!(heads.get(&[2; 16]), None);
    }
}
