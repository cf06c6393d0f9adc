//! The whole public API of the handle: each method a sentence and one call.

mod door;
mod upkeep;

use std::fmt;
use std::path::Path;

use crate::engine::front::Front;
use crate::engine::meters::{Diagnostics, Stats};
use crate::engine::open;
use crate::engine::shared::Engine;
use crate::engine::submit::Patience;
use crate::engine::ticket::Ticket;
use crate::error::{Result, StoreError};
use crate::event::append::AppendOptions;
use crate::event::batch::Batch;
use crate::event::coordinate::Coordinate;
use crate::event::id::{CorrelationId, EventId};
use crate::event::kind::EventKind;
use crate::event::name;
use crate::event::payload::Payload;
use crate::event::position::{Position, Revision};
use crate::event::query::Query;
use crate::event::receipt::Receipt;
use crate::event::region::Region;
use crate::event::timestamp::Timestamp;
use crate::feed::cursor::{Cursor, Start};
use crate::feed::subscription::{DEFAULT_SUBSCRIPTION_CAPACITY, Subscription};
use crate::index::explain::Explanation;
use crate::index::names::Names;
use crate::index::read_options::ReadOptions;
use crate::index::view::{Events, Head, View};
use crate::lineage::ancestry::Ancestors;
use crate::lineage::descent::Descendants;
use crate::log::event::Event;
use crate::options::StoreConfig;
use crate::store::door::Door;
use crate::sync::Arc;

/// An open store: a cheap handle to clone and share between threads.
///
/// `close` closes it for all clones; dropping the last one closes it too, with errors only logged.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// # let path = std::env::temp_dir().join(format!("quipu-doc-{}", std::process::id()));
/// let store = Store::open(&path)?;
/// let order = Coordinate::new("order:1042", "shop:berlin")?;
/// let receipt = store.append(&order, EventKind::literal("order.placed"), &4200)?;
/// assert!(receipt.durable());
/// store.close()?;
/// # std::fs::remove_dir_all(&path).ok();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    door: Arc<Door>,
}

impl fmt::Debug for Store {
    /// Where it is and how far it has come; the engine behind it would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("place", &self.front().disk.describe())
            .field("position", &self.front().last_head().position.get())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory with the default settings: creates it if there is none, locks it, recovers it.
    ///
    /// # Errors
    /// `Locked` while another handle or process has it; `Corrupt` when acknowledged data is missing or damaged;
    /// `Unsupported` for a newer format; `Argument` when it is no store; `Io` as the operating system says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(StoreConfig::new(path))
    }

    /// Opens a store with settings of the caller's.
    ///
    /// # Errors
    /// As [`Store::open`], and `Argument` for a setting out of bounds.
    pub fn open_with(config: StoreConfig) -> Result<Self> {
        let engine = open::open(config)?;
        Ok(Self {
            door: Arc::new(Door {
                front: Arc::clone(&engine.front),
                engine: Some(engine),
            }),
        })
    }

    /// Opens the store in a directory for reading alone, beside the process that writes it, if there is one.
    ///
    /// Any number of processes may. Every read, cursor and subscription follows the writer, shows only what is durable,
    /// and changes nothing in the directory; without a writer it shows what is proven durable. Appends return `ReadOnly`.
    /// A writer that closes or dies ends no wait here: the next one's events are what it waits for. The reader runs as
    /// the writer's user or as root: each file that the writer makes is its user's alone.
    ///
    /// Whatever is asked of it later may, beyond what is said there, return `NotFound` when the store is gone or another
    /// is in its place, and `Corrupt` or `Io` when what is new cannot be read.
    ///
    /// # Errors
    /// `NotFound` when there is no store, or none yet; `Corrupt` when acknowledged data is missing or damaged; `Unsupported` for a
    /// newer format; `Io` as the operating system says.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_read_only_with(StoreConfig::new(path))
    }

    /// Opens a store for reading alone with settings of the caller's; those about writing have no effect.
    ///
    /// # Errors
    /// As [`Store::open_read_only`], and `Argument` for a setting out of bounds.
    pub fn open_read_only_with(config: StoreConfig) -> Result<Self> {
        Ok(Self {
            door: Arc::new(Door {
                front: open::open_read_only(config)?,
                engine: None,
            }),
        })
    }

    /// Opens an empty store in memory, which is gone with its last handle and view.
    ///
    /// # Errors
    /// `Io` when memory or threads are short.
    pub fn in_memory() -> Result<Self> {
        Self::open_with(StoreConfig::in_memory())
    }

    /// Appends one event and returns once it is durable.
    ///
    /// # Errors
    /// `Argument` and `Payload` before anything is written; `Busy` when the queue stays full; `Io` when the disk is full
    /// and nothing was written; `OutcomeUnknown` when a write or sync failed; `Poisoned` after that; `Closed`.
    pub fn append(
        &self,
        coordinate: &Coordinate,
        kind: impl Into<EventKind>,
        payload: &(impl Payload + ?Sized),
    ) -> Result<Receipt> {
        self.append_with_options(coordinate, kind, payload, AppendOptions::new())
    }

    /// Appends one event under conditions, with tags, parents, a key and the rest.
    ///
    /// # Errors
    /// As [`Store::append`], and `Conflict` when a condition does not hold: nothing is written, and
    /// [`StoreError::in_the_way`] names the events.
    pub fn append_with_options(
        &self,
        coordinate: &Coordinate,
        kind: impl Into<EventKind>,
        payload: &(impl Payload + ?Sized),
        options: AppendOptions,
    ) -> Result<Receipt> {
        one(self
            .engine()?
            .append(options.into_batch(coordinate, kind.into(), payload))?)
    }

    /// Appends an event that another one caused, in a story that is named.
    ///
    /// # Errors
    /// As [`Store::append`]; `Argument` when the causing event does not exist.
    pub fn append_reaction(
        &self,
        coordinate: &Coordinate,
        kind: impl Into<EventKind>,
        payload: &(impl Payload + ?Sized),
        correlation: impl Into<CorrelationId>,
        causation: impl Into<EventId>,
    ) -> Result<Receipt> {
        let options = AppendOptions::new()
            .correlation(correlation)
            .caused_by(causation);
        self.append_with_options(coordinate, kind, payload, options)
    }

    /// Appends several events, of one or many entities, together or not at all; one receipt for each.
    ///
    /// # Errors
    /// As [`Store::append_with_options`].
    pub fn append_batch(&self, batch: Batch) -> Result<Vec<Receipt>> {
        self.engine()?.append(batch)
    }

    /// Queues one event and returns at once with a ticket; waits only while the queue is full.
    ///
    /// # Errors
    /// `Argument`, `Payload`, `Busy`, `Poisoned`, `Closed`; the rest through the ticket.
    pub fn submit(
        &self,
        coordinate: &Coordinate,
        kind: impl Into<EventKind>,
        payload: &(impl Payload + ?Sized),
        options: AppendOptions,
    ) -> Result<Ticket> {
        self.submitted(
            options.into_batch(coordinate, kind.into(), payload),
            Patience::Setting,
        )
    }

    /// Queues one event, or returns `Busy` at once when the queue is full.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub fn try_submit(
        &self,
        coordinate: &Coordinate,
        kind: impl Into<EventKind>,
        payload: &(impl Payload + ?Sized),
        options: AppendOptions,
    ) -> Result<Ticket> {
        self.submitted(
            options.into_batch(coordinate, kind.into(), payload),
            Patience::None,
        )
    }

    /// Queues a batch.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub fn submit_batch(&self, batch: Batch) -> Result<Ticket<Vec<Receipt>>> {
        Ok(Ticket::new(
            self.engine()?.submit(batch, Patience::Setting)?,
        ))
    }

    /// Queues a batch, or returns `Busy` at once when the queue is full.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub fn try_submit_batch(&self, batch: Batch) -> Result<Ticket<Vec<Receipt>>> {
        Ok(Ticket::new(self.engine()?.submit(batch, Patience::None)?))
    }

    fn submitted(&self, batch: Batch, patience: Patience) -> Result<Ticket> {
        Ok(Ticket::new(self.engine()?.submit(batch, patience)?))
    }

    /// A consistent picture of this moment; costs a pointer's copy, and is answered after a close, too.
    ///
    /// Open only for reading, the store first looks for what is new; when that cannot be read, the picture is the last
    /// one that could, and the calls that return errors say why.
    #[must_use]
    pub fn view(&self) -> View {
        let front = self.front();
        front.view().unwrap_or_else(|_| front.last_view())
    }

    /// The picture as it was at a position; inside a batch, at the end of the one before.
    ///
    /// # Errors
    /// `Argument` for a position that does not exist yet; `Closed`.
    pub fn view_at(&self, position: impl Into<Position>) -> Result<View> {
        self.open_view()?.at_position(position.into())
    }

    /// The picture as it was at a recorded time.
    ///
    /// # Errors
    /// `Corrupt` when an event on the way is damaged; `Closed`.
    pub fn view_at_time(&self, time: Timestamp) -> Result<View> {
        self.open_view()?.at_time(time)
    }

    /// The event with this id.
    ///
    /// # Errors
    /// `Corrupt` when it or its index is damaged; `NotFound` when retention removed it; `Closed`.
    pub fn get(&self, id: impl Into<EventId>) -> Result<Option<Event>> {
        let view = self.open_view()?;
        Ok(view
            .picture()
            .by_id(id.into().as_bytes())?
            .map(|hit| hit.owned()))
    }

    /// The event at this position.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn at(&self, position: impl Into<Position>) -> Result<Option<Event>> {
        let view = self.open_view()?;
        Ok(view
            .picture()
            .at(position.into().get())?
            .map(|hit| hit.owned()))
    }

    /// The events of an entity, first to last, as of now.
    ///
    /// # Errors
    /// `Argument` for a name that no entity can have; `Closed`.
    pub fn stream(&self, entity: &str) -> Result<Events> {
        self.stream_with(entity, ReadOptions::new())
    }

    /// The events of an entity, as the options say.
    ///
    /// # Errors
    /// As [`Store::stream`].
    pub fn stream_with(&self, entity: &str, options: ReadOptions) -> Result<Events> {
        name::check_entity(entity)?;
        self.query_with(Region::entity(entity), options)
    }

    /// The events that match, first to last, as of now.
    ///
    /// # Errors
    /// `Argument` for a query with an invalid term; `Closed`.
    pub fn query(&self, query: impl Into<Query>) -> Result<Events> {
        self.query_with(query, ReadOptions::new())
    }

    /// The events that match, as the options say.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub fn query_with(&self, query: impl Into<Query>, options: ReadOptions) -> Result<Events> {
        Events::new(self.open_view()?, query.into(), options)
    }

    /// How many events match, as of now; no payload is read, see [`View::count`].
    ///
    /// # Errors
    /// As [`Store::query`], and `Corrupt` when an event or index on the way is damaged.
    pub fn count(&self, query: impl Into<Query>) -> Result<u64> {
        self.open_view()?.count(query)
    }

    /// Runs a query and tells what that took: axes, segments, rows, time; see [`View::explain`].
    ///
    /// # Errors
    /// As [`Store::count`].
    pub fn explain(&self, query: impl Into<Query>) -> Result<Explanation> {
        self.open_view()?.explain(query)
    }

    /// The entities whose names begin with `prefix`, in byte order, as of now; see [`View::entities`].
    ///
    /// # Errors
    /// `Argument` for a prefix that no entity can have; `Closed`.
    pub fn entities(&self, prefix: impl AsRef<str>) -> Result<Names> {
        self.open_view()?.entities(prefix)
    }

    /// The scopes whose names begin with `prefix`, in byte order, as of now.
    ///
    /// # Errors
    /// `Argument` for a prefix that no scope can have; `Closed`.
    pub fn scopes(&self, prefix: impl AsRef<str>) -> Result<Names> {
        self.open_view()?.scopes(prefix)
    }

    /// The kinds that begin with `prefix`, in byte order, as of now.
    ///
    /// # Errors
    /// `Argument` for a prefix that no kind can have; `Closed`.
    pub fn kinds(&self, prefix: impl AsRef<str>) -> Result<Names> {
        self.open_view()?.kinds(prefix)
    }

    /// The tags that begin with `prefix`, in byte order, as of now.
    ///
    /// # Errors
    /// `Argument` for a prefix that no tag can have; `Closed`.
    pub fn tags(&self, prefix: impl AsRef<str>) -> Result<Names> {
        self.open_view()?.tags(prefix)
    }

    /// The events of a scope, first to last.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub fn by_scope(&self, scope: &str) -> Result<Events> {
        self.query(Query::scope(scope))
    }

    /// The events of a kind, first to last.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub fn by_fact(&self, kind: impl AsRef<str>) -> Result<Events> {
        self.query(Query::kind(kind))
    }

    /// The events that caused this one, directly or through others, at most `limit`, nearest first.
    ///
    /// # Errors
    /// As [`View::walk_ancestors`]; `Closed`.
    pub fn walk_ancestors(&self, id: impl Into<EventId>, limit: usize) -> Result<Ancestors> {
        self.open_view()?.walk_ancestors(id, limit)
    }

    /// The events that this one caused, directly or through others, at most `limit`, first to last.
    ///
    /// # Errors
    /// As [`View::descendants`]; `Closed`.
    pub fn descendants(&self, id: impl Into<EventId>, limit: usize) -> Result<Descendants> {
        self.open_view()?.descendants(id, limit)
    }

    /// The events of one story, first to last, as of now: those of this correlation, and the event whose id it is.
    ///
    /// # Errors
    /// `Closed`.
    pub fn story(&self, correlation: impl Into<CorrelationId>) -> Result<Events> {
        self.query(Query::correlation(correlation))
    }

    /// Whether the first event caused the second, directly or through others; an event did not cause itself.
    ///
    /// # Errors
    /// As [`View::is_ancestor`]; `Closed`.
    pub fn is_ancestor(&self, a: impl Into<EventId>, b: impl Into<EventId>) -> Result<bool> {
        self.open_view()?.is_ancestor(a, b)
    }

    /// The best common ancestors of two events, as `git merge-base --all` has them; see [`View::common_ancestors`].
    ///
    /// # Errors
    /// As [`View::common_ancestors`]; `Closed`.
    pub fn common_ancestors(
        &self,
        a: impl Into<EventId>,
        b: impl Into<EventId>,
    ) -> Result<Vec<Event>> {
        self.open_view()?.common_ancestors(a, b)
    }

    /// The revision of an entity's last event, zero if it has none.
    ///
    /// # Errors
    /// As [`Store::stream`].
    pub fn revision(&self, entity: &str) -> Result<Revision> {
        self.open_view()?.revision(entity)
    }

    /// The end of what readers see: position, running digest, recorded time; answered after a close, too.
    #[must_use]
    pub fn head(&self) -> Head {
        let front = self.front();
        front.look().unwrap_or_else(|_| front.last_head())
    }

    /// The event of the same entity before this one, along the hash chain.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn previous(&self, event: &Event) -> Result<Option<Event>> {
        self.at(event.previous_position())
    }

    /// What the submission with this idempotency key wrote.
    ///
    /// # Errors
    /// `Argument` for an empty or too long key; `Closed`.
    pub fn receipt(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<Receipt>>> {
        self.open_view()?.receipt(key)
    }

    /// Reads the events that match, from the first one on, and goes on with those that are appended later.
    ///
    /// # Errors
    /// `Argument` for a query with an invalid term; `Closed`.
    pub fn cursor(&self, query: impl Into<Query>) -> Result<Cursor> {
        self.cursor_from(query, Start::Beginning)
    }

    /// Reads the events that match from a place on: a position, a saved [`CursorPosition`](crate::CursorPosition), a
    /// time, or now; see [`Start`].
    ///
    /// # Errors
    /// As [`Store::cursor`]; `Argument` for a position above the last; `Conflict` for one that was saved on another
    /// history.
    pub fn cursor_from(&self, query: impl Into<Query>, start: impl Into<Start>) -> Result<Cursor> {
        self.front().check_open()?;
        Cursor::open(Arc::clone(self.front()), query.into(), start.into())
    }

    /// Receives the events that match and are appended from now on; a receiver that falls more than 256 of them behind
    /// is told how many it lost.
    ///
    /// # Errors
    /// As [`Store::cursor`].
    pub fn subscribe(&self, query: impl Into<Query>) -> Result<Subscription> {
        self.subscribe_with(query, DEFAULT_SUBSCRIPTION_CAPACITY)
    }

    /// Receives as [`Store::subscribe`] does, at most `capacity` matching events behind.
    ///
    /// # Errors
    /// As [`Store::cursor`]; `Argument` for a capacity of 0 or above [`MAX_SUBSCRIPTION_CAPACITY`].
    ///
    /// [`MAX_SUBSCRIPTION_CAPACITY`]: crate::MAX_SUBSCRIPTION_CAPACITY
    pub fn subscribe_with(&self, query: impl Into<Query>, capacity: usize) -> Result<Subscription> {
        self.front().check_open()?;
        Subscription::open(Arc::clone(self.front()), query.into(), capacity)
    }

    /// A fresh event id, ordered by time, to give to an event before it is appended.
    #[must_use]
    pub fn new_id(&self) -> EventId {
        self.front().new_id()
    }

    /// Waits until everything that was acknowledged, buffered appends too, is durable.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the sync failed; `Poisoned`; `Closed`.
    pub fn sync(&self) -> Result<()> {
        self.engine()?.sync()
    }

    /// Closes the store for all clones: finishes what is queued, syncs, writes the checkpoint, releases the lock.
    ///
    /// # Errors
    /// `Closed` when it was closed before; `Poisoned`, `OutcomeUnknown` and `Io` when it did not close cleanly, and then
    /// it is closed all the same.
    pub fn close(self) -> Result<()> {
        self.door.close()
    }

    /// How much the store holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match &self.door.engine {
            Some(engine) => engine.stats(),
            None => self.front().stats_of_reader(),
        }
    }

    /// What the store is doing, and how well.
    #[must_use]
    pub fn diagnostics(&self) -> Diagnostics {
        match &self.door.engine {
            Some(engine) => engine.diagnostics(),
            None => Diagnostics::of_reader(self.front()),
        }
    }

    fn front(&self) -> &Arc<Front> {
        &self.door.front
    }

    fn engine(&self) -> Result<&Engine> {
        self.shared_engine().map(|engine| &**engine)
    }

    fn shared_engine(&self) -> Result<&Arc<Engine>> {
        self.door.engine.as_ref().ok_or_else(StoreError::read_only)
    }

    fn open_view(&self) -> Result<View> {
        self.front().check_open()?;
        self.front().view()
    }
}

fn one(receipts: Vec<Receipt>) -> Result<Receipt> {
    let first = receipts.into_iter().next();
    first.ok_or_else(|| StoreError::argument("a batch of no events has no receipt"))
}
