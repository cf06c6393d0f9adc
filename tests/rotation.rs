//! Regression: a submission that did not fit the segment was taken from the queue and then forgotten, and its caller
//! waited for ever, when no other append came to take the writer's turn again.

use quipu::prelude::*;

#[test]
fn callers_never_hang_when_a_group_ends_a_segment() -> quipu::Result<()> {
    let config = StoreConfig::in_memory().segment_bytes(quipu::MIN_SEGMENT_BYTES);
    let store = Store::open_with(config)?;
    let payload = "x".repeat(100_000);
    let (store, payload) = (&store, &payload);
    let write = |worker: usize| -> quipu::Result<()> {
        let file = Coordinate::new(format!("file:{worker}"), "disk")?;
        for _ in 0..100 {
            store.append(&file, EventKind::literal("file.written"), payload)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| scope.spawn(move || write(worker)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no append panics"))
    })?;
    assert_eq!(store.head().position, 800);
    assert!(store.stats().segments > 50);
    store.clone().close()
}
