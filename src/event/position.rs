//! Places: a position in the global order and a revision in one stream.
//!
//! Both are dense and begin at 1; zero stands before the first.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! place {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The place before the first event.
            pub const ZERO: Self = Self(0);

            /// Makes a place from its number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl From<$name> for u64 {
            fn from(place: $name) -> Self {
                place.0
            }
        }

        impl PartialEq<u64> for $name {
            fn eq(&self, number: &u64) -> bool {
                self.0 == *number
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

place! {
    /// A place in the global order of the store; the first event is 1, and 0 is before everything.
    Position
}

place! {
    /// A place in the stream of one entity; the first event is 1, and 0 means that there is no stream.
    Revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_compares_and_prints_as_its_number() {
        assert_eq!(Position::new(7), 7);
        assert_eq!(Revision::from(3).get(), 3);
        assert!(Position::ZERO < Position::new(1));
        assert_eq!(format!("{:>4}", Position::new(42)), "  42");
        assert_eq!(u64::from(Revision::ZERO), 0);
    }

    #[test]
    fn a_place_is_a_plain_number_to_serde() {
        assert_eq!(serde_json::to_string(&Position::new(7)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<Revision>("9").unwrap(), 9);
    }
}
