//! The index of the newest events, in memory; whoever holds it guards it.
//!
//! Row = position - first position, as in a SIDX. Lists of rows ascend, since events come in order. Opening
//! fills it; then only the holder of the turn adds and takes back, and any thread reads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use crate::format::sidx::{NameAxis, SidxRow, place};
use crate::sync::Arc;

/// What was asked for, and the rows it leads to.
type Lists<K> = HashMap<K, Rows>;

/// The mutable index of the newest events.
// The maps hash with the standard library's keyed hasher: names and ids are the caller's to choose.
#[derive(Debug)]
pub(crate) struct LiveIndex {
    first_position: u64,
    offsets: Vec<u32>,
    ids: HashMap<[u8; 16], u32>,
    keys: HashMap<[u8; 16], u32>,
    correlations: Lists<[u8; 16]>,
    children: Lists<[u8; 16]>,
    /// Rows of stubs, by entity digest.
    removed: Lists<[u8; 16]>,
    names: [NameLists; 4],
}

/// The names of one axis.
#[derive(Debug, Default)]
struct NameLists {
    lists: Lists<Arc<str>>,
    /// In order of first appearance, which later names do not change: so they can be read in pages.
    in_order: Vec<Arc<str>>,
}

impl LiveIndex {
    /// Starts an index whose first event has `first_position`.
    pub(crate) fn new(first_position: u64) -> Self {
        Self {
            first_position,
            offsets: Vec::new(),
            ids: HashMap::new(),
            keys: HashMap::new(),
            correlations: HashMap::new(),
            children: HashMap::new(),
            removed: HashMap::new(),
            names: Default::default(),
        }
    }

    pub(crate) fn first_position(&self) -> u64 {
        self.first_position
    }

    pub(crate) fn rows(&self) -> u32 {
        u32::try_from(self.offsets.len()).expect("each row has a frame below 4 GiB")
    }

    /// Adds the next event or stub; its id and key are new here.
    pub(crate) fn push<'a, T, P>(&mut self, row: SidxRow<'a, T, P>)
    where
        T: IntoIterator<Item = &'a str>,
        P: IntoIterator<Item = [u8; 16]>,
    {
        let number = self.rows();
        self.offsets.push(row.offset);
        self.ids.insert(row.id, number);
        if let Some(key) = row.key {
            self.keys.insert(key, number);
        }
        if let Some(correlation) = row.correlation.filter(|other| *other != row.id) {
            add_key(&mut self.correlations, correlation, number);
        }
        for parent in row.parents {
            add_key(&mut self.children, parent, number);
        }
        if let Some(entity) = row.removed {
            add_key(&mut self.removed, entity, number);
        }
        let [entities, scopes, kinds, tags] = &mut self.names;
        for (names, name) in [
            (entities, row.entity),
            (scopes, row.scope),
            (kinds, row.kind),
        ] {
            if !name.is_empty() {
                names.add(name, number);
            }
        }
        for tag in row.tags {
            tags.add(tag, number);
        }
    }

    /// Takes back the newest events until `rows` are left. Rare, so it looks at everything.
    pub(crate) fn truncate(&mut self, rows: u32) {
        if rows >= self.rows() {
            return;
        }
        self.offsets.truncate(place(rows));
        self.ids.retain(|_, row| *row < rows);
        self.keys.retain(|_, row| *row < rows);
        self.correlations.retain(|_, list| list.truncate(rows));
        self.children.retain(|_, list| list.truncate(rows));
        self.removed.retain(|_, list| list.truncate(rows));
        for names in &mut self.names {
            names.truncate(rows);
        }
    }

    /// The offset of the frame of `row`.
    pub(crate) fn offset(&self, row: u32) -> Option<u32> {
        self.offsets.get(place(row)).copied()
    }

    pub(crate) fn find_id(&self, id: &[u8; 16]) -> Option<u32> {
        self.ids.get(id).copied()
    }

    /// The first row of the submission with this key digest.
    pub(crate) fn find_key(&self, key: &[u8; 16]) -> Option<u32> {
        self.keys.get(key).copied()
    }

    /// The rows that belong to a story and are not its first event, whose id is the story's.
    pub(crate) fn correlated(&self, correlation: &[u8; 16]) -> &[u32] {
        self.correlations
            .get(correlation)
            .map_or(&[], Rows::as_slice)
    }

    /// The rows that have `parent` among their parents.
    pub(crate) fn children(&self, parent: &[u8; 16]) -> &[u32] {
        self.children.get(parent).map_or(&[], Rows::as_slice)
    }

    /// The rows that hold stubs of the entity with this digest.
    pub(crate) fn removed(&self, entity_digest: &[u8; 16]) -> &[u32] {
        self.removed.get(entity_digest).map_or(&[], Rows::as_slice)
    }

    /// How many stubs there are in the rows `low..high`; looks at every entity that has some.
    pub(crate) fn count_removed(&self, (low, high): (u32, u32)) -> u32 {
        let lists = self.removed.values().map(Rows::as_slice);
        let counts = lists.map(|rows| {
            let below = |end| rows.partition_point(|row| *row < end);
            below(high).saturating_sub(below(low))
        });
        u32::try_from(counts.sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// The rows that bear `name`.
    pub(crate) fn list(&self, axis: NameAxis, name: &str) -> Option<&[u32]> {
        self.names[axis.place()].lists.get(name).map(Rows::as_slice)
    }

    /// The names of an axis from the `from`th on, in order of first appearance, and the rows that bear each.
    pub(crate) fn names_from(
        &self,
        axis: NameAxis,
        from: usize,
    ) -> impl Iterator<Item = (&Arc<str>, &[u32])> {
        let names = &self.names[axis.place()];
        let rows = |name| names.lists.get(name).map_or(&[][..], Rows::as_slice);
        let left = names.in_order.get(from..).unwrap_or_default();
        left.iter().map(move |name| (name, rows(name)))
    }

    /// Roughly the bytes on the heap; looks at every name.
    pub(crate) fn approx_heap_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(NameLists::heap_bytes).sum();
        let keyed = [&self.correlations, &self.children, &self.removed];
        let lists = keyed.into_iter().flat_map(HashMap::values);
        let lists: usize = lists.map(Rows::heap_bytes).sum();
        names
            + lists
            + 4 * self.offsets.capacity()
            + table_bytes(&self.ids)
            + table_bytes(&self.keys)
            + table_bytes(&self.correlations)
            + table_bytes(&self.children)
            + table_bytes(&self.removed)
    }
}

/// A table keeps one of eight places free and a control byte for each.
fn table_bytes<K, V>(map: &HashMap<K, V>) -> usize {
    map.capacity() * 8 / 7 * (size_of::<(K, V)>() + 1)
}

fn add_key<K: Eq + Hash>(lists: &mut Lists<K>, key: K, row: u32) {
    match lists.entry(key) {
        Entry::Occupied(entry) => entry.into_mut().push(row),
        Entry::Vacant(entry) => {
            entry.insert(Rows::One(row));
        }
    }
}

impl NameLists {
    fn add(&mut self, name: &str, row: u32) {
        match self.lists.get_mut(name) {
            Some(rows) => rows.push(row),
            None => {
                let name: Arc<str> = name.into();
                self.in_order.push(Arc::clone(&name));
                self.lists.insert(name, Rows::One(row));
            }
        }
    }

    fn truncate(&mut self, rows: u32) {
        self.lists.retain(|_, list| list.truncate(rows));
        // What goes is what came last.
        let left = self.in_order.len().min(self.lists.len());
        self.in_order.truncate(left);
    }

    fn heap_bytes(&self) -> usize {
        // A name stands behind its two reference counts.
        let names = self
            .in_order
            .iter()
            .map(|name| 16 + name.len().next_multiple_of(16));
        let lists = self.lists.values().map(Rows::heap_bytes);
        names.chain(lists).sum::<usize>()
            + table_bytes(&self.lists)
            + size_of::<Arc<str>>() * self.in_order.capacity()
    }
}

/// Ascending rows, never none; most names are borne once, which costs no allocation.
#[derive(Debug)]
enum Rows {
    One(u32),
    Many(Vec<u32>),
}

impl Rows {
    fn push(&mut self, row: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, row]),
            Self::Many(rows) => rows.push(row),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(row) => core::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    /// Keeps the rows below `end`; whether any is left.
    fn truncate(&mut self, end: u32) -> bool {
        match self {
            Self::One(row) => *row < end,
            Self::Many(rows) => {
                rows.truncate(rows.partition_point(|row| *row < end));
                !rows.is_empty()
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(rows) => 4 * rows.capacity(),
        }
    }
}
