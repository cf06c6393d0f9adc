//! Power that goes at any call of a compaction, in memory: each range is the old one or the new one, whole.

use crate::history::{History, compaction};
use crate::shop::{self, PLACED};
use crate::support::cuts::Findings;
use crate::support::dice::Dice;
use crate::support::dying::{APPENDER, Counter, step};
use crate::support::power::{Image, Keep};
use crate::support::ruled::Ruled;
use quipu::io::Disk;
use quipu::prelude::*;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::Builder;

/// Some twenty of what is appended fill what is left of the newest segment.
const APPENDED_BYTES: usize = 25_000;

/// Positions and hashes of what was acknowledged.
type Acknowledged = Arc<Mutex<Vec<(Position, EventHash)>>>;

/// What is done at each call: the power is cut, and what that left is judged.
struct Cuts {
    seed: u64,
    history: History,
    acknowledged: Acknowledged,
    findings: Findings,
    /// How many ranges were found new.
    states: Mutex<BTreeSet<usize>>,
}

impl Cuts {
    fn judge(&self, image: &Image, acknowledged: &[(Position, EventHash)], what: &str) {
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let disk: Arc<dyn Disk> = Arc::new(image.disk());
            let new = self.history.recover(&disk);
            let store = shop::open(&disk);
            for (position, hash) in acknowledged {
                let event = store.at(*position).unwrap();
                assert_eq!(event.map(|event| event.hash()), Some(*hash), "{position}");
            }
            new.iter().filter(|new| **new).count()
        }));
        match judged {
            Ok(new) => drop(self.states.lock().unwrap().insert(new)),
            // What it says was printed by then.
            Err(_) => self.findings.add(image, what),
        }
    }

    /// The power goes now, in three ways.
    fn cut(&self, number: u64, call: &str, cut: impl Fn(Keep, &mut Dice) -> Image) {
        let mut dice = Dice::new(self.seed ^ number << 20);
        for keep in [Keep::Nothing, Keep::Everything, Keep::Some] {
            // Before the cut: what is acknowledged later need not be in it.
            let acknowledged = self.acknowledged.lock().unwrap().clone();
            let what = format!("{keep:?} before call {number}, {call}");
            self.judge(&cut(keep, &mut dice), &acknowledged, &what);
        }
    }
}

/// Appends as many events as it is asked for, each time, until it is told to end.
fn append_as_asked(store: &Store, asked: Receiver<Option<usize>>, acknowledged: &Acknowledged) {
    let place = Coordinate::new("order:new", "shop").unwrap();
    let payload = "n".repeat(APPENDED_BYTES);
    for events in asked.into_iter().map_while(|asked| asked) {
        for _ in 0..events {
            let receipt = store.append(&place, PLACED, payload.as_str()).unwrap();
            let mut acknowledged = acknowledged.lock().unwrap();
            acknowledged.push((receipt.position(), receipt.hash()));
        }
    }
}

/// Cuts the power at each `step`th call of a compaction; while each is judged, so many events are appended.
fn cut_everywhere(seed: u64, step: usize, appends: usize) {
    let cuts = Arc::new(Cuts {
        seed,
        history: History::new(),
        acknowledged: Acknowledged::default(),
        findings: Findings::default(),
        states: Mutex::default(),
    });
    let (ask, asked) = channel();
    let counter = Arc::new(Counter::default());
    let power = cuts.history.image.power(true);
    let (cut, counts, asks) = (Arc::clone(&cuts), Arc::clone(&counter), ask.clone());
    let ruled = Ruled::new(power.clone(), move |call| {
        if let Some(number) = counts.number(&call)
            && number.is_multiple_of(step as u64)
        {
            // When the store closes nobody appends any more.
            let _ = asks.send(Some(appends));
            let call = format!("{call:?}");
            cut.cut(number, &call, |keep, dice| power.cut(keep, dice));
        }
        Ok(())
    });
    let disk: Arc<dyn Disk> = Arc::new(ruled);
    let store = shop::open(&disk);
    std::thread::scope(|scope| {
        let appender = Builder::new().name(APPENDER.to_owned());
        let (store, acknowledged) = (&store, &cuts.acknowledged);
        let append = move || append_as_asked(store, asked, acknowledged);
        appender.spawn_scoped(scope, append).unwrap();
        counter.begin();
        let done = store.compact(compaction()).unwrap().wait();
        ask.send(None).unwrap();
        done.unwrap();
    });
    store.close().unwrap();
    cuts.findings.none(seed);
    assert!(cuts.states.lock().unwrap().iter().copied().eq(0..=3));
}

#[test]
fn a_power_cut_at_any_call_of_a_compaction_leaves_old_or_new() {
    cut_everywhere(41, step(6), 0);
}

#[test]
fn a_power_cut_while_a_compaction_and_appends_go_on_loses_nothing_acknowledged() {
    cut_everywhere(42, step(9), 2);
}
