//! Damage under a reader, and files that the writer makes again: it says `Corrupt`, or does without.
