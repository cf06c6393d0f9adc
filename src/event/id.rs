//! The 16-byte names of events and of stories: event ids and correlation ids.

use alloc::string::ToString;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{Result, StoreError};
use crate::event::digest::BytesVisitor;

macro_rules! id {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Makes an id from its bytes; any 16 bytes are an id.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut [0; 36]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        /// Reads a UUID in any of its usual spellings.
        impl FromStr for $name {
            type Err = StoreError;

            fn from_str(text: &str) -> Result<Self> {
                let uuid = Uuid::try_parse(text).map_err(|source| {
                    StoreError::argument("an id is written as a UUID").with_source(source)
                })?;
                Ok(Self(uuid.into_bytes()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(&self.to_string())
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = <alloc::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    deserializer.deserialize_bytes(BytesVisitor).map(Self)
                }
            }
        }
    };
}

id! {
    /// The name of one event, unique in its store, printed as a UUID.
    ///
    /// ```
    /// use quipu::EventId;
    ///
    /// let id: EventId = "018f4e5a-7c00-7000-8000-000000000001".parse()?;
    /// assert_eq!(id.to_string(), "018f4e5a-7c00-7000-8000-000000000001");
    /// # Ok::<(), quipu::StoreError>(())
    /// ```
    EventId
}

id! {
    /// The name of a story that events of several streams belong to, printed as a UUID.
    CorrelationId
}

impl EventId {
    /// Makes a UUID of version 7 (RFC 9562): milliseconds since 1970-01-01 UTC, then 74 bits of `random`.
    #[must_use]
    pub fn v7(millis: u64, random: u128) -> Self {
        let [_, _, _, _, _, _, tail @ ..] = random.to_be_bytes();
        Self(
            uuid::Builder::from_unix_timestamp_millis(millis, &tail)
                .into_uuid()
                .into_bytes(),
        )
    }
}

impl From<EventId> for CorrelationId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl From<&EventId> for EventId {
    fn from(id: &EventId) -> Self {
        *id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;

    const BYTES: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    const TEXT: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";

    #[test]
    fn an_id_prints_and_parses_as_a_uuid() {
        let id = EventId::from_bytes(BYTES);
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(TEXT.parse::<EventId>().unwrap(), id);
        assert_eq!(format!("{id:?}"), format!("EventId({TEXT})"));
        assert_eq!(CorrelationId::from(id).as_bytes(), &BYTES);
    }

    #[test]
    fn text_that_is_no_uuid_is_an_argument_error() {
        let error = "order-1".parse::<EventId>().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument);
    }

    #[test]
    fn a_version_7_id_begins_with_its_milliseconds() {
        let id = EventId::v7(0x0102_0304_0506, u128::MAX);
        assert_eq!(id.to_string(), "01020304-0506-7fff-bfff-ffffffffffff");
        assert!(EventId::v7(1, u128::MAX) < EventId::v7(2, 0));
    }

    #[test]
    fn an_id_is_text_for_people_and_bytes_for_machines() {
        let id = EventId::from_bytes(BYTES);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{TEXT}\""));
        assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), id);
        let packed = rmp_serde::to_vec(&id).unwrap();
        assert_eq!(packed[..2], [0xc4, 16]);
        assert_eq!(rmp_serde::from_slice::<EventId>(&packed).unwrap(), id);
        assert!(rmp_serde::from_slice::<EventId>(&[0xc4, 1, 0]).is_err());
    }
}
