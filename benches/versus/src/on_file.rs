//! The limit: a plain file writer that puts down as many bytes as quipu does, with one `fdatasync` for each group.
//!
//! The file is filled with zeros ahead, appends that meet share a write and a sync, and nothing is encoded,
//! checked, hashed or indexed. What it can read is the file from front to back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};

use crate::facts::Fact;
use crate::peer::{Peer, Tally};

/// Group header and commit record (docs/format.md, section 4).
const GROUP_BYTES: usize = 72 + 52;
/// Frame header and the fixed part of an event's head (section 5).
const FRAME_BYTES: usize = 16 + 58;
/// Varints: revision, distance, the lengths of entity, scope, kind and tag, and the number of tags.
const VARINT_BYTES: usize = 1 + 3 + 4 + 1;
const ZEROS: usize = 1024 * 1024;

pub(crate) struct OnFile {
    file: File,
    state: Mutex<State>,
    durable: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    spare: Vec<u8>,
    end: u64,
    events: usize,
    submitted: u64,
    durable: u64,
    writing: bool,
}

impl OnFile {
    /// A file with room for `events`, zeros down to the disk.
    pub(crate) fn new(directory: &Path, events: usize) -> Self {
        std::fs::create_dir_all(directory).expect("a directory");
        let options = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .clone();
        let file = options.open(directory.join("log")).expect("a new file");
        let zeros = vec![0; ZEROS];
        let room = events * 640 + ZEROS;
        for at in 0..room.div_ceil(ZEROS) {
            file.write_all_at(&zeros, (at * ZEROS) as u64)
                .expect("room on the disk");
        }
        file.sync_all().expect("the disk syncs");
        Self {
            file,
            state: Mutex::default(),
            durable: Condvar::new(),
        }
    }

    /// Writes and syncs what is pending, without the lock.
    fn write_group(&self, group: &[u8], at: u64) {
        self.file
            .write_all_at(group, at)
            .expect("the file is written");
        self.file.sync_data().expect("the file is synced");
    }
}

impl Peer for OnFile {
    fn append(&self, facts: &[Fact<'_>]) -> Vec<[u8; 16]> {
        let mut state = self.state.lock().expect("no writer panicked");
        stage(&mut state, facts);
        let mine = state.submitted;
        while state.durable < mine {
            if state.writing {
                state = self.durable.wait(state).expect("no writer panicked");
                continue;
            }
            let spare = std::mem::take(&mut state.spare);
            let mut group = std::mem::replace(&mut state.pending, spare);
            let (at, upto) = (state.end, state.submitted);
            state.end += group.len() as u64;
            state.writing = true;
            drop(state);
            self.write_group(&group, at);
            group.clear();
            state = self.state.lock().expect("no writer panicked");
            state.spare = group;
            state.writing = false;
            state.durable = upto;
            self.durable.notify_all();
        }
        Vec::new()
    }

    fn close(&mut self) {}

    fn open(&mut self) -> Option<()> {
        None
    }

    fn entity(&self, _: &str) -> Option<Tally> {
        None
    }

    fn kind(&self, _: &str) -> Option<Tally> {
        None
    }

    fn scan(&self) -> Option<Tally> {
        let state = self.state.lock().expect("no writer panicked");
        let mut tally = Tally {
            events: state.events,
            ..Tally::default()
        };
        let mut block = vec![0; ZEROS];
        while (tally.bytes as u64) < state.end {
            let read = self
                .file
                .read_at(&mut block, tally.bytes as u64)
                .expect("the file reads");
            tally.bytes += read;
            tally.sum += u64::from(block[read / 2]);
        }
        Some(tally)
    }

    fn get(&self, _: [u8; 16]) -> Option<Tally> {
        None
    }
}

/// Puts as many bytes as quipu would write for these events behind what is pending.
fn stage(state: &mut State, facts: &[Fact<'_>]) {
    if state.pending.is_empty() {
        state.pending.resize(GROUP_BYTES, 0xa5);
    }
    for fact in facts {
        let names = [fact.entity, fact.scope, fact.kind, fact.tag];
        let batch = if facts.len() > 1 { 2 } else { 0 };
        let head = names.iter().map(|name| name.len()).sum::<usize>() + VARINT_BYTES + batch;
        let padding = state.pending.len() + FRAME_BYTES + head;
        state.pending.resize(padding, 0xa5);
        state.pending.extend_from_slice(fact.payload);
    }
    state.events += facts.len();
    state.submitted += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::on_quipu::OnQuipu;

    /// Where quipu's durable hint says that the log ends, without the segment's header page (docs/format.md, section 7).
    fn log_bytes(store: &Path) -> u64 {
        let hint = std::fs::read(store.join("hint")).expect("a hint");
        let ends = [0, 4096].map(|slot| {
            let field = |at: usize| {
                let bytes = hint[slot + at..slot + at + 8].try_into();
                u64::from_le_bytes(bytes.expect("eight bytes"))
            };
            (field(16), field(32))
        });
        ends.iter().max().expect("two slots").1 - 4096
    }

    #[test]
    fn file_gets_as_many_bytes_as_quipu_writes() {
        let directory = tempfile::tempdir().expect("a directory");
        let facts = Facts::new();
        for step in [1, 64] {
            let at = directory.path().join(step.to_string());
            let mut quipu = OnQuipu::new(&at.join("quipu"));
            let file = OnFile::new(&at.join("file"), 1_024);
            for from in (0..1_024).step_by(step) {
                let some: Vec<Fact<'_>> = (from..from + step).map(|n| facts.fact(n)).collect();
                quipu.append(&some);
                file.append(&some);
            }
            quipu.close();
            let (ours, theirs) = (
                log_bytes(&at.join("quipu")),
                file.state.lock().expect("free").end,
            );
            let off = ours.abs_diff(theirs) * 100;
            assert!(
                off < ours,
                "quipu wrote {ours} bytes by {step}, the file {theirs}"
            );
        }
    }
}
