//! The bounds of everything that has a name or a count, and the checks that hold them.

use alloc::format;
use alloc::string::String;

use crate::error::{Result, StoreError};

/// The longest entity name in bytes.
pub const MAX_ENTITY_BYTES: usize = 512;
/// The longest scope name in bytes.
pub const MAX_SCOPE_BYTES: usize = 512;
/// The longest event kind in bytes.
pub const MAX_KIND_BYTES: usize = 128;
/// The longest tag in bytes.
pub const MAX_TAG_BYTES: usize = 256;
/// The most tags on one event, and in one region.
pub const MAX_TAGS: usize = 32;
/// The most parents of one event.
pub const MAX_PARENTS: usize = 64;
/// The longest idempotency key in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 64;
/// The most metadata entries on one event.
pub const MAX_METADATA_ENTRIES: usize = 32;
/// The longest metadata key in bytes.
pub const MAX_METADATA_KEY_BYTES: usize = 128;
/// The longest metadata value in bytes.
pub const MAX_METADATA_VALUE_BYTES: usize = 1024;
/// The most bytes of all metadata keys and values of one event together.
pub const MAX_METADATA_BYTES: usize = 8192;
/// The most regions in one query.
pub const MAX_QUERY_REGIONS: usize = 64;
/// The most kinds and kind prefixes in one region.
pub const MAX_REGION_KINDS: usize = 32;
/// The most conditions of one append.
pub const MAX_CONDITIONS: usize = 16;

/// The longest text of a query in bytes; the text of every valid query is shorter.
pub const MAX_QUERY_TEXT_BYTES: usize = 2_097_152;

/// How much of a wrong text an error shows.
const SHOWN_CHARACTERS: usize = 48;
/// Kinds that begin like this belong to the store.
const RESERVED: &[u8] = b"quipu.";

pub(crate) fn check_entity(entity: &str) -> Result<()> {
    check_name("entity", entity, MAX_ENTITY_BYTES)
}

pub(crate) fn check_scope(scope: &str) -> Result<()> {
    check_name("scope", scope, MAX_SCOPE_BYTES)
}

pub(crate) fn check_tag(tag: &str) -> Result<()> {
    check_name("tag", tag, MAX_TAG_BYTES)
}

/// Checks a kind to look for; reserved kinds may be read.
pub(crate) fn check_kind(kind: &str) -> Result<()> {
    match kind_fault(kind) {
        None => Ok(()),
        Some(fault) => Err(kind_error(kind, fault)),
    }
}

/// Checks a kind to append.
pub(crate) fn check_own_kind(kind: &str) -> Result<()> {
    match own_kind_fault(kind) {
        None => Ok(()),
        Some(fault) => Err(kind_error(kind, fault)),
    }
}

/// Checks the beginning of a name; the empty beginning fits every name.
pub(crate) fn check_prefix(what: &str, prefix: &str, max_bytes: usize) -> Result<()> {
    check_length(what, prefix.len(), max_bytes)?;
    check_text(what, prefix)
}

pub(crate) fn check_name(what: &str, name: &str, max_bytes: usize) -> Result<()> {
    if name.is_empty() {
        return Err(StoreError::argument(format!(
            "{what} is empty; give it a name"
        )));
    }
    check_prefix(what, name, max_bytes)
}

pub(crate) fn check_length(what: &str, bytes: usize, max_bytes: usize) -> Result<()> {
    if bytes > max_bytes {
        let message = format!("{what} is {bytes} bytes long; at most {max_bytes} are allowed");
        return Err(StoreError::argument(message));
    }
    Ok(())
}

pub(crate) fn check_count(what: &str, count: usize, max: usize) -> Result<()> {
    if count > max {
        let message = format!("{count} {what} given; at most {max} are allowed");
        return Err(StoreError::argument(message));
    }
    Ok(())
}

pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    if key.is_empty() {
        return Err(StoreError::argument(
            "idempotency key is empty; give it at least one byte",
        ));
    }
    check_length("idempotency key", key.len(), MAX_IDEMPOTENCY_KEY_BYTES)
}

/// Quotes a text for an error, shortened if it is long.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}..", &text[..end]),
    }
}

fn check_text(what: &str, text: &str) -> Result<()> {
    if has_control(text.as_bytes()) {
        let message = format!("{what} {text:?} holds a control character; leave it out");
        return Err(StoreError::argument(message));
    }
    Ok(())
}

fn kind_error(kind: &str, fault: &str) -> StoreError {
    let shown: String = kind.chars().take(MAX_KIND_BYTES).collect();
    StoreError::argument(format!("kind {shown:?}: {fault}"))
}

/// Says what keeps `kind` from being a kind that callers may append; runs at compile time too.
pub(crate) const fn own_kind_fault(kind: &str) -> Option<&'static str> {
    if starts_with(kind.as_bytes(), RESERVED) {
        return Some("a kind that begins with `quipu.` is reserved; choose another first word");
    }
    kind_fault(kind)
}

const fn kind_fault(kind: &str) -> Option<&'static str> {
    let bytes = kind.as_bytes();
    if bytes.is_empty() {
        return Some("a kind must not be empty");
    }
    if bytes.len() > MAX_KIND_BYTES {
        return Some("a kind is at most 128 bytes long");
    }
    if has_control(bytes) {
        return Some("a kind must not hold control characters");
    }
    if has_empty_word(bytes) {
        return Some("a kind must not hold an empty word; write `order.placed`");
    }
    None
}

const fn has_empty_word(bytes: &[u8]) -> bool {
    let mut at = 0;
    let mut word_start = 0;
    while at < bytes.len() {
        if bytes[at] == b'.' {
            if at == word_start {
                return true;
            }
            word_start = at + 1;
        }
        at += 1;
    }
    word_start == bytes.len()
}

/// Tells whether UTF-8 text holds a character of `char::is_control`: C0, DEL, or C1 (0xC2 0x80..0x9F).
const fn has_control(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte < 0x20 || byte == 0x7f {
            return true;
        }
        if byte == 0xc2 && at + 1 < bytes.len() && bytes[at + 1] <= 0x9f {
            return true;
        }
        at += 1;
    }
    false
}

const fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    if bytes.len() < prefix.len() {
        return false;
    }
    let mut at = 0;
    while at < prefix.len() {
        if bytes[at] != prefix[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StoreErrorKind;

    type Check = fn(&str) -> Result<()>;

    #[test]
    fn a_name_at_its_bound_passes_and_one_byte_more_does_not() {
        let checks: [(Check, usize); 5] = [
            (check_entity, 512),
            (check_scope, 512),
            (check_tag, 256),
            (check_kind, 128),
            (check_own_kind, 128),
        ];
        for (check, max) in checks {
            assert!(check(&"x".repeat(max)).is_ok());
            let error = check(&"x".repeat(max + 1)).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Argument);
            assert!(check("").is_err());
        }
    }

    #[test]
    fn a_key_has_between_one_and_sixty_four_bytes() {
        assert!(check_key(&[]).is_err());
        assert!(check_key(&[0]).is_ok());
        assert!(check_key(&[0; 64]).is_ok());
        assert!(check_key(&[0; 65]).is_err());
    }

    #[test]
    fn control_characters_are_those_of_char_is_control() {
        for character in (0..0x3000).filter_map(char::from_u32) {
            let text = format!("a{character}b");
            assert_eq!(
                check_entity(&text).is_err(),
                character.is_control(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_prefix_may_be_empty_but_not_too_long() {
        assert!(check_prefix("scope prefix", "", 4).is_ok());
        assert!(check_prefix("scope prefix", "abcd", 4).is_ok());
        assert!(check_prefix("scope prefix", "abcde", 4).is_err());
        assert!(check_prefix("scope prefix", "a\n", 4).is_err());
    }

    #[test]
    fn a_kind_is_made_of_words() {
        for kind in [
            "order",
            "order.placed",
            "a.b.c",
            "quipu",
            "quipus.x",
            "größe.neu",
        ] {
            assert!(check_own_kind(kind).is_ok(), "{kind}");
        }
        for kind in [".", ".a", "a.", "a..b", "", "a\u{85}b", "a\tb"] {
            assert!(check_own_kind(kind).is_err(), "{kind}");
        }
    }

    #[test]
    fn a_reserved_kind_may_be_read_but_not_appended() {
        assert!(check_kind("quipu.removed").is_ok());
        assert!(check_own_kind("quipu.removed").is_err());
    }
}
