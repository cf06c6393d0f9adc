//! A first walk through the store.
use quipu::prelude::*;

#[test]
fn walk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.quipu");
    let store = Store::open(&path).unwrap();
    let order = Coordinate::new("order:1", "shop").unwrap();
    let kind = EventKind::literal("order.placed");
    for i in 0..10u32 {
        let r = store.append(&order, kind.clone(), &i).unwrap();
        assert_eq!(r.revision().get(), u64::from(i) + 1);
        assert!(r.durable());
    }
    let mut b = Batch::new();
    for i in 0..5000u32 {
        let c = Coordinate::new(format!("e:{}", i % 100), "sc").unwrap();
        b = b.event(EventDraft::new(&c, kind.clone(), &vec![i; 60]).tag(format!("t:{}", i % 10)));
    }
    for _ in 0..4 {
        store.append_batch(b.clone()).unwrap();
    }
    let n = store
        .query(Query::tag("t:3"))
        .unwrap()
        .inspect(|e| assert!(e.is_ok()))
        .count();
    assert_eq!(n, 2000);
    let head = store.head();
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.head(), head);
    assert_eq!(
        store
            .query(Query::tag("t:3"))
            .unwrap()
            .inspect(|e| assert!(e.is_ok()))
            .count(),
        2000
    );
    assert_eq!(
        store
            .query_with(Query::tag("t:3"), ReadOptions::new().backward())
            .unwrap()
            .inspect(|e| assert!(e.is_ok()))
            .count(),
        2000
    );
    assert_eq!(
        store
            .stream("e:7")
            .unwrap()
            .map(|e| e.unwrap().revision().get())
            .collect::<Vec<_>>(),
        (1..=200).collect::<Vec<_>>()
    );
    assert_eq!(store.stream("order:1").unwrap().count(), 10);
    println!("{:?}", store.stats());
    store.append(&order, kind.clone(), &1).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.head().position.get(), 20011);
}
