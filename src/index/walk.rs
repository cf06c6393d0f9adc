//! Walks the events that match a query, lazily and in order, through the layers of a picture.
//!
//! In each layer a region picks its narrowest axis and asks for its rows page by page; every candidate is then held
//! against the whole region. What retention emptied matches nothing and is passed over. Memory is one page a region,
//! or one bit a row where names share a prefix. Runs on the thread that asks for the next event: a reader's, or the
//! writer's in its turn.

use crate::error::Result;
use crate::event::query::Query;
use crate::event::region::{Facets, Region};
use crate::index::candidates::{RowBounds, Stream};
use crate::index::clues::Skips;
use crate::index::layer::{Direction, Layer};
use crate::index::picture::Picture;
use crate::log::event::{Event, EventRef};
use crate::sync::Arc;

/// One matching event and the segment that it stands in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit<'a> {
    pub(crate) event: EventRef<'a>,
    pub(crate) layer: &'a Arc<Layer>,
}

impl Hit<'_> {
    /// The event, keeping its segment alive.
    pub(crate) fn owned(self) -> Event {
        self.event.to_owned_in(self.layer.segment())
    }
}

/// The state of a walk; it holds no borrow, so that it can stand beside the view it walks.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    query: Query,
    direction: Direction,
    low: u64,
    high: u64,
    left: usize,
    layer: Option<usize>,
    next_layer: Option<usize>,
    streams: Vec<Stream>,
    skips: Skips,
    /// Rows whose event was looked at, and rows read out of lists to find them.
    rows_touched: u64,
    notes: Option<Box<Notes>>,
}

/// Where a walk found its candidates, for an explanation; an ordinary walk keeps none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// How many segments had candidates.
    pub(crate) segments_read: u64,
    last_read: u64,
    /// For each region and axis, in order of first use, in how many segments it was used.
    pub(crate) uses: Vec<Use>,
}

/// An axis that gave a region its candidates.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) region: usize,
    pub(crate) axis: Region,
    pub(crate) segments: u64,
    last: u64,
}

impl Notes {
    /// Takes down the candidates of one layer; a segment may have two layers, one after the other.
    fn take_down(&mut self, segment: u64, streams: &[Stream], regions: &[Region]) {
        if !streams.is_empty() {
            self.segments_read += u64::from(self.last_read != segment);
            self.last_read = segment;
        }
        for stream in streams {
            let Some(wanted) = regions.get(stream.region) else {
                continue;
            };
            let (region, axis) = (stream.region, stream.axis(wanted));
            let mut uses = self.uses.iter_mut();
            match uses.find(|known| known.region == region && known.axis == axis) {
                Some(known) => {
                    known.segments += u64::from(known.last != segment);
                    known.last = segment;
                }
                None => self.uses.push(Use {
                    region,
                    axis,
                    segments: 1,
                    last: segment,
                }),
            }
        }
    }
}

impl Walk {
    /// A walk over the events at positions `low..=high`, at most `limit` of them.
    pub(crate) fn new(
        query: Query,
        direction: Direction,
        (low, high): (u64, u64),
        limit: usize,
    ) -> Self {
        Self {
            query,
            direction,
            low,
            high,
            left: limit,
            layer: None,
            next_layer: None,
            streams: Vec::new(),
            skips: Skips::default(),
            rows_touched: 0,
            notes: None,
        }
    }

    /// The same walk, taking notes.
    pub(crate) fn with_notes(mut self) -> Self {
        self.notes = Some(Box::default());
        self
    }

    /// How many rows it touched, and its notes, if it took any.
    pub(crate) fn into_notes(self) -> (u64, Notes) {
        (
            self.rows_touched,
            self.notes.map(|notes| *notes).unwrap_or_default(),
        )
    }

    /// The next match; `None` at the end, and for good after an error.
    pub(crate) fn next<'a>(&mut self, picture: &Picture<'a>) -> Option<Result<Hit<'a>>> {
        if self.left == 0 {
            return None;
        }
        let found = self.advance(picture);
        match &found {
            Ok(Some(_)) => self.left -= 1,
            Ok(None) | Err(_) => self.left = 0,
        }
        found.transpose()
    }

    fn advance<'a>(&mut self, picture: &Picture<'a>) -> Result<Option<Hit<'a>>> {
        loop {
            let Some(at) = self.layer else {
                if !self.enter_first(picture)? {
                    return Ok(None);
                }
                continue;
            };
            let Some(layer) = picture.layers.all.get(at) else {
                return Ok(None);
            };
            if let Some(event) = self.next_in(layer, picture)? {
                return Ok(Some(Hit { event, layer }));
            }
            match self
                .next_layer
                .and_then(|next| picture.layers.all.get(next).map(|_| next))
            {
                Some(next) => self.enter(next, picture)?,
                None => return Ok(None),
            }
        }
    }

    fn enter_first(&mut self, picture: &Picture<'_>) -> Result<bool> {
        self.high = self.high.min(picture.upto);
        if self.low > self.high {
            return Ok(false);
        }
        let start = match self.direction {
            Direction::Forward => picture.layer_of(self.low.max(1)),
            Direction::Backward => picture.layer_of(self.high),
        };
        match start {
            Some(first) => self.enter(first, picture).map(|()| true),
            None => Ok(false),
        }
    }

    fn enter(&mut self, at: usize, picture: &Picture<'_>) -> Result<()> {
        self.layer = Some(at);
        self.next_layer = match self.direction {
            Direction::Forward => at.checked_add(1),
            Direction::Backward => at.checked_sub(1),
        };
        self.streams.clear();
        let Some(layer) = picture.layers.all.get(at) else {
            return Ok(());
        };
        let end = picture.end_of(at);
        let (above, below) = (layer.first_position() > self.high, end < self.low);
        if above || below {
            let past = if above {
                Direction::Forward
            } else {
                Direction::Backward
            };
            self.next_layer = self.next_layer.filter(|_| self.direction != past);
            return Ok(());
        }
        let regions = self.query.regions();
        if self.skips.passes_over(at, picture.layers, regions) {
            return Ok(());
        }
        for (index, region) in regions.iter().enumerate() {
            let bounds = RowBounds::of(layer, region, (self.low, self.high.min(end)), picture)?;
            if let Some(stream) = Stream::open(layer, index, region, bounds)? {
                self.rows_touched += stream.rows_listed();
                self.streams.push(stream);
            }
        }
        if let Some(notes) = &mut self.notes {
            notes.take_down(layer.segment().number(), &self.streams, regions);
        }
        Ok(())
    }

    fn next_in<'a>(
        &mut self,
        layer: &'a Layer,
        picture: &Picture<'a>,
    ) -> Result<Option<EventRef<'a>>> {
        loop {
            let mut next: Option<u32> = None;
            for stream in &mut self.streams {
                let Some(row) = stream.peek(layer, self.direction)? else {
                    continue;
                };
                next = Some(match (next, self.direction) {
                    (None, _) => row,
                    (Some(other), Direction::Forward) => row.min(other),
                    (Some(other), Direction::Backward) => row.max(other),
                });
            }
            let Some(row) = next else { return Ok(None) };
            self.rows_touched += 1;
            let kept = layer.kept_event(row, picture.staged)?;
            let mut matched = None;
            for stream in &mut self.streams {
                if stream.take_if(row) && matched.is_none() {
                    let region = self.query.regions().get(stream.region);
                    matched =
                        kept.filter(|event| region.is_some_and(|region| matches(region, event)));
                }
            }
            if matched.is_some() {
                return Ok(matched);
            }
        }
    }
}

/// Whether an event matches a query.
pub(crate) fn matches_any(query: &Query, event: &EventRef<'_>) -> bool {
    query.regions().iter().any(|region| matches(region, event))
}

fn matches(region: &Region, event: &EventRef<'_>) -> bool {
    let caused = region
        .cause()
        .is_none_or(|cause| event.parents().any(|parent| parent == cause));
    let [entity, scope, kind] = event.names();
    caused
        && region.matches(&Facets {
            entity,
            scope,
            kind,
            tags: event.tags(),
            correlation: event.correlation(),
            position: event.position().get(),
            revision: event.revision().get(),
            recorded_at: event.recorded_at(),
        })
}
