//! What readers share, be the store open for writing or only for reading: the picture and the bell.
//!
//! The writer's turn and upkeep replace the picture; of a store that is open only for reading, whoever looks does, from
//! the durable hint. One thread, `quipu-feed`, wakes those who wait; it starts with the first of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::bell::Bell;
use crate::engine::follow::Follower;
use crate::engine::meters::Stats;
use crate::engine::shared::{IdSource, Published};
use crate::engine::threads;
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::event::id::EventId;
use crate::event::position::Position;
use crate::index::view::{Head, View};
use crate::io::{Clock, Disk, Watch};
use crate::log::files::HINT;
use crate::log::scan::Tip;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, RwLock};

/// The readers' side of one open store.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    /// The process that opened the store; a forked child has none of its threads.
    process: u32,
    pub(crate) published: RwLock<Published>,
    /// Reads what another process writes; only of a store that is open only for reading.
    follower: Option<Mutex<Follower>>,
    bell: Bell,
    feed: Mutex<Feed>,
    /// Publishes to waiters and to the feed's thread that nothing more will come.
    closed: AtomicBool,
    /// When the last snapshot was finished.
    last_snapshot: Mutex<Option<Instant>>,
}

/// The thread that wakes those who wait.
#[derive(Debug)]
enum Feed {
    NotStarted,
    Running {
        thread: JoinHandle<()>,
        watch: Option<Arc<dyn Watch>>,
    },
    Ended,
}

impl Front {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        published: Published,
        follower: Option<Follower>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ids: IdSource::new(clock.entropy()),
            disk,
            clock,
            process: std::process::id(),
            published: RwLock::new(published),
            follower: follower.map(Mutex::new),
            bell: Bell::default(),
            feed: Mutex::new(Feed::NotStarted),
            closed: AtomicBool::new(false),
            last_snapshot: Mutex::new(None),
        })
    }

    /// A picture of this moment.
    ///
    /// # Errors
    /// Only of a store that is open only for reading: `Io` and `Corrupt` when what is new cannot be read.
    pub(crate) fn view(&self) -> Result<View> {
        self.look()?;
        Ok(self.last_view())
    }

    /// The picture that was last looked at.
    pub(crate) fn last_view(&self) -> View {
        let published = self.published.read();
        View::new(
            Arc::clone(&published.layers),
            published.head,
            published.durable,
        )
    }

    /// All that readers see at this moment.
    ///
    /// # Errors
    /// As [`Front::view`].
    pub(crate) fn picture(&self) -> Result<Published> {
        self.look()?;
        Ok(self.published.read().clone())
    }

    /// The end of what readers see at this moment.
    ///
    /// # Errors
    /// As [`Front::view`].
    pub(crate) fn look(&self) -> Result<Head> {
        if let Some(follower) = self.follower.as_ref().filter(|_| !self.is_closed()) {
            self.follow(&mut follower.lock())?;
        }
        Ok(self.last_head())
    }

    fn follow(&self, follower: &mut Follower) -> Result<()> {
        let current = self.published.read().clone();
        if let Some(next) = follower.refresh(&current)? {
            *self.published.write() = next;
            self.bell.ring();
        }
        Ok(())
    }

    /// The picture of a store that is open only for reading, and the state of its log there.
    ///
    /// # Errors
    /// As [`Front::view`].
    pub(crate) fn followed(&self) -> Result<(View, Tip)> {
        let follower = self.follower.as_ref().ok_or_else(|| {
            StoreError::argument("the store is open for writing, and follows no other process")
        })?;
        let mut follower = follower.lock();
        self.follow(&mut follower)?;
        Ok((self.last_view(), follower.tip()))
    }

    /// What the clock says.
    #[cfg(feature = "metrics")]
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    pub(crate) fn last_head(&self) -> Head {
        self.published.read().head
    }

    /// The last position that is known durable.
    pub(crate) fn durable(&self) -> u64 {
        self.published.read().durable
    }

    /// Tells those who wait that there is something new; to be called after it is published.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.bell.enrolled()
    }

    /// Whether calls may be made.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Closed,
            "the store was opened before this process was forked; open it here, once the parent has closed it",
        ))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Refuses once it is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        if self.is_closed() {
            return Err(StoreError::closed());
        }
        Ok(())
    }

    /// Ends every wait, and the feed's thread; the second call finds it closed.
    pub(crate) fn close(&self) -> Result<()> {
        if self.process != std::process::id() {
            return Ok(());
        }
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(StoreError::closed());
        }
        let feed = std::mem::replace(&mut *self.feed.lock(), Feed::Ended);
        if let Feed::Running { thread, watch } = feed {
            watch.iter().for_each(|watch| watch.interrupt());
            self.bell.wake_ringer();
            if !threads::is_own(thread.thread()) && thread.join().is_err() {
                tracing::error!("the feed's thread panicked");
            }
        }
        self.bell.wake_all(wake);
        Ok(())
    }

    pub(crate) fn note_snapshot(&self) {
        *self.last_snapshot.lock() = Some(Instant::now());
    }

    /// How long ago the last snapshot was finished; none since the store was opened is `None`.
    pub(crate) fn since_last_snapshot(&self) -> Option<Duration> {
        self.last_snapshot.lock().map(|at| at.elapsed())
    }

    /// A fresh id, ordered by time.
    pub(crate) fn new_id(&self) -> EventId {
        self.ids.next(self.clock.now())
    }

    /// What a store that is open only for reading holds; the last that could be read, when what is new cannot.
    pub(crate) fn stats_of_reader(&self) -> Stats {
        let _ = self.look();
        self.stats(0)
    }

    pub(crate) fn stats(&self, unsealed_segments: u64) -> Stats {
        let published = self.published.read().clone();
        let layers = &published.layers.all;
        Stats {
            head: published.head,
            durable_position: Position::new(published.durable),
            segments: published.segments(),
            unsealed_segments,
            log_bytes: published.log_bytes(),
            index_heap_bytes: layers.iter().map(|l| l.heap_bytes() as u64).sum(),
        }
    }

    /// Starts the feed's thread unless it runs.
    fn start_feed(self: &Arc<Self>) -> Result<()> {
        let mut feed = self.feed.lock();
        if !matches!(*feed, Feed::NotStarted) {
            return Ok(());
        }
        let watch = self.follower.as_ref().map(|_| self.disk.watch(HINT));
        let watch: Option<Arc<dyn Watch>> = watch.map(Arc::from);
        let (front, watched) = (Arc::clone(self), watch.clone());
        let told = self.last_head().position.get();
        let thread = std::thread::Builder::new()
            .name("quipu-feed".to_owned())
            .spawn(move || wake_for_news(&front, told, watched.as_deref()))
            .map_err(|e| StoreError::io("starting the thread quipu-feed", e))?;
        self.bell.set_ringer(thread.thread().clone());
        *feed = Feed::Running { thread, watch };
        Ok(())
    }
}

/// The thread's whole work.
fn wake_for_news(front: &Front, told: u64, watch: Option<&dyn Watch>) {
    front.bell.serve(
        told,
        || front.is_closed(),
        || front.look().ok().map(|head| head.position.get()),
        wake,
        |idle| match watch {
            Some(watch) if front.waiting() > 0 => watch.wait(idle),
            _ => std::thread::park(),
        },
    );
}

fn wake(waker: Waker) {
    // It is the caller's code, and the others are still to be woken.
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("a waker panicked");
    }
}

/// A place among those who wait, given back when it is dropped.
pub(crate) struct Listener {
    front: Arc<Front>,
    number: Option<u64>,
}

impl Listener {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self {
            front,
            number: None,
        }
    }

    /// Asks to be woken by the next news; whoever asks looks once more before it sleeps.
    pub(crate) fn listen(&mut self, waker: &Waker) -> Result<()> {
        self.front.check_process()?;
        self.front.start_feed()?;
        self.number = Some(self.front.bell.enrol(self.number, waker));
        if self.front.follower.is_some() {
            // It sleeps while nobody waits.
            self.front.bell.wake_ringer();
        }
        Ok(())
    }

    /// Whether nothing more will come than what is visible once this was asked.
    pub(crate) fn is_closed(&self) -> bool {
        self.front.is_closed()
    }

    /// No longer wants to be woken; costs a lock only once.
    pub(crate) fn stop(&mut self) {
        if let Some(number) = self.number.take() {
            self.front.bell.withdraw(number);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}
