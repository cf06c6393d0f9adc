//! `quipu` is an embedded event store: a durable, conditional, idempotent log of events inside your process.
//!
//! ```
//! use quipu::prelude::*;
//!
//! # fn main() -> quipu::Result<()> {
//! let store = Store::in_memory()?; // or Store::open("shop.quipu")
//! let order = Coordinate::new("order:1042", "shop:berlin")?; // entity, scope
//! store.append(&order, EventKind::literal("order.placed"), &4200)?; // any payload that is `Serialize`
//!
//! for event in store.query("kind:order.* since:2h".parse::<Query>()?)? {
//!     println!("{}", event?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Store`] is the door: every call is a method of it. What opens it otherwise is set on a [`StoreConfig`].
//! - To append: [`AppendOptions`] for one event's conditions, key, tags and causes; a [`Batch`] for several events at
//!   once; a [`Ticket`] to wait for later.
//! - To ask: a [`Query`], built or read from text; a [`View`] where several answers must be of one moment.
//! - To follow: a [`Cursor`] leaves nothing out, a [`Subscription`] stays close behind the end and counts what it lost;
//!   [`Store::open_read_only`] does both beside another process that writes.
//! - To keep it healthy: [`Store::snapshot`], [`restore`] and [`diff`]; [`Store::compact`] with a [`Retention`], after its
//!   dry run; [`Store::tombstone`]; [`Store::verify`]; [`Store::diagnostics`].
//! - When a call fails: [`StoreErrorKind`] says what to do next.
#![cfg_attr(docsrs, feature(doc_cfg))]
// Here, not in the manifest: tests, examples and benches may unwrap, and share modules of `pub` items.
#![warn(clippy::unwrap_used, unreachable_pub)]

extern crate alloc;

pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod feed;
pub(crate) mod format;
pub(crate) mod index;
pub mod io;
pub(crate) mod lineage;
pub(crate) mod log;
pub(crate) mod options;
pub(crate) mod store;
pub(crate) mod sync;

pub use crate::engine::compact::CompactionJob;
pub use crate::engine::compact_config::CompactionConfig;
pub use crate::engine::compact_plan::{CompactionPlan, PlannedRewrite};
pub use crate::engine::meters::{Diagnostics, Stats};
pub use crate::engine::restore::{
    Identity, RestoreOptions, RestoreReport, Upto, restore, restore_on_disks,
};
pub use crate::engine::snapshot::{SnapshotOptions, SnapshotReport};
pub use crate::engine::ticket::Ticket;
pub use crate::engine::transfer::Copying;
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
    MAX_PARENTS, MAX_QUERY_REGIONS, MAX_QUERY_TEXT_BYTES, MAX_REGION_KINDS, MAX_SCOPE_BYTES,
    MAX_TAG_BYTES, MAX_TAGS,
};
pub use crate::event::payload::{Payload, RawPayload};
pub use crate::event::position::{Position, Revision};
pub use crate::event::query::Query;
pub use crate::event::receipt::Receipt;
pub use crate::event::region::Region;
pub use crate::event::timestamp::Timestamp;
pub use crate::feed::cursor::{Cursor, CursorPosition, Start};
#[cfg(feature = "async")]
pub use crate::feed::stream::Deliveries;
pub use crate::feed::subscription::{Delivery, MAX_SUBSCRIPTION_CAPACITY, Subscription};
pub use crate::index::explain::{AxisUse, Explanation, RegionExplanation};
pub use crate::index::names::{NameEntry, Names};
pub use crate::index::read_options::ReadOptions;
pub use crate::index::retention::{Retention, RetentionMoment, RetentionPredicate};
pub use crate::index::view::{EventRefs, Events, Head, View};
pub use crate::lineage::ancestry::Ancestors;
pub use crate::lineage::descent::Descendants;
pub use crate::lineage::diff::{Difference, diff};
pub use crate::lineage::verification::{Damage, MAX_NAMED_DAMAGES, Verification};
pub use crate::lineage::verify::VerifyOptions;
pub use crate::log::event::{Event, EventRef};
pub use crate::options::{
    Control, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_PAYLOAD_BYTES, MAX_QUEUE_CAPACITY,
    MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Progress, RestartPolicy, StoreConfig,
};
pub use crate::store::Store;

/// Everything that a program usually needs, in one `use`; the names of upkeep, which few of its files need, are at the root.
pub mod prelude {
    pub use crate::{
        Ancestors, AppendOptions, Batch, Coordinate, CorrelationId, Cursor, CursorPosition,
        Delivery, Descendants, Diagnostics, Digest, Durability, Event, EventDraft, EventHash,
        EventId, EventKind, EventRef, EventRefs, Events, ExpectedRevision, Explanation, Head,
        NameEntry, Names, Payload, Position, Query, RawPayload, ReadOptions, Receipt, Region,
        RestartPolicy, Revision, Start, Stats, Store, StoreConfig, StoreError, StoreErrorKind,
        Subscription, Ticket, Timestamp, View,
    };
}

/// The program in the README compiles as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// The example of the page compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/backup.md")]
struct BackupDoctests;

/// The examples of the page compile and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/compaction.md")]
struct CompactionDoctests;

/// The example of the page compiles and runs.
#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../docs/metrics.md")]
struct MetricsDoctests;

/// The example of the page compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/tuning.md")]
struct TuningDoctests;

/// The example of the page compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/query.md")]
struct QueryDoctests;
