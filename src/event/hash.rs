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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec::Vec;

    const DIGEST_GOLDEN: &str = "8e897ae9df80860cd8452c329870d193543899944c258717e0ab808d050e8581";
    const EVENT_GOLDEN: &str = "0f145252b3434935f6c07a6905f08b28d774051b0df54e08b10236dca1b2211d";
    const CONTENT_GOLDEN: &str = "6255b4ae6bed320ec0a1655b056621a5";
    const KEY_GOLDEN: &str = "c582835d935cd8ec0cbd8472ff256490";
    const ENTITY_GOLDEN: &str = "cb75f9f9188960b63f391a4fdbef493d";
    const REST_GOLDEN: &str = "19674c963b5d514a746b75ad849d1cf98de0d414e2949a7613bf666efb14d2ce";
    const FACTS_GOLDEN: &str = "070bc1d3e6ff27ca5b4ddd2e4dcb46b2925da5d4bf8cb5fcaa3b7c5192189d64";
    const LABELS_GOLDEN: &str = "3764e2e56c790392f64e8d8a7c1485109defd115968eedb97a67f39387d65749";
    const PAYLOAD_GOLDEN: &str = "8ad8ea690020bced0af1c0d9a175b6cf8ec4352a6dd388b39b8bbabd44d91aeb";

    /// H(label, x) as docs/format.md has it, by another road than the code takes.
    fn page(label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut key = label.as_bytes().to_vec();
        key.resize(32, 0);
        let mut hasher = blake3::Hasher::new_keyed(key.as_slice().try_into().unwrap());
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    fn number(value: usize) -> [u8; 8] {
        u64::try_from(value).unwrap().to_le_bytes()
    }

    fn string(text: &str) -> Vec<u8> {
        [&number(text.len())[..], text.as_bytes()].concat()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn facts(entity: &str) -> Facts<'_> {
        Facts {
            schema_version: 0x0102,
            codec: 0,
            cipher: 0,
            payload_length: 5,
            payload_hash: &[1; 32],
            labels: &[2; 32],
            correlation: &[3; 16],
            occurred_at: Some(4),
            entity,
            scope: "shop",
            kind: "order.placed",
            key_reference: b"",
            extension: b"",
        }
    }

    fn facts_by_the_page(entity: &str, parents: &[[u8; 16]]) -> [u8; 32] {
        page(
            "quipu.facts.v1",
            &[
                &[2, 1, 0, 0],
                &number(5),
                &[1; 32],
                &[2; 32],
                &[3; 16],
                &[1],
                &number(4),
                &number(parents.len()),
                parents.as_flattened(),
                &string(entity),
                &string("shop"),
                &string("order.placed"),
                &string(""),
                &string(""),
            ],
        )
    }

    fn kept() -> Kept<'static> {
        Kept {
            position: 10,
            revision: 3,
            previous: 7,
            recorded_at: 1_700_000_000_000_000_000,
            id: &[1; 16],
            entity_digest: &[2; 16],
            batch_index: 1,
            batch_length: 2,
            key_digest: &[3; 16],
            content_digest: &[4; 16],
            rest: &[5; 32],
        }
    }

    #[test]
    fn payload_hash_is_as_on_the_page() {
        let long = vec![7; 100_000];
        assert_eq!(payload_hash(&long), page("quipu.payload.v1", &[&long]));
        assert_eq!(hex(&payload_hash(b"\xc0")), PAYLOAD_GOLDEN);
    }

    #[test]
    fn labels_digest_is_as_on_the_page_and_zero_without_labels() {
        let none = [""; 0];
        assert_eq!(
            labels_digest(none.into_iter(), [("", ""); 0].into_iter()),
            [0; 32]
        );
        let both = labels_digest(["a", "bc"].into_iter(), [("k", "v")].into_iter());
        let parts = [
            &number(2)[..],
            &string("a"),
            &string("bc"),
            &number(1),
            &string("k"),
            &string("v"),
        ];
        assert_eq!(both, page("quipu.labels.v1", &parts));
        assert_eq!(hex(&both), LABELS_GOLDEN);
    }

    #[test]
    fn facts_digest_is_as_on_the_page() {
        let parents = [[8; 16], [9; 16]];
        let digest = facts_digest(&facts("order:1"), parents.into_iter());
        assert_eq!(digest, facts_by_the_page("order:1", &parents));
        assert_eq!(hex(&digest), FACTS_GOLDEN);
    }

    #[test]
    fn an_absent_time_differs_from_time_zero() {
        let with = |occurred_at| {
            let facts = Facts {
                occurred_at,
                ..facts("order:1")
            };
            facts_digest(&facts, [].into_iter())
        };
        assert_ne!(with(None), with(Some(0)));
    }

    #[test]
    fn facts_longer_than_the_buffer_hash_alike() {
        for (entity_bytes, parents) in [(512, 64), (1, 64), (512, 10), (512, 30), (300, 33)] {
            let entity = "e".repeat(entity_bytes);
            let parents = vec![[6; 16]; parents];
            let digest = facts_digest(&facts(&entity), parents.iter().copied());
            assert_eq!(digest, facts_by_the_page(&entity, &parents));
        }
    }

    #[test]
    fn a_sink_forgets_nothing_around_its_bound() {
        for total in BUFFER_BYTES - 3..BUFFER_BYTES + 4 {
            for piece in [1, 7, 500, 2000] {
                let bytes: Vec<u8> = (0..total)
                    .map(|at| u8::try_from(at % 251).unwrap())
                    .collect();
                let mut sink = Sink::new(&REST);
                bytes.chunks(piece).for_each(|chunk| sink.bytes(chunk));
                assert_eq!(
                    sink.finish(),
                    page("quipu.rest.v1", &[&bytes]),
                    "{total} by {piece}"
                );
            }
        }
    }

    #[test]
    fn rest_digest_is_as_on_the_page() {
        let digest = rest_digest(&[1; 32], &[2; 32], [[3; 32], [4; 32]].into_iter());
        let parts = [&[1; 32][..], &[2; 32], &[3; 32], &[4; 32]];
        assert_eq!(digest, page("quipu.rest.v1", &parts));
        assert_eq!(hex(&digest), REST_GOLDEN);
    }

    #[test]
    fn short_digests_are_the_first_half_of_their_hash() {
        assert_eq!(
            entity_digest("order:1"),
            page("quipu.entity.v1", &[b"order:1"])[..16]
        );
        assert_eq!(
            key_digest(b"retry-1"),
            page("quipu.key.v1", &[b"retry-1"])[..16]
        );
        assert_eq!(hex(&entity_digest("order:1")), ENTITY_GOLDEN);
        assert_eq!(hex(&key_digest(b"retry-1")), KEY_GOLDEN);
    }

    #[test]
    fn content_digest_is_as_on_the_page() {
        let mut content = ContentDigest::new(2);
        content.push(
            "order:1",
            "shop",
            "order.placed",
            1,
            &[1; 32],
            ["a", "b"].into_iter(),
        );
        content.push("order:2", "shop", "order.paid", 2, &[2; 32], [].into_iter());
        let digest = content.finish();
        let parts: [&[u8]; 15] = [
            &number(2),
            &string("order:1"),
            &string("shop"),
            &string("order.placed"),
            &[1, 0],
            &[1; 32],
            &number(2),
            &string("a"),
            &string("b"),
            &string("order:2"),
            &string("shop"),
            &string("order.paid"),
            &[2, 0],
            &[2; 32],
            &number(0),
        ];
        assert_eq!(digest, page("quipu.content.v1", &parts)[..16]);
        assert_eq!(hex(&digest), CONTENT_GOLDEN);
    }

    #[test]
    fn event_hash_is_as_on_the_page() {
        let parts: [&[u8]; 11] = [
            &number(10),
            &number(3),
            &number(7),
            &number(1_700_000_000_000_000_000),
            &[1; 16],
            &[2; 16],
            &[1, 0, 0, 0],
            &[2, 0, 0, 0],
            &[3; 16],
            &[4; 16],
            &[5; 32],
        ];
        assert_eq!(event_hash(&kept()), page("quipu.event.v1", &parts));
        assert_eq!(hex(&event_hash(&kept())), EVENT_GOLDEN);
    }

    #[test]
    fn the_running_digest_depends_on_order() {
        let first = fold_digest(&[0; 32], &[1; 32]);
        assert_eq!(first, page("quipu.digest.v1", &[&[0; 32], &[1; 32]]));
        assert_eq!(hex(&first), DIGEST_GOLDEN);
        let there = fold_digest(&first, &[2; 32]);
        let back = fold_digest(&fold_digest(&[0; 32], &[2; 32]), &[1; 32]);
        assert_ne!(there, back);
    }
}
