//! An event's frame: written from borrowed parts, read into a small layout (`docs/format.md`, 5).
//!
//! Writing allocates nothing but what the reused buffer lacks. Reading checks the head once; the
//! layout then finds every part again in the same frame, and the payload is checked when asked for.

use core::str;

use super::codec::{DecodeError, Reader, put_block, put_u16, put_u64, put_varint};
use super::crc::Seed;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, KIND_EVENT, KIND_STUB, encode_frame};
pub(crate) use super::kept::{BatchPlace, Kept, KeyDigests, StreamPlace};
use super::kept::{
    COMMON_PARTS, PART_CORRELATION, PART_KEY, PART_METADATA, PART_OCCURRED, PART_PARENTS,
    PART_SCHEMA, PART_TAGS, check_event_parts, kept_parts, part, put_kept, put_stream, read_batch,
    read_stream,
};
use super::lists::text;
pub(crate) use super::lists::{MetadataList, ParentList, TagList};
use super::sidx::SidxRow;
use super::stub::StubFields;

/// Bytes of the head up to the first varint.
const FIXED_BYTES: usize = 56;
const ID_BYTES: usize = 16;
const RECORDED_AT: usize = 16;
const HASH_AT: usize = 24;
/// The schema version that is not written out.
const PLAIN_SCHEMA: u16 = 1;
const MAX_PARENTS: u8 = 64;
const MAX_LABELS: u8 = 32;

/// What an event's head is written from; `parents`, `tags` and `metadata` are iterated once.
#[derive(Debug, Clone)]
pub(crate) struct EventFields<'a, P, T, M> {
    /// Event id.
    pub(crate) id: [u8; 16],
    /// Recorded time in nanoseconds.
    pub(crate) recorded_at: u64,
    /// Event hash.
    pub(crate) hash: [u8; 32],
    /// Shape of the payload.
    pub(crate) schema_version: u16,
    /// Revision and previous position.
    pub(crate) stream: StreamPlace,
    /// Entity.
    pub(crate) entity: &'a str,
    /// Scope.
    pub(crate) scope: &'a str,
    /// Kind.
    pub(crate) kind: &'a str,
    /// Index in and length of the batch.
    pub(crate) batch: BatchPlace,
    /// Key and content digests.
    pub(crate) key: Option<KeyDigests>,
    /// Correlation; not written when it equals the id.
    pub(crate) correlation: [u8; 16],
    /// Occurred time in nanoseconds.
    pub(crate) occurred_at: Option<u64>,
    /// Ids of the parents, at most 64.
    pub(crate) parents: P,
    /// Tags in byte order, at most 32.
    pub(crate) tags: T,
    /// Key and value in byte order of the keys, at most 32.
    pub(crate) metadata: M,
}

/// Appends the frame of an event that stands at `offset` of its segment and at `position`.
///
/// Returns the head checksum, which the group's commit record covers.
#[inline]
pub(crate) fn encode_event<'a, P, T, M>(
    out: &mut Vec<u8>,
    seed: &Seed,
    offset: u64,
    position: u64,
    fields: EventFields<'a, P, T, M>,
    payload: &[u8],
) -> u32
where
    P: ExactSizeIterator<Item = [u8; 16]>,
    T: ExactSizeIterator<Item = &'a str>,
    M: ExactSizeIterator<Item = (&'a str, &'a str)>,
{
    encode_frame(out, seed, (offset, position), KIND_EVENT, payload, |out| {
        put_head(out, position, fields);
    })
}

fn put_head<'a, P, T, M>(out: &mut Vec<u8>, position: u64, fields: EventFields<'a, P, T, M>)
where
    P: ExactSizeIterator<Item = [u8; 16]>,
    T: ExactSizeIterator<Item = &'a str>,
    M: ExactSizeIterator<Item = (&'a str, &'a str)>,
{
    let correlation = (fields.correlation != fields.id).then_some(fields.correlation);
    let parts = kept_parts(fields.batch, fields.key)
        | part(PART_SCHEMA, fields.schema_version != PLAIN_SCHEMA)
        | part(PART_CORRELATION, correlation.is_some())
        | part(PART_OCCURRED, fields.occurred_at.is_some())
        | part(PART_PARENTS, fields.parents.len() > 0)
        | part(PART_TAGS, fields.tags.len() > 0)
        | part(PART_METADATA, fields.metadata.len() > 0);
    out.extend_from_slice(&fields.id);
    put_u64(out, fields.recorded_at);
    out.extend_from_slice(&fields.hash);
    put_varint(out, parts);
    put_stream(out, position, fields.stream);
    put_block(out, fields.entity.as_bytes());
    put_block(out, fields.scope.as_bytes());
    put_block(out, fields.kind.as_bytes());
    if fields.schema_version != PLAIN_SCHEMA {
        put_u16(out, fields.schema_version);
    }
    put_kept(out, fields.batch, fields.key);
    if let Some(correlation) = correlation {
        out.extend_from_slice(&correlation);
    }
    if let Some(occurred_at) = fields.occurred_at {
        put_u64(out, occurred_at);
    }
    if fields.parents.len() > 0 {
        put_count(out, fields.parents.len());
        fields
            .parents
            .for_each(|parent| out.extend_from_slice(&parent));
    }
    if fields.tags.len() > 0 {
        put_count(out, fields.tags.len());
        fields.tags.for_each(|tag| put_block(out, tag.as_bytes()));
    }
    if fields.metadata.len() > 0 {
        put_count(out, fields.metadata.len());
        for (key, value) in fields.metadata {
            put_block(out, key.as_bytes());
            put_block(out, value.as_bytes());
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.push(u8::try_from(count).expect("parents, tags and metadata are at most 64"));
}

/// A frame that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// An event.
    Event(RecordLayout),
    /// What stays of an event whose content was removed.
    Stub(StubFields),
}

impl Record {
    /// Reads the frame at the front of `frame`, which stands at `offset` and is the event at `position`.
    ///
    /// Checks the head completely; of the payload only that it is all there.
    #[inline]
    pub(crate) fn decode(
        frame: &[u8],
        seed: &Seed,
        offset: u64,
        position: u64,
    ) -> Result<Self, DecodeError> {
        let header = FrameHeader::decode(frame)?;
        let head = header.head(frame, seed, offset, position)?;
        // A stub's payload is known without being read.
        if header.kind == KIND_STUB && header.payload_crc != seed.crc(&[]) {
            return Err(DecodeError::Corrupt("a stub has a payload"));
        }
        Self::read(&header, head, position)
    }

    /// Reads a frame whose checksums, both of them, were just found to hold where it stands.
    pub(crate) fn of_checked(frame: &[u8], position: u64) -> Result<Self, DecodeError> {
        let header = FrameHeader::decode(frame)?;
        let head = frame.get(FRAME_HEADER_BYTES..header.payload_at());
        Self::read(&header, head.unwrap_or_default(), position)
    }

    #[inline]
    fn read(header: &FrameHeader, head: &[u8], position: u64) -> Result<Self, DecodeError> {
        match header.kind {
            KIND_EVENT => RecordLayout::read(header, head, position).map(Self::Event),
            KIND_STUB => StubFields::read(header, head, position).map(Self::Stub),
            _ => Err(DecodeError::Unsupported("a frame kind of a newer format")),
        }
    }

    /// What does not depend on whether it is an event or a stub; `frame` is the one it was read from.
    pub(crate) fn kept(&self, frame: &[u8], position: u64) -> Kept {
        match self {
            Self::Event(layout) => Kept {
                position,
                id: layout.id(frame),
                recorded_at: layout.recorded_at(frame),
                hash: layout.hash(frame),
                stream: StreamPlace {
                    revision: layout.revision,
                    previous_position: layout.previous_position,
                },
                batch: layout.batch,
                key: layout.key(frame),
                is_removed: false,
            },
            Self::Stub(stub) => Kept {
                position,
                id: stub.id,
                recorded_at: stub.recorded_at,
                hash: stub.hash,
                stream: stub.stream,
                batch: stub.batch,
                key: stub.key,
                is_removed: true,
            },
        }
    }

    /// What it adds to an index; `frame` is the one it was read from, and stands at `offset`.
    pub(crate) fn row<'a>(
        &self,
        frame: &'a [u8],
        offset: u32,
    ) -> SidxRow<'a, TagList<'a>, ParentList<'a>> {
        match self {
            Self::Event(layout) => SidxRow {
                offset,
                recorded_at: layout.recorded_at(frame),
                id: layout.id(frame),
                entity: layout.entity(frame),
                scope: layout.scope(frame),
                kind: layout.kind(frame),
                tags: layout.tags(frame),
                correlation: Some(layout.correlation(frame)),
                key: layout.key(frame).map(|digests| digests.key),
                parents: layout.parents(frame),
                removed: None,
            },
            Self::Stub(stub) => SidxRow {
                offset,
                recorded_at: stub.recorded_at,
                id: stub.id,
                entity: "",
                scope: "",
                kind: "",
                tags: TagList::new(&[]),
                correlation: None,
                key: stub.key.map(|digests| digests.key),
                parents: ParentList::new(&[]),
                removed: Some(stub.entity_digest),
            },
        }
    }
}

/// A run of bytes in the head; offsets count from the head, which is at most 65,535 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Span {
    at: u16,
    len: u16,
}

impl Span {
    #[inline]
    fn of<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let at = FRAME_HEADER_BYTES + usize::from(self.at);
        frame
            .get(at..at + usize::from(self.len))
            .unwrap_or_default()
    }
}

/// Where an event's frame holds what; finds the parts in the frame it was read from.
///
/// The accessors take that frame and never panic: should a mapped frame have changed underneath,
/// text that is no longer UTF-8 reads as empty, and only a second decode tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordLayout {
    /// Revision, from 1.
    pub(crate) revision: u64,
    /// Position of the entity's previous event, 0 if there is none.
    pub(crate) previous_position: u64,
    /// Index in and length of the batch.
    pub(crate) batch: BatchPlace,
    /// The head checksum, for the group's.
    pub(crate) head_crc: u32,
    payload_crc: u32,
    payload_len: u32,
    head_len: u16,
    /// Shape of the payload.
    pub(crate) schema_version: u16,
    entity: Span,
    scope: Span,
    kind: Span,
    key: Span,
    correlation: Span,
    occurred: Span,
    parents: Span,
    tags: Span,
    metadata: Span,
}

impl RecordLayout {
    #[inline]
    fn read(header: &FrameHeader, head: &[u8], position: u64) -> Result<Self, DecodeError> {
        let reader = &mut Reader::new(head);
        let fixed = reader.bytes(FIXED_BYTES)?;
        let parts = reader.varint()?;
        // The common parts, one byte of bits, are all known.
        if parts > COMMON_PARTS {
            check_event_parts(parts)?;
        }
        let stream = read_stream(reader, position)?;
        let [entity, scope, kind] = read_names(reader)?;
        // The fields that read stand in the order of the parts.
        let layout = Self {
            revision: stream.revision,
            previous_position: stream.previous_position,
            schema_version: read_schema(reader, parts)?,
            batch: read_batch(reader, parts)?,
            head_crc: header.head_crc,
            payload_crc: header.payload_crc,
            payload_len: header.payload_len,
            head_len: header.head_len,
            entity,
            scope,
            kind,
            key: read_part(reader, parts & PART_KEY, skip::<32>)?,
            correlation: read_part(reader, parts & PART_CORRELATION, |reader| {
                read_correlation(reader, &fixed[..ID_BYTES])
            })?,
            occurred: read_part(reader, parts & PART_OCCURRED, skip::<8>)?,
            parents: read_part(reader, parts & PART_PARENTS, read_parents)?,
            tags: read_part(reader, parts & PART_TAGS, read_tags)?,
            metadata: read_part(reader, parts & PART_METADATA, read_metadata)?,
        };
        reader.finish()?;
        Ok(layout)
    }

    /// The event id.
    #[inline]
    pub(crate) fn id(&self, frame: &[u8]) -> [u8; 16] {
        fixed(frame, 0)
    }

    /// Recorded time in nanoseconds.
    #[inline]
    pub(crate) fn recorded_at(&self, frame: &[u8]) -> u64 {
        u64::from_le_bytes(fixed(frame, RECORDED_AT))
    }

    /// The event hash.
    #[inline]
    pub(crate) fn hash(&self, frame: &[u8]) -> [u8; 32] {
        fixed(frame, HASH_AT)
    }

    /// Key and content digests.
    #[inline]
    pub(crate) fn key(&self, frame: &[u8]) -> Option<KeyDigests> {
        let (key, content) = self.key.of(frame).split_first_chunk()?;
        Some(KeyDigests {
            key: *key,
            content: *content.first_chunk()?,
        })
    }

    /// Correlation, the id if none was given.
    #[inline]
    pub(crate) fn correlation(&self, frame: &[u8]) -> [u8; 16] {
        let given = self.correlation.of(frame).first_chunk();
        given.copied().unwrap_or_else(|| self.id(frame))
    }

    /// Occurred time in nanoseconds.
    #[inline]
    pub(crate) fn occurred_at(&self, frame: &[u8]) -> Option<u64> {
        let given = self.occurred.of(frame).first_chunk()?;
        Some(u64::from_le_bytes(*given))
    }

    /// The entity.
    #[inline]
    pub(crate) fn entity<'a>(&self, frame: &'a [u8]) -> &'a str {
        text(self.entity.of(frame))
    }

    /// The scope.
    #[inline]
    pub(crate) fn scope<'a>(&self, frame: &'a [u8]) -> &'a str {
        text(self.scope.of(frame))
    }

    /// The kind.
    #[inline]
    pub(crate) fn kind<'a>(&self, frame: &'a [u8]) -> &'a str {
        text(self.kind.of(frame))
    }

    /// Entity, scope and kind as they are compared.
    #[inline]
    pub(crate) fn names<'a>(&self, frame: &'a [u8]) -> [&'a [u8]; 3] {
        [self.entity, self.scope, self.kind].map(|span| span.of(frame))
    }

    /// The ids of the parents, in the order given.
    #[inline]
    pub(crate) fn parents<'a>(&self, frame: &'a [u8]) -> ParentList<'a> {
        ParentList::new(self.parents.of(frame))
    }

    /// The tags, in byte order.
    #[inline]
    pub(crate) fn tags<'a>(&self, frame: &'a [u8]) -> TagList<'a> {
        TagList::new(self.tags.of(frame))
    }

    /// The metadata, in byte order of the keys.
    #[inline]
    pub(crate) fn metadata<'a>(&self, frame: &'a [u8]) -> MetadataList<'a> {
        MetadataList::new(self.metadata.of(frame))
    }

    /// The payload, as it stands there; see [`Self::check_payload`].
    #[inline]
    pub(crate) fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let len = usize::try_from(self.payload_len).unwrap_or(usize::MAX);
        frame
            .get(self.payload_at()..)
            .and_then(|rest| rest.get(..len))
            .unwrap_or_default()
    }

    #[inline]
    fn payload_at(&self) -> usize {
        FRAME_HEADER_BYTES + usize::from(self.head_len)
    }

    /// Bytes of the payload.
    #[inline]
    pub(crate) fn payload_len(&self) -> u32 {
        self.payload_len
    }

    /// Returns whether the payload is the one that was written.
    #[inline]
    #[must_use]
    pub(crate) fn check_payload(&self, frame: &[u8], seed: &Seed) -> bool {
        let payload = self.payload(frame);
        payload.len() as u64 == u64::from(self.payload_len)
            && seed.crc(&[payload]) == self.payload_crc
    }
}

/// The event hash in the frame of an event or a stub that was checked.
pub(crate) fn hash_in(frame: &[u8]) -> [u8; 32] {
    // The heads of both begin alike.
    fixed(frame, HASH_AT)
}

/// The head's bytes from `at`, which lie before the first varint.
#[inline]
fn fixed<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    let rest = frame.get(FRAME_HEADER_BYTES + at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or([0; N])
}

/// The head's bytes `from..to` as a span.
#[inline]
fn span(from: usize, to: usize) -> Result<Span, DecodeError> {
    match (u16::try_from(from), u16::try_from(to)) {
        (Ok(at), Ok(end)) => Ok(Span { at, len: end - at }),
        _ => Err(DecodeError::Corrupt("the head is too long")),
    }
}

/// Reads entity, scope and kind.
#[inline]
fn read_names(reader: &mut Reader<'_>) -> Result<[Span; 3], DecodeError> {
    let all = reader.rest();
    let from = reader.at();
    let (entity, entity_at) = read_name(reader)?;
    let (scope, scope_at) = read_name(reader)?;
    let (kind, kind_at) = read_name(reader)?;
    check_texts(&all[..reader.at() - from], [entity, scope, kind])?;
    Ok([entity_at, scope_at, kind_at])
}

#[inline]
fn read_name<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Span), DecodeError> {
    let name = reader.block()?;
    if name.is_empty() {
        return Err(DecodeError::Corrupt("a name is empty"));
    }
    Ok((name, span(reader.at() - name.len(), reader.at())?))
}

/// Refuses texts that are not UTF-8; `all` are the bytes that hold them.
///
/// Most are ASCII, lengths included: one look at all is faster than one at each.
#[inline]
fn check_texts<'a>(
    all: &[u8],
    texts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), DecodeError> {
    if all.is_ascii() || texts.into_iter().all(|text| str::from_utf8(text).is_ok()) {
        Ok(())
    } else {
        Err(DecodeError::Corrupt("a text is not UTF-8"))
    }
}

#[inline]
fn read_schema(reader: &mut Reader<'_>, parts: u64) -> Result<u16, DecodeError> {
    if parts & PART_SCHEMA == 0 {
        return Ok(PLAIN_SCHEMA);
    }
    match reader.u16()? {
        PLAIN_SCHEMA => Err(DecodeError::Corrupt("schema version 1 is written out")),
        version => Ok(version),
    }
}

#[inline]
fn read_correlation(reader: &mut Reader<'_>, id: &[u8]) -> Result<(), DecodeError> {
    if reader.bytes(ID_BYTES)? == id {
        return Err(DecodeError::Corrupt("a correlation repeats the event's id"));
    }
    Ok(())
}

#[inline]
fn skip<const N: usize>(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.bytes(N).map(|_| ())
}

/// Reads one part, if present, and returns where it stands.
#[inline]
fn read_part(
    reader: &mut Reader<'_>,
    present: u64,
    read: impl FnOnce(&mut Reader<'_>) -> Result<(), DecodeError>,
) -> Result<Span, DecodeError> {
    if present == 0 {
        return Ok(Span::default());
    }
    let from = reader.at();
    read(reader)?;
    span(from, reader.at())
}

#[inline]
fn read_count(reader: &mut Reader<'_>, most: u8) -> Result<u8, DecodeError> {
    let count = reader.u8()?;
    if count == 0 || count > most {
        return Err(DecodeError::Corrupt("a part's count is out of range"));
    }
    Ok(count)
}

fn read_parents(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let count = read_count(reader, MAX_PARENTS)?;
    reader.bytes(16 * usize::from(count)).map(|_| ())
}

#[inline]
fn read_tags(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let mut before = None;
    for _ in 0..read_count(reader, MAX_LABELS)? {
        let tag = reader.block()?;
        check_texts(tag, [tag])?;
        if tag.is_empty() || before.is_some_and(|before| tag <= before) {
            return Err(DecodeError::Corrupt("tags are out of order"));
        }
        before = Some(tag);
    }
    Ok(())
}

#[inline]
fn read_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    str::from_utf8(reader.block()?).map_err(|_| DecodeError::Corrupt("a text is not UTF-8"))
}

fn read_metadata(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let mut before = "";
    for _ in 0..read_count(reader, MAX_LABELS)? {
        let key = read_text(reader)?;
        read_text(reader)?;
        if key <= before {
            return Err(DecodeError::Corrupt("metadata is out of order"));
        }
        before = key;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
