//! The hashes of docs/format.md section 6: what proves that an event, and the order of all events, is unchanged.
//!
//! All are BLAKE3 in keyed mode with a constant key per use. Nothing here allocates: what a hash covers is
//! gathered in one buffer on the stack and hashed in one call, or in several when it is longer than the buffer.

/// Bytes gathered before hashing: one BLAKE3 chunk, so that the usual case is a single call.
const BUFFER_BYTES: usize = 1024;

const PAYLOAD: [u8; 32] = key("quipu.payload.v1");
const LABELS: [u8; 32] = key("quipu.labels.v1");
const FACTS: [u8; 32] = key("quipu.facts.v1");
const REST: [u8; 32] = key("quipu.rest.v1");
const ENTITY: [u8; 32] = key("quipu.entity.v1");
const KEY: [u8; 32] = key("quipu.key.v1");
const CONTENT: [u8; 32] = key("quipu.content.v1");
const EVENT: [u8; 32] = key("quipu.event.v1");
const DIGEST: [u8; 32] = key("quipu.digest.v1");

/// Pads a label with zeros to a key.
const fn key(label: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let (start, _) = key.split_at_mut(label.len());
    start.copy_from_slice(label.as_bytes());
    key
}

/// Gathers the bytes that one hash covers.
struct Sink {
    key: &'static [u8; 32],
    buffer: [u8; BUFFER_BYTES],
    used: usize,
    /// Holds what no longer fits the buffer.
    earlier: Option<blake3::Hasher>,
}

impl Sink {
    fn new(key: &'static [u8; 32]) -> Self {
        Self {
            key,
            buffer: [0; BUFFER_BYTES],
            used: 0,
            earlier: None,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.buffer.get_mut(self.used..self.used + bytes.len()) {
            place.copy_from_slice(bytes);
            self.used += bytes.len();
            return;
        }
        let earlier = self
            .earlier
            .get_or_insert_with(|| blake3::Hasher::new_keyed(self.key));
        earlier.update(&self.buffer[..self.used]);
        earlier.update(bytes);
        self.used = 0;
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.u64(u64::try_from(count).expect("usize has at most 64 bits"));
    }

    fn string(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes(bytes);
    }

    fn finish(self) -> [u8; 32] {
        let last = &self.buffer[..self.used];
        match self.earlier {
            None => blake3::keyed_hash(self.key, last).into(),
            Some(mut earlier) => earlier.update(last).finalize().into(),
        }
    }
}

/// Hashes the bytes of a payload.
pub(crate) fn payload_hash(payload: &[u8]) -> [u8; 32] {
    blake3::keyed_hash(&PAYLOAD, payload).into()
}

/// Hashes tags (in byte order) and metadata (in byte order of the keys); zeros if there are neither.
pub(crate) fn labels_digest<'a>(
    tags: impl ExactSizeIterator<Item = &'a str>,
    metadata: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> [u8; 32] {
    if tags.len() == 0 && metadata.len() == 0 {
        return [0; 32];
    }
    let mut sink = Sink::new(&LABELS);
    sink.count(tags.len());
    tags.for_each(|tag| sink.string(tag.as_bytes()));
    sink.count(metadata.len());
    for (key, value) in metadata {
        sink.string(key.as_bytes());
        sink.string(value.as_bytes());
    }
    sink.finish()
}

/// What retention removes from an event, and so what one digest must stand for; parents come beside it.
pub(crate) struct Facts<'a> {
    pub(crate) schema_version: u16,
    pub(crate) codec: u8,
    pub(crate) cipher: u8,
    pub(crate) payload_length: u64,
    pub(crate) payload_hash: &'a [u8; 32],
    pub(crate) labels: &'a [u8; 32],
    pub(crate) correlation: &'a [u8; 16],
    pub(crate) occurred_at: Option<u64>,
    pub(crate) entity: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) key_reference: &'a [u8],
    pub(crate) extension: &'a [u8],
}

/// Hashes the facts and the ids of the parents, the first parent first.
pub(crate) fn facts_digest(
    facts: &Facts<'_>,
    parents: impl ExactSizeIterator<Item = [u8; 16]>,
) -> [u8; 32] {
    let mut sink = Sink::new(&FACTS);
    sink.u16(facts.schema_version);
    sink.bytes(&[facts.codec, facts.cipher]);
    sink.u64(facts.payload_length);
    sink.bytes(facts.payload_hash);
    sink.bytes(facts.labels);
    sink.bytes(facts.correlation);
    sink.bytes(&[u8::from(facts.occurred_at.is_some())]);
    sink.u64(facts.occurred_at.unwrap_or(0));
    sink.count(parents.len());
    parents.for_each(|id| sink.bytes(&id));
    sink.string(facts.entity.as_bytes());
    sink.string(facts.scope.as_bytes());
    sink.string(facts.kind.as_bytes());
    sink.string(facts.key_reference);
    sink.string(facts.extension);
    sink.finish()
}

/// Hashes the facts digest with the event hashes of the entity's previous event (zeros if none) and the parents.
pub(crate) fn rest_digest(
    facts: &[u8; 32],
    previous: &[u8; 32],
    parents: impl Iterator<Item = [u8; 32]>,
) -> [u8; 32] {
    let mut sink = Sink::new(&REST);
    sink.bytes(facts);
    sink.bytes(previous);
    parents.for_each(|hash| sink.bytes(&hash));
    sink.finish()
}

/// Shortens an entity's name to the 16 bytes that stand for it in a stub.
pub(crate) fn entity_digest(entity: &str) -> [u8; 16] {
    first_half(blake3::keyed_hash(&ENTITY, entity.as_bytes()).into())
}

/// Shortens an idempotency key to the 16 bytes that the log keeps.
pub(crate) fn key_digest(key: &[u8]) -> [u8; 16] {
    first_half(blake3::keyed_hash(&KEY, key).into())
}

fn first_half(hash: [u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("32 bytes have a first 16")
}

/// Hashes the content of a submission, event by event, to tell a retry from another submission.
pub(crate) struct ContentDigest(Sink);

impl ContentDigest {
    /// Begins the digest of a submission of `count` events.
    pub(crate) fn new(count: usize) -> Self {
        let mut sink = Sink::new(&CONTENT);
        sink.count(count);
        Self(sink)
    }

    /// Adds the next event; its tags are in byte order.
    pub(crate) fn push<'a>(
        &mut self,
        entity: &str,
        scope: &str,
        kind: &str,
        schema_version: u16,
        payload_hash: &[u8; 32],
        tags: impl ExactSizeIterator<Item = &'a str>,
    ) {
        let sink = &mut self.0;
        sink.string(entity.as_bytes());
        sink.string(scope.as_bytes());
        sink.string(kind.as_bytes());
        sink.u16(schema_version);
        sink.bytes(payload_hash);
        sink.count(tags.len());
        tags.for_each(|tag| sink.string(tag.as_bytes()));
    }

    pub(crate) fn finish(self) -> [u8; 16] {
        first_half(self.0.finish())
    }
}

/// What a stub keeps of an event, all that its hash covers beside the rest digest included.
pub(crate) struct Kept<'a> {
    pub(crate) position: u64,
    pub(crate) revision: u64,
    /// Position of the entity's previous event, 0 if none.
    pub(crate) previous: u64,
    pub(crate) recorded_at: u64,
    pub(crate) id: &'a [u8; 16],
    pub(crate) entity_digest: &'a [u8; 16],
    pub(crate) batch_index: u32,
    pub(crate) batch_length: u32,
    /// Zeros if the event carries no key.
    pub(crate) key_digest: &'a [u8; 16],
    /// Zeros if the event carries no key.
    pub(crate) content_digest: &'a [u8; 16],
    pub(crate) rest: &'a [u8; 32],
}

/// Hashes an event.
pub(crate) fn event_hash(kept: &Kept<'_>) -> [u8; 32] {
    let mut sink = Sink::new(&EVENT);
    sink.u64(kept.position);
    sink.u64(kept.revision);
    sink.u64(kept.previous);
    sink.u64(kept.recorded_at);
    sink.bytes(kept.id);
    sink.bytes(kept.entity_digest);
    sink.u32(kept.batch_index);
    sink.u32(kept.batch_length);
    sink.bytes(kept.key_digest);
    sink.bytes(kept.content_digest);
    sink.bytes(kept.rest);
    sink.finish()
}

/// Folds the hash of the next event into the running digest before it.
pub(crate) fn fold_digest(before: &[u8; 32], hash: &[u8; 32]) -> [u8; 32] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(before);
    both[32..].copy_from_slice(hash);
    blake3::keyed_hash(&DIGEST, &both).into()
}
