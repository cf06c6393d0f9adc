//! Random appends, tombstones, compactions, snapshots, restores and forks, of forks of forks too, each held against a plain
//! list of the events that remain.
//!
//! Every few steps a world begins anew, with a seed of its own. `QUIPU_UPKEEP_STEPS` makes the walk longer and
//! `QUIPU_MODEL_SEED` repeats one; a failure prints the seed of its world and the step.

#[path = "upkeep_model/acts.rs"]
mod acts;
#[path = "upkeep_model/answers.rs"]
mod answers;
#[path = "upkeep_model/compacting.rs"]
mod compacting;
#[path = "upkeep_model/plain.rs"]
mod plain;
#[path = "upkeep_model/rules.rs"]
mod rules;
#[path = "upkeep_model/same.rs"]
mod same;
mod support;
#[path = "upkeep_model/world.rs"]
mod world;

use std::hash::{BuildHasher, RandomState};
use support::number;
use world::{Said, World};

/// After so many steps the stores are as old as they get: long enough for forks of compacted forks.
const STEPS_OF_A_WORLD: usize = 20;

/// Says how to repeat a world when it panics.
struct Repeat {
    seed: u64,
    step: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, step } = *self;
            let steps = step + 1;
            eprintln!("at step {step}: QUIPU_MODEL_SEED={seed} QUIPU_UPKEEP_STEPS={steps}");
        }
    }
}

fn walk(seed: u64, steps: u64, said: &mut Said) {
    println!("seed {seed}, {steps} steps");
    let mut repeat = Repeat { seed, step: 0 };
    let mut world = World::new(seed);
    while repeat.step < steps {
        world.step(repeat.step);
        repeat.step += 1;
    }
    said.add(world.said);
}

#[test]
fn stores_under_upkeep_do_what_the_model_does() {
    let seed = number("QUIPU_MODEL_SEED", RandomState::new().hash_one(0));
    let steps = number("QUIPU_UPKEEP_STEPS", 60);
    let mut said = Said::default();
    for (world, from) in (0..).zip((0..steps).step_by(STEPS_OF_A_WORLD)) {
        let steps = (steps - from).min(STEPS_OF_A_WORLD as u64);
        walk(seed.wrapping_add(world), steps, &mut said);
    }
    println!("{said:?}");
    if steps >= 400 {
        said.assert_all_happened();
    }
}
