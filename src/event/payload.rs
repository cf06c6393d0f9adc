//! What an event carries: any serialisable value as MessagePack with named fields, or ready bytes.

use alloc::vec::Vec;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::event::messagepack::check_messagepack;

/// Room for a typical payload, so that encoding one seldom grows its buffer.
const TYPICAL_PAYLOAD_BYTES: usize = 256;

/// A value that can be the payload of an event.
///
/// Every `serde::Serialize` type is one: structs become maps with named fields, enums their variant's name.
pub trait Payload {
    /// Appends the value to `out` as exactly one MessagePack value.
    ///
    /// # Errors
    ///
    /// `Payload` if the value cannot be encoded, is not well-formed, or nests deeper than 128 levels.
    fn encode(&self, out: &mut Vec<u8>) -> Result<()>;
}

impl<T: Serialize + ?Sized> Payload for T {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
        self.serialize(&mut serializer).map_err(|source| {
            StoreError::payload("payload cannot be encoded").with_source(source)
        })?;
        // A hand-written `Serialize` may announce one length and give another; depth is not counted elsewhere.
        check_messagepack(&out[start..])
    }
}

/// Bytes that already are one MessagePack value.
///
/// ```
/// use quipu::{Payload, RawPayload};
///
/// let mut bytes = Vec::new();
/// RawPayload::new(&[0x93, 1, 2, 3]).encode(&mut bytes)?;
/// assert!(RawPayload::new(&[0x93, 1, 2]).encode(&mut bytes).is_err());
/// # Ok::<(), quipu::StoreError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawPayload<'a>(&'a [u8]);

impl<'a> RawPayload<'a> {
    /// Wraps the bytes; they are checked when they are encoded.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl Payload for RawPayload<'_> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        check_messagepack(self.0)?;
        out.extend_from_slice(self.0);
        Ok(())
    }
}

/// Encodes into a buffer of its own.
pub(crate) fn encoded(payload: &(impl Payload + ?Sized)) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(TYPICAL_PAYLOAD_BYTES);
    payload.encode(&mut bytes)?;
    Ok(bytes)
}

/// Decodes a payload whose bytes are one MessagePack value; what borrows, borrows from them.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    check_messagepack(bytes)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    let value = T::deserialize(&mut deserializer).map_err(|source| {
        StoreError::payload("payload does not decode as the type asked for").with_source(source)
    })?;
    // A type may stop inside a value it half understands; silence would lose the rest.
    if IgnoredAny::deserialize(&mut deserializer).is_ok() {
        return Err(StoreError::payload(
            "payload holds more than the type asked for takes",
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;
    use alloc::boxed::Box;
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec;
    use core::fmt::Debug;
    use serde::de::DeserializeOwned;
    use serde::ser::{SerializeSeq, Serializer};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        sku: String,
        count: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: u64,
        line: Line,
        note: Option<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Change {
        Opened,
        Renamed(String),
        Moved(i8, i8),
        Resized { width: u16 },
    }

    /// Asserts the bytes of a value, and that they decode to it again.
    fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, bytes: &[u8]) {
        assert_eq!(encoded(value).unwrap(), bytes, "{value:?}");
        assert_eq!(&decode::<T>(bytes).unwrap(), value);
    }

    #[test]
    fn structs_are_maps_of_named_fields() {
        let order = Order {
            id: 1,
            line: Line {
                sku: "a".into(),
                count: 300,
            },
            note: None,
        };
        golden(
            &order,
            b"\x83\xa2id\x01\xa4line\x82\xa3sku\xa1a\xa5count\xcd\x01\x2c\xa4note\xc0",
        );
    }

    #[test]
    fn enums_carry_the_name_of_their_variant() {
        golden(&Change::Opened, b"\xa6Opened");
        golden(&Change::Renamed("b".into()), b"\x81\xa7Renamed\xa1b");
        golden(&Change::Moved(-1, 2), b"\x81\xa5Moved\x92\xff\x02");
        golden(
            &Change::Resized { width: 7 },
            b"\x81\xa7Resized\x81\xa5width\x07",
        );
    }

    #[test]
    fn an_option_is_nil_or_its_value() {
        golden(&None::<u8>, b"\xc0");
        golden(&Some(5u8), b"\x05");
        golden(&vec![Some(1u8), None], b"\x92\x01\xc0");
    }

    #[test]
    fn wide_integers_are_sixteen_bytes_big_endian() {
        let bytes = b"\xc4\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe";
        golden(&-2i128, bytes);
        golden(&1u128, b"\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
    }

    #[test]
    fn maps_and_scalars_take_their_shortest_form() {
        golden(
            &BTreeMap::from([(1u8, "x".to_owned()), (2, "y".to_owned())]),
            b"\x82\x01\xa1x\x02\xa1y",
        );
        golden(&u64::MAX, b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
        golden(&i64::MIN, b"\xd3\x80\0\0\0\0\0\0\0");
        golden(&1.5f64, b"\xcb\x3f\xf8\0\0\0\0\0\0");
        golden(&true, b"\xc3");
        golden(&(), b"\xc0");
    }

    #[test]
    fn borrowed_fields_borrow_from_the_payload() {
        #[derive(Deserialize)]
        struct Borrowed<'a> {
            sku: &'a str,
        }
        let bytes = encoded(&Line {
            sku: "abc".into(),
            count: 1,
        })
        .unwrap();
        let line: Borrowed<'_> = decode(&bytes).unwrap();
        assert!(bytes.as_ptr_range().contains(&line.sku.as_ptr()));
    }

    #[test]
    fn encoding_appends_to_the_buffer_it_is_given() {
        let mut out = vec![9];
        7u8.encode(&mut out).unwrap();
        RawPayload::new(b"\xa1a").encode(&mut out).unwrap();
        assert_eq!(out, b"\x09\x07\xa1a");
    }

    #[derive(Serialize, Deserialize)]
    struct Nest(Vec<Nest>);

    fn nest(depth: usize) -> Nest {
        (1..depth).fold(Nest(Vec::new()), |inner, _| Nest(vec![inner]))
    }

    #[test]
    fn a_value_128_deep_encodes_and_129_does_not() {
        let bytes = encoded(&nest(128)).unwrap();
        assert!(decode::<Nest>(&bytes).is_ok());
        let error = encoded(&nest(129)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Payload);
    }

    #[test]
    fn raw_bytes_must_be_exactly_one_value() {
        assert_eq!(encoded(&RawPayload::new(b"\x01")).unwrap(), b"\x01");
        for bytes in [&b""[..], b"\x01\x02", b"\x91", b"\xc1"] {
            assert_eq!(
                encoded(&RawPayload::new(bytes)).unwrap_err().kind(),
                StoreErrorKind::Payload
            );
        }
    }

    struct Liar;

    impl Serialize for Liar {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_seq(Some(3))?.end()
        }
    }

    #[test]
    fn a_serialize_that_lies_about_its_length_is_refused() {
        assert_eq!(encoded(&Liar).unwrap_err().kind(), StoreErrorKind::Payload);
    }

    struct Failing;

    impl Serialize for Failing {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no such luck"))
        }
    }

    #[test]
    fn a_serialize_that_fails_is_told_with_its_reason() {
        let error = encoded(&Failing).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Payload);
        assert!(error.to_string().contains("no such luck"), "{error}");
    }

    #[test]
    fn hostile_bytes_are_payload_errors_for_every_type() {
        let deep = [vec![0x91; 5000], vec![0xc0]].concat();
        let cases: [&[u8]; 7] = [
            &deep,
            b"\xdd\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\x81\xa6Opened",
            b"\x82\xa7Renamed\xa1b\xa1c\xa1d",
            b"\x01\x01",
            b"\xa1\xff",
        ];
        for bytes in cases {
            assert_eq!(
                decode::<Order>(bytes).err().unwrap().kind(),
                StoreErrorKind::Payload
            );
            assert_eq!(
                decode::<Change>(bytes).err().unwrap().kind(),
                StoreErrorKind::Payload
            );
            assert_eq!(
                decode::<String>(bytes).err().unwrap().kind(),
                StoreErrorKind::Payload
            );
            assert!(decode::<Vec<Box<Order>>>(bytes).is_err());
        }
    }

    #[test]
    fn a_list_longer_than_its_tuple_is_refused() {
        assert!(decode::<(u8, u8)>(b"\x93\x01\x02\x03").is_err());
    }
}
