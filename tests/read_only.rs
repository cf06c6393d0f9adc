//! Reading beside a writer: what is shown is durable, is a prefix, grows, and the directory is left as it is.

mod support;

#[path = "read_only/beside.rs"]
mod beside;
#[path = "read_only/compactions.rs"]
mod compactions;
#[path = "read_only/damage.rs"]
mod damage;
#[path = "read_only/races.rs"]
mod races;
#[path = "read_only/without.rs"]
mod without;

use quipu::io::Disk;
use quipu::prelude::*;
use std::io;
use std::sync::{Arc, Mutex};
use support::disk::TestDisk;
use support::ruled::{Op, Ruled};
use support::script;

/// What a reader did to its disk.
#[derive(Debug, Default)]
struct Deeds {
    /// Calls that only a writer may make.
    writes: Vec<String>,
    /// Calls that do not.
    calls: usize,
    /// What was opened, or asked for.
    opened: std::collections::BTreeSet<String>,
    /// The furthest byte that was read of each segment.
    ends: std::collections::BTreeMap<String, u64>,
}

/// A store opened for reading, on a disk that refuses and notes whatever would change it.
struct Reader {
    store: Store,
    deeds: Arc<Mutex<Deeds>>,
}

impl Reader {
    fn open(disk: impl Disk + 'static) -> quipu::Result<Self> {
        let deeds = Arc::new(Mutex::new(Deeds::default()));
        let noted = Arc::clone(&deeds);
        let disk = Ruled::new(disk, move |call| {
            let mut deeds = noted.lock().unwrap();
            match call.op {
                Op::Open | Op::List | Op::Map => {
                    deeds.calls += 1;
                    deeds.opened.insert(call.name.to_owned());
                }
                Op::Read => {
                    deeds.calls += 1;
                    let end = deeds.ends.entry(call.name.to_owned()).or_default();
                    *end = call.end.max(*end);
                }
                _ => {
                    deeds.writes.push(format!("{call:?}"));
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
            }
            Ok(())
        });
        let store = Store::open_read_only_with(script::config(disk));
        let writes = std::mem::take(&mut deeds.lock().unwrap().writes);
        assert!(writes.is_empty(), "{writes:?}");
        Ok(Self {
            store: store?,
            deeds,
        })
    }

    /// The present picture.
    fn view(&self) -> View {
        let view = self.store.view();
        assert_eq!(self.store.head().digest, view.head().unwrap().digest);
        view
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let writes = std::mem::take(&mut self.deeds.lock().unwrap().writes);
        assert!(writes.is_empty() || std::thread::panicking(), "{writes:?}");
    }
}

/// A store open for writing that can be killed: from then on nothing that it does reaches the disk.
struct Writer {
    store: Store,
    dead: Arc<std::sync::atomic::AtomicBool>,
}

impl Writer {
    fn open(disk: &TestDisk) -> Self {
        let dead = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let killed = Arc::clone(&dead);
        let disk = Ruled::new(disk.clone(), move |call| {
            let harmless = matches!(call.op, Op::Open | Op::List | Op::Map | Op::Read);
            match killed.load(std::sync::atomic::Ordering::SeqCst) && !harmless {
                true => Err(io::Error::other("killed")),
                false => Ok(()),
            }
        });
        let store = Store::open_with(script::config(disk)).unwrap();
        Self { store, dead }
    }

    fn kill(self) {
        self.dead.store(true, std::sync::atomic::Ordering::SeqCst);
        drop(self.store);
    }
}

/// The hashes of what a query finds.
fn found(view: &View, query: impl Into<Query>) -> Vec<EventHash> {
    let events = view.query(query).unwrap();
    events.map(|event| event.unwrap().hash()).collect()
}

/// Two pictures answer everything alike.
fn is_alike(reader: &View, writer: &View, what: &str) {
    assert_eq!(reader.head().unwrap(), writer.head().unwrap(), "{what}");
    let entity = |n: usize| Region::entity(format!("e:{n}"));
    let mut queries = vec![
        Query::all(),
        Query::from(Region::all().kind_prefix("thing")),
        Query::from(Region::entity_prefix("e:")),
        Query::from(Region::all().scope("here")),
    ];
    queries.extend((0..6).map(|n| Query::from(entity(n))));
    queries.extend((0..4).map(|n| Query::from(Region::all().tag(format!("t:{n}")))));
    for query in queries {
        let hashes = found(reader, query.clone());
        assert_eq!(hashes, found(writer, query.clone()), "{what}: {query:?}");
    }
    for n in 0..6 {
        let entity = format!("e:{n}");
        let revision = reader.revision(&entity).unwrap();
        assert_eq!(revision, writer.revision(&entity).unwrap(), "{what}");
    }
    let middle = reader.position().get() / 2;
    let early = reader.at_position(Position::from(middle)).unwrap();
    let other = writer.at_position(Position::from(middle)).unwrap();
    assert_eq!(early.head().unwrap(), other.head().unwrap(), "{what}");
    for event in reader.query(Query::all()).unwrap().step_by(17) {
        let event = event.unwrap();
        let same = writer.get(event.id()).unwrap().unwrap();
        assert_eq!(same.hash(), event.hash(), "{what}");
        assert_eq!(
            reader.get(event.id()).unwrap().unwrap().position(),
            event.position()
        );
    }
}
