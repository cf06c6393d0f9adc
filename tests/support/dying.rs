//! Work that is done in a child process again and again, which dies before the first, the second, the third .. call that
//! changes its disk, until it comes to its end. `QUIPU_CRASH_STEP` leaves out calls between two deaths.

use super::child::{self, Role};
use super::number;
use super::ruled::{Call, Ruled};
use quipu::io::RealDisk;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// No work that is tested here makes so many calls.
const MOST_CALLS: u64 = 10_000;
const DONE: &str = "done";
/// How a test that panicked ends.
const PANICKED: i32 = 101;
/// Threads that append, whose calls are not counted: how many there are is chance.
const APPENDING: [&str; 3] = [APPENDER, "quipu-writer", "quipu-upkeep"];

/// The name of a child's thread that appends beside the work.
pub(crate) const APPENDER: &str = "appender";

/// Every how many calls the process or the power goes; all of them where the environment says 1.
pub(crate) fn step(or: u64) -> usize {
    usize::try_from(number("QUIPU_CRASH_STEP", or)).unwrap()
}

/// Which calls count: those that change something, from a moment on, of all threads but those that append.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    begun: AtomicBool,
    calls: AtomicU64,
}

impl Counter {
    pub(crate) fn begin(&self) {
        self.begun.store(true, SeqCst);
    }

    pub(crate) fn end(&self) {
        self.begun.store(false, SeqCst);
    }

    /// How many calls were counted before this one, if it counts.
    pub(crate) fn number(&self, call: &Call<'_>) -> Option<u64> {
        let thread = std::thread::current();
        let appends = thread.name().is_some_and(|name| APPENDING.contains(&name));
        let counts = self.begun.load(SeqCst) && call.op.changes() && !appends;
        counts.then(|| self.calls.fetch_add(1, SeqCst))
    }
}

/// This process, as the child that dies.
pub(crate) struct Dying {
    place: PathBuf,
    last: u64,
    counter: Arc<Counter>,
}

impl Dying {
    /// What the parent wants done, if this process is a child in `role`.
    pub(crate) fn in_role(role: &str) -> Option<Self> {
        let place = child::place_for(role)?;
        std::panic::set_hook(Box::new(|panic| {
            child::tell(panic.to_string().replace('\n', " "));
        }));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        Some(Self {
            place,
            last: line.trim().parse().unwrap(),
            counter: Arc::default(),
        })
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// The directory `name`, before whose last call the process ends as if it were killed.
    pub(crate) fn disk(&self, name: &str) -> Ruled {
        let (counter, last) = (Arc::clone(&self.counter), self.last);
        Ruled::new(
            RealDisk::new(self.place.join(name)),
            move |call| match counter.number(&call) {
                Some(number) if number == last => std::process::abort(),
                _ => Ok(()),
            },
        )
    }

    /// From now on calls are counted.
    pub(crate) fn begin(&self) {
        self.counter.begin();
    }

    /// The work is done.
    pub(crate) fn done(self) {
        child::tell(DONE);
    }
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Death {
    /// The number of the call that was not made.
    pub(crate) before: u64,
    /// What it told until then.
    pub(crate) told: Vec<String>,
    /// Whether there was no such call any more, so that the work is done.
    pub(crate) is_done: bool,
}

impl Death {
    fn of(test: &str, role: &str, place: &Path, before: u64) -> Self {
        let mut child = Role::start(test, role, place);
        child.ask(before);
        let mut told: Vec<String> = std::iter::from_fn(|| child.hear()).collect();
        let code = child.ended().code();
        assert!(
            code != Some(PANICKED),
            "the child failed before call {before}: {told:?}"
        );
        let is_done = told.pop_if(|last| last == DONE).is_some();
        assert_eq!(is_done, code == Some(0), "before call {before}: {told:?}");
        Self {
            before,
            told,
            is_done,
        }
    }
}

/// Has the child that `test` is in `role` die before every call, each time in what `prepare` has made anew of `place`,
/// and hands what is left to `check`. Returns how often it died.
pub(crate) fn die_everywhere(
    (test, role, place): (&str, &str, &Path),
    step: usize,
    mut prepare: impl FnMut(),
    mut check: impl FnMut(&Death),
) -> usize {
    for (deaths, call) in (0..MOST_CALLS).step_by(step).enumerate() {
        prepare();
        let death = Death::of(test, role, place, call);
        println!("{role}: died before call {call}: {}", !death.is_done);
        check(&death);
        if death.is_done {
            return deaths;
        }
    }
    panic!("{role} never comes to its end");
}
