//! What all handles of an open store share, and what happens when the last of them goes; on the thread that drops it.

use crate::engine::front::Front;
use crate::engine::shared::Engine;
use crate::error::{Result, StoreErrorKind};
use crate::sync::Arc;

/// What all handles share; the last one to go closes the store.
pub(super) struct Door {
    pub(super) front: Arc<Front>,
    /// Whoever writes; none of a store that is open only for reading.
    pub(super) engine: Option<Arc<Engine>>,
}

impl Door {
    pub(super) fn close(&self) -> Result<()> {
        match &self.engine {
            Some(engine) => engine.close(),
            None => self.front.close(),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Err(error) = self.close()
            && error.kind() != StoreErrorKind::Closed
        {
            tracing::error!(%error, "the store did not close cleanly");
        }
    }
}
