//! Delivery: a cursor skips nothing and repeats nothing, its position names its history, and a subscription counts each
//! event that it loses.

use crate::support::dice::Dice;
use crate::support::disk::TestDisk;
use crate::support::held::Held;
use crate::support::script::{self, KIND, read_all};
use crate::support::times::TestClock;
use quipu::io::{Access, Disk};
use quipu::prelude::*;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes: whoever waits so long was forgotten.
const PATIENCE: Duration = Duration::from_secs(60);

fn thing(number: usize) -> Coordinate {
    Coordinate::new(format!("thing:{number}"), format!("room:{}", number % 2)).unwrap()
}

/// Dice whose seed is printed; `QUIPU_DELIVERY_SEED` repeats a run.
fn dice() -> Dice {
    let given = std::env::var("QUIPU_DELIVERY_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(0),
        |text| text.parse().unwrap(),
    );
    println!("repeat with QUIPU_DELIVERY_SEED={seed}");
    Dice::new(seed)
}

/// A query, and the same asked of one event.
type Question = (Query, fn(&Event) -> bool);

fn questions() -> [Question; 5] {
    let in_room = Region::all().scope("room:1").tag("tag:0");
    let either = Query::kind("b.one").or(Region::all().tag("tag:2"));
    [
        (Query::all(), |_| true),
        (Query::entity("thing:3"), |e| e.entity() == "thing:3"),
        (in_room.into(), |e| {
            e.scope() == "room:1" && e.tags().any(|tag| tag == "tag:0")
        }),
        (either, |e| {
            e.kind() == "b.one" || e.tags().any(|tag| tag == "tag:2")
        }),
        (Query::kind_prefix("a."), |e| e.kind().starts_with("a.")),
    ]
}

/// One or a few events, now and then buffered, so large that about a hundred fill a segment.
fn any_batch(dice: &mut Dice) -> Batch {
    let fill = "x".repeat(6_000 + dice.below(8_000));
    let drafts = (0..[1, 1, 1, 4][dice.below(4)]).map(|_| {
        let kind = ["a.one", "a.two", "b.one", "b.two"][dice.below(4)];
        EventDraft::new(&thing(dice.below(6)), EventKind::new(kind).unwrap(), &fill)
            .tag(format!("tag:{}", dice.below(4)))
    });
    let batch = Batch::new().events(drafts.collect::<Vec<_>>());
    match dice.below(3) {
        0 => batch.durability(Durability::Sync),
        _ => batch.durability(Durability::Buffered),
    }
}

fn write(store: &Store, mut dice: Dice, submissions: usize) {
    for _ in 0..submissions {
        let batch = any_batch(&mut dice);
        match dice.one_in(2) {
            true => store.append_batch(batch).map(drop),
            false => store.submit_batch(batch).map(drop),
        }
        .unwrap();
    }
}

/// Reads as chance has it until the store is closed, now and then from a position that went through text.
fn follow(store: &Store, mut cursor: Cursor, query: &Query, mut dice: Dice) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    loop {
        match dice.below(8) {
            0 | 1 => seen.extend(cursor.next().transpose().unwrap()),
            2 | 3 => {
                let most = dice.below(9);
                let batch = cursor.next_batch(most).unwrap();
                assert!(batch.len() <= most);
                seen.extend(batch);
            }
            4 => {
                let text = serde_json::to_string(&cursor.position().unwrap()).unwrap();
                let place: CursorPosition = serde_json::from_str(&text).unwrap();
                assert!(place.position() <= store.stats().durable_position);
                let Ok(again) = store.cursor_from(query.clone(), place) else {
                    continue;
                };
                // Behind buffered events it repeats what is not durable yet, and nothing else.
                cursor = again;
                seen.retain(|event| event.position() <= place.position());
            }
            _ => match cursor.wait(PATIENCE) {
                Ok(more) => assert!(more, "forgotten after {} events", seen.len()),
                Err(error) if error.kind() == StoreErrorKind::Closed => return seen,
                Err(error) => panic!("{error}"),
            },
        }
    }
}

fn receive(mut receiver: Subscription, mut dice: Dice) -> Vec<Delivery> {
    let mut received = Vec::new();
    loop {
        if dice.one_in(40) {
            std::thread::yield_now();
        }
        match receiver.recv() {
            Ok(delivery) => received.push(delivery),
            Err(error) if error.kind() == StoreErrorKind::Closed => return received,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Closes a store also when the test fails, so that its readers end.
struct Closes<'a>(&'a Store);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.clone().close().unwrap();
    }
}

fn hashes<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<EventHash> {
    events.into_iter().map(Event::hash).collect()
}

/// Asserts that what was received and what was counted as lost make up what there was.
fn accounts_for_all(received: &[Delivery], matching: &[EventHash]) -> u64 {
    let (mut at, mut all_lost) = (0, 0);
    for delivery in received {
        match delivery {
            Delivery::Event(event) => {
                assert_eq!(Some(&event.hash()), matching.get(at), "{event:?}");
                at += 1;
            }
            Delivery::Lagged(lost) => {
                at += usize::try_from(*lost).unwrap();
                all_lost += lost;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, matching.len(), "events at the end are neither");
    all_lost
}

#[test]
fn readers_beside_writers_that_rotate_get_each_event_once_to_the_last() {
    let mut dice = dice();
    let disk = TestDisk::new();
    let store = Store::open_with(script::config(disk.clone())).unwrap();
    store.append_batch(any_batch(&mut dice)).unwrap();
    let begun = store.head().position;
    let (cursors, receivers) = std::thread::scope(|scope| {
        let closes = Closes(&store);
        let cursors = questions().map(|(query, _)| {
            let (store, dice) = (&store, Dice::new(dice.next()));
            let cursor = store.cursor(query.clone()).unwrap();
            scope.spawn(move || follow(store, cursor, &query, dice))
        });
        let receivers = questions().map(|(query, _)| {
            let capacity = [1, 3, 20, 100_000][dice.below(4)];
            let receiver = store.subscribe_with(query, capacity).unwrap();
            let dice = Dice::new(dice.next());
            scope.spawn(move || receive(receiver, dice))
        });
        let writers = [(); 3].map(|()| {
            let (store, dice) = (&store, Dice::new(dice.next()));
            scope.spawn(move || write(store, dice, 300))
        });
        writers.into_iter().for_each(|w| w.join().unwrap());
        // What was queued last races with the close; readers get it all the same.
        drop(closes);
        (
            cursors.map(|cursor| cursor.join().unwrap()),
            receivers.map(|receiver| receiver.join().unwrap()),
        )
    });
    let store = Store::open_with(script::config(disk)).unwrap();
    assert!(store.stats().segments >= 4, "{:?}", store.stats());
    let all = read_all(&store).unwrap();
    let results = cursors.iter().zip(&receivers);
    for ((_, matches), (seen, received)) in questions().iter().zip(results) {
        assert_eq!(hashes(seen), hashes(all.iter().filter(|e| matches(e))));
        let later = all.iter().filter(|e| e.position() > begun && matches(e));
        accounts_for_all(received, &hashes(later));
    }
}

/// Everything that can be read now.
fn drain(cursor: &mut Cursor) -> Vec<u64> {
    let events = cursor.by_ref().map(Result::unwrap);
    events.map(|event| event.position().get()).collect()
}

fn append(store: &Store, count: usize) {
    for number in 0..count {
        store.append(&thing(number), KIND, &number).unwrap();
    }
}

#[test]
fn a_position_passes_what_does_not_match_and_never_an_unread_match() {
    let store = Store::open_with(script::config(TestDisk::new())).unwrap();
    let mut cursor = store.cursor(Query::entity("thing:0")).unwrap();
    let place = |cursor: &mut Cursor| cursor.position().unwrap().position().get();
    append(&store, 5);
    assert_eq!(place(&mut cursor), 0);
    // Found by waiting is not handed out.
    assert!(cursor.wait(Duration::ZERO).unwrap());
    assert_eq!(place(&mut cursor), 0);
    assert_eq!(cursor.next_batch(1).unwrap().len(), 1);
    assert_eq!(place(&mut cursor), 1);
    assert!(cursor.next().is_none());
    assert_eq!(place(&mut cursor), 5);
    append(&store, 1);
    assert!(cursor.wait(Duration::ZERO).unwrap());
    assert_eq!(place(&mut cursor), 5, "the sixth matches");
    assert_eq!(drain(&mut cursor), [6]);
}

#[test]
fn a_position_is_never_above_what_is_durable() {
    let disk = TestDisk::new();
    let held = Held::on(disk.clone());
    let store = &held.store;
    append(store, 1);
    let buffered = || AppendOptions::new().durability(Durability::Buffered);
    let append_buffered = || store.append_with_options(&thing(1), KIND, &0, buffered());
    append_buffered().unwrap();
    append_buffered().unwrap();
    let mut cursor = store.cursor(Query::all()).unwrap();
    assert_eq!(drain(&mut cursor), [1, 2, 3]);
    let place = cursor.position().unwrap();
    assert_eq!(place.position(), 1);
    assert_eq!(place.hash(), store.at(1).unwrap().unwrap().hash());
    assert_eq!(
        drain(&mut store.cursor_from(Query::all(), place).unwrap()),
        [2, 3]
    );
    let mut now = store.cursor_from(Query::all(), Start::Now).unwrap();
    assert_eq!(now.position().unwrap(), place);
    store.sync().unwrap();
    assert_eq!(now.position().unwrap().position(), 3);
    // An event whose sync is under way is not delivered; one whose sync failed never is.
    held.syncs.shut();
    held.fail_syncs();
    let ticket = store
        .submit(&thing(1), KIND, &0, AppendOptions::new())
        .unwrap();
    held.syncs.wait_for_someone();
    assert!(!now.wait(Duration::from_millis(5)).unwrap());
    held.syncs.open();
    ticket.wait().unwrap_err();
    assert!(now.next().is_none());
    let place = now.position().unwrap();
    assert_eq!(place.position(), 3);
    drop(held);
    let store = Store::open_with(script::config(disk)).unwrap();
    store.cursor_from(Query::all(), place).unwrap();
}

fn copy(from: &dyn Disk, to: &dyn Disk) {
    to.prepare().unwrap();
    to.create_dir("segments").unwrap();
    for dir in ["", "segments/"] {
        for entry in from.list(dir.trim_end_matches('/')).unwrap() {
            let name = format!("{dir}{}", entry.name);
            if entry.is_file && name != "lock" {
                let mut bytes = vec![0; usize::try_from(entry.bytes).unwrap()];
                let file = from.open(&name, Access::Read).unwrap();
                assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
                let file = to.open(&name, Access::CreateNew).unwrap();
                assert_eq!(file.write_at(&bytes, 0).unwrap(), bytes.len());
            }
        }
    }
}

#[test]
fn a_position_of_another_history_is_a_conflict_and_no_reset() {
    let (disk, older) = (TestDisk::new(), TestDisk::new());
    let open = |disk: &TestDisk| Store::open_with(script::config(disk.clone())).unwrap();
    let store = open(&disk);
    append(&store, 3);
    let mut cursor = store.cursor(Query::all()).unwrap();
    assert_eq!(drain(&mut cursor), [1, 2, 3]);
    let third = cursor.position().unwrap();
    store.close().unwrap();
    copy(&disk, &older);
    let store = open(&disk);
    append(&store, 2);
    let mut cursor = store.cursor_from(Query::all(), third).unwrap();
    assert_eq!(drain(&mut cursor), [4, 5]);
    let fifth = cursor.position().unwrap();
    let refused = |store: &Store, place: CursorPosition, names: &[u64]| {
        let error = store.cursor_from(Query::all(), place).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(&place.position().to_string()));
        assert_eq!(error.in_the_way(), names);
    };
    let restored = open(&older);
    refused(&restored, fifth, &[]);
    append(&restored, 2);
    refused(&restored, fifth, &[5]);
    let mut cursor = restored.cursor_from(Query::all(), third).unwrap();
    assert_eq!(drain(&mut cursor), [4, 5]);
    let other = Store::in_memory().unwrap();
    refused(&other, third, &[]);
    append(&other, 5);
    refused(&other, third, &[3]);
}

#[test]
fn a_cursor_begins_where_it_is_told() {
    let clock = TestClock::at(1_000);
    let config = script::config(TestDisk::new()).clock(Arc::new(clock.clone()));
    let store = Store::open_with(config).unwrap();
    append(&store, 1);
    clock.set(5_000);
    let batch = (0..3).map(|n| EventDraft::new(&thing(n), KIND, &n));
    store.append_batch(Batch::new().events(batch)).unwrap();
    let from = |start: Start| store.cursor_from(Query::all(), start).unwrap();
    let since = |nanos| from(Timestamp::from_nanos(nanos).into());
    assert_eq!(drain(&mut from(Start::Beginning)), [1, 2, 3, 4]);
    assert_eq!(drain(&mut from(Position::new(2).into())), [3, 4]);
    assert!(drain(&mut from(Position::new(4).into())).is_empty());
    let place = from(Position::new(3).into()).position().unwrap();
    assert_eq!(drain(&mut from(place.into())), [4]);
    for (time, positions) in [
        (0, vec![1, 2, 3, 4]),
        (1_000, vec![1, 2, 3, 4]),
        (1_001, vec![2, 3, 4]),
        (5_000, vec![2, 3, 4]),
        (5_001, vec![3, 4]),
        (5_003, vec![]),
    ] {
        assert_eq!(drain(&mut since(time)), positions, "since {time}");
    }
    let error = store
        .cursor_from(Query::all(), Position::new(5))
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    // A time that is still to come, and a clock that goes back meanwhile.
    let (mut now, mut later) = (from(Start::Now), since(9_000));
    clock.set(2_000);
    append(&store, 1);
    assert_eq!((drain(&mut now), drain(&mut later)), (vec![5], vec![]));
    clock.set(9_000);
    append(&store, 1);
    assert_eq!((drain(&mut now), drain(&mut later)), (vec![6], vec![6]));
}

#[test]
fn a_cursor_that_met_damage_has_ended_before_it() {
    let disk = TestDisk::new();
    let open = || Store::open_with(script::config(disk.clone())).unwrap();
    let store = open();
    append(&store, 5);
    let victim = Coordinate::new("victim", "here").unwrap();
    store.append(&victim, KIND, &0).unwrap();
    let fill = "x".repeat(600_000);
    for _ in 0..3 {
        store.append(&thing(0), KIND, &fill).unwrap();
    }
    store.close().unwrap();
    let file = disk.open("segments/0000000001.seg", Access::Write).unwrap();
    let mut bytes = vec![0; 16_384];
    file.read_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(6).position(|name| name == b"victim").unwrap();
    file.write_at(b"V", at as u64).unwrap();
    let store = open();
    assert!(store.stats().segments > 1 && store.stats().unsealed_segments == 0);
    let corrupt = |error: StoreError| assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    let mut cursor = store.cursor(Query::all()).unwrap();
    assert_eq!(
        cursor.next_batch(100).unwrap().len(),
        5,
        "those before it come first"
    );
    corrupt(cursor.next_batch(100).unwrap_err());
    assert!(cursor.next().is_none());
    corrupt(cursor.wait(PATIENCE).unwrap_err());
    assert_eq!(cursor.position().unwrap().position(), 5);
    append(&store, 1);
    assert!(cursor.next().is_none());
    let mut cursor = store.cursor(Query::all()).unwrap();
    assert_eq!(cursor.by_ref().filter(Result::is_ok).count(), 5);
    let mut cursor = store.cursor(Query::all()).unwrap();
    corrupt(cursor.by_ref().find_map(Result::err).unwrap());
    assert_eq!(cursor.position().unwrap().position(), 5);
    // What lies behind can be read from there on.
    assert_eq!(
        drain(&mut store.cursor_from(Query::all(), Position::new(6)).unwrap()).len(),
        4
    );
}

/// Holds a subscription against what it must say: how many wait is known before each call.
fn receives_exactly(dice: &mut Dice, (query, matches): Question, capacity: usize) -> u64 {
    let store = Store::open_with(script::config(TestDisk::new())).unwrap();
    let mut receiver = store.subscribe_with(query.clone(), capacity).unwrap();
    let (mut received, mut passed, mut since_lagged) = (Vec::new(), 0, capacity);
    for round in 0..60 {
        let submissions = if round == 59 { 0 } else { dice.below(12) };
        (0..submissions).for_each(|_| drop(store.append_batch(any_batch(dice)).unwrap()));
        let waiting = |passed: u64| store.count(query.clone()).unwrap() - passed;
        let most = if round == 59 {
            usize::MAX
        } else {
            dice.below(2 * capacity)
        };
        for _ in 0..most {
            let before = waiting(passed);
            let Some(delivery) = receiver.try_recv().unwrap() else {
                assert_eq!(before, 0);
                break;
            };
            match &delivery {
                Delivery::Event(_) => (passed, since_lagged) = (passed + 1, since_lagged + 1),
                Delivery::Lagged(lost) => {
                    assert_eq!(*lost, before - capacity as u64, "all but the newest");
                    assert!(since_lagged >= capacity, "nothing is lost of what was kept");
                    (passed, since_lagged) = (passed + lost, 0);
                }
                other => panic!("{other:?}"),
            }
            received.push(delivery);
        }
    }
    let all = read_all(&store).unwrap();
    let lost = accounts_for_all(&received, &hashes(all.iter().filter(|e| matches(e))));
    assert_eq!(receiver.lost(), lost);
    lost
}

#[test]
fn a_slow_subscriber_is_told_exactly_how_many_it_lost() {
    let mut dice = dice();
    let mut lost = 0;
    for question in questions() {
        let capacity = 1 + dice.below(10);
        lost += receives_exactly(&mut dice, question, capacity);
    }
    assert!(lost > 0);
}

#[test]
fn a_fast_subscriber_loses_nothing_beside_a_slow_one() {
    let store = Store::in_memory().unwrap();
    let mut fast = store.subscribe(Query::all()).unwrap();
    let mut slow = store.subscribe_with(Query::entity("thing:1"), 4).unwrap();
    for _ in 0..100 {
        append(&store, 3);
        for _ in 0..3 {
            assert!(matches!(fast.recv().unwrap(), Delivery::Event(_)));
        }
    }
    assert!(matches!(slow.recv().unwrap(), Delivery::Lagged(96)));
    let rest: Vec<_> = std::iter::from_fn(|| slow.try_recv().unwrap()?.event()).collect();
    let positions = rest.iter().map(|event| event.position().get());
    assert!(positions.eq([290, 293, 296, 299]));
    assert_eq!((fast.lost(), slow.lost()), (0, 96));
}

#[test]
fn a_subscription_has_a_capacity_of_one_event_to_a_million() {
    let store = Store::in_memory().unwrap();
    for capacity in [0, quipu::MAX_SUBSCRIPTION_CAPACITY + 1, usize::MAX] {
        let error = store.subscribe_with(Query::all(), capacity).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Argument, "{error}");
    }
    let mut widest = store
        .subscribe_with(Query::all(), quipu::MAX_SUBSCRIPTION_CAPACITY)
        .unwrap();
    let mut narrowest = store.subscribe_with(Query::all(), 1).unwrap();
    append(&store, 2);
    assert!(matches!(widest.recv().unwrap(), Delivery::Event(_)));
    assert!(matches!(narrowest.recv().unwrap(), Delivery::Lagged(1)));
    assert_eq!(
        narrowest
            .try_recv()
            .unwrap()
            .unwrap()
            .event()
            .unwrap()
            .position(),
        2
    );
    assert!(narrowest.try_recv().unwrap().is_none());
}

#[test]
fn the_writer_waits_for_no_reader() {
    let mut dice = dice();
    let store = Store::open_with(script::config(TestDisk::new())).unwrap();
    append(&store, 2);
    let view = store.view();
    let mut events = view.query(Query::all()).unwrap();
    events.next().unwrap().unwrap();
    let mut cursor = store.cursor(Query::all()).unwrap();
    cursor.next().unwrap().unwrap();
    let mut receiver = store.subscribe_with(Query::all(), 1).unwrap();
    write(&store, Dice::new(dice.next()), 300);
    // Behind all that is still queued.
    append(&store, 1);
    assert!(store.stats().segments >= 3);
    assert_eq!(events.next().unwrap().unwrap().position(), 2);
    assert!(events.next().is_none());
    let head = store.head().position.get();
    assert!(drain(&mut cursor).into_iter().eq(2..=head));
    assert!(matches!(receiver.recv().unwrap(), Delivery::Lagged(lost) if lost == head - 3));
}

/// A wait that timed out left the position where the last match was, so that whoever saved it then read all that
/// came in between once more, however much it was.
#[test]
fn a_position_passes_what_does_not_match_when_a_wait_ends_too() {
    let store = Store::open_with(script::config(TestDisk::new())).unwrap();
    let mut cursor = store.cursor(Query::entity("thing:1")).unwrap();
    let other = store.append(&thing(2), KIND, &()).unwrap();
    assert!(!cursor.wait(Duration::from_millis(1)).unwrap());
    let place = cursor.position().unwrap();
    assert_eq!(
        (place.position(), place.hash()),
        (other.position(), other.hash())
    );
}
