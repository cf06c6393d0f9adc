//! What the benchmarks share: the command line, threads that start together, numbers as people read them.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The value behind `--name`, as a number, or the default.
pub(crate) fn number_option(name: &str, default: usize) -> usize {
    let Some(text) = text_option(name) else {
        return default;
    };
    text.replace('_', "")
        .parse()
        .unwrap_or_else(|_| panic!("{name} wants a number, not {text:?}"))
}

/// The value behind `--name`.
pub(crate) fn text_option(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

/// How long `work` takes, and what it gives.
pub(crate) fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// Runs `work(thread, index)` for every index in `from..to`, `step` at a time, spread evenly over `threads`
/// that start together, and returns the time until the last of them ends with what each gave.
pub(crate) fn spread<R: Send>(
    threads: usize,
    range: std::ops::Range<usize>,
    step: usize,
    work: impl Fn(std::ops::Range<usize>) -> R + Sync,
) -> (Duration, Vec<R>) {
    let ready = Barrier::new(threads + 1);
    let share = range.len().div_ceil(threads);
    let start_of = |thread: usize| (range.start + thread * share).min(range.end);
    let run = |thread: usize| {
        let mine = start_of(thread)..start_of(thread + 1);
        ready.wait();
        let starts = mine.clone().step_by(step);
        starts
            .map(|from| work(from..(from + step).min(mine.end)))
            .collect::<Vec<R>>()
    };
    let run = &run;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || run(n))).collect();
        ready.wait();
        let start = Instant::now();
        let results = workers
            .into_iter()
            .flat_map(|w| w.join().expect("a worker panicked"));
        let results = results.collect();
        (start.elapsed(), results)
    })
}

/// `count` things in `time`, as things per second.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// `1234567.8` as `1,234,568`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
