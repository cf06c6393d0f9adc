//! Reads the events that match in order, to the end of what is visible and on from there when more is.
//!
//! What it holds is a place in the log and, while there is something to read, a view. Cursors and subscriptions are
//! this with their own rule for falling behind. It belongs to one thread at a time, whichever has it.

use crate::engine::front::Front;
use crate::error::Result;
use crate::event::query::Query;
use crate::index::layer::Direction;
use crate::index::view::View;
use crate::index::walk::{Hit, Walk};
use crate::log::event::Event;
use crate::sync::Arc;

/// A reader of one query, at a place in the log.
pub(super) struct Reader {
    front: Arc<Front>,
    query: Query,
    /// Every matching event at or below this position was read.
    read: u64,
    window: Option<Window>,
}

/// What is visible and not read yet.
struct Window {
    view: View,
    walk: Walk,
}

/// More was appended than has been read.
pub(super) struct Behind {
    pub(super) view: View,
    /// The first position that was not read.
    pub(super) first: u64,
}

impl Reader {
    /// Reads what comes after position `read`.
    pub(super) fn new(front: Arc<Front>, query: Query, read: u64) -> Self {
        Self {
            front,
            query,
            read,
            window: None,
        }
    }

    pub(super) fn front(&self) -> &Arc<Front> {
        &self.front
    }

    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    /// Up to where everything that matches was read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The next event that matches; `None` at the end of what is visible.
    pub(super) fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.next_in_window()? {
                return Ok(Some(event));
            }
            match self.behind()? {
                Some(behind) => self.begin(behind.view, behind.first),
                None => return Ok(None),
            }
        }
    }

    /// The next event that matches of those that were visible when the window began.
    pub(super) fn next_in_window(&mut self) -> Result<Option<Event>> {
        let Some(window) = &mut self.window else {
            return Ok(None);
        };
        match window.walk.next(&window.view.picture()) {
            Some(hit) => {
                let event = hit.map(Hit::owned)?;
                self.read = event.position().get();
                Ok(Some(event))
            }
            None => {
                self.read = window.view.position().get();
                self.window = None;
                Ok(None)
            }
        }
    }

    /// Whether anything, matching or not, was appended since.
    pub(super) fn behind(&self) -> Result<Option<Behind>> {
        if self.front.look()?.position.get() <= self.read {
            return Ok(None);
        }
        Ok(Some(Behind {
            view: self.front.last_view(),
            first: self.read + 1,
        }))
    }

    /// Goes on with what `view` shows from position `first`.
    pub(super) fn begin(&mut self, view: View, first: u64) {
        let bounds = (first, view.position().get());
        let walk = Walk::new(self.query.clone(), Direction::Forward, bounds, usize::MAX);
        self.window = Some(Window { view, walk });
    }
}
