//! Random events and the plain answers that every index must give.

use crate::error::{Result, StoreErrorKind};
use crate::event::hash::entity_digest;
use crate::format::sidx::{Axis16, NameAxis, SidxFacts, SidxRow};
use crate::format::sidx_build::SidxBuilder;
use crate::index::live::LiveIndex;
use crate::index::sidx::Sidx;
use crate::io::{Access, Disk, MemoryDisk};
use crate::sync::Arc;

pub(super) const STORE_ID: [u8; 16] = [0xA1; 16];
pub(super) const SEGMENT: u64 = 3;
pub(super) const FILE: &str = "segments/0000000003.seg";
/// The last position before the events of a model.
const BEFORE: u64 = 41;
const WORDS: [&str; 5] = ["order", "order:", "órden", "o", "zebra:\u{1F993}"];

/// A small random source (xorshift64*, Vigna 2016) that prints its seed.
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn from_clock() -> Self {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let seed = u64::from(since.subsec_nanos()) | 1;
        println!("random seed {seed}");
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % most
    }

    pub(super) fn key(&mut self) -> [u8; 16] {
        let (a, b) = (self.next().to_le_bytes(), self.next().to_le_bytes());
        [a, b].concat().try_into().unwrap()
    }

    /// A time-ordered id, 100 of them in a millisecond.
    pub(super) fn id_v7(&mut self, number: usize) -> [u8; 16] {
        let millis = 1_700_000_000_000 + number as u64 / 100;
        let mut id = self.key();
        id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        id[6] = 0x70 | id[6] & 0x0f;
        id
    }

    fn name(&mut self, most: usize) -> String {
        format!("{}{}", WORDS[self.below(WORDS.len())], self.below(most))
    }
}

/// One event as an index sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Facet {
    pub(super) offset: u32,
    pub(super) recorded_at: u64,
    pub(super) id: [u8; 16],
    pub(super) entity: String,
    pub(super) scope: String,
    pub(super) kind: String,
    pub(super) tags: Vec<String>,
    pub(super) correlation: Option<[u8; 16]>,
    pub(super) key: Option<[u8; 16]>,
    pub(super) parents: Vec<[u8; 16]>,
    pub(super) removed: Option<[u8; 16]>,
}

impl Facet {
    pub(super) fn row(
        &self,
    ) -> SidxRow<'_, impl Iterator<Item = &str>, impl Iterator<Item = [u8; 16]>> {
        SidxRow {
            offset: self.offset,
            recorded_at: self.recorded_at,
            id: self.id,
            entity: &self.entity,
            scope: &self.scope,
            kind: &self.kind,
            tags: self.tags.iter().map(String::as_str),
            correlation: self.correlation,
            key: self.key,
            parents: self.parents.iter().copied(),
            removed: self.removed,
        }
    }

    fn bears(&self, axis: NameAxis, name: &str) -> bool {
        match axis {
            NameAxis::Entity => self.entity == name,
            NameAxis::Scope => self.scope == name,
            NameAxis::Kind => self.kind == name,
            NameAxis::Tag => self.tags.iter().any(|tag| tag == name),
        }
    }

    fn names(&self, axis: NameAxis) -> Vec<&str> {
        let all: Vec<&str> = match axis {
            NameAxis::Entity => vec![&self.entity],
            NameAxis::Scope => vec![&self.scope],
            NameAxis::Kind => vec![&self.kind],
            NameAxis::Tag => self.tags.iter().map(String::as_str).collect(),
        };
        all.into_iter().filter(|name| !name.is_empty()).collect()
    }
}

/// Events, and brute force over them.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) events: Vec<Facet>,
}

impl Model {
    pub(super) fn random(random: &mut Random, count: usize) -> Self {
        let mut model = Self::default();
        for _ in 0..count {
            let event = model.next(random);
            model.events.push(event);
        }
        model
    }

    /// Another event: one in sixteen is a stub.
    pub(super) fn next(&self, random: &mut Random) -> Facet {
        let number = self.events.len();
        let id = match random.below(4) {
            0 => random.key(),
            _ => random.id_v7(number),
        };
        let mut event = Facet {
            offset: u32::try_from(4096 + 200 * number + random.below(100)).unwrap(),
            recorded_at: 1_000 + number as u64,
            id,
            key: (random.below(4) == 0).then(|| random.key()),
            ..Facet::default()
        };
        let entity = random.name(number / 8 + 1);
        if random.below(16) == 0 {
            event.removed = Some(entity_digest(&entity));
            return event;
        }
        event.entity = entity;
        event.scope = random.name(3);
        event.kind = random.name(2);
        event.tags = (0..random.below(4))
            .map(|_| random.name(number / 4 + 1))
            .collect();
        event.tags.sort_unstable();
        event.tags.dedup();
        let some = |random: &mut Random| match self.events.get(random.below(number + 1)) {
            Some(event) => event.id,
            None => [7; 16],
        };
        event.parents = (0..random.below(3)).map(|_| some(random)).collect();
        event.parents.sort_unstable();
        event.parents.dedup();
        event.correlation = Some(match random.below(2) {
            0 => id,
            _ => some(random),
        });
        event
    }

    fn rows(&self, holds: impl Fn(&Facet) -> bool) -> Vec<u32> {
        let rows = self.events.iter().zip(0..);
        rows.filter(|(event, _)| holds(event))
            .map(|(_, row)| row)
            .collect()
    }

    fn correlated(&self, key: &[u8; 16]) -> Vec<u32> {
        self.rows(|event| event.id != *key && event.correlation == Some(*key))
    }

    fn children(&self, key: &[u8; 16]) -> Vec<u32> {
        self.rows(|event| event.parents.contains(key))
    }

    fn removed(&self, key: &[u8; 16]) -> Vec<u32> {
        self.rows(|event| event.removed == Some(*key))
    }

    fn first(&self, holds: impl Fn(&Facet) -> bool) -> Option<u32> {
        self.rows(holds).first().copied()
    }

    /// All names of an axis in byte order, then what only begins or ends like one.
    fn names(&self, axis: NameAxis) -> Vec<&str> {
        let mut names: Vec<_> = self
            .events
            .iter()
            .flat_map(|event| event.names(axis))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every id, key and digest of a stub's entity there is and a few that are not.
    fn keys(&self) -> Vec<[u8; 16]> {
        let ids = self
            .events
            .iter()
            .flat_map(|event| [Some(event.id), event.key, event.removed]);
        let mut keys: Vec<_> = ids.flatten().collect();
        for index in 0..keys.len().min(20) {
            let mut near = keys[index];
            near[15] ^= 1;
            keys.push(near);
        }
        keys.extend([[0; 16], [7; 16], [0xff; 16]]);
        keys
    }

    pub(super) fn facts(&self) -> SidxFacts {
        SidxFacts {
            store_id: STORE_ID,
            segment: SEGMENT,
            log_end: self
                .events
                .last()
                .map_or(4096, |event| u64::from(event.offset) + 1),
            last_group_sequence: 17,
            last_group_checksum: 0xDEAD_BEEF,
            digest: [0xD1; 32],
        }
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let mut builder = SidxBuilder::new(BEFORE + 1);
        for event in &self.events {
            builder.push(event.row());
        }
        builder.finish(self.facts())
    }

    /// Asks `sidx` for everything; `Err` is the first error, a wrong answer panics.
    pub(super) fn ask(&self, sidx: &Sidx) -> Result<()> {
        assert_eq!(*sidx.facts(), self.facts());
        assert_eq!(sidx.first_position(), BEFORE + 1);
        let time = |event: Option<&Facet>| event.map_or(0, |event| event.recorded_at);
        let recorded = (time(self.events.first()), time(self.events.last()));
        assert_eq!(sidx.recorded(), recorded);
        assert_eq!(sidx.rows() as usize, self.events.len());
        for (event, row) in self.events.iter().zip(0..) {
            assert_eq!(sidx.offset(row)?, event.offset);
            assert!(sidx.may_contain(Axis16::Id, &event.id)?);
            if let Some(key) = &event.key {
                assert!(sidx.may_contain(Axis16::Key, key)?);
            }
            for parent in &event.parents {
                assert!(sidx.may_contain(Axis16::Parent, parent)?);
            }
            if let Some(story) = event.correlation.filter(|id| *id != event.id) {
                assert!(sidx.may_contain(Axis16::Correlation, &story)?);
            }
            if let Some(entity) = &event.removed {
                assert!(sidx.may_contain(Axis16::Entity, entity)?);
            }
            if !event.entity.is_empty() {
                assert!(sidx.may_contain(Axis16::Entity, &entity_digest(&event.entity))?);
            }
        }
        for key in self.keys() {
            assert_eq!(sidx.find_id(&key)?, self.first(|event| event.id == key));
            assert_eq!(
                sidx.find_key(&key)?,
                self.first(|event| event.key == Some(key))
            );
            for (found, expected) in [
                (sidx.correlated(&key)?, self.correlated(&key)),
                (sidx.children(&key)?, self.children(&key)),
                (sidx.removed(&key)?, self.removed(&key)),
            ] {
                let rows: Result<Vec<_>> = (0..found.len()).map(|n| found.nth(n)).collect();
                assert_eq!(rows?, expected);
            }
        }
        NameAxis::ALL
            .into_iter()
            .try_for_each(|axis| self.ask_names(sidx, axis))
    }

    fn ask_names(&self, sidx: &Sidx, axis: NameAxis) -> Result<()> {
        let names = self.names(axis);
        for absent in ["", "a", "order:x", "~"] {
            assert!(sidx.list(axis, absent)?.is_none());
        }
        for name in &names {
            let expected = self.rows(|event| event.bears(axis, name));
            let list = sidx.list(axis, name)?.expect("the name is there");
            let rows: Result<Vec<_>> = (0..list.len()).map(|n| list.nth(n)).collect();
            assert_eq!(rows?, expected, "{axis:?} {name}");
            for row in [0, expected[0], expected[expected.len() / 2] + 1, u32::MAX] {
                let bound = expected.partition_point(|other| *other < row);
                assert_eq!(list.lower_bound(row)? as usize, bound);
            }
        }
        for prefix in ["", "o", "order", "order:", "order:1", "ó", "zz"] {
            let range = sidx.prefix(axis, prefix)?;
            let expected: Vec<_> = names
                .iter()
                .filter(|name| name.starts_with(prefix))
                .collect();
            assert_eq!(range.len() as usize, expected.len());
            for (index, name) in (0..).zip(expected) {
                let (found, list) = range.nth(index)?;
                assert_eq!(found, *name);
                assert_eq!(
                    list.nth(0)?,
                    self.first(|event| event.bears(axis, name)).unwrap()
                );
            }
        }
        Ok(())
    }

    #[track_caller]
    pub(super) fn assert_live(&self, live: &LiveIndex) {
        assert_eq!(live.rows() as usize, self.events.len());
        for (event, row) in self.events.iter().zip(0..) {
            assert_eq!(live.offset(row), Some(event.offset));
        }
        assert_eq!(live.offset(live.rows()), None);
        for key in self.keys() {
            assert_eq!(live.find_id(&key), self.first(|event| event.id == key));
            assert_eq!(
                live.find_key(&key),
                self.first(|event| event.key == Some(key))
            );
            assert_eq!(live.correlated(&key), self.correlated(&key));
            assert_eq!(live.children(&key), self.children(&key));
            assert_eq!(live.removed(&key), self.removed(&key));
        }
        for axis in NameAxis::ALL {
            let names = self.names(axis);
            for name in &names {
                let expected = self.rows(|event| event.bears(axis, name));
                assert_eq!(live.list(axis, name), Some(&expected[..]));
            }
            let listed: Vec<_> = live.names_from(axis, 0).collect();
            assert_eq!(listed.len(), names.len());
            assert!(listed.is_sorted_by_key(|(_, rows)| rows[0]));
            let listed = listed
                .iter()
                .all(|(name, rows)| live.list(axis, name) == Some(rows));
            assert!(listed, "{axis:?}");
        }
    }
}

/// Opens index bytes that stand at `start` of a file.
pub(super) fn open_at(bytes: &[u8], start: u64) -> Result<Sidx> {
    let file = MemoryDisk::new().open("file", Access::CreateNew).unwrap();
    let end = start + bytes.len() as u64;
    file.set_len(end.max(1)).unwrap();
    crate::io::write_all_at(&*file, bytes, start).unwrap();
    let map = Arc::new(file.map(end).unwrap());
    Sidx::open_at_end(map, end, &STORE_ID, SEGMENT, FILE)
}

/// What was refused says so the right way.
#[track_caller]
pub(super) fn assert_refused<T>(result: Result<T>) {
    let error = result.err().expect("damage is refused");
    let kind = error.kind();
    let known = matches!(kind, StoreErrorKind::Corrupt | StoreErrorKind::Unsupported);
    assert!(known, "{error:?}");
    assert!(error.to_string().starts_with(FILE), "{error}");
}
