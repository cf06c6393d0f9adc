//! The writing process: does what it is asked to line by line, and tells of every receipt.
//!
//! Before it starts a sync it notes in a file how far that may reach: followers hold what they see against it.

use crate::support::child::{Role, tell};
use crate::support::dice::Dice;
use crate::support::script::{self, How, Unit};
use quipu::io::RealDisk;
use quipu::prelude::*;
use quipu::{CompactionConfig, EventRef, RetentionMoment, RetentionPredicate};
use std::path::{Path, PathBuf};

/// The kind of the last event of a history.
pub(crate) const ENDED: EventKind = EventKind::literal("thing.ended");
/// From here on the next append may begin another segment, which syncs this one.
const NEARLY_FULL_BYTES: usize = 950_000;

/// How far the writer has gone, in two small files beside the store: what it has sent, and what it may have synced.
struct Notes(PathBuf);

impl Notes {
    fn write(&self, name: &str, number: u64) {
        // Renamed into place: a reader sees one number or the other.
        let new = self.0.join(format!("{name}.new"));
        std::fs::write(&new, number.to_string()).unwrap();
        std::fs::rename(&new, self.0.join(name)).unwrap();
    }

    fn read(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.0.join(name));
        text.map_or(0, |text| text.parse().unwrap())
    }
}

/// The last position that the writer may have begun to sync, ever.
pub(crate) fn limit(place: &Path) -> u64 {
    Notes(place.to_owned()).read("limit")
}

struct Session {
    store: Store,
    notes: Notes,
    /// How much the segment may hold.
    filled: usize,
    /// How much of that was not answered yet.
    unanswered: usize,
    segments: u64,
    tickets: Vec<Ticket<Vec<Receipt>>>,
    sync_under_way: bool,
}

/// Small segments, and no sync by time.
pub(crate) fn open_store(place: &Path) -> Store {
    Store::open_with(script::config(RealDisk::new(place.join("store")))).unwrap()
}

fn open(place: &Path) -> Session {
    let notes = Notes(place.to_owned());
    // Opening syncs what it keeps.
    notes.write("limit", notes.read("sent"));
    let store = open_store(place);
    // What it did not keep was never durable, and is sent again.
    let head = store.head().position.get();
    notes.write("sent", head);
    notes.write("limit", head);
    Session {
        segments: store.stats().segments,
        store,
        notes,
        filled: if head == 0 { 0 } else { NEARLY_FULL_BYTES },
        unanswered: 0,
        tickets: Vec::new(),
        sync_under_way: false,
    }
}

impl Session {
    fn send(&mut self, unit: &Unit) {
        let before = self.notes.read("sent");
        let sent = before + unit.events as u64;
        self.notes.write("sent", sent);
        let bytes = unit.events * (unit.bytes + 500);
        if self.filled + bytes > NEARLY_FULL_BYTES || unit.durability == Durability::Sync {
            self.sync_under_way = true;
        }
        if self.sync_under_way {
            self.notes.write("limit", sent);
        }
        let batch = script::batch_of(unit, usize::try_from(before).unwrap());
        self.tickets.push(self.store.submit_batch(batch).unwrap());
        self.filled += bytes;
        self.unanswered += bytes;
        if unit.how == How::Append {
            self.answer();
        }
    }

    fn answer(&mut self) {
        for ticket in self.tickets.drain(..) {
            for receipt in ticket.wait().unwrap() {
                tell(format_args!(
                    "acked {} {}",
                    receipt.position(),
                    receipt.hash()
                ));
            }
        }
        self.sync_under_way = false;
        let segments = self.store.stats().segments;
        if segments > self.segments {
            (self.segments, self.filled) = (segments, self.unanswered);
        }
        self.unanswered = 0;
    }

    /// Compacts by another rule each time, and appends meanwhile.
    fn compact(&mut self, dice: &mut Dice) {
        let modulus = 2 + dice.next() % 7;
        let config = CompactionConfig::new().remove(EachNth(modulus));
        let job = self.store.compact(match dice.one_in(2) {
            true => config,
            false => config.merge_below(0),
        });
        let job = job.unwrap();
        // Few, so that the log does not grow faster than it is gone through.
        for unit in script::units(dice, 4) {
            self.send(&unit);
        }
        self.answer();
        job.wait().unwrap();
        // Fewer by now; one that was begun meanwhile is full sooner than is thought.
        self.segments = self.store.stats().segments;
    }

    fn sync(&mut self) {
        self.notes.write("limit", self.notes.read("sent"));
        self.store.sync().unwrap();
    }

    fn end(mut self) {
        self.answer();
        self.sync();
        let place = Coordinate::new("the:end", "here").unwrap();
        let last = self.store.head().position.get() + 1;
        self.notes.write("limit", last);
        let options = AppendOptions::new().tag("t:1");
        let receipt = self
            .store
            .append_with_options(&place, ENDED, &last, options)
            .unwrap();
        tell(format_args!(
            "acked {} {}",
            receipt.position(),
            receipt.hash()
        ));
        self.store.close().unwrap();
    }
}

/// A rule by which an event goes, however large it is, but for the last one.
#[derive(Debug)]
struct EachNth(u64);

impl RetentionPredicate for EachNth {
    fn may_go(&self, event: &EventRef<'_>, _: &RetentionMoment<'_>) -> quipu::Result<bool> {
        let is_nth = event.position().get().is_multiple_of(self.0);
        Ok(is_nth && event.kind() != ENDED.as_str())
    }
}

/// The role.
pub(crate) fn play(place: &Path) {
    tell("opening");
    let mut session = open(place);
    tell(format_args!("done {}", session.store.head().position));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["append", seed, units] => {
                let mut dice = Dice::new(seed.parse().unwrap());
                let count: usize = units.parse().unwrap();
                (0..count).for_each(|_| session.send(&script::units(&mut dice, 1)[0]));
                session.answer();
            }
            ["buffer", count] => {
                session.filled = 0;
                session.send(&Unit {
                    events: count.parse().unwrap(),
                    bytes: 10,
                    how: How::Append,
                    durability: Durability::Buffered,
                });
            }
            ["compact", seed, times] => {
                let mut dice = Dice::new(seed.parse().unwrap());
                let count: usize = times.parse().unwrap();
                (0..count).for_each(|_| session.compact(&mut dice));
            }
            ["sync"] => session.sync(),
            ["reopen"] => {
                session.sync();
                session.store.close().unwrap();
                session = open(place);
            }
            ["end"] => return session.end(),
            _ => panic!("{line}?"),
        }
        tell(format_args!("done {}", session.store.head().position));
    }
}

/// A position and the event hash there, as text.
pub(crate) type Place = (u64, String);

pub(crate) fn place_of(words: &[&str]) -> Place {
    (words[0].parse().unwrap(), words[1].to_owned())
}

/// The parent's side of the writing process.
pub(crate) struct Writer {
    role: Role,
    acked: Vec<Place>,
}

impl Writer {
    /// Starts it; the store is open then.
    pub(crate) fn start(place: &Path) -> Writer {
        let mut writer = Self::opening(place);
        writer.done();
        writer
    }

    /// Starts it; it is about to open the store.
    pub(crate) fn opening(place: &Path) -> Writer {
        let mut role = Role::start("plays_a_role", "write", place);
        assert_eq!(role.hear().as_deref(), Some("opening"));
        Writer {
            role,
            acked: Vec::new(),
        }
    }

    /// SIGKILL, however far it has come.
    pub(crate) fn kill(mut self) {
        self.role.kill();
    }

    /// Hears receipts until there is something else to hear; `None` once it is gone.
    fn hear(&mut self) -> Option<String> {
        loop {
            let told = self.role.hear()?;
            match told.split(' ').collect::<Vec<_>>()[..] {
                ["acked", position, hash] => self.acked.push(place_of(&[position, hash])),
                _ => return Some(told),
            }
        }
    }

    /// The last position, once it has done what it was asked to.
    fn done(&mut self) -> u64 {
        let told = self.hear().expect("the writer works");
        let position = told
            .strip_prefix("done ")
            .unwrap_or_else(|| panic!("the writer: {told}"));
        position.parse().unwrap()
    }

    /// Lets it append small and large batches, durable and buffered ones, and goes on meanwhile.
    pub(crate) fn begin(&mut self, dice: &mut Dice, units: usize) {
        self.role
            .ask(format_args!("append {} {units}", dice.next()));
    }

    pub(crate) fn append(&mut self, dice: &mut Dice, units: usize) {
        self.begin(dice, units);
        self.done();
    }

    /// Lets it compact, and append meanwhile, and goes on meanwhile.
    pub(crate) fn begin_compacting(&mut self, dice: &mut Dice, times: usize) {
        self.role
            .ask(format_args!("compact {} {times}", dice.next()));
    }

    pub(crate) fn compact(&mut self, dice: &mut Dice, times: usize) {
        self.begin_compacting(dice, times);
        self.done();
    }

    /// Appends events that wait for a sync.
    pub(crate) fn buffer(&mut self, events: usize) -> u64 {
        self.role.ask(format_args!("buffer {events}"));
        self.done()
    }

    pub(crate) fn sync(&mut self) -> u64 {
        self.role.ask("sync");
        self.done()
    }

    pub(crate) fn reopen(&mut self) {
        self.role.ask("reopen");
        self.done();
    }

    /// SIGKILL, once it has acknowledged so many events more; returns all that it has acknowledged.
    pub(crate) fn killed_after(mut self, acks: usize) -> Vec<Place> {
        let until = self.acked.len() + acks;
        while self.acked.len() < until {
            let told = self
                .role
                .hear()
                .expect("the writer works until it is killed");
            let words: Vec<&str> = told.split(' ').collect();
            assert_eq!(words[0], "acked", "the writer: {told}");
            self.acked.push(place_of(&words[1..]));
        }
        self.role.kill();
        let last = self.hear();
        assert_eq!(last, None, "the writer");
        self.acked
    }

    /// Appends the last event and closes; returns all that it has acknowledged.
    pub(crate) fn end(mut self) -> Vec<Place> {
        self.role.ask("end");
        let last = self.hear();
        assert_eq!(last, None, "the writer");
        self.acked
    }
}
