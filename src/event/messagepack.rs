//! The shape of MessagePack bytes: one complete value, nested at most 128 deep.
//!
//! The walk uses no recursion and no heap, and ends with the bytes: each value it expects takes at least one.
//! MessagePack specification: <https://github.com/msgpack/msgpack/blob/master/spec.md>

use alloc::format;

use crate::error::{Result, StoreError};

/// The deepest nesting of lists and maps in a payload.
pub const MAX_PAYLOAD_DEPTH: usize = 128;

/// What stands at a marker: so many bytes to skip, then so many values inside.
struct Item {
    skip: usize,
    inside: u64,
    container: Container,
}

#[derive(PartialEq)]
enum Container {
    No,
    Yes,
}

/// Checks that `bytes` are exactly one well-formed value of bounded depth.
pub(crate) fn check_messagepack(bytes: &[u8]) -> Result<()> {
    // left[d] is how many values are still to come in the list or map at depth d.
    let mut left = [0u64; MAX_PAYLOAD_DEPTH];
    let mut depth = 0;
    let mut at = 0;
    loop {
        let item = item_at(bytes, at)?;
        at = match at.checked_add(item.skip) {
            Some(end) if end <= bytes.len() => end,
            _ => return Err(cut_short(bytes.len())),
        };
        if item.container == Container::Yes {
            if depth == MAX_PAYLOAD_DEPTH {
                return Err(too_deep());
            }
            left[depth] = item.inside;
            depth += 1;
        }
        while depth > 0 && left[depth - 1] == 0 {
            depth -= 1;
        }
        if depth == 0 {
            break;
        }
        left[depth - 1] -= 1;
    }
    if at != bytes.len() {
        let message = format!(
            "payload goes on after its MessagePack value, which ends at byte {at} of {}; give exactly one value",
            bytes.len()
        );
        return Err(StoreError::payload(message));
    }
    Ok(())
}

/// Reads the marker at `at` and its length field; `skip` counts from `at`.
fn item_at(bytes: &[u8], at: usize) -> Result<Item> {
    let marker = *bytes.get(at).ok_or_else(|| cut_short(bytes.len()))?;
    let length = |width: usize| length_at(bytes, at, width);
    let scalar = |skip: usize| {
        Ok(Item {
            skip,
            inside: 0,
            container: Container::No,
        })
    };
    let blob = |width: usize, more: usize| {
        let body = usize::try_from(length(width)?).unwrap_or(usize::MAX);
        scalar(body.saturating_add(1 + width + more))
    };
    let nest = |skip: usize, inside: u64| {
        Ok(Item {
            skip,
            inside,
            container: Container::Yes,
        })
    };
    match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => scalar(1),
        0x80..=0x8f => nest(1, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => nest(1, u64::from(marker & 0x0f)),
        0xa0..=0xbf => scalar(1 + usize::from(marker & 0x1f)),
        0xc4 | 0xd9 => blob(1, 0),
        0xc5 | 0xda => blob(2, 0),
        0xc6 | 0xdb => blob(4, 0),
        0xc7 => blob(1, 1),
        0xc8 => blob(2, 1),
        0xc9 => blob(4, 1),
        0xcc | 0xd0 => scalar(2),
        0xcd | 0xd1 => scalar(3),
        0xca | 0xce | 0xd2 => scalar(5),
        0xcb | 0xcf | 0xd3 => scalar(9),
        0xd4 => scalar(3),
        0xd5 => scalar(4),
        0xd6 => scalar(6),
        0xd7 => scalar(10),
        0xd8 => scalar(18),
        0xdc => nest(3, u64::from(length(2)?)),
        0xdd => nest(5, u64::from(length(4)?)),
        0xde => nest(3, 2 * u64::from(length(2)?)),
        0xdf => nest(5, 2 * u64::from(length(4)?)),
        0xc1 => {
            let message = format!(
                "payload byte {at} is 0xc1, which MessagePack never uses; give one well-formed value"
            );
            Err(StoreError::payload(message))
        }
    }
}

/// Reads the big-endian length of `width` bytes behind the marker at `at`.
fn length_at(bytes: &[u8], at: usize, width: usize) -> Result<u32> {
    let field = bytes
        .get(at + 1..at + 1 + width)
        .ok_or_else(|| cut_short(bytes.len()))?;
    Ok(field
        .iter()
        .fold(0, |length, byte| length << 8 | u32::from(*byte)))
}

fn cut_short(bytes: usize) -> StoreError {
    StoreError::payload(format!(
        "payload ends after {bytes} bytes, inside a MessagePack value; give all of it"
    ))
}

pub(crate) fn too_deep() -> StoreError {
    StoreError::payload(format!(
        "payload nests deeper than {MAX_PAYLOAD_DEPTH} levels; make it flatter"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn nested(marker: &[u8], depth: usize) -> Vec<u8> {
        let mut bytes = marker.repeat(depth);
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn every_marker_is_accepted_with_its_full_body() {
        for marker in (0..=0xff).filter(|marker| *marker != 0xc1) {
            // Zero lengths and nils behind the marker: the shortest complete value it can begin.
            let mut bytes = vec![marker];
            while check_messagepack(&bytes).is_err() && bytes.len() < 64 {
                bytes.push(0);
            }
            assert!(check_messagepack(&bytes).is_ok(), "{marker:#x}");
            assert!(
                check_messagepack(&bytes[..bytes.len() - 1]).is_err(),
                "{marker:#x}"
            );
            bytes.push(0xc0);
            assert!(
                check_messagepack(&bytes).is_err(),
                "{marker:#x} and a byte more"
            );
        }
        assert!(check_messagepack(&[0xc1]).is_err());
        assert!(check_messagepack(&[]).is_err());
    }

    #[test]
    fn depth_128_passes_and_129_does_not() {
        for marker in [
            &[0x91][..],
            &[0xdc, 0, 1],
            &[0xdd, 0, 0, 0, 1],
            &[0x81, 0xc0],
        ] {
            assert!(
                check_messagepack(&nested(marker, 128)).is_ok(),
                "{marker:x?}"
            );
            let error = check_messagepack(&nested(marker, 129)).unwrap_err();
            assert!(error.to_string().contains("deeper than 128"), "{error}");
        }
        let empty_at_the_bound = [vec![0x91; 127], vec![0x90]].concat();
        assert!(check_messagepack(&empty_at_the_bound).is_ok());
        let empty_past_it = [vec![0x91; 128], vec![0x90]].concat();
        assert!(check_messagepack(&empty_past_it).is_err());
    }

    #[test]
    fn a_length_past_the_end_is_refused_without_work() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdf, 0xff, 0xff, 0xff, 0xff, 0, 0],
            &[0xc6, 0xff, 0xff, 0xff, 0xff, 0],
            &[0xdb, 0x7f, 0xff, 0xff, 0xff],
            &[0xc9, 0xff, 0xff, 0xff, 0xff, 1],
            &[0xde, 0],
            &[0x92, 0xc0],
            &[0xa2, b'a'],
        ] {
            assert!(check_messagepack(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_million_open_lists_are_refused_at_once() {
        assert!(check_messagepack(&vec![0x91; 1_000_000]).is_err());
    }

    #[test]
    fn siblings_close_their_list_before_the_next() {
        // [[1, {}], {"a": [2]}, 3]
        let bytes = [0x93, 0x92, 1, 0x80, 0x81, 0xa1, b'a', 0x91, 2, 3];
        assert!(check_messagepack(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(check_messagepack(&bytes[..end]).is_err(), "{end}");
        }
    }
}
