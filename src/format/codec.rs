//! The bounded reader and the small writers that every structure's bytes go through.
//!
//! Integers are little-endian; a varint is unsigned LEB128 in its shortest form only.

use core::fmt;

/// Why bytes could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The bytes are not what was written.
    Corrupt(&'static str),
    /// The bytes are sound, but of a newer format than this build knows.
    Unsupported(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(what) | Self::Unsupported(what) => f.write_str(what),
        }
    }
}

const ENDS_EARLY: DecodeError = DecodeError::Corrupt("the bytes end too early");
const BAD_VARINT: DecodeError = DecodeError::Corrupt("a varint is malformed");
/// A varint holds 64 bits, 7 in each byte.
pub(crate) const MAX_VARINT_BYTES: usize = 10;

/// Reads structures from the front of a byte slice and never past its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            len: bytes.len(),
        }
    }

    /// How many bytes have been read.
    #[inline]
    pub(crate) const fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// The bytes not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes.
    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes.
    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes.
    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next varint.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        // Lengths and most distances take one or two bytes; a second byte of zero is not the shortest form.
        match *self.rest {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            [low, high @ 1..0x80, ref rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(MAX_VARINT_BYTES).enumerate() {
            if index + 1 == MAX_VARINT_BYTES && byte > 1 {
                return Err(BAD_VARINT);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // A last byte of zero adds nothing: a shorter form exists.
                if byte == 0 && index > 0 {
                    return Err(BAD_VARINT);
                }
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.rest().len() < MAX_VARINT_BYTES {
            ENDS_EARLY
        } else {
            BAD_VARINT
        })
    }

    /// The next varint, which must fit 32 bits.
    #[inline]
    pub(crate) fn varint32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| BAD_VARINT)
    }

    /// A varint length and as many bytes.
    #[inline]
    pub(crate) fn block(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| ENDS_EARLY)?;
        self.bytes(count)
    }

    /// Reads reserved bytes, which must be zero.
    #[inline]
    pub(crate) fn reserved<const N: usize>(&mut self) -> Result<(), DecodeError> {
        if self.array::<N>()? == [0; N] {
            Ok(())
        } else {
            Err(DecodeError::Corrupt("reserved bytes are not zero"))
        }
    }

    /// Refuses bytes that are left over.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Corrupt("bytes are left over"))
        }
    }
}

/// Appends two bytes.
#[inline]
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends four bytes.
#[inline]
pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends eight bytes.
#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a varint in its shortest form.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a varint length and the bytes.
#[inline]
pub(crate) fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::golden::Random;

    fn varint_bytes(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    }

    #[test]
    fn varint_of_any_size_reads_back() {
        let edges = (0..64)
            .flat_map(|bit| [(1u64 << bit) - 1, 1 << bit])
            .chain([u64::MAX]);
        for value in edges {
            let bytes = varint_bytes(value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
        assert_eq!(varint_bytes(u64::MAX).len(), MAX_VARINT_BYTES);
    }

    #[test]
    fn only_the_shortest_varint_is_read() {
        let too_long: [&[u8]; 4] = [&[0x80, 0], &[0x81, 0], &[0xff, 0x80, 0], &[0x80; 10]];
        for bytes in too_long {
            assert_eq!(Reader::new(bytes).varint(), Err(BAD_VARINT), "{bytes:02x?}");
        }
        let beyond_64_bits = [&[0xff; 9][..], &[2]].concat();
        assert_eq!(Reader::new(&beyond_64_bits).varint(), Err(BAD_VARINT));
    }

    #[test]
    fn cut_varint_ends_too_early() {
        let bytes = varint_bytes(u64::MAX);
        for len in 0..bytes.len() {
            assert_eq!(Reader::new(&bytes[..len]).varint(), Err(ENDS_EARLY));
        }
    }

    #[test]
    fn varint_from_random_bytes_is_the_one_that_would_be_written() {
        let mut random = Random::from_clock();
        for _ in 0..10_000 {
            let len = random.below(12);
            let bytes: Vec<u8> = (0..len)
                .map(|_| random.byte() | random.byte() & 0x80)
                .collect();
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let seed = random.seed;
                assert_eq!(
                    varint_bytes(value),
                    bytes[..reader.at()],
                    "random seed {seed}"
                );
            }
        }
    }

    #[test]
    fn block_longer_than_the_bytes_is_refused() {
        let bytes = [varint_bytes(u64::MAX), vec![1, 2, 3]].concat();
        assert_eq!(Reader::new(&bytes).block(), Err(ENDS_EARLY));
    }

    #[test]
    fn failed_read_does_not_move_the_reader() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), Err(ENDS_EARLY));
        assert_eq!(reader.bytes(4), Err(ENDS_EARLY));
        assert_eq!(reader.u16(), Ok(0x0201));
        assert!(reader.finish().is_err());
    }
}
