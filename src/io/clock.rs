//! The clock: what time it is, and random bytes nobody can foresee.

use std::fmt::Debug;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Result, StoreError};
use crate::event::query::Query;
use crate::event::timestamp::Timestamp;

/// Time and chance, as the store sees them; asked by the writer and by threads that make ids.
///
/// ```
/// use quipu::io::Clock;
///
/// /// For tests that want the same time in every run.
/// #[derive(Debug)]
/// struct Stopped;
///
/// impl Clock for Stopped {
///     fn now(&self) -> u64 {
///         1_000_000_000
///     }
///
///     fn entropy(&self) -> [u8; 16] {
///         [7; 16]
///     }
/// }
/// ```
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since 1970 in UTC. It may stand still or go back; the store copes.
    fn now(&self) -> u64;

    /// Sixteen random bytes; ids are made of them, so a clock that repeats them makes one id twice.
    fn entropy(&self) -> [u8; 16];
}

/// The clock and the random source of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        nanos_since_1970(SystemTime::now())
    }

    fn entropy(&self) -> [u8; 16] {
        let mut bytes = uuid::Uuid::new_v4().into_bytes();
        // A version 4 UUID fixes six bits, in bytes 6 and 8; those come from a second one.
        let [first, second, ..] = uuid::Uuid::new_v4().into_bytes();
        bytes[6] = first;
        bytes[8] = second;
        bytes
    }
}

/// 0 before 1970 and `u64::MAX` from the year 2554 on.
pub(crate) fn nanos_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Here and not beside the type: the room `event` knows no `std`.
impl From<SystemTime> for Timestamp {
    /// A time before 1970 gives the first moment, one past the year 2554 the last.
    fn from(time: SystemTime) -> Self {
        Self::from_nanos(nanos_since_1970(time))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(moment: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_nanos(moment.as_nanos())
    }
}

/// Reads a query as [`Query::parse_at`] does, at the time of the system's clock; here because `event` knows no clock.
impl FromStr for Query {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse_at(text, SystemTime::now().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_range_are_held_at_its_ends() {
        assert_eq!(nanos_since_1970(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(nanos_since_1970(UNIX_EPOCH + Duration::from_nanos(7)), 7);
        assert_eq!(
            nanos_since_1970(UNIX_EPOCH + Duration::from_secs(1 << 40)),
            u64::MAX
        );
    }

    #[test]
    fn a_moment_and_the_time_of_the_system_stand_for_each_other() {
        let moment = Timestamp::from_nanos(1_700_000_000_123_456_789);
        assert_eq!(Timestamp::from(SystemTime::from(moment)), moment);
        assert_eq!(SystemTime::from(Timestamp::default()), UNIX_EPOCH);
        let before = UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(Timestamp::from(before), Timestamp::default());
    }

    #[test]
    fn every_bit_of_entropy_takes_both_values() {
        let (mut ones, mut zeros) = ([0u8; 16], [0u8; 16]);
        for _ in 0..256 {
            for (at, byte) in SystemClock.entropy().into_iter().enumerate() {
                ones[at] |= byte;
                zeros[at] |= !byte;
            }
        }
        assert_eq!((ones, zeros), ([0xff; 16], [0xff; 16]));
    }
}
