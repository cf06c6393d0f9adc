//! CRC-32, plain and continued from a segment's seed.
//!
//! The seed is the CRC state after store id, salt and number, so that bytes of another store,
//! another segment or an earlier life of the same file never pass (`docs/format.md`, section 3).

use crc32fast::Hasher;

/// The CRC state from which every checksum inside one segment continues.
#[derive(Debug, Clone)]
pub(crate) struct Seed(Hasher);

impl Seed {
    /// The seed of segment `number`, made with `salt`, of the store `store_id`.
    pub(crate) fn new(store_id: &[u8; 16], salt: &[u8; 16], number: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(store_id);
        hasher.update(salt);
        hasher.update(&number.to_le_bytes());
        Self(hasher)
    }

    /// CRC(seed, parts one behind the other).
    #[inline]
    pub(crate) fn crc(&self, parts: &[&[u8]]) -> u32 {
        let mut hasher = self.start();
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }

    /// A hasher that stands at the seed.
    #[inline]
    pub(crate) fn start(&self) -> Hasher {
        self.0.clone()
    }
}

/// The CRC of parts one behind the other, without a seed.
pub(crate) fn plain(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_crc_is_the_iso_hdlc_one() {
        assert_eq!(plain(&[b"1234", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn seeded_crc_continues_from_store_salt_and_number() {
        let seed = Seed::new(&[1; 16], &[2; 16], 3);
        let number = 3u64.to_le_bytes();
        assert_eq!(
            seed.crc(&[b"a", b"b"]),
            plain(&[&[1; 16], &[2; 16], &number, b"ab"])
        );
    }

    #[test]
    fn bytes_of_another_store_segment_or_time_do_not_pass() {
        let crc = Seed::new(&[1; 16], &[2; 16], 3).crc(&[b"x"]);
        assert_ne!(Seed::new(&[9; 16], &[2; 16], 3).crc(&[b"x"]), crc);
        assert_ne!(Seed::new(&[1; 16], &[9; 16], 3).crc(&[b"x"]), crc);
        assert_ne!(Seed::new(&[1; 16], &[2; 16], 4).crc(&[b"x"]), crc);
    }
}
