//! What the store asks of the world: a disk and a clock.
