//! A subscription as a `Stream`, for the adaptors of the async world; polled on the task that owns it.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::Result;
use crate::feed::subscription::{Delivery, Subscription, some_unless_closed};

impl Stream for Subscription {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(context).map(some_unless_closed)
    }
}
