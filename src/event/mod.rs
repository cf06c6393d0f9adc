//! What an event is: names, kinds, ids, regions, conditions, receipts and hashes, without disk, clock or thread.

pub(crate) mod append;
pub(crate) mod batch;
pub(crate) mod condition;
pub(crate) mod coordinate;
pub(crate) mod digest;
pub(crate) mod draft;
pub(crate) mod hash;
pub(crate) mod id;
pub(crate) mod kind;
pub(crate) mod messagepack;
pub(crate) mod name;
pub(crate) mod payload;
pub(crate) mod position;
pub(crate) mod query;
pub(crate) mod query_text;
pub(crate) mod query_text_near;
pub(crate) mod query_text_range;
pub(crate) mod query_text_scan;
pub(crate) mod query_text_show;
pub(crate) mod receipt;
pub(crate) mod region;
pub(crate) mod timestamp;
