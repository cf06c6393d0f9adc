//! Cuts the power before each call that a history makes to its disk, with many choices of what was kept, and recovers.

use super::dice::Dice;
use super::number;
use super::power::{Image, Keep, PowerDisk};
use super::ruled::Ruled;
use super::script::{self, Ledger, Sent};
use quipu::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// `QUIPU_POWER_SEEDS` histories, 2 unless told, beginning with the seed `QUIPU_SEED`.
pub(crate) fn seeds() -> std::ops::Range<u64> {
    let first = number("QUIPU_SEED", 1);
    first..first + number("QUIPU_POWER_SEEDS", 2)
}

/// What the cuts found wrong; a panic in a thread of the store would only poison it.
#[derive(Clone, Default)]
pub(crate) struct Findings(Arc<Mutex<Vec<String>>>);

impl Findings {
    pub(crate) fn add(&self, image: &Image, what: &str) {
        let mut found = self.0.lock().unwrap();
        if found.len() < 5 {
            let place = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
                "cut-{}-{}",
                std::process::id(),
                found.len()
            ));
            image.write_to(&place);
            found.push(format!("{what}; the image is in {}", place.display()));
        }
    }

    pub(crate) fn none(&self, seed: u64) {
        let found = self.0.lock().unwrap();
        assert!(found.is_empty(), "seed {seed}:\n  {}\n", found.join("\n  "));
    }
}

/// One cut: opens what it left and compares.
struct Cut<'a> {
    image: &'a Image,
    sent: Sent,
    durable: usize,
}

impl Cut<'_> {
    /// How many events the store holds after recovery, or what is wrong.
    fn recovered(&self) -> Result<usize, String> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let store = Store::open_with(script::config(self.image.disk()))
                .map_err(|e| format!("refused: {e}"))?;
            script::check(&store, &self.sent, self.durable)
        }));
        opened.unwrap_or_else(|_| Err("a panic".to_owned()))
    }

    /// Cuts the power after each call of the recovery itself: the next one must come to the same end.
    fn recovered_again(&self, count: usize, dice: &mut Dice) -> Result<(), String> {
        let power = self.image.power(true);
        let wrong = Arc::new(Mutex::new(None));
        let (disk, sent, found) = (power.clone(), self.sent.clone(), Arc::clone(&wrong));
        let rolls = Mutex::new(dice.clone());
        let ruled = Ruled::new(power, move |call| {
            if call.op.changes() && found.lock().unwrap().is_none() {
                let image = disk.cut(Keep::Some, &mut rolls.lock().unwrap());
                let cut = Cut {
                    image: &image,
                    sent: sent.clone(),
                    durable: count,
                };
                let what = match cut.recovered() {
                    Ok(again) if again == count => None,
                    Ok(again) => Some(format!("{again} events")),
                    Err(what) => Some(what),
                };
                *found.lock().unwrap() = what
                    .map(|w| format!("{count} events, and {w} after a second cut before {call:?}"));
            }
            Ok(())
        });
        let opened = Store::open_with(script::config(ruled)).map_err(|e| e.to_string())?;
        drop(opened);
        let wrong = wrong.lock().unwrap().take();
        wrong.map_or(Ok(()), Err)
    }
}

/// Runs a history of `units` submissions and cuts it before each call, `images` times.
pub(crate) fn cut_everywhere(seed: u64, units: usize, images: usize, preallocates: bool) -> usize {
    let mut dice = Dice::new(seed);
    let units = script::units(&mut dice, units);
    let power = PowerDisk::new(preallocates);
    let (ledger, findings) = (Ledger::default(), Findings::default());
    let calls = Arc::new(Mutex::new(0));
    let (disk, shared, found, counted) = (
        power.clone(),
        Arc::clone(&ledger),
        findings.clone(),
        Arc::clone(&calls),
    );
    let ruled = Ruled::new(power, move |call| {
        if !call.op.changes() {
            return Ok(());
        }
        let number = {
            let mut calls = counted.lock().unwrap();
            *calls += 1;
            *calls
        };
        let mut dice = Dice::new(seed ^ number << 20);
        for index in 0..images {
            let keep = match index {
                0 if number % 8 == 0 => Keep::Nothing,
                0 if number % 8 == 4 => Keep::Everything,
                _ => Keep::Some,
            };
            let durable = shared.lock().unwrap().durable;
            let image = disk.cut(keep, &mut dice);
            let sent = shared.lock().unwrap().clone();
            let cut = Cut {
                image: &image,
                sent,
                durable,
            };
            let outcome = cut.recovered().and_then(|count| {
                if dice.one_in(16) {
                    cut.recovered_again(count, &mut dice)?;
                }
                Ok(())
            });
            if let Err(what) = outcome {
                found.add(&image, &format!("call {number} {call:?} {keep:?}: {what}"));
            }
        }
        Ok(())
    });
    let store = Store::open_with(script::config(ruled)).unwrap();
    script::send(&store, &units, &ledger).unwrap();
    store.close().unwrap();
    findings.none(seed);
    let calls = *calls.lock().unwrap();
    usize::try_from(calls).unwrap()
}
