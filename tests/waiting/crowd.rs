//! Ten thousand subscribers: nothing while nothing happens, little memory, and a writer that does not notice them.

use super::{Count, KIND, append, lamp, poll};
use crate::support::child::{self, Role};
use quipu::prelude::*;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

const CROWD: usize = 10_000;

fn crowd(store: &Store) -> Vec<Subscription> {
    let subscribe = |n| store.subscribe(Query::entity(format!("lamp:{n}"))).unwrap();
    (0..CROWD).map(subscribe).collect()
}

/// Has everyone wait; what was there for one of them is received first.
fn have_wait(crowd: &mut [Subscription], waker: &Waker) {
    for receiver in crowd {
        while poll(receiver, waker).is_ready() {}
    }
}

/// How long an append takes, and the processor time of it that is its thread's.
#[cfg(unix)]
fn timed_append(store: &Store) -> (Duration, Duration) {
    use rustix::time::{ClockId, clock_gettime};
    let busy = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let (started, before) = (Instant::now(), busy());
    append(store, 1);
    (busy() - before, started.elapsed())
}

fn median(times: &mut [(Duration, Duration)]) -> (Duration, Duration) {
    times.sort();
    times[times.len() / 2]
}

/// The thread that was woken took the writer's processor from it until all were woken: a millisecond, where there are more
/// threads than processors. Now it yields; but what it and the other tests take is no measure on a busy machine. So the
/// writer's own time is held; it is alone, and commits on its own thread. Before each measured append the same is done,
/// so that memory is as cold when nobody waits.
#[test]
#[cfg(unix)]
fn a_writer_does_not_notice_ten_thousand_that_wait() {
    const ROUNDS: usize = 16;
    let [quiet, store] = [(); 2].map(|()| Store::in_memory().unwrap());
    append(&store, 50);
    append(&quiet, 50);
    let mut crowd = crowd(&store);
    let (woken, waker) = Count::waker();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        have_wait(&mut crowd, &waker);
        alone.push(timed_append(&quiet));
        have_wait(&mut crowd, &waker);
        assert_eq!(store.diagnostics().waiting, CROWD as u64);
        beside.push(timed_append(&store));
        woken.until(round * CROWD);
    }
    let (alone, beside) = (median(&mut alone), median(&mut beside));
    println!("an append takes (busy, in all) {alone:?} alone and {beside:?} while {CROWD} wait");
    assert!(beside.0 < alone.0 * 2 + Duration::from_micros(100));
}

/// The processor time of all threads of this process.
#[cfg(target_os = "linux")]
fn processor_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = tasks.map(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

/// The memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    kibibytes.unwrap().parse::<usize>().unwrap() * 1024
}

/// This process runs other tests; a child has only its own threads and memory.
#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_that_wait_cost_no_time_and_little_memory_while_nothing_happens() {
    if child::place_for("idle").is_some() {
        let store = Store::in_memory().unwrap();
        append(&store, 50);
        let before = resident_bytes();
        let mut crowd = crowd(&store);
        let (woken, waker) = Count::waker();
        have_wait(&mut crowd, &waker);
        let each = resident_bytes().saturating_sub(before) / CROWD;
        let busy = processor_time();
        // Not to wait for anything: this second is what is measured.
        thread::sleep(Duration::from_secs(1));
        let busy = processor_time() - busy;
        store.append(&lamp(), KIND, &1).unwrap();
        woken.until(CROWD);
        return child::tell(format_args!("{each} {}", busy.as_micros()));
    }
    let test = "crowd::ten_thousand_that_wait_cost_no_time_and_little_memory_while_nothing_happens";
    let mut child = Role::start(test, "idle", std::path::Path::new("nowhere"));
    let told = child.hear().unwrap();
    println!("bytes a subscriber, microseconds of a second: {told}");
    let (each, busy) = told.split_once(' ').unwrap();
    assert!(each.parse::<usize>().unwrap() < 1024, "bytes a subscriber");
    assert!(
        busy.parse::<u64>().unwrap() < 10_000,
        "microseconds of a second"
    );
}
