//! Causality: a parent exists before its child.

use crate::support::script::KIND;
use quipu::prelude::*;

#[test]
fn a_parent_that_does_not_exist_is_refused() {
    let store = Store::in_memory().unwrap();
    let place = Coordinate::new("thing:1", "here").unwrap();
    let options = AppendOptions::new().caused_by(store.new_id());
    let error = store
        .append_with_options(&place, KIND, &1, options)
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument);
    assert_eq!(store.head().position, 0);
}
