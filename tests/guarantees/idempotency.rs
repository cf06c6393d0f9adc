//! Idempotency: a repeated submission gets its first receipts, for ever.

use crate::support::script::KIND;
use quipu::prelude::*;

#[test]
fn a_retry_gets_the_first_receipt_and_writes_nothing() {
    let store = Store::in_memory().unwrap();
    let place = Coordinate::new("thing:1", "here").unwrap();
    let append = |payload: u64| {
        let options = AppendOptions::new().idempotency_key("k");
        store.append_with_options(&place, KIND, &payload, options)
    };
    let first = append(1).unwrap();
    let again = append(1).unwrap();
    assert!(!first.replay() && again.replay());
    assert_eq!((first.id(), first.hash()), (again.id(), again.hash()));
    let other = append(2).unwrap_err();
    assert_eq!(other.kind(), StoreErrorKind::Conflict);
    assert_eq!(store.head().position, 1);
}
