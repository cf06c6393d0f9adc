//! Limits: reaching a bound is a clear error before anything is written.
//!
//! Each bound is tested at its value and one past it in `tests/limits.rs`; this table shows what all of them promise.

use crate::support::script::KIND;
use quipu::prelude::*;

#[test]
fn one_past_a_bound_is_an_argument_that_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let place = Coordinate::new("thing:1", "here").unwrap();
    let tags = (0..=quipu::MAX_TAGS).map(|n| format!("t:{n}"));
    let options = AppendOptions::new().tags(tags);
    let error = store
        .append_with_options(&place, KIND, &1, options)
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument);
    assert_eq!(store.head().position, 0);
}
