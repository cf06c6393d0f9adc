//! The synchronisation primitives in use, named in one place.
