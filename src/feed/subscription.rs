//! A subscription: hands out new events as they come, and counts those it lost when its receiver is too slow.
//!
//! There is no queue to fill: it reads the log like a cursor, on the receiver's thread, and when more matching events
//! wait than its capacity, it passes over the oldest and says how many they were. So the writer does nothing for it.

use std::fmt;
use std::iter::FusedIterator;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::engine::front::{Front, Listener};
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::query::Query;
use crate::feed::reader::{Behind, Reader};
use crate::feed::sleep::{look_again, sleep_until};
use crate::index::layer::Direction;
use crate::index::view::View;
use crate::index::walk::Walk;
use crate::log::event::Event;
use crate::sync::Arc;

/// How many matching events a subscription may be behind unless it says otherwise.
pub(crate) const DEFAULT_SUBSCRIPTION_CAPACITY: usize = 256;
/// How many matching events a subscription may be behind at the most.
pub const MAX_SUBSCRIPTION_CAPACITY: usize = 1_048_576;

/// What a subscription hands out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Delivery {
    /// The next event.
    Event(Event),
    /// The receiver was too slow: this many matching events were passed over here.
    Lagged(u64),
}

impl Delivery {
    /// The event, if it is one.
    #[must_use]
    pub fn event(self) -> Option<Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Lagged(_) => None,
        }
    }
}

/// Receives the events that match and are appended after it was made.
///
/// A receiver that falls behind by more than the capacity loses the oldest events and is told how many; use a
/// [`Cursor`](crate::Cursor) to lose none. It blocks as an iterator, polls as a task ([`Subscription::poll_recv`], or
/// `into_stream` with the feature `async`), and ends when the store is closed, which it does not keep open.
///
/// ```
/// use quipu::prelude::*;
///
/// # fn main() -> quipu::Result<()> {
/// let store = Store::in_memory()?;
/// let mut lamps = store.subscribe(Query::kind_prefix("lamp."))?;
/// let lamp = Coordinate::new("lamp:1", "house")?;
/// store.append(&lamp, EventKind::literal("lamp.lit"), &())?;
/// match lamps.recv()? {
///     Delivery::Event(event) => assert_eq!(event.kind(), "lamp.lit"),
///     Delivery::Lagged(lost) => println!("{lost} events went by"),
///     _ => {}
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a subscription that nobody receives from does nothing"]
pub struct Subscription {
    tail: Tail,
    listener: Listener,
}

impl fmt::Debug for Subscription {
    /// What it receives and how far it has come; the store behind it would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("query", &format_args!("{}", self.tail.reader.query()))
            .field("position", &self.tail.reader.read())
            .field("lost", &self.tail.lost)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    pub(crate) fn open(front: Arc<Front>, query: Query, capacity: usize) -> Result<Self> {
        query.check()?;
        if !(1..=MAX_SUBSCRIPTION_CAPACITY).contains(&capacity) {
            return Err(StoreError::argument(format!(
                "a subscription's capacity is 1 to {MAX_SUBSCRIPTION_CAPACITY} events, not {capacity}"
            )));
        }
        let now = front.look()?.position.get();
        Ok(Self {
            tail: Tail {
                reader: Reader::new(Arc::clone(&front), query, now),
                capacity,
                lost: 0,
                ended: false,
            },
            listener: Listener::new(front),
        })
    }

    /// How many events it has lost so far, all told.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.tail.lost
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// `Closed` once the store is closed and everything is received; `Corrupt` and `Io` when an event cannot be read,
    /// after which it has ended and says `Closed`.
    pub fn recv(&mut self) -> Result<Delivery> {
        loop {
            if let Some(delivery) = self.recv_until(None)? {
                return Ok(delivery);
            }
        }
    }

    /// Waits for what comes next; `None` when the timeout passes first.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery>> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// What is there; `None` when it has caught up.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Delivery>> {
        look_again(&mut self.listener, || self.tail.next())
    }

    /// What is there, or a promise to wake the task when there may be more; for `async` code, with any executor.
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use quipu::prelude::*;
    ///
    /// async fn next(subscription: &mut Subscription) -> quipu::Result<Delivery> {
    ///     poll_fn(|context| subscription.poll_recv(context)).await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Delivery>> {
        let found = match self.try_recv() {
            Ok(None) => self.listen_and_look(context),
            found => found,
        };
        match found {
            Ok(Some(delivery)) => Poll::Ready(Ok(delivery)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn listen_and_look(&mut self, context: &Context<'_>) -> Result<Option<Delivery>> {
        self.listener.listen(context.waker())?;
        self.try_recv()
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Option<Delivery>> {
        sleep_until(&mut self.listener, deadline, || self.tail.next())
    }
}

impl Iterator for Subscription {
    type Item = Result<Delivery>;

    /// Waits for what comes next; ends when the store is closed, and after an error.
    fn next(&mut self) -> Option<Self::Item> {
        some_unless_closed(self.recv())
    }
}

impl FusedIterator for Subscription {}

/// A closed store is the end of an iterator or stream, not an error of it.
pub(super) fn some_unless_closed(delivery: Result<Delivery>) -> Option<Result<Delivery>> {
    match delivery {
        Err(error) if error.kind() == StoreErrorKind::Closed => None,
        delivery => Some(delivery),
    }
}

/// The newest events that match, at most `capacity` of them behind the end.
struct Tail {
    reader: Reader,
    capacity: usize,
    lost: u64,
    ended: bool,
}

impl Tail {
    fn next(&mut self) -> Result<Option<Delivery>> {
        if self.ended {
            return Err(StoreError::closed());
        }
        let found = self.find();
        self.ended = found.is_err();
        found
    }

    fn find(&mut self) -> Result<Option<Delivery>> {
        loop {
            if let Some(event) = self.reader.next_in_window()? {
                return Ok(Some(Delivery::Event(event)));
            }
            let Some(behind) = self.reader.behind()? else {
                return Ok(None);
            };
            let lost = self.begin(behind)?;
            if lost > 0 {
                self.lost += lost;
                return Ok(Some(Delivery::Lagged(lost)));
            }
        }
    }

    /// Goes on with what is there, but for the oldest matching events above the capacity; returns how many those are.
    fn begin(&mut self, Behind { view, first }: Behind) -> Result<u64> {
        let positions = (first, view.position().get());
        let capacity = self.capacity as u64;
        // Fewer events than that need no counting, whatever they are.
        let waiting = match positions.1 - positions.0 < capacity {
            true => 0,
            false => view.count_within(self.reader.query(), positions)?,
        };
        let lost = waiting.saturating_sub(capacity);
        let from = match lost {
            0 => first,
            _ => self.oldest_kept(&view, positions)?,
        };
        self.reader.begin(view, from);
        Ok(lost)
    }

    /// The position of the oldest of the newest `capacity` matching events.
    fn oldest_kept(&self, view: &View, positions: (u64, u64)) -> Result<u64> {
        let query = self.reader.query().clone();
        let mut walk = Walk::new(query, Direction::Backward, positions, self.capacity);
        let mut oldest = positions.1;
        while let Some(hit) = walk.next(&view.picture()) {
            oldest = hit?.event.position().get();
        }
        Ok(oldest)
    }
}
