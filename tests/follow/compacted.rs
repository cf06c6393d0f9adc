//! Followers of a writer that compacts: what they hold stays, what is kept they see once, what went they are told of.

use crate::followers::{Eye, Follower};
#[cfg(unix)]
use crate::support::child::Role;
use crate::support::child::tell;
use crate::support::dice::Dice;
use crate::writer::{self, ENDED, Place, Writer};
use crate::{PATIENCE, dice, kills, read_only};
use quipu::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// How many views a follower holds at once.
const HELD: usize = 4;
/// How many of the events that it saw it asks for again at once.
const ASKED: usize = 50;
/// A process that may have so few files open has a handful left beside those of its threads and pipes.
#[cfg(unix)]
const FEW_FILES: u32 = 16;

/// The positions and hashes of the events behind `after` up to the view's end, each read whole.
fn places(view: &View, after: u64) -> Vec<Place> {
    let events = view.query(Query::all()).unwrap().map(Result::unwrap);
    let events = events.filter(|event| event.position().get() > after);
    events
        .map(|event| {
            if event.kind() != ENDED.as_str() {
                let (serial, _): (u64, String) = event.payload().unwrap();
                assert_eq!(serial + 1, event.position().get());
            }
            (event.position().get(), event.hash().to_string())
        })
        .collect()
}

/// Reads with a cursor what is behind `start`: all that a view before and after agree on, and nothing that is in neither.
fn reads_on(store: &Store, start: Start, after: u64) -> Vec<Place> {
    let before = store.view();
    let end = before.position();
    let cursor = store.cursor_from(Query::all(), start).unwrap();
    let events = cursor.map(Result::unwrap);
    let read: Vec<Place> = events
        .map(|event| (event.position().get(), event.hash().to_string()))
        .take_while(|place| place.0 <= end.get())
        .collect();
    let was = places(&before, after);
    let is = places(&store.view().at_position(end).unwrap(), after);
    assert!(read.is_sorted_by(|a, b| a.0 < b.0));
    assert!(is_part_of(&read, &was), "more than there was");
    assert!(is_part_of(&is, &read), "less than there is");
    read
}

/// Both in order of positions.
fn is_part_of(part: &[Place], whole: &[Place]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|place| whole.any(|other| other == place))
}

/// Whether the event was removed; one that was not is the same as ever.
fn is_removed(view: &View, place: &Place) -> bool {
    match view.at(place.0) {
        Ok(Some(event)) => {
            assert_eq!(event.hash().to_string(), place.1);
            false
        }
        Ok(None) => panic!("event {} is not there", place.0),
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
            let words = "was removed by retention";
            assert!(error.to_string().contains(words), "{error}");
            true
        }
    }
}

fn tell_head(view: &View) {
    let head = view.head().unwrap();
    tell(format_args!("head {} {}", head.position, head.digest));
}

/// What a follower that looks back has in its hands.
struct Memory<'a> {
    eye: Eye<'a>,
    dice: Dice,
    seen: Vec<Place>,
    held: Vec<(View, Vec<Place>)>,
    saved: Vec<CursorPosition>,
}

impl Memory<'_> {
    /// Does one of the things that a compaction could spoil.
    fn look_back(&mut self) {
        match self.dice.below(4) {
            0 => {
                self.hold();
                tell_head(&self.eye.store.view());
            }
            1 => {
                self.check_held();
                self.held.truncate(self.dice.below(HELD));
            }
            2 => self.ask_again(),
            _ => self.resume(),
        }
    }

    fn hold(&mut self) {
        if self.held.len() < HELD {
            let view = self.eye.store.view();
            let had = places(&view, 0);
            self.held.push((view, had));
        }
    }

    /// A view shows what it showed.
    fn check_held(&self) {
        for (view, had) in &self.held {
            assert!(places(view, 0) == *had, "a view of {}", view.position());
        }
    }

    fn ask_again(&mut self) {
        let seen = self.seen.len();
        let some: Vec<usize> = (0..ASKED.min(seen))
            .map(|_| self.dice.below(seen))
            .collect();
        self.ask_for(some.into_iter().map(|nth| &self.seen[nth]));
    }

    fn ask_for<'a>(&self, places: impl Iterator<Item = &'a Place>) {
        let view = self.eye.store.view();
        let removed = places.filter(|place| is_removed(&view, place)).count();
        tell(format_args!("removed {removed}"));
    }

    fn resume(&mut self) {
        let Some(saved) = self.saved.get(self.dice.below(self.saved.len().max(1))) else {
            return;
        };
        let after = saved.position().get();
        reads_on(&self.eye.store, Start::Saved(*saved), after);
    }
}

/// The role of one that follows, and holds, saves, resumes and asks again.
pub(crate) fn look_back(place: &Path) {
    let eye = Eye::open(place);
    let mut cursor = eye.store.cursor(Query::all()).unwrap();
    let mut memory = Memory {
        eye,
        // What it meets is random enough.
        dice: Dice::new(1),
        seen: Vec::new(),
        held: Vec::new(),
        saved: Vec::new(),
    };
    memory.hold();
    tell("ready");
    loop {
        assert!(cursor.wait(PATIENCE).unwrap(), "nothing comes any more");
        for event in cursor.next_batch(1 + memory.dice.below(20)).unwrap() {
            let place = (event.position().get(), event.hash().to_string());
            memory.seen.push(place);
            if event.kind() == ENDED.as_str() {
                memory.check_held();
                memory.ask_for(memory.seen.iter());
                assert!(memory.eye.sees(&event));
                return;
            }
            memory.eye.sees(&event);
        }
        memory.saved.push(cursor.position().unwrap());
        memory.look_back();
    }
}

/// The role of one that holds a view of every moment, and reads none of them before the end.
pub(crate) fn hold(place: &Path) {
    let eye = Eye::open(place);
    let mut cursor = eye.store.cursor(Query::all()).unwrap();
    let mut held = vec![eye.store.view()];
    tell("ready");
    let mut is_over = false;
    while !is_over {
        assert!(cursor.wait(PATIENCE).unwrap(), "nothing comes any more");
        let batch = cursor.next_batch(5).unwrap();
        is_over = batch.iter().any(|event| event.kind() == ENDED.as_str());
        held.push(eye.store.view());
    }
    // A newer one shows no event below its end that an older one does not.
    let (mut newer, mut seen) = (Vec::new(), BTreeMap::new());
    for view in held.iter().rev() {
        let had = places(view, 0);
        newer.retain(|place: &Place| place.0 <= view.position().get());
        assert!(is_part_of(&newer, &had), "a view of {}", view.position());
        seen.extend(had.iter().cloned());
        newer = had;
    }
    tell_all(&eye.store, &seen);
}

/// Tells of all that was seen, how much of it is removed by now, and that this is all.
fn tell_all(store: &Store, seen: &BTreeMap<u64, String>) {
    let view = store.view();
    let places = || {
        seen.iter()
            .map(|(position, hash)| (*position, hash.clone()))
    };
    let removed = places().filter(|place| is_removed(&view, place)).count();
    tell(format_args!("removed {removed}"));
    places().for_each(|(position, hash)| tell(format_args!("saw {position} {hash}")));
    tell(format_args!("ended {}", view.head().unwrap().digest));
}

/// The role of one that opens the store again and again, and reads all of it.
pub(crate) fn open_anew(place: &Path) {
    let mut known = BTreeMap::new();
    let mut is_first = true;
    loop {
        let store = read_only(place).unwrap();
        if std::mem::take(&mut is_first) {
            tell("ready");
        }
        tell_head(&store.view());
        for (position, hash) in reads_on(&store, Start::Beginning, 0) {
            let same = known.entry(position).or_insert_with(|| hash.clone());
            assert_eq!(*same, hash, "event {position}");
        }
        let view = store.view();
        let last = view.at(view.position()).unwrap();
        let is_read = known.contains_key(&view.position().get());
        if last.is_some_and(|event| is_read && event.kind() == ENDED.as_str()) {
            return tell_all(&store, &known);
        }
    }
}

/// The store when all is over.
struct Left {
    store: Store,
    kept: Vec<Place>,
}

impl Left {
    fn read(place: &Path) -> Self {
        let store = writer::open_store(place);
        assert!(store.verify().unwrap().is_sound());
        let kept = places(&store.view(), 0);
        let all = store.head().position.get();
        println!("{} of {all} events are kept", kept.len());
        assert!((kept.len() as u64) < all, "nothing was removed");
        Self { store, kept }
    }

    /// The event is there, or was, with this hash and no other.
    fn has(&self, place: &Place) {
        if !is_removed(&self.store.view(), place) {
            return;
        }
        let saved = serde_json::json!({ "position": place.0, "hash": place.1 });
        let saved: CursorPosition = serde_json::from_value(saved).unwrap();
        self.store.cursor_from(Query::all(), saved).unwrap();
    }

    /// A follower saw all that is kept, once and in order, and nothing that never was.
    fn was_seen_by(&self, follower: Follower) {
        let seen = follower.seen();
        assert!(seen.events.is_sorted_by(|a, b| a.0 < b.0));
        seen.events.iter().for_each(|place| self.has(place));
        let events: BTreeMap<_, _> = seen.events.into_iter().collect();
        for (position, hash) in &self.kept {
            assert_eq!(events.get(position), Some(hash), "event {position}");
        }
        for (position, digest) in &seen.heads {
            let head = self.store.view_at(*position).unwrap().head().unwrap();
            assert_eq!(head.digest.to_string(), *digest, "at {position}");
        }
        assert_eq!(seen.digest, self.store.head().digest.to_string());
        println!(
            "{} events, {} removed, {} heads",
            events.len(),
            seen.told_removed,
            seen.heads.len()
        );
        assert!(seen.told_removed > 0, "it was told of what was removed");
    }

    fn holds(&self, acked: &[Place]) {
        acked.iter().for_each(|place| self.has(place));
    }
}

fn begun(place: &Path, dice: &mut Dice) -> Writer {
    let mut writer = Writer::start(place);
    writer.append(dice, 60);
    writer
}

#[test]
fn followers_go_on_across_compactions() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = begun(dir.path(), &mut dice);
    let followers =
        ["look-back", "hold", "open-anew"].map(|role| Follower::start(role, dir.path()));
    for _ in 0..4 {
        writer.compact(&mut dice, 2);
        writer.append(&mut dice, 10);
    }
    let acked = writer.end();
    let left = Left::read(dir.path());
    left.holds(&acked);
    for follower in followers {
        left.was_seen_by(follower);
    }
}

#[test]
fn followers_go_on_while_their_writer_is_killed_in_compactions() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = begun(dir.path(), &mut dice);
    let followers =
        ["look-back", "hold", "open-anew"].map(|role| Follower::start(role, dir.path()));
    let mut acked = Vec::new();
    for _ in 0..kills() / 3 {
        writer.begin_compacting(&mut dice, 100_000);
        acked.extend(writer.killed_after(dice.below(40)));
        writer = Writer::start(dir.path());
    }
    writer.compact(&mut dice, 1);
    acked.extend(writer.end());
    let left = Left::read(dir.path());
    left.holds(&acked);
    for follower in followers {
        left.was_seen_by(follower);
    }
}

#[cfg(unix)]
fn signal(name: &str, process: u32) {
    let mut kill = std::process::Command::new("kill");
    let sent = kill.arg(name).arg(process.to_string()).status().unwrap();
    assert!(sent.success());
}

/// What they have in their hands when they are stopped is gone when they go on.
#[cfg(unix)]
#[test]
fn followers_that_slept_through_compactions_go_on() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = begun(dir.path(), &mut dice);
    let followers = ["look-back", "hold"].map(|role| Follower::start(role, dir.path()));
    for _ in 0..4 {
        let (awake, asleep) = (1 + dice.below(10), dice.below(40));
        writer.append(&mut dice, awake);
        followers.iter().for_each(|f| signal("-STOP", f.id()));
        writer.append(&mut dice, asleep);
        writer.compact(&mut dice, 3);
        if dice.one_in(2) {
            writer.reopen();
        }
        followers.iter().for_each(|f| signal("-CONT", f.id()));
    }
    let acked = writer.end();
    let left = Left::read(dir.path());
    left.holds(&acked);
    for follower in followers {
        left.was_seen_by(follower);
    }
}

/// They keep maps of sealed files and no descriptors.
#[cfg(unix)]
#[test]
fn followers_with_few_descriptors_go_on_across_compactions() {
    let (dir, mut dice) = (tempfile::tempdir().unwrap(), dice());
    let mut writer = begun(dir.path(), &mut dice);
    writer.append(&mut dice, 60);
    let start = |role| Role::start_with_files("plays_a_role", role, dir.path(), FEW_FILES);
    let followers = ["look-back", "hold", "open-anew"].map(|role| Follower::ready(start(role)));
    writer.compact(&mut dice, 2);
    let acked = writer.end();
    let left = Left::read(dir.path());
    left.holds(&acked);
    for follower in followers {
        left.was_seen_by(follower);
    }
}
