//! A few threads of lower priority that share a piece of upkeep, and end with it.
//!
//! They may run code of the caller's, which may even close the store: whoever waits for them must not be waited for then.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::thread::{Builder, Scope, ScopedJoinHandle, Thread, ThreadId, current, panicking};

use crate::error::{Result, StoreError};
use crate::io::lower_priority;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// One or two have a processor while the others wait for the disk.
const THREADS: usize = 3;

thread_local! {
    /// Who waits for this thread, or for the one that does; none where `start` did not start it.
    static WAITS_FOR_THIS: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// Whether `thread` is the one that asks, or ends only after it.
pub(super) fn is_own(thread: &Thread) -> bool {
    thread.id() == current().id() || WAITS_FOR_THIS.get() == Some(thread.id())
}

/// Starts `work` on the threads `name-1`, `name-2` and so on, as far as there are so many items; on the first alone where no
/// other is to be had.
pub(super) fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    items: usize,
    work: impl Fn() -> T + Clone + Send + 'scope,
) -> Result<Vec<ScopedJoinHandle<'scope, T>>> {
    let mut threads = Vec::with_capacity(THREADS);
    // One that was started like this itself is waited for by a thread of the store, and that one counts.
    let waits = WAITS_FOR_THIS.get().unwrap_or_else(|| current().id());
    for number in 1..=THREADS.min(items) {
        let name = format!("{name}-{number}");
        let work = work.clone();
        let started = Builder::new()
            .name(name.clone())
            .spawn_scoped(scope, move || {
                lower_priority();
                WAITS_FOR_THIS.set(Some(waits));
                work()
            });
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => {
                return Err(StoreError::io(
                    format_args!("starting the thread {name}"),
                    error,
                ));
            }
            Err(error) => {
                tracing::warn!(%error, name, "a thread is missing, the others do its work")
            }
        }
    }
    Ok(threads)
}

/// Leaves nothing to do when the thread that has it panics.
struct EndsAll<'a> {
    next: &'a AtomicUsize,
    end: usize,
}

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        if panicking() {
            self.next.store(self.end, Ordering::Relaxed);
        }
    }
}

/// What each of the items gives, in their order, worked out on threads that each have a worker. The first error or panic
/// ends all.
pub(super) fn work_out<T: Sync, R: Send, W: FnMut(&T) -> Result<R>>(
    name: &str,
    items: &[T],
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<R>> {
    // Publishes nothing but itself: the first item that nobody has begun.
    let next = AtomicUsize::new(0);
    let work = || {
        let _ends_all = EndsAll {
            next: &next,
            end: items.len(),
        };
        let (mut worker, mut done) = (worker(), Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return Ok(done);
            };
            let result = worker(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed));
            done.push((at, result?));
        }
    };
    let outcomes: Vec<Result<Vec<(usize, R)>>> = std::thread::scope(|scope| {
        let joined = start(scope, name, items.len(), work)?
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        Ok(joined.collect())
    })?;
    let mut results = Vec::with_capacity(items.len());
    for outcome in outcomes {
        results.extend(outcome?);
    }
    results.sort_unstable_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        let slow_at_first = |item: &u64| {
            std::thread::sleep(Duration::from_micros(100 - item));
            Ok((*item, std::thread::current().name().map(str::to_owned)))
        };
        let results = work_out("quipu-test", &items, || slow_at_first).unwrap();
        assert!(results.iter().map(|(item, _)| item).eq(&items));
        for number in 1..=THREADS {
            let name = format!("quipu-test-{number}");
            assert!(results.iter().any(|(_, by)| by.as_ref() == Some(&name)));
        }
    }

    #[test]
    fn the_first_error_ends_all() {
        let calls = AtomicUsize::new(0);
        let items: Vec<usize> = (0..10_000).collect();
        let fails_at_ten = |item: &usize| {
            calls.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(100));
            match item {
                10 => Err(StoreError::busy("ten")),
                _ => Ok(()),
            }
        };
        let error = work_out("quipu-test", &items, || fails_at_ten).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Busy);
        assert!(calls.into_inner() < 1_000);
    }

    /// The others went through all that was left before the caller was told.
    #[test]
    fn a_panic_ends_all_and_reaches_the_caller() {
        let calls = AtomicUsize::new(0);
        let items: Vec<usize> = (0..10_000).collect();
        let panics = |item: &usize| {
            calls.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(100));
            match item {
                // A panic without its message, which takes as long to print as a thousand items.
                7 => resume_unwind(Box::new("seven")),
                _ => Ok(()),
            }
        };
        let all = AssertUnwindSafe(|| work_out("quipu-test", &items, || panics));
        let panic = catch_unwind(all).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"seven"));
        assert!(calls.into_inner() < 1_000);
    }
}
