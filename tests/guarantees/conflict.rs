//! Conflict: of two appends that exclude each other one wins, and the other learns of it honestly.

use crate::support::script::KIND;
use quipu::prelude::*;

#[test]
fn of_two_exclusive_expectations_exactly_one_holds() {
    let store = Store::in_memory().unwrap();
    let place = Coordinate::new("thing:1", "here").unwrap();
    for round in 0..100 {
        let options = AppendOptions::new().expect_revision(round);
        let append = || store.append_with_options(&place, KIND, &round, options.clone());
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(append);
            (append(), other.join().unwrap())
        });
        let (winner, loser) = match (one, other) {
            (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(loser.kind(), StoreErrorKind::Conflict);
        assert_eq!(loser.in_the_way(), [winner.position().get()]);
        assert_eq!(store.revision("thing:1").unwrap(), round + 1);
    }
}
