//! A subscription as a `Stream`, for the adaptors of the async world; polled on the task that owns it.
//!
//! It is a type of its own: a subscription is an iterator already, and a value that is both can call no adaptor that
//! both have without naming the trait.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::Result;
use crate::feed::subscription::{Delivery, Subscription, some_unless_closed};

/// The deliveries of a subscription as a `Stream`; got from [`Subscription::into_stream`].
///
/// It wakes its task from any executor, ends when the store is closed, and after an error.
///
/// ```
/// use futures_util::StreamExt;
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let lamps = store.subscribe(Query::kind_prefix("lamp."))?.into_stream();
/// let mut kinds = lamps.filter_map(async |delivery| Some(delivery.ok()?.event()?.kind().to_owned()));
///
/// # let executor = |future| {
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     let mut future: std::pin::Pin<&mut dyn Future<Output = _>> = future;
/// #     loop {
/// #         if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
/// #             break done;
/// #         }
/// #     }
/// # };
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// # let mut kinds = std::pin::pin!(kinds);
/// # executor(std::pin::pin!(async {
/// assert_eq!(kinds.next().await.as_deref(), Some("lamp.lit"));
/// # }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a stream that nobody polls does nothing"]
pub struct Deliveries(Subscription);

impl Subscription {
    /// Its deliveries as a `Stream` (feature `async`).
    #[cfg_attr(docsrs, doc(cfg(feature = "async")))]
    pub fn into_stream(self) -> Deliveries {
        Deliveries(self)
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(some_unless_closed)
    }
}
