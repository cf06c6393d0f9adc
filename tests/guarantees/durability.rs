//! Durability: an answer that says durable comes after the sync, and readers see nothing before it.

use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::support::held::Held;
use crate::support::places::on_each;
use crate::support::power::{Keep, PowerDisk};
use crate::support::ruled::{Call, Op, Ruled};
use crate::support::script::{self, KIND};
use quipu::prelude::*;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
}

fn buffered() -> AppendOptions {
    AppendOptions::new().durability(Durability::Buffered)
}

/// The answer, which needs nothing that a gate holds back.
fn in_time(mut ticket: Ticket) -> Receipt {
    let answer = ticket.wait_timeout(PATIENCE);
    answer.expect("nothing is in the way of it").unwrap()
}

/// What was done, on which file, and the position that readers saw at that moment.
type Deeds = Vec<(&'static str, u64)>;

/// A disk that notes what changes the log and the hint, and what readers of the store see meanwhile.
fn watched(deeds: &Arc<Mutex<Deeds>>, watched: &Arc<Mutex<Option<Store>>>) -> Ruled {
    let (deeds, store) = (Arc::clone(deeds), Arc::clone(watched));
    Ruled::new(TestDisk::new(), move |call: Call<'_>| {
        let deed = match (call.op, call.name) {
            (Op::Write, "segments/0000000001.seg") => "write",
            (Op::Sync, "segments/0000000001.seg") => "sync",
            (Op::Write, "hint") => "hint",
            _ => return Ok(()),
        };
        if let Some(store) = &*store.lock().unwrap() {
            let head = store.head().position.get();
            deeds.lock().unwrap().push((deed, head));
        }
        Ok(())
    })
}

#[test]
fn an_append_is_written_synced_noted_and_only_then_shown() {
    let (deeds, shown) = (Arc::default(), Arc::default());
    let config = script::config(watched(&deeds, &shown));
    let store = Store::open_with(config).unwrap();
    *shown.lock().unwrap() = Some(store.clone());
    let done = |receipt: Receipt| {
        let seen = ("answer", store.head().position.get());
        deeds.lock().unwrap().push(seen);
        receipt.durable()
    };
    assert!(done(store.append(&place(), KIND, &1).unwrap()));
    let second = store.append_with_options(&place(), KIND, &2, buffered());
    assert!(!done(second.unwrap()));
    assert!(done(store.append(&place(), KIND, &3).unwrap()));
    *shown.lock().unwrap() = None;
    let deeds: Deeds = std::mem::take(&mut *deeds.lock().unwrap());
    let first = [("write", 0), ("sync", 0), ("hint", 0), ("answer", 1)];
    let second = [("write", 1), ("answer", 2)];
    let third = [("write", 2), ("sync", 2), ("hint", 2), ("answer", 3)];
    assert_eq!(deeds, [&first[..], &second, &third].concat());
}

#[test]
fn nothing_is_visible_and_nobody_is_answered_before_the_sync() {
    let held = Held::new();
    let store = &held.store;
    let before = store.append(&place(), KIND, &1).unwrap();
    held.syncs.shut();
    let id = store.new_id();
    let options = AppendOptions::new().event_id(id).idempotency_key("k");
    let ticket = store.submit(&place(), KIND, &2, options).unwrap();
    held.syncs.wait_for_someone();
    assert!(!ticket.is_done());
    assert_eq!(store.head().position, before.position());
    assert_eq!(store.revision("thing:1").unwrap(), 1);
    assert_eq!(store.query(Query::all()).unwrap().count(), 1);
    assert!(store.get(id).unwrap().is_none());
    assert!(store.at(2).unwrap().is_none());
    assert!(store.receipt("k").unwrap().is_none());
    assert!(store.view_at(2).is_err());
    held.syncs.open();
    let receipt = ticket.wait().unwrap();
    assert!(receipt.durable());
    assert_eq!(store.head().position, receipt.position());
    assert!(store.get(id).unwrap().is_some());
}

#[test]
fn a_buffered_append_is_answered_and_seen_while_no_sync_can_happen() {
    let held = Held::new();
    let store = &held.store;
    held.syncs.shut();
    let options = buffered().idempotency_key("k");
    let ticket = store.submit(&place(), KIND, &1, options.clone());
    let receipt = in_time(ticket.unwrap());
    assert!(!receipt.durable());
    assert_eq!(store.head().position, 1);
    assert!(store.get(receipt.id()).unwrap().is_some());
    assert!(!store.receipt("k").unwrap().unwrap()[0].durable());
    let retry = store.append_with_options(&place(), KIND, &1, options.clone());
    assert!(!retry.unwrap().durable(), "a buffered retry does not wait");
    held.syncs.open();
    store.sync().unwrap();
    assert!(store.receipt("k").unwrap().unwrap()[0].durable());
    let retry = store.append_with_options(&place(), KIND, &1, options);
    assert!(retry.unwrap().durable());
}

#[test]
fn a_buffered_append_is_answered_after_every_earlier_durable_one() {
    let held = Held::new();
    let store = &held.store;
    let tickets = held.in_one_group(|store| {
        held.syncs.shut();
        let first = store.submit(&place(), KIND, &1, AppendOptions::new());
        let second = store.submit(&place(), KIND, &2, buffered());
        [first.unwrap(), second.unwrap()]
    });
    held.syncs.wait_for_someone();
    let third = store.submit(&place(), KIND, &3, buffered()).unwrap();
    assert!(tickets.iter().all(|ticket| !ticket.is_done()));
    assert!(!third.is_done());
    held.syncs.open();
    for ticket in tickets {
        assert!(ticket.wait().unwrap().durable(), "one sync covers a group");
    }
    assert!(!third.wait().unwrap().durable());
}

#[test]
fn a_buffered_append_is_synced_by_itself_after_the_interval() {
    let (tell, synced) = mpsc::channel();
    let disk = Ruled::new(TestDisk::new(), move |call: Call<'_>| {
        if call.op == Op::Sync && call.name.ends_with(".seg") {
            tell.send(()).ok();
        }
        Ok(())
    });
    let interval = Duration::from_millis(5);
    let config = script::config(disk).buffered_sync_interval(interval);
    let store = Store::open_with(config).unwrap();
    for round in 0..3 {
        let key = format!("k:{round}");
        synced.try_iter().for_each(drop);
        let options = buffered().idempotency_key(&key);
        let receipt = store.append_with_options(&place(), KIND, &round, options);
        receipt.unwrap();
        synced.recv_timeout(PATIENCE).unwrap();
        let started = Instant::now();
        while !store.receipt(&key).unwrap().unwrap()[0].durable() {
            assert!(started.elapsed() < PATIENCE, "synced, but never durable");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_retry_with_sync_of_a_buffered_original_waits_until_it_is_durable() {
    let held = Held::new();
    let store = &held.store;
    let key = || buffered().idempotency_key("k");
    let first = store.append_with_options(&place(), KIND, &1, key());
    let first = first.unwrap();
    held.syncs.shut();
    let retry = key().durability(Durability::Sync);
    let retry = store.submit(&place(), KIND, &1, retry).unwrap();
    held.syncs.wait_for_someone();
    assert!(!retry.is_done());
    assert!(!store.receipt("k").unwrap().unwrap()[0].durable());
    held.syncs.open();
    let again = retry.wait().unwrap();
    assert!(again.durable() && again.replay() && !first.durable());
    assert_eq!((again.id(), again.hash()), (first.id(), first.hash()));
    assert_eq!(store.head().position, 1);
}

#[test]
fn a_retry_of_a_durable_original_needs_no_sync() {
    let held = Held::new();
    let append = || {
        let options = AppendOptions::new().idempotency_key("k");
        in_time(held.store.submit(&place(), KIND, &1, options).unwrap())
    };
    assert!(append().durable());
    held.syncs.shut();
    assert!(append().durable());
    held.syncs.open();
}

/// The history that a power cut leaves when nothing that was not synced reached the disk.
fn left_by_a_cut(disk: &PowerDisk) -> u64 {
    let image = disk.cut(Keep::Nothing, &mut Dice::new(1));
    let store = Store::open_with(script::config(image.disk())).unwrap();
    let left = store.head().position.get();
    assert_eq!(script::read_all(&store).unwrap().len() as u64, left);
    left
}

#[test]
fn a_power_cut_takes_only_what_was_not_durable() {
    let disk = PowerDisk::new(true);
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    let append = |number: u64, options| {
        let receipt = store.append_with_options(&place(), KIND, &number, options);
        assert_eq!(receipt.unwrap().position(), number);
    };
    append(1, AppendOptions::new());
    append(2, buffered());
    append(3, buffered());
    assert_eq!(left_by_a_cut(&disk), 1);
    append(4, AppendOptions::new());
    assert_eq!(
        left_by_a_cut(&disk),
        4,
        "a sync covers all that came before"
    );
    append(5, buffered());
    assert_eq!(left_by_a_cut(&disk), 4);
    store.sync().unwrap();
    assert_eq!(left_by_a_cut(&disk), 5);
    append(6, buffered());
    let killed = Store::open_with(script::config(disk.after_kill())).unwrap();
    assert_eq!(killed.head().position, 6, "a killed process loses nothing");
    store.close().unwrap();
    assert_eq!(left_by_a_cut(&disk), 6, "closing syncs");
}

#[test]
fn a_sync_also_covers_what_lies_in_segments_before_the_active_one() {
    let disk = PowerDisk::new(true);
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    let large = "x".repeat(300_000);
    for _ in 0..8 {
        let receipt = store.append_with_options(&place(), KIND, &large, buffered());
        assert!(!receipt.unwrap().durable());
    }
    assert!(store.stats().segments > 1);
    store.sync().unwrap();
    assert_eq!(left_by_a_cut(&disk), 8);
    for _ in 0..3 {
        store
            .append_with_options(&place(), KIND, &large, buffered())
            .unwrap();
    }
    let last = store.append(&place(), KIND, &large).unwrap();
    assert!(last.durable());
    assert_eq!(left_by_a_cut(&disk), 12);
}

#[test]
fn the_setting_decides_where_the_append_says_nothing() {
    let config = StoreConfig::in_memory()
        .durability(Durability::Buffered)
        .buffered_sync_interval(Duration::from_secs(3600));
    let store = Store::open_with(config).unwrap();
    assert!(!store.append(&place(), KIND, &1).unwrap().durable());
    let sync = AppendOptions::new().durability(Durability::Sync);
    let receipt = store.append_with_options(&place(), KIND, &2, sync);
    assert!(receipt.unwrap().durable());
    let batch = |n| Batch::new().event(EventDraft::new(&place(), KIND, &n));
    assert!(!store.append_batch(batch(3)).unwrap()[0].durable());
    let receipts = store.append_batch(batch(4).durability(Durability::Sync));
    assert!(receipts.unwrap()[0].durable());
}

#[test]
fn what_was_acknowledged_is_there_when_the_store_is_opened_again() {
    on_each(|open| {
        let store = open();
        let receipts: Vec<_> = (0..5)
            .map(|n| store.append(&place(), KIND, &n).unwrap())
            .collect();
        let head = store.head();
        drop(store);
        let store = open();
        assert_eq!(store.head(), head);
        for receipt in receipts {
            let event = store.get(receipt.id()).unwrap().unwrap();
            assert_eq!(event.hash(), receipt.hash());
        }
    });
}

/// The hint is what tells a torn tail from damage after a power cut, so it must not stay in the page cache for ever.
#[test]
fn an_idle_store_makes_its_hint_durable() {
    let (synced, hints) = mpsc::channel();
    let disk = Ruled::new(TestDisk::new(), move |call| {
        if call.op == Op::Sync && call.name == "hint" {
            let _ = synced.send(());
        }
        Ok(())
    });
    let store = Store::open_with(script::config(disk)).unwrap();
    while hints.try_recv().is_ok() {}
    store.append(&place(), KIND, &1).unwrap();

    let synced = hints.recv_timeout(PATIENCE);

    assert!(synced.is_ok(), "the hint was not synced");
}
