//! Durability: an answer that says durable comes after the sync, and readers see nothing before it.

use crate::support::held::Held;
use crate::support::script::KIND;
use quipu::prelude::*;

fn place() -> Coordinate {
    Coordinate::new("thing:1", "here").unwrap()
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
    held.syncs.open();
    let receipt = ticket.wait().unwrap();
    assert!(receipt.durable());
    assert_eq!(store.head().position, receipt.position());
    assert!(store.get(id).unwrap().is_some());
}
