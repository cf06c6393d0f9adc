//! How the store looks as bytes: one structure per file, encode and decode together, no I/O.
