//! Compaction: what is kept reads the same before and after, what goes is told as gone, and the disk is given back.

mod support;

#[path = "compaction/aged.rs"]
mod aged;
#[allow(dead_code, reason = "the world answers more than is asked here")]
#[path = "asking/world.rs"]
mod asking;
#[path = "compaction/cut.rs"]
mod cut;
#[path = "compaction/failing.rs"]
mod failing;
#[path = "compaction/figures.rs"]
mod figures;
#[path = "compaction/history.rs"]
mod history;
#[path = "compaction/job.rs"]
mod job;
#[path = "compaction/killed.rs"]
mod killed;
#[path = "compaction/shop.rs"]
mod shop;

use aged::{Aged, Rule};
use quipu::CompactionConfig;
use support::dice;

/// Random histories under random policies, compacted, opened again, gone on with and compacted again.
#[test]
fn what_is_kept_reads_the_same_whatever_the_policy() {
    let mut removed = 0;
    for _ in 0..2 {
        let mut aged = Aged::new();
        aged.live(3);
        for _ in 0..2 {
            let rule = Rule::random(&mut aged.world, 2);
            println!("{rule:?}");
            aged.compact(&rule, CompactionConfig::new());
            aged.check();
            aged.world.reopen();
            aged.check();
            aged.go_on();
            aged.check();
            aged.live(1);
        }
        removed += aged.removed.len();
    }
    assert!(removed > 100, "only {removed} events went");
}
