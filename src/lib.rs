//! `quipu` is an embedded event store: a durable, conditional, idempotent log of events inside your process.
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod format;
pub(crate) mod index;
pub mod io;
pub(crate) mod sync;

pub use crate::error::{Result, StoreError, StoreErrorKind};
pub use crate::event::append::AppendOptions;
pub use crate::event::batch::Batch;
pub use crate::event::condition::{Durability, ExpectedRevision};
pub use crate::event::coordinate::Coordinate;
pub use crate::event::digest::{Digest, EventHash};
pub use crate::event::draft::EventDraft;
pub use crate::event::id::{CorrelationId, EventId};
pub use crate::event::kind::EventKind;
pub use crate::event::messagepack::MAX_PAYLOAD_DEPTH;
pub use crate::event::name::{
    MAX_CONDITIONS, MAX_ENTITY_BYTES, MAX_IDEMPOTENCY_KEY_BYTES, MAX_KIND_BYTES,
    MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, MAX_METADATA_KEY_BYTES, MAX_METADATA_VALUE_BYTES,
    MAX_PARENTS, MAX_QUERY_REGIONS, MAX_REGION_KINDS, MAX_SCOPE_BYTES, MAX_TAG_BYTES, MAX_TAGS,
};
pub use crate::event::payload::{Payload, RawPayload};
pub use crate::event::position::{Position, Revision};
pub use crate::event::query::Query;
pub use crate::event::receipt::Receipt;
pub use crate::event::region::Region;
pub use crate::event::timestamp::Timestamp;
