//! Order: positions and revisions are dense, times rise, and readers see a prefix.

use crate::support::script::{KIND, read_all};
use crate::support::times::TestClock;
use quipu::prelude::*;
use std::sync::Arc;

#[test]
fn recorded_times_rise_whatever_the_clock_does() {
    let clock = TestClock::at(1_000);
    let config = StoreConfig::in_memory().clock(Arc::new(clock.clone()));
    let store = Store::open_with(config).unwrap();
    let place = Coordinate::new("thing:1", "here").unwrap();
    for (now, recorded) in [
        (1_000, 1_000),
        (1_000, 1_001),
        (400, 1_002),
        (0, 1_003),
        (1_003, 1_004),
        (9_000, 9_000),
        (8_999, 9_001),
    ] {
        clock.set(now);
        let receipt = store.append(&place, KIND, &now).unwrap();
        assert_eq!(receipt.recorded_at().as_nanos(), recorded, "at {now}");
    }
    let events = read_all(&store).unwrap();
    assert!(events.is_sorted_by(|a, b| a.recorded_at() < b.recorded_at()));
}
