//! The parts of a head that an event and its stub have in common (`docs/format.md`, section 5).
//!
//! What stays when content is removed is written and read here only, so that both mean the same.

use super::codec::{DecodeError, Reader, put_varint};

// The common parts have the low seven bits, so that most events' parts are a varint of one byte.
pub(super) const PART_BATCH: u64 = 1;
pub(super) const PART_TAGS: u64 = 1 << 1;
pub(super) const PART_KEY: u64 = 1 << 2;
pub(super) const PART_CORRELATION: u64 = 1 << 3;
pub(super) const PART_PARENTS: u64 = 1 << 4;
pub(super) const PART_OCCURRED: u64 = 1 << 5;
pub(super) const PART_METADATA: u64 = 1 << 6;
pub(super) const PART_SCHEMA: u64 = 1 << 7;
pub(super) const PART_FORM: u64 = 1 << 8;
pub(super) const PART_EXTENSION: u64 = 1 << 9;
/// The parts that most events have some of.
pub(super) const COMMON_PARTS: u64 = (1 << 7) - 1;
/// The parts that this version reads and writes.
pub(super) const KNOWN_PARTS: u64 = COMMON_PARTS | PART_SCHEMA;
/// The parts that a stub keeps.
const STUB_PARTS: u64 = PART_KEY | PART_BATCH;

/// The digests that make a retry recognisable; in the first event of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyDigests {
    /// Digest of the idempotency key.
    pub(crate) key: [u8; 16],
    /// Digest of the submission's content.
    pub(crate) content: [u8; 16],
}

/// The event's place in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchPlace {
    /// Index in the batch, from 0.
    pub(crate) index: u32,
    /// How many events the batch has, 1 or more.
    pub(crate) len: u32,
}

impl BatchPlace {
    /// An event that came alone.
    pub(crate) const ALONE: Self = Self { index: 0, len: 1 };
}

/// The event's place in its entity's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamPlace {
    /// Revision, from 1.
    pub(crate) revision: u64,
    /// Position of the entity's previous event, 0 if there is none.
    pub(crate) previous_position: u64,
}

/// What an event and its stub have in common: it is true of both, and stays for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Position.
    pub(crate) position: u64,
    /// Event id.
    pub(crate) id: [u8; 16],
    /// Recorded time in nanoseconds.
    pub(crate) recorded_at: u64,
    /// Event hash.
    pub(crate) hash: [u8; 32],
    /// Revision and previous position.
    pub(crate) stream: StreamPlace,
    /// Index in and length of the batch.
    pub(crate) batch: BatchPlace,
    /// Key and content digests.
    pub(crate) key: Option<KeyDigests>,
    /// Whether it was read from a stub: the rest of the event is gone.
    pub(crate) is_removed: bool,
}

/// The part bits of what a stub keeps, too.
pub(super) fn kept_parts(batch: BatchPlace, key: Option<KeyDigests>) -> u64 {
    part(PART_BATCH, batch != BatchPlace::ALONE) | part(PART_KEY, key.is_some())
}

pub(super) fn part(bit: u64, present: bool) -> u64 {
    if present { bit } else { 0 }
}

/// Appends revision and the distance to the entity's previous event.
#[inline]
pub(super) fn put_stream(out: &mut Vec<u8>, position: u64, stream: StreamPlace) {
    put_varint(out, stream.revision);
    let distance = match stream.previous_position {
        0 => 0,
        previous => position
            .checked_sub(previous)
            .expect("the previous event stands before"),
    };
    put_varint(out, distance);
}

/// Appends the parts batch and key.
#[inline]
pub(super) fn put_kept(out: &mut Vec<u8>, batch: BatchPlace, key: Option<KeyDigests>) {
    if batch != BatchPlace::ALONE {
        put_varint(out, u64::from(batch.index));
        put_varint(out, u64::from(batch.len));
    }
    if let Some(digests) = key {
        out.extend_from_slice(&digests.key);
        out.extend_from_slice(&digests.content);
    }
}

/// Reads what [`put_stream`] wrote.
#[inline]
pub(super) fn read_stream(
    reader: &mut Reader<'_>,
    position: u64,
) -> Result<StreamPlace, DecodeError> {
    let revision = reader.varint()?;
    let distance = reader.varint()?;
    if revision == 0 || distance >= position || (revision == 1) != (distance == 0) {
        return Err(DecodeError::Corrupt(
            "revision and previous position do not fit",
        ));
    }
    let previous_position = if distance == 0 {
        0
    } else {
        position - distance
    };
    Ok(StreamPlace {
        revision,
        previous_position,
    })
}

/// Reads the part batch.
#[inline]
pub(super) fn read_batch(reader: &mut Reader<'_>, parts: u64) -> Result<BatchPlace, DecodeError> {
    if parts & PART_BATCH == 0 {
        return Ok(BatchPlace::ALONE);
    }
    let place = BatchPlace {
        index: reader.varint32()?,
        len: reader.varint32()?,
    };
    if place.len < 2 || place.index >= place.len {
        return Err(DecodeError::Corrupt(
            "the place in the batch is out of range",
        ));
    }
    Ok(place)
}

/// Reads the part key.
#[inline]
pub(super) fn read_key(
    reader: &mut Reader<'_>,
    parts: u64,
) -> Result<Option<KeyDigests>, DecodeError> {
    if parts & PART_KEY == 0 {
        return Ok(None);
    }
    Ok(Some(KeyDigests {
        key: reader.array()?,
        content: reader.array()?,
    }))
}

/// Refuses parts that an event cannot have.
#[cold]
pub(super) fn check_event_parts(parts: u64) -> Result<(), DecodeError> {
    if parts & !KNOWN_PARTS == 0 {
        return Ok(());
    }
    Err(DecodeError::Unsupported(if parts & PART_FORM != 0 {
        "a payload form of a newer format"
    } else if parts & PART_EXTENSION != 0 {
        "an extension of a newer format"
    } else {
        "parts of a newer format"
    }))
}

/// Refuses parts that a stub cannot have.
pub(super) fn check_stub_parts(parts: u64) -> Result<(), DecodeError> {
    if parts & !STUB_PARTS == 0 {
        Ok(())
    } else {
        Err(DecodeError::Unsupported("a stub's parts of a newer format"))
    }
}
