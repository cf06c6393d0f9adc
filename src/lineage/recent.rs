//! What was met last, by a key of 16 bytes: a table of a fixed size in which the newer displaces the older.
//!
//! It forgets, but knows when it cannot have: a place that was never taken proves that none of its keys was met. A filter
//! beside it proves the same of nearly all that was never met, and keeps nothing else. Belongs to the one thread that verifies.

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

    fn place(&self, key: &[u8; 16]) -> usize {
        usize::try_from(mixed(key) >> 32).unwrap_or_default() & (self.0.len() - 1)
    }
}

/// Both halves of a key are mixed, as ids may be anything.
fn mixed(key: &[u8; 16]) -> u64 {
    let (halves, _) = key.as_chunks::<8>();
    halves.iter().fold(0, |sum, half| {
        let bits = (sum ^ u64::from_le_bytes(*half)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (bits ^ (bits >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// The most words that a filter has: 64 MiB, which few of 30 million keys pass that were never met.
const MAX_WORDS: usize = 1 << 23;
/// How many keys share a word.
const KEYS_IN_A_WORD: u64 = 4;
/// How many bits of its word a key sets.
const BITS_OF_A_KEY: u32 = 4;

/// A filter: what does not pass was never met.
#[derive(Debug)]
pub(super) struct Filter(Vec<u64>);

impl Filter {
    /// A filter that is large enough for `keys`, or as large as it may be.
    pub(super) fn for_keys(keys: u64) -> Self {
        let wanted = usize::try_from(keys / KEYS_IN_A_WORD).unwrap_or(MAX_WORDS);
        Self(vec![0; wanted.clamp(1, MAX_WORDS).next_power_of_two()])
    }

    pub(super) fn may_have_met(&self, key: &[u8; 16]) -> bool {
        let (place, bits) = self.bits(key);
        self.0.get(place).is_some_and(|word| word & bits == bits)
    }

    pub(super) fn meet(&mut self, key: &[u8; 16]) {
        let (place, bits) = self.bits(key);
        if let Some(word) = self.0.get_mut(place) {
            *word |= bits;
        }
    }

    /// A key's word and its bits there; the place is of other bits of the mixed key than those.
    fn bits(&self, key: &[u8; 16]) -> (usize, u64) {
        let mixed = mixed(key);
        let bits = (0..BITS_OF_A_KEY).fold(0, |bits, nth| bits | 1 << (mixed >> (6 * nth) & 63));
        let place = usize::try_from(mixed >> 32).unwrap_or_default() & (self.0.len() - 1);
        (place, bits)
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

    #[test]
    fn a_filter_passes_all_that_was_met_and_little_else() {
        let keys = 1 << 16;
        let mut filter = Filter::for_keys(keys);
        for shift in [0, 8, 60, 100] {
            let of = |n: u64| (u128::from(n) << shift).to_be_bytes();
            (0..keys / 4).for_each(|n| filter.meet(&of(n)));
            assert!((0..keys / 4).all(|n| filter.may_have_met(&of(n))));
        }
        let strangers = (1..=keys).map(|n| ((u128::from(n) * 0x1_0000_0001) << 30).to_be_bytes());
        let passed = strangers.filter(|key| filter.may_have_met(key)).count();
        assert!(passed < 2000, "{passed} of {keys}");
        assert_eq!(Filter::for_keys(u64::MAX).0.len(), MAX_WORDS);
    }
}
