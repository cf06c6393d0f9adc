//! A subscription as a `Stream`: awaited without a runtime, and with the adaptors that everybody has.

use super::{KIND, PATIENCE, append, lamp, until_waiting};
use futures_util::StreamExt;
use quipu::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// As small as an executor can be.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, started) = (pin!(future), Instant::now());
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        thread::park_timeout(PATIENCE);
        assert!(started.elapsed() < PATIENCE, "forgotten");
    }
}

#[test]
fn a_stream_of_a_subscription_takes_the_standard_adaptors_and_ends_with_the_store() {
    let store = Store::in_memory().unwrap();
    let lamps = store
        .subscribe(Query::entity("lamp:1"))
        .unwrap()
        .into_stream();
    let all = store.subscribe_with(Query::all(), 2).unwrap().into_stream();
    let awaited = thread::spawn(move || {
        let events = lamps.filter_map(async |delivery| delivery.ok()?.event());
        let payloads = events.map(|event| event.payload::<usize>().unwrap());
        block_on(payloads.collect::<Vec<_>>())
    });
    for number in 0..4 {
        until_waiting(&store, 1);
        store.append(&lamp(), KIND, &number).unwrap();
    }
    until_waiting(&store, 1);
    append(&store, 2);
    store.close().unwrap();
    assert_eq!(awaited.join().unwrap(), [0, 1, 2, 3, 0, 1]);
    let told: Vec<_> = block_on(all.map(Result::unwrap).collect());
    assert!(matches!(
        told[..],
        [Delivery::Lagged(4), Delivery::Event(_), Delivery::Event(_)]
    ));
}
