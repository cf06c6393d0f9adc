//! Can we prove it? The graph of causes: what led to an event, and what it led to.
//!
//! Parents stand below their children, in every store and batch, so that positions are an order of the graph. Runs on the
//! thread that asks.

pub(crate) mod ancestry;
pub(crate) mod descent;

use crate::error::{Result, StoreError};
use crate::event::id::EventId;
use crate::index::picture::Picture;
use crate::index::walk::Hit;

/// The position of an event that was asked for.
fn position_of(picture: &Picture<'_>, id: EventId) -> Result<u64> {
    picture.position_of(id.as_bytes())?.ok_or_else(|| {
        StoreError::not_found(format!(
            "there is no event {id} up to position {}; ask for one that exists",
            picture.upto
        ))
    })
}

/// The event at a position that the index named.
fn event_at<'a>(picture: &Picture<'a>, position: u64) -> Result<Hit<'a>> {
    picture.at(position)?.ok_or_else(|| {
        StoreError::corrupt(format!(
            "the index leads to position {position}, where no event is; rebuild it from the log"
        ))
    })
}
