//! How readers follow: cursors that never skip, subscriptions that count what they lose.

pub(crate) mod cursor;
pub(crate) mod reader;
pub(crate) mod sleep;
#[cfg(feature = "async")]
pub(crate) mod stream;
pub(crate) mod subscription;
