//! Random appends, reads and reopenings, each held against a plain list of events that knows every hash.
//!
//! `QUIPU_MODEL_STEPS` makes the walks longer and `QUIPU_MODEL_SEED` repeats one; a failure prints both.

#[path = "model/acts.rs"]
mod acts;
#[path = "support/knots.rs"]
mod knots;
#[path = "model/plain.rs"]
mod plain;
#[path = "model/reads.rs"]
mod reads;
#[path = "model/world.rs"]
mod world;

use std::hash::{BuildHasher, RandomState};
use world::World;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn seed() -> u64 {
    setting("QUIPU_MODEL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0))
}

/// Says how to repeat a walk when it panics.
struct Repeat(u64, u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Repeat(seed, steps) = self;
            eprintln!("repeat with QUIPU_MODEL_SEED={seed} QUIPU_MODEL_STEPS={steps}");
        }
    }
}

fn walk(mut world: World, repeat: &Repeat) {
    println!("seed {}, {} steps", repeat.0, repeat.1);
    for _ in 0..repeat.1 {
        match world.dice.below(100) {
            0..55 => world.append(),
            55..62 => world.pipeline(),
            62..64 => world.reopen(),
            64 => world.store().sync().unwrap(),
            _ => world.read(),
        }
    }
    world.reopen();
    world.read();
    println!("{:?}, {:?}", world.said, world.store().stats());
    let said = &world.said;
    if repeat.1 >= 300 {
        assert!(world.store().stats().segments > 1, "no rotation");
        let counts = [said.replays, said.conflicts, said.refused, said.reopened];
        assert!(counts.iter().all(|count| *count > 0), "{said:?}");
    }
}

#[test]
fn a_store_in_files_does_what_the_model_does() {
    let dir = tempfile::tempdir().unwrap();
    let repeat = Repeat(seed(), setting("QUIPU_MODEL_STEPS").unwrap_or(1200));
    walk(World::on_file(repeat.0, &dir.path().join("store")), &repeat);
}

#[test]
fn a_store_in_memory_does_what_the_model_does() {
    let repeat = Repeat(seed(), setting("QUIPU_MODEL_STEPS").unwrap_or(1200));
    walk(World::in_memory(repeat.0), &repeat);
}
