//! Binary search in sorted bytes on disk that notices when they are not sorted.
//!
//! Any thread searches; the bytes never change.

use crate::error::Result;

/// A search met an element outside the bounds set by those met before.
pub(super) struct Disorder;

/// Finds the first of `count` elements that `is_before` does not hold for; they must be sorted by `key`.
pub(super) fn partition<K: Ord + Copy>(
    count: u32,
    key: impl Fn(u32) -> Result<K>,
    is_before: impl Fn(K) -> bool,
) -> Result<Result<u32, Disorder>> {
    let (mut low, mut high) = (0, count);
    let (mut least, mut most) = (None, None);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = key(middle)?;
        if least.is_some_and(|least| found < least) || most.is_some_and(|most| found > most) {
            return Ok(Err(Disorder));
        }
        if is_before(found) {
            least = Some(found);
            low = middle + 1;
        } else {
            most = Some(found);
            high = middle;
        }
    }
    Ok(Ok(low))
}
