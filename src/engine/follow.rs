//! Follows a store that another process writes, from its files alone; driven by whichever reader looks.

use crate::engine::shared::Published;
use crate::error::{Result, StoreError};
use crate::io::Disk;
use crate::sync::Arc;

/// The state of the reading side.
#[derive(Debug)]
pub(crate) struct Follower;

impl Follower {
    /// Opens what is proven durable on `disk`, and writes nothing.
    pub(crate) fn open(_disk: Arc<dyn Disk>) -> Result<(Follower, Published)> {
        Err(StoreError::unsupported(
            "reading beside a writer is being built",
        ))
    }

    /// What became durable since `current`.
    pub(crate) fn refresh(&mut self, _current: &Published) -> Result<Option<Published>> {
        Ok(None)
    }
}
