//! Walks over the text of a query, from left to right: words, names of terms, and values in and out of quotes.
//!
//! Knows characters, not terms. It stops at the first fault and never goes past the end; runs on the caller's thread.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::error::{Result, StoreError};
use crate::event::name;
use crate::event::region::Match;

/// Tells whether a character stands for itself only between quotes.
pub(crate) fn needs_quotes(character: char) -> bool {
    character.is_whitespace() || matches!(character, '"' | '\\' | '*' | ',')
}

/// A text and how far it was read.
pub(crate) struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let mut scanner = Self { text, at: 0 };
        scanner.skip_space();
        scanner
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest().is_empty()
    }

    /// Tells whether `word` comes next and stands alone.
    pub(crate) fn sees_word(&self, word: &str) -> bool {
        let behind = self.rest().strip_prefix(word);
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(char::is_whitespace))
    }

    /// Goes past `word` and the space behind it if it comes next and stands alone.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let seen = self.sees_word(word);
        if seen {
            self.at += word.len();
            self.skip_space();
        }
        seen
    }

    /// Goes past the name of a term and its colon; returns the name, or the whole word if it has no colon.
    pub(crate) fn take_name(&mut self) -> Result<&'t str, &'t str> {
        let word = self.word();
        let (name, _) = word.split_once(':').ok_or(word)?;
        self.at += name.len() + ":".len();
        Ok(name)
    }

    /// `value = item { "," item }`, up to the next space.
    pub(crate) fn take_value(&mut self) -> Result<Vec<Match>, String> {
        let mut items = vec![self.item()?];
        while self.take(",") {
            items.push(self.item()?);
        }
        let fault = match self.rest().chars().next() {
            None => return Ok(items),
            Some(space) if space.is_whitespace() => return Ok(items),
            Some('*') => "a `*` stands at the end, for any name that begins so",
            Some('\\') => "a backslash escapes only between quotes",
            Some('"') => "a quote stands inside the name",
            Some(_) => "something stands behind the closing quote",
        };
        Err(format!(
            "{fault}; put the whole name in double quotes if this belongs to it"
        ))
    }

    /// `item = ( bare | quoted ) [ "*" ] | "*"`
    fn item(&mut self) -> Result<Match, String> {
        let name = if self.take("\"") {
            self.quoted()?
        } else {
            self.bare()?
        };
        if self.ends_with_star() {
            self.at += "*".len();
            return Ok(Match::Prefix(name.into()));
        }
        Ok(Match::Exact(name.into()))
    }

    /// Tells whether a `*` comes next that ends its item.
    fn ends_with_star(&self) -> bool {
        let behind = self.rest().strip_prefix('*');
        behind.is_some_and(|behind| {
            behind.is_empty()
                || behind.starts_with(|next: char| next == ',' || next.is_whitespace())
        })
    }

    /// `bare = character { character }`, none of which needs quotes.
    fn bare(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let name = &rest[..rest.find(needs_quotes).unwrap_or(rest.len())];
        if name.is_empty() && !rest.starts_with(['*', '\\']) {
            return Err("a value is missing; write it with no space before or behind the colon or a comma, as in kind:a,b".into());
        }
        self.at += name.len();
        Ok(name.to_string())
    }

    /// `quoted = '"' { character | '\"' | '\\' } '"'`, the opening quote being gone past.
    fn quoted(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + "\"".len();
                    return Ok(name);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                    Some((_, other)) => return Err(unknown_escape(other)),
                    None => break,
                },
                _ => name.push(character),
            }
        }
        Err("the quote is not closed; put another one behind the name".into())
    }

    /// Returns where the term stands that begins at `start`: to the end of the word that was read last.
    pub(crate) fn term_from(&self, start: usize) -> Range<usize> {
        start..self.at + self.word().len()
    }

    /// Says what is wrong with the term at a place.
    pub(crate) fn wrong(&self, place: Range<usize>, fault: &str) -> StoreError {
        let term = name::shown(&self.text[place.clone()]);
        let number = self.character(place.start);
        StoreError::argument(format!("term {term} at character {number}: {fault}"))
    }

    /// Counts the characters up to the one at a place; the first is 1.
    pub(crate) fn character(&self, place: usize) -> usize {
        self.text[..place].chars().count() + 1
    }

    /// Returns what is left up to the next space.
    fn word(&self) -> &'t str {
        let rest = self.rest();
        &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())]
    }

    fn take(&mut self, mark: &str) -> bool {
        let seen = self.rest().starts_with(mark);
        if seen {
            self.at += mark.len();
        }
        seen
    }

    pub(crate) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }
}

fn unknown_escape(character: char) -> String {
    format!(
        "a backslash before {character:?} means nothing; \
         between quotes write \\\" for a quote and \\\\ for a backslash"
    )
}
