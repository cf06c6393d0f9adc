//! The hashes of an event computed again from its frame, by whoever proves them or leaves a stub in its place.

use crate::event::hash::{
    Facts, Kept as Hashed, event_hash, facts_digest, labels_digest, payload_hash,
};
use crate::format::record::{Kept, KeyDigests, RecordLayout};

/// The digest of an event's facts, its payload being in the one form that this version writes: MessagePack, plain, inline.
pub(crate) fn facts_of(layout: &RecordLayout, frame: &[u8]) -> [u8; 32] {
    facts_with(layout, frame, &payload_hash(layout.payload(frame)))
}

/// As [`facts_of`], for one who has the hash of the payload.
pub(crate) fn facts_with(layout: &RecordLayout, frame: &[u8], payload: &[u8; 32]) -> [u8; 32] {
    let facts = Facts {
        schema_version: layout.schema_version,
        codec: 0,
        cipher: 0,
        payload_length: u64::from(layout.payload_len()),
        payload_hash: payload,
        labels: &labels_digest(layout.tags(frame), layout.metadata(frame)),
        correlation: &layout.correlation(frame),
        occurred_at: layout.occurred_at(frame),
        entity: layout.entity(frame),
        scope: layout.scope(frame),
        kind: layout.kind(frame),
        key_reference: &[],
        extension: &[],
    };
    facts_digest(&facts, layout.parents(frame))
}

/// The hash of an event, from what it and its stub keep and the digest of the rest.
pub(crate) fn hash_of(kept: &Kept, entity: &[u8; 16], rest: &[u8; 32]) -> [u8; 32] {
    let digests = kept.key.unwrap_or(KeyDigests {
        key: [0; 16],
        content: [0; 16],
    });
    event_hash(&Hashed {
        position: kept.position,
        revision: kept.stream.revision,
        previous: kept.stream.previous_position,
        recorded_at: kept.recorded_at,
        id: &kept.id,
        entity_digest: entity,
        batch_index: kept.batch.index,
        batch_length: kept.batch.len,
        key_digest: &digests.key,
        content_digest: &digests.content,
        rest,
    })
}
