//! What an event is: names, kinds, ids, regions, conditions, receipts and hashes, without disk, clock or thread.
