//! Runs a test of this same binary again as a child process, with a role in its environment and lines through a pipe.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const ROLE: &str = "QUIPU_CHILD_ROLE";
const PLACE: &str = "QUIPU_CHILD_PLACE";
const MARK: &str = "@child ";

/// The directory that the parent named, if this process is a child in `role`.
pub(crate) fn place_for(role: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == role).then(|| PathBuf::from(std::env::var(PLACE).unwrap()))
}

/// Tells the parent something; one write, so that a kill leaves whole lines.
pub(crate) fn tell(line: impl std::fmt::Display) {
    use std::io::Write;
    let line = format!("\n{MARK}{line}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A child; killed when it is dropped.
pub(crate) struct Role {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) stdin: ChildStdin,
}

impl Role {
    /// Runs the test named `test`, which asks [`place_for`] the same role.
    pub(crate) fn start(test: &str, role: &str, place: &Path) -> Role {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take().unwrap();
        Role {
            child,
            lines,
            stdin,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; what it told before can still be heard.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The next thing it tells; `None` when it is gone.
    pub(crate) fn hear(&mut self) -> Option<String> {
        for line in self.lines.by_ref() {
            if let Some(told) = line.ok()?.strip_prefix(MARK) {
                return Some(told.to_owned());
            }
        }
        None
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
