//! What was met last, by a key of 16 bytes: a table of a fixed size in which the newer displaces the older.
//!
//! It forgets, but knows when it cannot have: a place that was never taken proves that none of its keys was met.
//! Belongs to the one thread that verifies.

/// The most entries that a table has.
const MAX_ENTRIES: usize = 1 << 17;

/// What a table knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory<T> {
    /// It was met last with this.
    Met(T),
    /// It was never met.
    Never,
    /// It may have been met and forgotten.
    Forgotten,
}

/// The table.
#[derive(Debug)]
pub(super) struct Recent<T>(Vec<Option<([u8; 16], T)>>);

impl<T: Copy> Recent<T> {
    /// A table that is large enough for `keys`, or as large as it may be.
    pub(super) fn for_keys(keys: u64) -> Self {
        let wanted = usize::try_from(keys).unwrap_or(MAX_ENTRIES);
        let entries = wanted.clamp(1, MAX_ENTRIES).next_power_of_two();
        Self((0..entries).map(|_| None).collect())
    }

    pub(super) fn of(&self, key: &[u8; 16]) -> Memory<T> {
        match self.0.get(self.place(key)) {
            Some(Some((known, value))) if known == key => Memory::Met(*value),
            Some(None) => Memory::Never,
            _ => Memory::Forgotten,
        }
    }

    pub(super) fn meet(&mut self, key: &[u8; 16], value: T) {
        let place = self.place(key);
        if let Some(place) = self.0.get_mut(place) {
            *place = Some((*key, value));
        }
    }

    /// Both halves are mixed, as ids may be anything.
    fn place(&self, key: &[u8; 16]) -> usize {
        let (halves, _) = key.as_chunks::<8>();
        let mixed = halves.iter().fold(0, |sum, half| {
            let bits = (sum ^ u64::from_le_bytes(*half)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (bits ^ (bits >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        usize::try_from(mixed >> 32).unwrap_or_default() & (self.0.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_forgets_and_never_says_never_of_what_it_met() {
        let mut recent = Recent::for_keys(5);
        assert_eq!(recent.0.len(), 8);
        let key = |n: u128| n.to_be_bytes();
        assert_eq!(recent.of(&key(1)), Memory::Never);
        for n in 0..1000_u128 {
            recent.meet(&key(n), n);
            assert_eq!(recent.of(&key(n)), Memory::Met(n));
        }
        for n in 0..1000 {
            let known = recent.of(&key(n));
            assert!(known == Memory::Met(n) || known == Memory::Forgotten);
        }
    }

    #[test]
    fn a_table_has_a_bound_and_spreads_keys_of_any_shape() {
        assert_eq!(Recent::<()>::for_keys(u64::MAX).0.len(), MAX_ENTRIES);
        let mut recent = Recent::for_keys(1 << 16);
        let shapes = [0, 8, 60, 100].map(|shift| (0..1000_u128).map(move |n| n << shift));
        for (count, key) in shapes.into_iter().flatten().enumerate() {
            recent.meet(&key.to_be_bytes(), count);
        }
        let used = recent.0.iter().flatten().count();
        assert!(used > 3000, "{used} of 3997 keys have a place of their own");
    }
}
