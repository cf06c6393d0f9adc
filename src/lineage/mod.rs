//! Can we prove it? The graph of causes, and the verification of everything that the log says of itself.
//!
//! Parents stand below their children, in every store and batch, so that positions are an order of the graph. Runs on the
//! thread that asks.

pub(crate) mod ancestry;
mod derived;
pub(crate) mod descent;
pub(crate) mod diff;
#[cfg(test)]
mod forged_tests;
mod proof;
mod recent;
#[cfg(test)]
mod removed_tests;
pub(crate) mod verification;
pub(crate) mod verify;

use crate::error::{Result, StoreError};
use crate::event::id::EventId;
use crate::index::picture::Picture;

/// The position of an event that was asked for.
fn position_of(picture: &Picture<'_>, id: EventId) -> Result<u64> {
    picture.position_of(id.as_bytes(), 0)?.ok_or_else(|| {
        StoreError::not_found(format!(
            "there is no event {id} up to position {}; ask for one that exists",
            picture.upto
        ))
    })
}

#[cfg(test)]
mod tests {
    use crate::error::{Result, StoreErrorKind};
    use crate::event::id::EventId;
    use crate::index::emptied_tests::{id, view};
    use crate::log::event::Event;

    /// Each event was caused by the two before it; of 3, 6 and so on no more is known than that there was an event.
    #[test]
    fn what_retention_emptied_is_passed_over() {
        let view = view();
        let id = |position| EventId::from_bytes(id(position));
        let positions = |walk: &mut dyn Iterator<Item = Result<Event>>| {
            let positions = walk.map(|event| event.unwrap().position().get());
            positions.collect::<Vec<_>>()
        };
        let mut above = view.walk_ancestors(id(8), 9).unwrap();
        assert_eq!(positions(&mut above), [7, 5, 4, 2, 1]);
        let mut below = view.descendants(id(3), 4).unwrap();
        assert_eq!(positions(&mut below), [4, 5, 7, 8], "it is still a parent");
        assert!(view.is_ancestor(id(1), id(8)).unwrap());
        assert!(view.is_ancestor(id(6), id(8)).unwrap());
        let shared = view.common_ancestors(id(7), id(8)).unwrap();
        assert_eq!(positions(&mut shared.into_iter().map(Ok)), [7]);
        let refused = [
            view.walk_ancestors(id(6), 1).map(drop),
            view.is_ancestor(id(1), id(6)).map(drop),
            view.common_ancestors(id(8), id(6)).map(drop),
            view.common_ancestors(id(6), id(8)).map(drop),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            assert!(
                error
                    .to_string()
                    .contains("event 6 was removed by retention"),
                "{error}"
            );
        }
    }
}
