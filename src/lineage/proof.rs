//! The proof of one event after the other: its hash from its parts, its place in its stream and batch, its parents.
//!
//! Events come in order of position. What they link to was met just before or is looked up as any reader would, so that
//! memory is bounded whatever the store holds. Once events were passed over, what does not fit is without proof and not
//! wrong. Runs on the thread that verifies.

use std::error::Error;
use std::io;

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::hash::{ContentDigest, entity_digest, fold_digest, payload_hash, rest_digest};
use crate::event::id::EventId;
use crate::format::record::{Kept, Record};
use crate::index::layers::Layers;
use crate::index::picture::Picture;
use crate::lineage::recent::{Filter, Memory, Recent};
use crate::log::hashes::{facts_with, hash_of};

/// The last event of an entity.
#[derive(Clone, Copy, Debug)]
struct Last {
    revision: u64,
    position: u64,
    hash: [u8; 32],
}

impl From<Kept> for Last {
    fn from(kept: Kept) -> Self {
        Self {
            revision: kept.stream.revision,
            position: kept.position,
            hash: kept.hash,
        }
    }
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proven,
    /// An event that it links to is damaged or was passed over.
    Unproven,
    Wrong(String),
}

/// An event that another one links to.
enum Link<T> {
    Found(T),
    Absent,
    /// It cannot be read, or may stand among events that were passed over.
    Unknown,
}

/// The state between two events.
pub(super) struct Prover<'a> {
    layers: &'a Layers,
    heads: Recent<Last>,
    hashes: Recent<[u8; 32]>,
    keys: Recent<()>,
    /// Ids and keys together.
    met: Filter,
    /// Of the submission under way, if it has a key and no stub: what was met of its content, and what its key says.
    content: Option<(ContentDigest, [u8; 16])>,
    /// Index and length of the batch whose next event is to come.
    batch: Option<(u32, u32)>,
    recorded_at: u64,
    digest: [u8; 32],
    /// Whether no event was passed over.
    complete: bool,
}

impl<'a> Prover<'a> {
    /// Begins before the first of `events` events.
    pub(super) fn new(layers: &'a Layers, events: u64) -> Self {
        Self {
            layers,
            heads: Recent::for_keys(events),
            hashes: Recent::for_keys(events),
            keys: Recent::for_keys(events),
            met: Filter::for_keys(events),
            content: None,
            batch: None,
            recorded_at: 0,
            digest: [0; 32],
            complete: true,
        }
    }

    /// The running digest after the last event.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Goes on from another digest, once it was said that the one folded is not the one written.
    pub(super) fn go_on_from(&mut self, digest: [u8; 32]) {
        self.digest = digest;
    }

    /// Goes on behind events that were not seen.
    pub(super) fn pass_over(&mut self, recorded_at: u64, digest: [u8; 32]) {
        self.complete = false;
        self.batch = None;
        self.content = None;
        self.recorded_at = recorded_at;
        self.digest = digest;
    }

    /// Whether a batch is whole at the end of a group.
    pub(super) fn end_group(&mut self) -> bool {
        self.batch.take().is_none()
    }

    /// Proves the next event, at `position`; `frame` is the one that the record was read from.
    pub(super) fn prove(
        &mut self,
        record: &Record,
        frame: &[u8],
        position: u64,
    ) -> Result<Verdict> {
        let kept = record.kept(frame, position);
        let (entity, name) = match record {
            Record::Event(layout) => {
                let name = layout.entity(frame);
                (entity_digest(name), Some(name))
            }
            Record::Stub(stub) => (stub.entity_digest, None),
        };
        let payload = match record {
            Record::Event(layout) => payload_hash(layout.payload(frame)),
            Record::Stub(_) => [0; 32],
        };
        let before = self.before(&kept, &entity, name)?;
        let wrong = match self.place_is_wrong(&kept).or(self.is_repeated(&kept)?) {
            Some(what) => Some(what),
            None => self.content_is_wrong(record, frame, &kept, &payload),
        };
        let verdict = match wrong {
            Some(what) => Verdict::Wrong(what.to_owned()),
            None => self.judge(record, (frame, &payload), &kept, &entity, before)?,
        };
        self.enter(&kept, &entity);
        Ok(verdict)
    }

    /// What was taken before: an id, or the key of a submission. Behind events that were not seen nobody can tell.
    fn is_repeated(&self, kept: &Kept) -> Result<Option<&'static str>> {
        if !self.complete {
            return Ok(None);
        }
        let picture = self.picture_before(kept.position);
        let find = || picture.position_of(&kept.id, 0);
        if self.is_known(self.hashes.of(&kept.id), &kept.id, find)? {
            return Ok(Some("its id is that of an event before it"));
        }
        let Some(key) = kept.key.map(|digests| digests.key) else {
            return Ok(None);
        };
        let find = || picture.position_of_key(&key, 0);
        let is_known = self.is_known(self.keys.of(&key), &key, find)?;
        Ok(is_known.then_some("its key is that of a submission before it"))
    }

    /// Whether something was met, or else `find` finds it; where an index is damaged, nothing is said of what it has.
    fn is_known<T>(
        &self,
        memory: Memory<T>,
        key: &[u8; 16],
        find: impl FnOnce() -> Result<Option<u64>>,
    ) -> Result<bool> {
        match memory {
            Memory::Met(_) => Ok(true),
            Memory::Forgotten if self.met.may_have_met(key) => match find() {
                Err(error) if is_damage(&error) => Ok(false),
                found => Ok(found?.is_some()),
            },
            Memory::Never | Memory::Forgotten => Ok(false),
        }
    }

    /// Compares, with the last event of a submission that has a key, what the key was given for with what is there.
    fn content_is_wrong(
        &mut self,
        record: &Record,
        frame: &[u8],
        kept: &Kept,
        payload: &[u8; 32],
    ) -> Option<&'static str> {
        let count = usize::try_from(kept.batch.len).unwrap_or(usize::MAX);
        if kept.batch.index == 0 {
            self.content = kept.key.map(|key| (ContentDigest::new(count), key.content));
        }
        let Record::Event(layout) = record else {
            self.content = None;
            return None;
        };
        let (content, _) = self.content.as_mut()?;
        content.push(
            layout.entity(frame),
            layout.scope(frame),
            layout.kind(frame),
            layout.schema_version,
            payload,
            layout.tags(frame),
        );
        let is_last = kept.batch.index.saturating_add(1) == kept.batch.len;
        let (content, expected) = self.content.take_if(|_| is_last)?;
        (content.finish() != expected).then_some("its submission is not what its key was given for")
    }

    fn judge(
        &self,
        record: &Record,
        (frame, payload): (&[u8], &[u8; 32]),
        kept: &Kept,
        entity: &[u8; 16],
        before: Link<Last>,
    ) -> Result<Verdict> {
        let previous = match stream_fits(kept, before) {
            Link::Found(hash) => hash,
            Link::Absent if self.complete => return Ok(Verdict::Wrong(self.misplaced(kept))),
            Link::Absent | Link::Unknown => return Ok(Verdict::Unproven),
        };
        let rest = match record {
            Record::Stub(stub) => stub.rest,
            Record::Event(layout) => {
                let mut parents = Vec::with_capacity(layout.parents(frame).len());
                for id in layout.parents(frame) {
                    match self.parent(&id, kept.position)? {
                        Link::Found(hash) => parents.push(hash),
                        Link::Absent if self.complete => {
                            let id = EventId::from_bytes(id);
                            return Ok(Verdict::Wrong(format!("its parent {id} is not before it")));
                        }
                        Link::Absent | Link::Unknown => return Ok(Verdict::Unproven),
                    }
                }
                rest_digest(
                    &facts_with(layout, frame, payload),
                    &previous,
                    parents.into_iter(),
                )
            }
        };
        Ok(match hash_of(kept, entity, &rest) == kept.hash {
            true => Verdict::Proven,
            false => Verdict::Wrong(String::from("its hash is not that of its parts")),
        })
    }

    /// What no other event is needed for: batch and recorded time.
    fn place_is_wrong(&self, kept: &Kept) -> Option<&'static str> {
        let (index, len) = (kept.batch.index, kept.batch.len);
        let next = self.batch.unwrap_or((0, len));
        let last_moment = self.recorded_at == u64::MAX && kept.recorded_at == u64::MAX;
        if (index, len) != next {
            Some("it is not the next event of its batch")
        } else if index > 0 && kept.key.is_some() {
            Some("it has a key and is not the first event of its submission")
        } else if kept.recorded_at <= self.recorded_at && !last_moment {
            Some("it was not recorded after the event before it")
        } else {
            None
        }
    }

    fn misplaced(&self, kept: &Kept) -> String {
        format!(
            "it is revision {} behind position {}, and its entity's last event is another",
            kept.stream.revision, kept.stream.previous_position
        )
    }

    fn enter(&mut self, kept: &Kept, entity: &[u8; 16]) {
        let next = kept.batch.index.saturating_add(1);
        self.batch = (next < kept.batch.len).then_some((next, kept.batch.len));
        self.recorded_at = kept.recorded_at;
        self.digest = fold_digest(&self.digest, &kept.hash);
        self.hashes.meet(&kept.id, kept.hash);
        self.met.meet(&kept.id);
        if let Some(digests) = kept.key {
            self.keys.meet(&digests.key, ());
            self.met.meet(&digests.key);
        }
        self.heads.meet(entity, Last::from(*kept));
    }

    /// The entity's last event before this one.
    fn before(&self, kept: &Kept, entity: &[u8; 16], name: Option<&str>) -> Result<Link<Last>> {
        match self.heads.of(entity) {
            Memory::Met(head)
                if self.complete || head.position == kept.stream.previous_position =>
            {
                return Ok(Link::Found(head));
            }
            Memory::Never if self.complete => return Ok(Link::Absent),
            _ => {}
        }
        let picture = self.picture_before(kept.position);
        let found = match name {
            Some(name) => picture.head_of(name, entity, 0).map(|found| {
                found.map(|head| Last {
                    revision: head.revision,
                    position: head.position,
                    hash: head.hash,
                })
            }),
            // Its name is gone, so that its entity cannot be searched for; what it names is there or not.
            None => {
                let found = picture.kept(kept.stream.previous_position);
                found.map(|found| found.map(Last::from))
            }
        };
        self.link(found)
    }

    fn parent(&self, id: &[u8; 16], position: u64) -> Result<Link<[u8; 32]>> {
        match self.hashes.of(id) {
            Memory::Met(hash) => return Ok(Link::Found(hash)),
            Memory::Never if self.complete => return Ok(Link::Absent),
            _ => {}
        }
        let picture = self.picture_before(position);
        let found = picture.position_of(id, 0).and_then(|found| match found {
            Some(position) => Ok(picture.kept(position)?.map(|kept| kept.hash)),
            None => Ok(None),
        });
        self.link(found)
    }

    fn picture_before(&self, position: u64) -> Picture<'a> {
        Picture {
            layers: self.layers,
            upto: position.saturating_sub(1),
            staged: None,
        }
    }

    /// A lookup that met damage leaves its event without proof: the damage itself is met where it stands.
    fn link<T>(&self, found: Result<Option<T>>) -> Result<Link<T>> {
        match found {
            Ok(Some(found)) => Ok(Link::Found(found)),
            Ok(None) if self.complete => Ok(Link::Absent),
            Ok(None) => Ok(Link::Unknown),
            Err(error) if is_damage(&error) => Ok(Link::Unknown),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error says that bytes are damaged or their file is not there, and not that they cannot be read.
pub(super) fn is_damage(error: &StoreError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref());
    let gone = source.is_some_and(|e: &io::Error| e.kind() == io::ErrorKind::NotFound);
    error.kind() == StoreErrorKind::Corrupt || gone
}

/// The hash of the event before it in its stream, zeros if it is the first; absent if they do not fit.
fn stream_fits(kept: &Kept, before: Link<Last>) -> Link<[u8; 32]> {
    let (revision, position, hash) = match before {
        Link::Found(head) => (head.revision, head.position, head.hash),
        Link::Absent => (0, 0, [0; 32]),
        Link::Unknown => return Link::Unknown,
    };
    let fits = kept.stream.revision.checked_sub(1) == Some(revision)
        && kept.stream.previous_position == position;
    match fits {
        true => Link::Found(hash),
        false => Link::Absent,
    }
}
