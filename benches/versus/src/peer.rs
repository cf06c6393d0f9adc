//! What each contestant is asked to do.

use crate::facts::Fact;

/// A store under test. One that cannot do a piece of work answers `None`.
pub(crate) trait Peer: Send + Sync {
    /// Appends the events as one atomic unit and returns their ids once they are durable.
    fn append(&self, facts: &[Fact<'_>]) -> Vec<[u8; 16]>;
    /// Ends everything that `open` started.
    fn close(&mut self);
    /// Opens the directory again.
    fn open(&mut self) -> Option<()>;
    /// Reads all events of an entity with their payloads.
    fn entity(&self, name: &str) -> Option<Tally>;
    /// Reads all events of a kind with their payloads.
    fn kind(&self, name: &str) -> Option<Tally>;
    /// Reads everything with payloads.
    fn scan(&self) -> Option<Tally>;
    /// Reads the one event with this id with its payload.
    fn get(&self, id: [u8; 16]) -> Option<Tally>;
}

/// What a read saw; `sum` makes it touch the payload.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) sum: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, payload: &[u8]) {
        self.events += 1;
        self.bytes += payload.len();
        self.sum += payload
            .iter()
            .rev()
            .take(8)
            .map(|byte| u64::from(*byte))
            .sum::<u64>();
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.events += other.events;
        self.bytes += other.bytes;
        self.sum += other.sum;
        self
    }
}
