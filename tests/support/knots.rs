//! Section 6 of `docs/format.md` written a second time, from the page and not from the code.

/// What the hash of one event is made of.
pub(crate) struct Knot<'a> {
    pub(crate) position: u64,
    pub(crate) revision: u64,
    pub(crate) previous: u64,
    pub(crate) recorded_at: u64,
    pub(crate) id: [u8; 16],
    pub(crate) batch_index: u32,
    pub(crate) batch_len: u32,
    /// The key of the submission and its content digest, for its first event.
    pub(crate) key: Option<(&'a [u8], [u8; 16])>,
    pub(crate) entity: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) schema_version: u16,
    pub(crate) payload: &'a [u8],
    /// In byte order.
    pub(crate) tags: Vec<&'a str>,
    /// In byte order of the keys.
    pub(crate) metadata: Vec<(&'a str, &'a str)>,
    pub(crate) correlation: [u8; 16],
    pub(crate) occurred_at: Option<u64>,
    pub(crate) parents: Vec<[u8; 16]>,
    pub(crate) parent_hashes: Vec<[u8; 32]>,
    pub(crate) previous_hash: [u8; 32],
}

pub(crate) fn h(label: &str, input: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..label.len()].copy_from_slice(label.as_bytes());
    *blake3::keyed_hash(&key, input).as_bytes()
}

fn first_16(hash: [u8; 32]) -> [u8; 16] {
    hash[..16].try_into().unwrap()
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

/// The digest of what an idempotency key was used for.
pub(crate) fn content_digest(knots: &[Knot<'_>]) -> [u8; 16] {
    let mut out = Vec::new();
    count(&mut out, knots.len());
    for knot in knots {
        for name in [knot.entity, knot.scope, knot.kind] {
            string(&mut out, name);
        }
        out.extend_from_slice(&knot.schema_version.to_le_bytes());
        out.extend_from_slice(&h("quipu.payload.v1", knot.payload));
        count(&mut out, knot.tags.len());
        knot.tags.iter().for_each(|tag| string(&mut out, tag));
    }
    first_16(h("quipu.content.v1", &out))
}

fn labels_digest(knot: &Knot<'_>) -> [u8; 32] {
    if knot.tags.is_empty() && knot.metadata.is_empty() {
        return [0; 32];
    }
    let mut out = Vec::new();
    count(&mut out, knot.tags.len());
    knot.tags.iter().for_each(|tag| string(&mut out, tag));
    count(&mut out, knot.metadata.len());
    for (key, value) in &knot.metadata {
        string(&mut out, key);
        string(&mut out, value);
    }
    h("quipu.labels.v1", &out)
}

fn facts_digest(knot: &Knot<'_>) -> [u8; 32] {
    let mut out = Vec::new();
    out.extend_from_slice(&knot.schema_version.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    count(&mut out, knot.payload.len());
    out.extend_from_slice(&h("quipu.payload.v1", knot.payload));
    out.extend_from_slice(&labels_digest(knot));
    out.extend_from_slice(&knot.correlation);
    out.push(u8::from(knot.occurred_at.is_some()));
    out.extend_from_slice(&knot.occurred_at.unwrap_or(0).to_le_bytes());
    count(&mut out, knot.parents.len());
    knot.parents.iter().for_each(|id| out.extend_from_slice(id));
    for text in [knot.entity, knot.scope, knot.kind, "", ""] {
        string(&mut out, text);
    }
    h("quipu.facts.v1", &out)
}

/// The event hash.
pub(crate) fn event_hash(knot: &Knot<'_>) -> [u8; 32] {
    let mut rest = facts_digest(knot).to_vec();
    rest.extend_from_slice(&knot.previous_hash);
    knot.parent_hashes
        .iter()
        .for_each(|hash| rest.extend_from_slice(hash));
    let mut out = Vec::new();
    for number in [
        knot.position,
        knot.revision,
        knot.previous,
        knot.recorded_at,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&knot.id);
    out.extend_from_slice(&h("quipu.entity.v1", knot.entity.as_bytes())[..16]);
    out.extend_from_slice(&knot.batch_index.to_le_bytes());
    out.extend_from_slice(&knot.batch_len.to_le_bytes());
    let (key, content) = match knot.key {
        Some((key, content)) => (first_16(h("quipu.key.v1", key)), content),
        None => ([0; 16], [0; 16]),
    };
    out.extend_from_slice(&key);
    out.extend_from_slice(&content);
    out.extend_from_slice(&h("quipu.rest.v1", &rest));
    h("quipu.event.v1", &out)
}

/// The running digest after one more event.
pub(crate) fn fold(before: [u8; 32], hash: [u8; 32]) -> [u8; 32] {
    h("quipu.digest.v1", &[before, hash].concat())
}
