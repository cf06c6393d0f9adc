//! A reader without a writer: after a kill or a power cut it shows what is proven durable, and mends nothing.
