//! How readers follow: cursors that never skip, subscriptions that count what they lose.
//!
//! Both read the log on their owner's thread; what they share with a writer is the bell that wakes them.

pub(crate) mod cursor;
pub(crate) mod reader;
pub(crate) mod sleep;
#[cfg(feature = "async")]
pub(crate) mod stream;
pub(crate) mod subscription;
