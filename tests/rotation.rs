//! Regression: a submission that did not fit the segment was taken from the queue and then forgotten, and its caller
//! waited for ever, when no other append came to take the writer's turn again.

use quipu::prelude::*;

#[test]
fn callers_never_hang_when_a_group_ends_a_segment() -> quipu::Result<()> {
    let config = StoreConfig::in_memory().segment_bytes(quipu::MIN_SEGMENT_BYTES);
    let store = Store::open_with(config)?;
    let payload = "x".repeat(100_000);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (store, payload) = (store.clone(), payload.as_str());
            scope.spawn(move || -> quipu::Result<()> {
                let file = Coordinate::new(format!("file:{worker}"), "disk")?;
                for _ in 0..100 {
                    store.append(&file, EventKind::literal("file.written"), payload)?;
                }
                Ok(())
            });
        }
    });
    assert_eq!(store.head().position, 800);
    assert!(store.stats().segments > 50);
    store.close()
}
