//! The lists in an event's head, walked in place (`docs/format.md`, section 5).
//!
//! The head was checked when the frame was decoded; should the bytes have changed since, a list
//! gives empty items, never a panic.

use core::str;

use super::codec::Reader;

/// Iterates over the tags of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TagList<'a> {
    reader: Reader<'a>,
    left: u8,
}

impl<'a> TagList<'a> {
    /// Walks the bytes of a checked part, count included; no bytes are no items.
    #[inline]
    pub(super) fn new(part: &'a [u8]) -> Self {
        let (left, items) = counted(part);
        Self {
            reader: Reader::new(items),
            left,
        }
    }
}

/// Iterates over the parents of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParentList<'a> {
    reader: Reader<'a>,
    left: u8,
}

impl<'a> ParentList<'a> {
    /// Walks the bytes of a checked part, count included; no bytes are no items.
    #[inline]
    pub(super) fn new(part: &'a [u8]) -> Self {
        let (left, items) = counted(part);
        Self {
            reader: Reader::new(items),
            left,
        }
    }
}

/// Iterates over the metadata of one event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetadataList<'a> {
    reader: Reader<'a>,
    left: u8,
}

impl<'a> MetadataList<'a> {
    /// Walks the bytes of a checked part, count included; no bytes are no items.
    #[inline]
    pub(super) fn new(part: &'a [u8]) -> Self {
        let (left, items) = counted(part);
        Self {
            reader: Reader::new(items),
            left,
        }
    }
}

impl<'a> Iterator for TagList<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        Some(self.reader.block().map_or("", text))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl Iterator for ParentList<'_> {
    type Item = [u8; 16];

    #[inline]
    fn next(&mut self) -> Option<[u8; 16]> {
        self.left = self.left.checked_sub(1)?;
        Some(self.reader.array().unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl<'a> Iterator for MetadataList<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        self.left = self.left.checked_sub(1)?;
        let key = self.reader.block().map_or("", text);
        Some((key, self.reader.block().map_or("", text)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for TagList<'_> {}
impl ExactSizeIterator for ParentList<'_> {}
impl ExactSizeIterator for MetadataList<'_> {}

#[inline]
pub(super) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

#[inline]
fn counted(part: &[u8]) -> (u8, &[u8]) {
    part.split_first()
        .map_or((0, &[]), |(&count, items)| (count, items))
}
