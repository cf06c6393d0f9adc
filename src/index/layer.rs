//! One layer of the index: a run of positions with a finished footer, or the newest events in memory.
//!
//! The layers of a store cover all positions once, in order. A view holds the layers of its moment; readers of a live
//! layer hold its lock for one page of rows at a time, and the writer for one event. Any thread asks; one that finds
//! the footer damaged makes it again.

use crate::error::{Result, StoreError, StoreErrorKind};
use crate::format::checkpoint::Checkpoint;
use crate::format::record::Kept;
use crate::format::sidx::{Axis16, NameAxis};
use crate::index::live::LiveIndex;
use crate::index::row_list::RowList;
use crate::index::sidx::{RunShare, Sidx};
use crate::io::{Access, Disk, Map};
use crate::log::event::EventRef;
use crate::log::files::{CHECKPOINT, SegmentFile, decode_error};
use crate::log::seal;
use crate::log::segment::{Segment, Staged};
use crate::sync::{Arc, Mutex, RwLock};

/// Which way rows are walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Direction {
    #[default]
    Forward,
    Backward,
}

/// One list of rows inside a layer.
#[derive(Clone, Debug)]
pub(crate) enum Axis {
    /// Every row.
    All,
    /// The rows with this name.
    Name(NameAxis, Arc<str>),
    /// The rows of this correlation, but for the event whose id it is.
    Correlation([u8; 16]),
    /// The rows that name this event as a parent.
    Effects([u8; 16]),
}

/// Where a finished layer ends and what it spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) last_position: u64,
    pub(crate) first_recorded: u64,
    pub(crate) last_recorded: u64,
}

#[derive(Debug)]
enum Rows {
    Fixed(Fixed),
    Live(Arc<RwLock<LiveIndex>>),
}

/// Finished rows: what they span, and their index once it was asked.
#[derive(Debug)]
struct Fixed {
    span: Span,
    index: RwLock<Option<Arc<Sidx>>>,
    source: Source,
    /// Held by the reader that makes a damaged index again: the others wait for what it makes.
    mending: Mutex<()>,
}

/// Where a finished layer's index comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The footer of a sealed segment whose header names this store, or the side file that replaces it.
    Footer {
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
    },
    /// Checked whole when it was opened.
    Checkpoint,
}

/// A run of positions, the segment that they stand in, and the index over them.
#[derive(Debug)]
pub(crate) struct Layer {
    first_position: u64,
    digest_before: [u8; 32],
    rows: Rows,
    /// Dropped last: the index may have the file mapped, which with the segment may be removed.
    segment: Arc<Segment>,
}

impl Layer {
    pub(crate) fn fixed(
        segment: Arc<Segment>,
        first_position: u64,
        digest_before: [u8; 32],
        span: Span,
        source: Source,
        index: Option<Sidx>,
    ) -> Self {
        let index = RwLock::new(index.map(Arc::new));
        Self {
            segment,
            first_position,
            digest_before,
            rows: Rows::Fixed(Fixed {
                span,
                index,
                source,
                mending: Mutex::new(()),
            }),
        }
    }

    pub(crate) fn live(segment: Arc<Segment>, digest_before: [u8; 32], index: LiveIndex) -> Self {
        let first_position = index.first_position();
        Self {
            segment,
            first_position,
            digest_before,
            rows: Rows::Live(Arc::new(RwLock::new(index))),
        }
    }

    /// The same rows of a live layer, over another map of its segment; `None` of finished rows.
    pub(crate) fn over(&self, segment: &Arc<Segment>) -> Option<Self> {
        let Rows::Live(index) = &self.rows else {
            return None;
        };
        Some(Self {
            segment: Arc::clone(segment),
            first_position: self.first_position,
            digest_before: self.digest_before,
            rows: Rows::Live(Arc::clone(index)),
        })
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn first_position(&self) -> u64 {
        self.first_position
    }

    /// The running digest before its first event.
    pub(crate) fn digest_before(&self) -> &[u8; 32] {
        &self.digest_before
    }

    /// The last position that it can have: of a live layer, any.
    pub(crate) fn last_position(&self) -> u64 {
        match &self.rows {
            Rows::Fixed(Fixed { span, .. }) => span.last_position,
            Rows::Live(_) => u64::MAX,
        }
    }

    /// The recorded times that it spans; of a live layer, unknown.
    pub(crate) fn recorded_span(&self) -> Option<(u64, u64)> {
        match &self.rows {
            Rows::Fixed(Fixed { span, .. }) => Some((span.first_recorded, span.last_recorded)),
            Rows::Live(_) => None,
        }
    }

    /// Whether it is a sealed segment, and so its footer.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(&self.rows, Rows::Fixed(fixed) if matches!(fixed.source, Source::Footer { .. }))
    }

    /// The mutable index of a live layer; only the holder of the writer's turn changes it.
    pub(crate) fn live_index(&self) -> Option<&RwLock<LiveIndex>> {
        match &self.rows {
            Rows::Fixed(_) => None,
            Rows::Live(index) => Some(index),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.live_index()
            .map_or(0, |index| index.read().approx_heap_bytes())
    }

    /// How many rows there are at or below position `upto`.
    pub(crate) fn rows_upto(&self, upto: u64) -> u32 {
        let last = upto.min(self.last_position());
        let rows = (last + 1).saturating_sub(self.first_position);
        u32::try_from(rows).unwrap_or(u32::MAX)
    }

    pub(crate) fn position(&self, row: u32) -> u64 {
        self.first_position + u64::from(row)
    }

    /// The event in `row`.
    pub(crate) fn event<'a>(
        &'a self,
        row: u32,
        staged: Option<Staged<'a>>,
    ) -> Result<EventRef<'a>> {
        self.segment
            .event(self.offset(row)?, self.position(row), staged)
    }

    /// The event in `row`, `None` if retention emptied it.
    pub(crate) fn kept_event<'a>(
        &'a self,
        row: u32,
        staged: Option<Staged<'a>>,
    ) -> Result<Option<EventRef<'a>>> {
        self.segment
            .kept_event(self.offset(row)?, self.position(row), staged)
    }

    /// What the event in `row` and the stub that retention may have left there have in common.
    pub(crate) fn kept(&self, row: u32, staged: Option<Staged<'_>>) -> Result<Kept> {
        self.segment
            .kept(self.offset(row)?, self.position(row), staged)
    }

    fn offset(&self, row: u32) -> Result<u64> {
        let offset = match &self.rows {
            Rows::Live(index) => index
                .read()
                .offset(row)
                .ok_or_else(|| self.no_such_row(row))?,
            Rows::Fixed(_) => self.with(|index| index.offset(row))?,
        };
        Ok(u64::from(offset))
    }

    fn no_such_row(&self, row: u32) -> StoreError {
        StoreError::corrupt(format!(
            "the index of {} has no row {row}; reopen the store",
            self.segment.name()
        ))
    }

    /// The row of the event with this id.
    pub(crate) fn find_id(&self, id: &[u8; 16]) -> Result<Option<u32>> {
        match &self.rows {
            Rows::Live(index) => Ok(index.read().find_id(id)),
            Rows::Fixed(_) => self.with(|index| match index.may_contain(Axis16::Id, id)? {
                true => index.find_id(id),
                false => Ok(None),
            }),
        }
    }

    /// The first row of the submission with this key digest.
    pub(crate) fn find_key(&self, key: &[u8; 16]) -> Result<Option<u32>> {
        match &self.rows {
            Rows::Live(index) => Ok(index.read().find_key(key)),
            Rows::Fixed(_) => self.with(|index| match index.may_contain(Axis16::Key, key)? {
                true => index.find_key(key),
                false => Ok(None),
            }),
        }
    }

    /// The newest of the first `rows` rows that is of this entity, be it an event or a stub.
    pub(crate) fn last_of_entity(
        &self,
        entity: &str,
        digest: &[u8; 16],
        rows: u32,
    ) -> Result<Option<u32>> {
        let newest = |events: RowList<'_>, stubs: RowList<'_>| {
            Ok(events.last_below(rows)?.max(stubs.last_below(rows)?))
        };
        match &self.rows {
            Rows::Live(index) => {
                let index = index.read();
                let events = index.list(NameAxis::Entity, entity).unwrap_or_default();
                newest(
                    RowList::Slice(events),
                    RowList::Slice(index.removed(digest)),
                )
            }
            Rows::Fixed(_) => self.with(|index| {
                if !index.may_contain(Axis16::Entity, digest)? {
                    return Ok(None);
                }
                let events = index.list(NameAxis::Entity, entity)?;
                let events = events.map_or(RowList::Slice(&[]), RowList::Postings);
                newest(events, RowList::Keyed(index.removed(digest)?))
            }),
        }
    }

    /// How many rows an axis has.
    pub(crate) fn axis_len(&self, axis: &Axis) -> Result<u32> {
        self.list(axis, |list| Ok(list.len()))
    }

    /// The `nth` row of an axis that has more than `nth`.
    pub(crate) fn nth(&self, axis: &Axis, nth: u32) -> Result<u32> {
        self.list(axis, |list| list.nth(nth))
    }

    /// How many rows of an axis lie inside `low..high`.
    pub(crate) fn count_between(&self, axis: &Axis, (low, high): (u32, u32)) -> Result<u32> {
        self.list(axis, |list| list.count_between(low, high))
    }

    /// How many rows inside `low..high` hold events and not stubs.
    pub(crate) fn kept_between(&self, (low, high): (u32, u32)) -> Result<u32> {
        let rows = high.saturating_sub(low);
        if let Some(index) = self.live_index() {
            return Ok(rows - index.read().count_removed((low, high)).min(rows));
        }
        self.with(|index| {
            if index.removed_rows() == 0 {
                return Ok(rows);
            }
            // Every event has a kind, and no stub has one.
            let kinds = index.prefix(NameAxis::Kind, "")?;
            (0..kinds.len()).try_fold(0_u32, |sum, kind| {
                let list = RowList::Postings(kinds.nth(kind)?.1);
                Ok(sum.saturating_add(list.count_between(low, high)?))
            })
        })
    }

    /// What it adds to a run.
    pub(crate) fn run_share(&self) -> Result<RunShare> {
        self.with(|index| Ok(index.run_share()))
    }

    /// The first row of an axis that is `from` or later.
    pub(crate) fn next_row(&self, axis: &Axis, from: u32) -> Result<Option<u32>> {
        self.list(axis, |list| {
            let nth = list.lower_bound(from)?;
            (nth < list.len()).then(|| list.nth(nth)).transpose()
        })
    }

    /// Fills `page` with at most `most` rows of `axis` inside `low..high`, nearest to the walk's start first.
    pub(crate) fn page(
        &self,
        axis: &Axis,
        (low, high): (u32, u32),
        direction: Direction,
        most: u32,
        page: &mut Vec<u32>,
    ) -> Result<()> {
        self.list(axis, |list| list.page(low..high, direction, most, page))
    }

    /// Asks something of the list of an axis.
    fn list<T>(&self, axis: &Axis, mut ask: impl FnMut(RowList<'_>) -> Result<T>) -> Result<T> {
        match &self.rows {
            Rows::Live(index) => {
                let index = index.read();
                ask(match axis {
                    Axis::All => RowList::All(index.rows()),
                    Axis::Name(axis, name) => {
                        RowList::Slice(index.list(*axis, name).unwrap_or_default())
                    }
                    Axis::Correlation(id) => RowList::Slice(index.correlated(id)),
                    Axis::Effects(id) => RowList::Slice(index.children(id)),
                })
            }
            Rows::Fixed(_) if matches!(axis, Axis::All) => {
                ask(RowList::All(self.rows_upto(u64::MAX)))
            }
            Rows::Fixed(_) => self.with(|index| {
                ask(match axis {
                    Axis::All => RowList::All(index.rows()),
                    Axis::Name(axis, name) => match index.list(*axis, name)? {
                        Some(list) => RowList::Postings(list),
                        None => RowList::Slice(&[]),
                    },
                    Axis::Correlation(id) => match index.may_contain(Axis16::Correlation, id)? {
                        true => RowList::Keyed(index.correlated(id)?),
                        false => RowList::Slice(&[]),
                    },
                    Axis::Effects(id) => match index.may_contain(Axis16::Parent, id)? {
                        true => RowList::Keyed(index.children(id)?),
                        false => RowList::Slice(&[]),
                    },
                })
            }),
        }
    }

    /// How many rows the names with this prefix have, each name's counted by itself; `None` if they are more than
    /// `most` or the layer's names are not sorted. Looks at no more than `most` names.
    pub(crate) fn prefix_len(
        &self,
        axis: NameAxis,
        prefix: &str,
        most: u32,
    ) -> Result<Option<u32>> {
        if self.live_index().is_some() {
            return Ok(None);
        }
        self.with(|index| {
            let names = index.prefix(axis, prefix)?;
            let mut len = 0_u32;
            for name in 0..names.len() {
                len = len.saturating_add(names.nth(name)?.1.len());
                if len > most {
                    return Ok(None);
                }
            }
            Ok(Some(len))
        })
    }

    /// Calls `visit` with the rows of each name with this prefix; the layer's names are sorted.
    pub(crate) fn rows_of_prefix(
        &self,
        axis: NameAxis,
        prefix: &str,
        mut visit: impl FnMut(u32),
    ) -> Result<()> {
        self.with(|index| {
            let names = index.prefix(axis, prefix)?;
            for name in 0..names.len() {
                let (_, list) = names.nth(name)?;
                for nth in 0..list.len() {
                    visit(list.nth(nth)?);
                }
            }
            Ok(())
        })
    }

    /// Asks the footer; if it is damaged or of another version, makes it again from the segment and asks once more.
    pub(super) fn with<T>(&self, mut ask: impl FnMut(&Sidx) -> Result<T>) -> Result<T> {
        let Rows::Fixed(Fixed {
            index,
            source,
            mending,
            ..
        }) = &self.rows
        else {
            return Err(StoreError::corrupt("a live layer has no footer"));
        };
        let known = index.read().clone();
        let first = match known {
            Some(sidx) => ask(&sidx),
            None => self.open_footer(index, source).and_then(|sidx| ask(&sidx)),
        };
        match first {
            Err(error)
                if matches!(
                    error.kind(),
                    StoreErrorKind::Corrupt | StoreErrorKind::Unsupported
                ) =>
            {
                let alone = mending.lock();
                let sidx = self.rebuild(index, source, error)?;
                drop(alone);
                ask(&sidx)
            }
            answer => answer,
        }
    }

    /// The footer, of which any part may still be found damaged.
    pub(crate) fn footer(&self) -> Result<Arc<Sidx>> {
        self.with(|_| Ok(()))?;
        match &self.rows {
            Rows::Fixed(Fixed { index, .. }) => index.read().clone(),
            Rows::Live(_) => None,
        }
        .ok_or_else(|| StoreError::corrupt("a layer has no footer"))
    }

    fn open_footer(&self, slot: &RwLock<Option<Arc<Sidx>>>, source: &Source) -> Result<Arc<Sidx>> {
        if matches!(source, Source::Checkpoint) {
            return Err(StoreError::corrupt("the checkpoint's index is not open"));
        }
        let sidx = Arc::new(open_footer(&self.segment)?);
        *slot.write() = Some(Arc::clone(&sidx));
        Ok(sidx)
    }

    /// An index made of a segment with a damaged frame ends there, and would take what follows for absent.
    fn check_rows(&self, sidx: &Sidx) -> Result<()> {
        if sidx.rows() == self.rows_upto(u64::MAX) {
            return Ok(());
        }
        Err(StoreError::corrupt(format!(
            "{} at byte {}: a group is damaged, and so is the index; restore the file from a copy",
            self.segment.name(),
            sidx.facts().log_end
        )))
    }

    fn rebuild(
        &self,
        slot: &RwLock<Option<Arc<Sidx>>>,
        source: &Source,
        why: StoreError,
    ) -> Result<Arc<Sidx>> {
        let Source::Footer { disk, store_id } = source else {
            return Err(why);
        };
        let place = self.segment.place();
        let beside = || {
            let sidx = open_side_index(&**disk, store_id, place)?;
            self.check_rows(&sidx).map(|()| sidx)
        };
        let sidx = match beside() {
            Ok(sidx) => sidx,
            Err(_) => {
                tracing::warn!(file = place.name(), error = %why, "the footer is damaged and is made again");
                seal::write_side_index(&**disk, store_id, place, self.last_position())?;
                beside()?
            }
        };
        let sidx = Arc::new(sidx);
        *slot.write() = Some(Arc::clone(&sidx));
        Ok(sidx)
    }
}

/// The footer at the end of a segment's file.
pub(crate) fn open_footer(segment: &Segment) -> Result<Sidx> {
    let map = segment.map()?;
    let (store_id, number) = (segment.store_id(), segment.number());
    Sidx::open_at_end(
        Arc::clone(map),
        map.len(),
        store_id,
        number,
        &segment.name(),
    )
}

/// The side file that replaces a damaged footer, read whole once so that it does not fail later.
pub(crate) fn open_side_index(
    disk: &dyn Disk,
    store_id: &[u8; 16],
    place: SegmentFile,
) -> Result<Sidx> {
    let name = place.side_index_name();
    let map = map_whole(disk, &name)?;
    let end = map.len();
    let sidx = Sidx::open_at_end(map, end, store_id, place.number, &name)?;
    sidx.check().map(|()| sidx)
}

/// The checkpoint and the index in it, every block of it checked; `None` if the file is not there.
pub(crate) fn open_checkpoint(
    disk: &dyn Disk,
    store_id: &[u8; 16],
) -> Result<Option<(Checkpoint, Option<Sidx>)>> {
    let map = match map_whole(disk, CHECKPOINT) {
        Ok(map) => map,
        Err(e) if e.kind() == StoreErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = usize::try_from(map.len()).unwrap_or(usize::MAX);
    let bytes = map.slice(0, len).unwrap_or_default();
    let (checkpoint, index) =
        Checkpoint::decode(bytes).map_err(|e| decode_error(CHECKPOINT, 0, &e))?;
    if checkpoint.store_id != *store_id {
        return Err(StoreError::corrupt("the checkpoint is another store's"));
    }
    if index.is_empty() {
        return Ok(Some((checkpoint, None)));
    }
    let sidx = Sidx::open(
        Arc::clone(&map),
        index.start,
        index.end,
        store_id,
        checkpoint.active_segment,
        CHECKPOINT,
    )?;
    sidx.check_blocks()?;
    Ok(Some((checkpoint, Some(sidx))))
}

pub(crate) fn map_whole(disk: &dyn Disk, name: &str) -> Result<Arc<Map>> {
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => StoreError::not_found(format!("{name} is not there")),
        _ => StoreError::io(format_args!("mapping {name}"), e),
    };
    let file = disk.open(name, Access::Read).map_err(fail)?;
    let len = file.len().map_err(fail)?;
    file.map(len).map(Arc::new).map_err(fail)
}
