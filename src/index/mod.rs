//! Which events: searchable footers of sealed segments and the index of the newest events.
