//! The group under way: submissions decided and encoded one after the other into one buffer.
//!
//! Runs in the writer's turn. What it stages enters the live index at once, above the visible mark; a submission that
//! fails, or a group that cannot be written, is taken back out completely.

use crate::engine::answers::{Answers, Ids, facts_of};
use crate::engine::decide::{Case, Decision, KnownParent, decide, head_of};
use crate::engine::heads::Heads;
use crate::engine::ticket::{Outcome, Responder};
use crate::engine::tombstone::closed_by;
use crate::error::{Result, StoreError};
use crate::event::batch::{KeyDigests, PreparedBatch};
use crate::event::condition::Durability;
use crate::event::digest::EventHash;
use crate::event::draft::PreparedEvent;
use crate::event::hash::{Kept, event_hash, fold_digest, rest_digest};
use crate::event::id::EventId;
use crate::event::kind::EventKind;
use crate::event::position::{Position, Revision};
use crate::event::receipt::Receipt;
use crate::event::timestamp::Timestamp;
use crate::format::crc::Seed;
use crate::format::group::{COMMIT_BYTES, Commit, GROUP_HEADER_BYTES, GroupHeader, GroupSum};
use crate::format::record::{self, BatchPlace, EventFields, StreamPlace, encode_event};
use crate::format::sidx::SidxRow;
use crate::index::layer::Layer;
use crate::index::layers::Layers;
use crate::index::picture::{Picture, StreamHead};
use crate::log::scan::{Mark, Tip};
use crate::log::segment::Staged;

/// What a caller hands to the writer.
pub(crate) struct Submission {
    pub(crate) batch: PreparedBatch,
    pub(crate) ids: Ids,
    pub(crate) answers: Answers,
    pub(crate) durability: Durability,
    /// No group needs more bytes for it than this.
    pub(crate) size_bound: u64,
    pub(crate) responder: Responder,
}

/// A submission that waits for the group's fate.
pub(crate) struct Waiting {
    pub(crate) responder: Responder,
    pub(crate) outcome: Outcome,
}

/// What staging needs of the writer beside the group.
pub(crate) struct Desk<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) live: &'a Layer,
    pub(crate) seed: &'a Seed,
    pub(crate) heads: &'a mut Heads,
    /// The store's clock, read once for the group.
    pub(crate) now: u64,
    /// The last position known durable.
    pub(crate) durable: u64,
}

/// A group being staged.
pub(crate) struct Group {
    /// Header, frames and, once finished, commit record.
    pub(crate) bytes: Vec<u8>,
    head_crcs: Vec<u32>,
    before: Tip,
    /// The end of the log once this group is written.
    pub(crate) tip: Tip,
    pub(crate) waiting: Vec<Waiting>,
    /// Whether anyone waits for the disk.
    pub(crate) wants_sync: bool,
}

/// The event being staged: its place.
struct Place {
    position: u64,
    recorded_at: u64,
    batch: BatchPlace,
    stream: StreamPlace,
    previous_hash: [u8; 32],
}

impl Group {
    /// An empty group behind `tip`; `bytes` is reused.
    pub(crate) fn begin(tip: Tip, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(GROUP_HEADER_BYTES, 0);
        Self {
            bytes,
            head_crcs: Vec::new(),
            before: tip,
            tip,
            waiting: Vec::new(),
            wants_sync: false,
        }
    }

    /// The same group, still empty of events, behind another tip.
    pub(crate) fn moved_to(self, tip: Tip) -> Self {
        let Self {
            bytes,
            waiting,
            wants_sync,
            ..
        } = self;
        Self {
            waiting,
            wants_sync,
            ..Self::begin(tip, bytes)
        }
    }

    /// How many events it has.
    pub(crate) fn events(&self) -> usize {
        self.head_crcs.len()
    }

    /// How long it will be with a submission of `more` bytes.
    pub(crate) fn bytes_with(&self, more: u64) -> u64 {
        self.bytes.len() as u64 + COMMIT_BYTES as u64 + more
    }

    pub(crate) fn start(&self) -> u64 {
        self.before.mark.offset
    }

    fn staged(&self) -> Staged<'_> {
        Staged {
            segment: self.before.mark.segment,
            start: self.start(),
            bytes: &self.bytes,
        }
    }

    /// Decides a submission and stages its events; whatever comes of it waits for the group.
    pub(crate) fn add(&mut self, submission: Submission, desk: &mut Desk<'_>) {
        let outcome = self.decide_and_stage(&submission, desk);
        if submission.durability == Durability::Sync {
            let named = match &outcome {
                Ok(receipts) => receipts.last().map_or(0, |r| r.position.get()),
                Err(error) => error.in_the_way().iter().copied().max().unwrap_or(0),
            };
            self.wants_sync |= named > desk.durable;
        }
        self.waiting.push(Waiting {
            responder: submission.responder,
            outcome,
        });
    }

    fn decide_and_stage(&mut self, submission: &Submission, desk: &mut Desk<'_>) -> Outcome {
        let now = Picture {
            layers: desk.layers,
            upto: self.tip.position,
            staged: Some(self.staged()),
        };
        let case = Case {
            batch: &submission.batch,
            ids: &submission.ids,
            answers: &submission.answers,
            now: &now,
            heads: desk.heads,
        };
        let parents = match decide(&case)? {
            Decision::Replay(receipts) => return Ok(receipts),
            Decision::Accept(parents) => parents,
        };
        let savepoint = (
            self.bytes.len(),
            self.head_crcs.len(),
            self.tip,
            desk.heads.savepoint(),
        );
        let staged = self.stage(submission, &parents, desk);
        if staged.is_err() {
            let (bytes, crcs, tip, heads) = savepoint;
            self.bytes.truncate(bytes);
            self.head_crcs.truncate(crcs);
            self.tip = tip;
            desk.heads.roll_back(heads);
            take_back_rows(desk.live, tip.position);
        }
        staged
    }

    fn stage(
        &mut self,
        submission: &Submission,
        parents: &[KnownParent],
        desk: &mut Desk<'_>,
    ) -> Outcome {
        let mut receipts: Vec<Receipt> = Vec::with_capacity(submission.batch.events.len());
        let mut correlations: Vec<[u8; 16]> = Vec::new();
        let mut parents = parents.iter();
        for (index, event) in submission.batch.events.iter().enumerate() {
            let own: &[KnownParent] = take(&mut parents, event.parents.len());
            let correlation = match submission
                .answers
                .correlations
                .get(index)
                .copied()
                .flatten()
            {
                Some(correlation) => correlation,
                None => correlation_of(own, &correlations),
            };
            let facts = match submission.answers.facts.get(index).copied().flatten() {
                Some(facts) => facts,
                None => facts_of(event, &correlation),
            };
            let place = self.place(submission, index, event, desk)?;
            let hashes = own.iter().map(|parent| match parent {
                KnownParent::Stored(parent) => parent.hash,
                KnownParent::Earlier(at) => {
                    receipts.get(*at).map_or([0; 32], |r| *r.hash.as_bytes())
                }
            });
            let rest = rest_digest(&facts, &place.previous_hash, hashes);
            receipts.push(self.put(submission, index, event, &place, correlation, &rest, desk));
            correlations.push(correlation);
        }
        Ok(receipts)
    }

    /// Assigns position, revision, time and links; nothing follows a tombstone.
    fn place(
        &self,
        submission: &Submission,
        index: usize,
        event: &PreparedEvent,
        desk: &Desk<'_>,
    ) -> Result<Place> {
        let now = Picture {
            layers: desk.layers,
            upto: self.tip.position,
            staged: Some(self.staged()),
        };
        let case = Case {
            batch: &submission.batch,
            ids: &submission.ids,
            answers: &submission.answers,
            now: &now,
            heads: desk.heads,
        };
        let answered = submission.answers.heads.get(index).copied().flatten();
        let head = head_of(
            &case,
            event.coordinate.entity(),
            &event.entity_digest,
            answered,
        )?;
        if let Some(end) = head.filter(|head| head.is_closed) {
            return Err(closed_by(event.coordinate.entity(), &end));
        }
        let count = |n: usize| {
            u32::try_from(n).map_err(|_| StoreError::argument("a batch has more than 2^32 events"))
        };
        Ok(Place {
            position: self.tip.position + 1,
            recorded_at: desk.now.max(self.tip.recorded_at.saturating_add(1)),
            batch: BatchPlace {
                index: count(index)?,
                len: count(submission.batch.events.len())?,
            },
            stream: StreamPlace {
                revision: head.map_or(1, |h| h.revision + 1),
                previous_position: head.map_or(0, |h| h.position),
            },
            previous_hash: head.map_or([0; 32], |h| h.hash),
        })
    }

    /// Hashes and encodes one event, and enters it into heads and live index.
    #[expect(
        clippy::too_many_arguments,
        reason = "the event, its place and the links are all of it"
    )]
    fn put(
        &mut self,
        submission: &Submission,
        index: usize,
        event: &PreparedEvent,
        place: &Place,
        correlation: [u8; 16],
        rest: &[u8; 32],
        desk: &mut Desk<'_>,
    ) -> Receipt {
        let id = submission.ids.of(index);
        let key = submission.batch.key.filter(|_| index == 0);
        let hash = hash_of(&id, event, place, key, rest);
        let offset = self.start() + self.bytes.len() as u64;
        let head_crc = encode_event(
            &mut self.bytes,
            desk.seed,
            offset,
            place.position,
            fields_of(&id, event, place, key, correlation, hash),
            &event.payload,
        );
        self.head_crcs.push(head_crc);
        self.tip = Tip {
            position: place.position,
            recorded_at: place.recorded_at,
            digest: fold_digest(&self.tip.digest, &hash),
            ..self.tip
        };
        let head = StreamHead {
            revision: place.stream.revision,
            position: place.position,
            hash,
            is_closed: event.kind == EventKind::TOMBSTONE,
        };
        desk.heads.set(event.entity_digest, head);
        enter(desk.live, offset, &id, event, place, key, correlation);
        Receipt {
            id: EventId::from_bytes(id),
            position: Position::new(place.position),
            revision: Revision::new(place.stream.revision),
            recorded_at: Timestamp::from_nanos(place.recorded_at),
            hash: EventHash::from_bytes(hash),
            durable: false,
            replay: false,
        }
    }

    /// Writes header and commit record around the frames.
    pub(crate) fn finish(&mut self, seed: &Seed, synced: Mark) -> Result<()> {
        let too_large = |_| StoreError::argument("a group is longer than 4 GiB");
        let length = u32::try_from(self.bytes.len() + COMMIT_BYTES).map_err(too_large)?;
        let header = GroupHeader {
            segment: self.before.mark.segment,
            offset: self.start(),
            sequence: self.before.sequence + 1,
            first_position: self.before.position + 1,
            length,
            count: u32::try_from(self.head_crcs.len()).map_err(too_large)?,
            previous_checksum: self.before.checksum,
            synced_segment: synced.segment,
            synced_offset: synced.offset,
        };
        let head = header.encode(seed);
        let mut sum = GroupSum::new(seed, &head);
        self.head_crcs.iter().for_each(|crc| sum.frame(*crc));
        let (commit, bytes) = Commit::seal(sum, self.tip.position, self.tip.digest);
        if let Some(place) = self.bytes.get_mut(..GROUP_HEADER_BYTES) {
            place.copy_from_slice(&head);
        }
        self.bytes.extend_from_slice(&bytes);
        self.tip.mark.offset = header.end();
        self.tip.sequence = header.sequence;
        self.tip.checksum = commit.checksum;
        Ok(())
    }
}

/// Takes rows above `position` out of the live index again.
pub(crate) fn take_back_rows(live: &Layer, position: u64) {
    if let Some(index) = live.live_index() {
        let rows = (position + 1).saturating_sub(live.first_position());
        index
            .write()
            .truncate(u32::try_from(rows).unwrap_or(u32::MAX));
    }
}

fn take<'a>(parents: &mut std::slice::Iter<'a, KnownParent>, count: usize) -> &'a [KnownParent] {
    let (own, rest) = parents
        .as_slice()
        .split_at_checked(count)
        .unwrap_or_default();
    *parents = rest.iter();
    own
}

/// The first parent's correlation, which the caller could not know.
fn correlation_of(parents: &[KnownParent], earlier: &[[u8; 16]]) -> [u8; 16] {
    match parents.first() {
        Some(KnownParent::Stored(parent)) => parent.correlation,
        Some(KnownParent::Earlier(at)) => earlier.get(*at).copied().unwrap_or_default(),
        None => [0; 16],
    }
}

fn hash_of(
    id: &[u8; 16],
    event: &PreparedEvent,
    place: &Place,
    key: Option<KeyDigests>,
    rest: &[u8; 32],
) -> [u8; 32] {
    let key = key.unwrap_or(KeyDigests {
        key: [0; 16],
        content: [0; 16],
    });
    event_hash(&Kept {
        position: place.position,
        revision: place.stream.revision,
        previous: place.stream.previous_position,
        recorded_at: place.recorded_at,
        id,
        entity_digest: &event.entity_digest,
        batch_index: place.batch.index,
        batch_length: place.batch.len,
        key_digest: &key.key,
        content_digest: &key.content,
        rest,
    })
}

fn fields_of<'a>(
    id: &[u8; 16],
    event: &'a PreparedEvent,
    place: &Place,
    key: Option<KeyDigests>,
    correlation: [u8; 16],
    hash: [u8; 32],
) -> EventFields<
    'a,
    impl ExactSizeIterator<Item = [u8; 16]> + use<'a>,
    impl ExactSizeIterator<Item = &'a str> + use<'a>,
    impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a>,
> {
    EventFields {
        id: *id,
        recorded_at: place.recorded_at,
        hash,
        schema_version: event.schema_version,
        stream: place.stream,
        entity: event.coordinate.entity(),
        scope: event.coordinate.scope(),
        kind: event.kind.as_str(),
        batch: place.batch,
        key: key.map(|key| record::KeyDigests {
            key: key.key,
            content: key.content,
        }),
        correlation,
        occurred_at: event.occurred_at.map(|t| t.as_nanos()),
        parents: event.parents.iter().map(|id| *id.as_bytes()),
        tags: event.tags.iter().map(|tag| &**tag),
        metadata: event.metadata.iter().map(|(key, value)| (&**key, &**value)),
    }
}

fn enter(
    live: &Layer,
    offset: u64,
    id: &[u8; 16],
    event: &PreparedEvent,
    place: &Place,
    key: Option<KeyDigests>,
    correlation: [u8; 16],
) {
    let Some(index) = live.live_index() else {
        return;
    };
    index.write().push(SidxRow {
        offset: u32::try_from(offset).expect("a segment is at most 1 GiB long"),
        recorded_at: place.recorded_at,
        id: *id,
        entity: event.coordinate.entity(),
        scope: event.coordinate.scope(),
        kind: event.kind.as_str(),
        tags: event.tags.iter().map(|tag| &**tag),
        correlation: (correlation != *id).then_some(correlation),
        key: key.map(|key| key.key),
        parents: event.parents.iter().map(|id| *id.as_bytes()),
        removed: None,
    });
}
