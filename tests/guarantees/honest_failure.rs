//! Honest failure: what the disk did not do is never reported as done, and never tried again as if it could be.

use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::support::power::{Keep, PowerDisk};
use crate::support::ruled::{Call, Gate, Op, Ruled};
use crate::support::script::{self, How, KIND, Ledger};
use quipu::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn buffered() -> AppendOptions {
    AppendOptions::new().durability(Durability::Buffered)
}

/// While it is on, the calls that `which` picks fail with `errno`; it counts them.
#[derive(Clone, Default)]
struct Switch {
    on: Arc<AtomicBool>,
    met: Arc<AtomicUsize>,
}

impl Switch {
    fn rule(
        &self,
        errno: i32,
        which: impl Fn(Call<'_>) -> bool + Send + Sync + 'static,
    ) -> impl Fn(Call<'_>) -> io::Result<()> + Send + Sync + 'static {
        let switch = self.clone();
        move |call| {
            if switch.on.load(SeqCst) && which(call) {
                switch.met.fetch_add(1, SeqCst);
                return Err(io::Error::from_raw_os_error(errno));
            }
            Ok(())
        }
    }

    fn set(&self, on: bool) {
        self.on.store(on, SeqCst);
    }

    fn met(&self) -> usize {
        self.met.load(SeqCst)
    }
}

fn on_segment(op: Op) -> impl Fn(Call<'_>) -> bool + Send + Sync + 'static {
    move |call| call.op == op && call.name.ends_with(".seg")
}

/// Calls on the first segment; the one kept ready behind it is upkeep's business.
fn on_first(op: Op) -> impl Fn(Call<'_>) -> bool + Send + Sync + 'static {
    move |call| call.op == op && call.name == "segments/0000000001.seg"
}

/// What is promised after a failure with an unknown outcome: refusal of writes, and readers that go on.
fn assert_poisoned(store: &Store, visible: u64) {
    let refused = store.append(&place(), KIND, &0).unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Poisoned, "{refused}");
    assert_eq!(store.sync().unwrap_err().kind(), StoreErrorKind::Poisoned);
    assert!(store.diagnostics().poisoned.is_some());
    assert_eq!(store.head().position.get(), visible);
    assert_eq!(script::read_all(store).unwrap().len() as u64, visible);
    assert_eq!(store.revision("thing:1").unwrap().get(), visible);
}

#[test]
fn a_failed_sync_is_an_unknown_outcome_and_is_never_tried_again() {
    let memory = TestDisk::new();
    let sync = Switch::default();
    let disk = Ruled::new(memory.clone(), sync.rule(EIO, on_first(Op::Sync)));
    let store = Store::open_with(script::config(disk)).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    sync.set(true);
    let failed = store.append(&place(), KIND, &2).unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::OutcomeUnknown, "{failed}");
    assert_poisoned(&store, 1);
    let closed = store.close().unwrap_err();
    assert_eq!(closed.kind(), StoreErrorKind::Poisoned);
    assert_eq!(sync.met(), 1, "one sync failed, and no other followed");

    let store = Store::open_with(script::config(memory)).unwrap();
    assert!((1..=2).contains(&store.head().position.get()));
    store.append(&place(), KIND, &3).unwrap();
}

#[test]
fn a_failed_write_is_an_unknown_outcome() {
    let memory = TestDisk::new();
    let write = Switch::default();
    let disk = Ruled::new(memory.clone(), write.rule(EIO, on_segment(Op::Write)));
    let store = Store::open_with(script::config(disk)).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    write.set(true);
    let failed = store.append(&place(), KIND, &2).unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::OutcomeUnknown, "{failed}");
    write.set(false);
    assert_poisoned(&store, 1);
    drop(store);
    let store = Store::open_with(script::config(memory)).unwrap();
    let next = store.append(&place(), KIND, &3).unwrap();
    assert_eq!(next.position().get(), 2);
}

/// Found by reading: the sync of a full segment failed, the turn went on, and a retry of a buffered append in the same
/// group asked for a sync; that one succeeded over lost bytes, and the receipt said durable.
#[test]
fn a_sync_that_failed_at_rotation_is_never_tried_again() {
    let memory = TestDisk::new();
    let (sync, gate) = (Switch::default(), Arc::new(Gate::default()));
    let (fail, passed) = (sync.rule(EIO, on_first(Op::Sync)), Arc::clone(&gate));
    let disk = Ruled::new(memory, move |call| {
        if on_first(Op::Write)(call) {
            passed.pass();
        }
        fail(call)
    });
    let store = Store::open_with(script::config(disk)).unwrap();
    let large = "x".repeat(600_000);
    let filler = store.append_with_options(&place(), KIND, &large, buffered());
    assert!(!filler.unwrap().durable());
    gate.shut();
    let first = store.submit(&place(), KIND, &1, buffered().idempotency_key("first"));
    gate.wait_for_someone();
    let retry = AppendOptions::new().idempotency_key("first");
    let replay = store.submit(&place(), KIND, &1, retry);
    let second = store.submit(&place(), KIND, &large, buffered());
    sync.set(true);
    gate.open();
    assert!(!first.unwrap().wait().unwrap().durable());
    let failed = second.unwrap().wait().unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::OutcomeUnknown, "{failed}");
    let answer = replay.unwrap().wait();
    assert!(
        answer.is_err(),
        "a retry with Sync cannot be durable: {answer:?}"
    );
    assert_poisoned(&store, 2);
    drop(store);
    assert_eq!(sync.met(), 1, "one sync failed, and no other followed");
}

/// Everyone whose append a group carried hears of its fate, also those whose answers name its events.
#[test]
fn every_caller_of_a_failed_group_is_answered() {
    let (sync, gate) = (Switch::default(), Arc::new(Gate::default()));
    let (fail, passed) = (sync.rule(EIO, on_segment(Op::Sync)), Arc::clone(&gate));
    let disk = Ruled::new(TestDisk::new(), move |call| {
        if on_segment(Op::Write)(call) {
            passed.pass();
        }
        fail(call)
    });
    let store = Store::open_with(script::config(disk)).unwrap();
    gate.shut();
    let submit = |options| store.submit(&place(), KIND, &7, options).unwrap();
    let first = submit(buffered());
    gate.wait_for_someone();
    sync.set(true);
    let id = store.new_id();
    let keyed = || AppendOptions::new().idempotency_key("k");
    let unknown = [
        submit(keyed().event_id(id)),
        submit(keyed()),
        submit(keyed().tag("other content")),
        submit(AppendOptions::new().event_id(id)),
        submit(AppendOptions::new().expect_revision(1)),
        submit(AppendOptions::new().unless_any(Query::entity("thing:1"), 1)),
        submit(buffered()),
    ];
    gate.open();
    assert!(!first.wait().unwrap().durable());
    for (index, ticket) in unknown.into_iter().enumerate() {
        let kind = ticket.wait().unwrap_err().kind();
        assert_eq!(kind, StoreErrorKind::OutcomeUnknown, "submission {index}");
    }
    assert_poisoned(&store, 1);
}

/// Row 20 of the faults: the failed sync marks the pages clean, so the kernel shows bytes that no later sync writes.
/// Recovery that only syncs again would show an event that a power cut then takes back.
#[test]
fn what_recovery_shows_after_a_failed_sync_survives_a_power_cut() {
    let power = PowerDisk::new(true);
    let lost = power.clone();
    let failing = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&failing);
    let disk = Ruled::new(power.clone(), move |call| {
        if on.load(SeqCst) && on_segment(Op::Sync)(call) {
            lost.lose_unsynced(call.name);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    });
    let store = Store::open_with(script::config(disk)).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    failing.store(true, SeqCst);
    store.append(&place(), KIND, &2).unwrap_err();
    drop(store);

    let reopened = power.after_kill();
    let store = Store::open_with(script::config(reopened.clone())).unwrap();
    let shown = store.head();
    let mut dice = Dice::new(1);
    for keep in [Keep::Nothing, Keep::Some, Keep::Everything] {
        let image = reopened.cut(keep, &mut dice);
        let after = Store::open_with(script::config(image.disk())).unwrap();
        assert_eq!(after.head(), shown, "{keep:?}");
    }
}

/// A log that had run into a full disk once could not be opened any more, and its owner had freed the space long ago.
#[test]
fn store_goes_on_after_disk_full_and_space_returned() {
    for op in [Op::Write, Op::Create, Op::SetLen, Op::Map] {
        let memory = TestDisk::new();
        let full = Switch::default();
        let disk = Ruled::new(memory.clone(), full.rule(ENOSPC, on_segment(op)));
        let store = Store::open_with(script::config(disk)).unwrap();
        let large = "x".repeat(300_000);
        let (mut stored, mut refused) = (0, 0);
        for round in 0..24 {
            full.set(round % 4 == 3);
            // A group that needs more room than a usual segment has, now and then.
            let payload = match round % 8 {
                3 => "y".repeat(1_200_000),
                5 => "small".to_owned(),
                _ => large.clone(),
            };
            match store.append(&place(), KIND, &payload) {
                Ok(receipt) => {
                    stored += 1;
                    assert_eq!(receipt.position().get(), stored, "{op:?} {round}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Io, "{op:?} {round}: {error}");
                    assert!(full.on.load(SeqCst), "{op:?} {round}: {error}");
                    refused += 1;
                    full.set(false);
                    store.append(&place(), KIND, &"small").unwrap_or_else(|e| {
                        panic!("{op:?} {round}: space is back, and {e}");
                    });
                    stored += 1;
                }
            }
        }
        println!("{op:?}: {stored} stored, {refused} refused");
        full.set(false);
        assert_eq!(script::read_all(&store).unwrap().len() as u64, stored);
        drop(store);
        let store = Store::open_with(script::config(memory))
            .unwrap_or_else(|e| panic!("{op:?}: does not open: {e}"));
        assert_eq!(script::read_all(&store).unwrap().len() as u64, stored);
    }
}

/// The Nth call to the disk fails, once or for ever, for every N: whatever was acknowledged is there afterwards.
#[test]
fn no_failing_call_loses_what_was_acknowledged() {
    let mut dice = Dice::new(3);
    let mut units = script::units(&mut dice, 14);
    // One at a time: behind an append that a full disk refused, a queued one may well be written.
    units.iter_mut().for_each(|unit| unit.how = How::Append);
    for (errno, sticky) in [(EIO, false), (EIO, true), (ENOSPC, false), (ENOSPC, true)] {
        for nth in 0.. {
            let memory = TestDisk::new();
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let disk = Ruled::new(memory.clone(), move |call| {
                let number = match call.op {
                    Op::Read | Op::List | Op::Open | Op::Lock | Op::Prepare => return Ok(()),
                    _ => counted.fetch_add(1, SeqCst),
                };
                match number == nth || sticky && number > nth {
                    true => Err(io::Error::from_raw_os_error(errno)),
                    false => Ok(()),
                }
            });
            let ledger = Ledger::default();
            if let Ok(store) = Store::open_with(script::config(disk)) {
                let _ = script::send(&store, &units, &ledger);
                let shown = script::read_all(&store).unwrap().len();
                assert!(shown >= ledger.lock().unwrap().durable);
            }
            let store = Store::open_with(script::config(memory))
                .unwrap_or_else(|e| panic!("{errno} {sticky} {nth}: refused: {e}"));
            let sent = ledger.lock().unwrap().clone();
            script::check(&store, &sent, sent.durable)
                .unwrap_or_else(|e| panic!("{errno} {sticky} {nth}: {e}"));
            store.append(&place(), KIND, &0).unwrap();
            if calls.load(SeqCst) <= nth {
                break;
            }
        }
    }
}

fn panicking(memory: &TestDisk, panics: usize) -> Ruled {
    let left = AtomicUsize::new(panics);
    Ruled::new(memory.clone(), move |call| {
        let armed = on_segment(Op::Write)(call) && call.end > 4096 && call.end < 200_000;
        if armed
            && left
                .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
                .is_ok()
        {
            panic!("a test's panic in the writer");
        }
        Ok(())
    })
}

#[test]
fn a_panic_in_the_writer_answers_everyone_and_poisons() {
    let memory = TestDisk::new();
    let store = Store::open_with(script::config(panicking(&memory, 1))).unwrap();
    let failed = store.append(&place(), KIND, &1).unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::OutcomeUnknown);
    assert_poisoned(&store, 0);
    drop(store);
    let store = Store::open_with(script::config(memory)).unwrap();
    store.append(&place(), KIND, &1).unwrap();
}

#[test]
fn a_writer_that_panicked_starts_again_as_often_as_the_policy_says() {
    let memory = TestDisk::new();
    let policy = RestartPolicy::Limited { attempts: 2 };
    let config = script::config(panicking(&memory, 3)).restart_policy(policy);
    let store = Store::open_with(config).unwrap();
    for _ in 0..3 {
        let failed = store.append(&place(), KIND, &1).unwrap_err();
        assert_eq!(failed.kind(), StoreErrorKind::OutcomeUnknown);
    }
    assert_poisoned(&store, 0);
    drop(store);

    let memory = TestDisk::new();
    let config = script::config(panicking(&memory, 1)).restart_policy(policy);
    let store = Store::open_with(config).unwrap();
    store.append(&place(), KIND, &1).unwrap_err();
    for position in 1..=10 {
        let receipt = store.append(&place(), KIND, &"x".repeat(200_000)).unwrap();
        assert_eq!(receipt.position().get(), position);
    }
    drop(store);
    let store = Store::open_with(script::config(memory)).unwrap();
    assert_eq!(script::read_all(&store).unwrap().len(), 10);
}

/// A disk that failed is never trusted again by a restart, whatever the policy.
#[test]
fn no_policy_restarts_a_writer_whose_disk_failed() {
    let sync = Switch::default();
    let disk = Ruled::new(TestDisk::new(), sync.rule(EIO, on_segment(Op::Sync)));
    let policy = RestartPolicy::Limited { attempts: 9 };
    let store = Store::open_with(script::config(disk).restart_policy(policy)).unwrap();
    store.append(&place(), KIND, &1).unwrap();
    sync.set(true);
    store.append(&place(), KIND, &2).unwrap_err();
    sync.set(false);
    assert_poisoned(&store, 1);
}
