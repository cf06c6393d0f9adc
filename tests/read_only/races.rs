//! Whatever a writer does between any two calls of a reader, the reader shows a durable prefix and no error.

use crate::support::disk::TestDisk;
use crate::support::ruled::{Op, Ruled};
use crate::support::script::{self, KIND};
use crate::{Writer, is_alike};
use quipu::prelude::*;
use std::sync::{Arc, Mutex};

/// What the writer does at one moment.
#[derive(Clone, Copy, Debug)]
enum Act {
    Append,
    Rotate,
    Close,
    CloseAndReopen,
    KillAndReopen,
}

const ACTS: [Act; 5] = [
    Act::Append,
    Act::Rotate,
    Act::Close,
    Act::CloseAndReopen,
    Act::KillAndReopen,
];

struct World {
    disk: TestDisk,
    writer: Option<Writer>,
    last: View,
}

impl World {
    /// A log that is `segments` long, with a tail that is not durable.
    fn new(disk: TestDisk, segments: u64) -> Self {
        let writer = Writer::open(&disk);
        let last = writer.store.view();
        let mut world = Self {
            disk,
            writer: Some(writer),
            last,
        };
        while world.segments() < segments {
            world.append(300_000, Durability::Sync);
        }
        world.append(300, Durability::Sync);
        world.append(300, Durability::Buffered);
        world
    }

    fn store(&self) -> &Store {
        &self.writer.as_ref().unwrap().store
    }

    fn segments(&self) -> u64 {
        self.store().stats().segments
    }

    fn append(&mut self, bytes: usize, durability: Durability) {
        let store = self.store();
        let count = store.head().position.get();
        let place = Coordinate::new(format!("e:{}", count % 5), "here").unwrap();
        let how = AppendOptions::new().durability(durability);
        store
            .append_with_options(&place, KIND, &"x".repeat(bytes), how)
            .unwrap();
        self.last = store.view();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Append => {
                self.append(3_000, Durability::Sync);
                self.append(3_000, Durability::Buffered);
            }
            Act::Rotate => {
                let segments = self.segments();
                while self.segments() < segments + 2 {
                    self.append(300_000, Durability::Sync);
                }
            }
            Act::Close => self.writer.take().unwrap().store.close().unwrap(),
            Act::CloseAndReopen => {
                self.writer.take().unwrap().store.close().unwrap();
                self.writer = Some(Writer::open(&self.disk));
                self.append(300, Durability::Sync);
            }
            Act::KillAndReopen => {
                self.writer.take().unwrap().kill();
                self.writer = Some(Writer::open(&self.disk));
                self.append(300, Durability::Sync);
            }
        }
    }
}

/// A disk for readers on which the writer acts once, before a call of which the number from now on is set.
struct Disturbed {
    config: StoreConfig,
    calls_left: Arc<Mutex<Option<usize>>>,
}

impl Disturbed {
    fn new(world: &Arc<Mutex<World>>, act: Act) -> Self {
        let calls_left = Arc::new(Mutex::new(None::<usize>));
        let (left, watched) = (Arc::clone(&calls_left), Arc::clone(world));
        let inner = world.lock().unwrap().disk.clone();
        let disk = Ruled::new(inner, move |call| {
            assert!(
                matches!(call.op, Op::Open | Op::List | Op::Map | Op::Read),
                "{call:?}"
            );
            let mut left = left.lock().unwrap();
            if let Some(calls) = &mut *left {
                match calls.checked_sub(1) {
                    Some(less) => *calls = less,
                    None => {
                        *left = None;
                        watched.lock().unwrap().act(act);
                    }
                }
            }
            Ok(())
        });
        Self {
            config: script::config(disk),
            calls_left,
        }
    }

    fn arm(&self, at: usize) {
        *self.calls_left.lock().unwrap() = Some(at);
    }

    /// Whether the writer acted; from now on it does not.
    fn happened(&self) -> bool {
        self.calls_left.lock().unwrap().take().is_none()
    }
}

fn is_a_prefix(reader: &Store, world: &World, what: &str) {
    let view = reader.view();
    let then = world.last.at_position(view.position()).unwrap();
    is_alike(&view, &then, what);
}

/// Lets the writer act before each call in turn that `read` makes, until it makes no more.
fn at_every_call(act: Act, read: impl Fn(usize, &str) -> bool) {
    let mut calls = 0;
    while read(calls, &format!("{act:?} before call {calls}")) {
        calls += 1;
    }
    println!("{act:?}: {calls} calls");
    assert!(calls > 10);
}

#[test]
fn an_opening_is_a_prefix_whatever_happens_meanwhile() {
    for act in ACTS {
        at_every_call(act, |at, what| {
            let world = Arc::new(Mutex::new(World::new(TestDisk::new(), 2)));
            let durable = world.lock().unwrap().last.position().get() - 1;
            let disturbed = Disturbed::new(&world, act);
            disturbed.arm(at);
            let reader = Store::open_read_only_with(disturbed.config.clone());
            let happened = disturbed.happened();
            let reader = reader.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(reader.head().position.get() >= durable, "{what}");
            is_a_prefix(&reader, &world.lock().unwrap(), what);
            happened
        });
    }
}

#[test]
fn a_refresh_is_a_prefix_whatever_happens_meanwhile() {
    for act in ACTS {
        at_every_call(act, |at, what| {
            let world = Arc::new(Mutex::new(World::new(TestDisk::in_files(), 1)));
            let disturbed = Disturbed::new(&world, act);
            let reader = Store::open_read_only_with(disturbed.config.clone()).unwrap();
            world.lock().unwrap().act(Act::Rotate);
            let durable = world.lock().unwrap().last.position().get();
            disturbed.arm(at);
            let view = reader.query(Query::all()).map(Iterator::count);
            let happened = disturbed.happened();
            let count = view.unwrap_or_else(|e| panic!("{what}: {e}")) as u64;
            assert!(count >= durable, "{what}: {count} of {durable}");
            is_a_prefix(&reader, &world.lock().unwrap(), what);
            happened
        });
    }
}
