//! Runs a test of this same binary again as a child process, with a role in its environment and lines through a pipe.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

const ROLE: &str = "QUIPU_CHILD_ROLE";
const PLACE: &str = "QUIPU_CHILD_PLACE";
const MARK: &str = "@child ";
/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The directory that the parent named, if this process is a child in `role`.
pub(crate) fn place_for(role: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == role).then(|| PathBuf::from(std::env::var(PLACE).unwrap()))
}

/// Tells the parent something; one write, so that a kill leaves whole lines.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let line = format!("\n{MARK}{line}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// A child; killed when it is dropped.
pub(crate) struct Role {
    child: Child,
    told: Receiver<String>,
    pub(crate) stdin: ChildStdin,
}

impl Role {
    /// Runs the test named `test`, which asks [`place_for`] the same role.
    pub(crate) fn start(test: &str, role: &str, place: &Path) -> Role {
        let program = Command::new(std::env::current_exe().unwrap());
        Self::run(program, test, role, place)
    }

    /// The same, in a process that may have no more than so many files open.
    #[cfg(unix)]
    pub(crate) fn start_with_files(test: &str, role: &str, place: &Path, files: u32) -> Role {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!(r#"ulimit -n {files}; exec "$0" "$@""#)])
            .arg(std::env::current_exe().unwrap());
        Self::run(shell, test, role, place)
    }

    fn run(mut program: Command, test: &str, role: &str, place: &Path) -> Role {
        let mut child = program
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let told = listen(child.stdout.take().unwrap());
        let stdin = child.stdin.take().unwrap();
        Role { child, told, stdin }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; what it told before can still be heard.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, once it tells no more.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Gives it a line to read.
    pub(crate) fn ask(&mut self, line: impl std::fmt::Display) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// The next thing it tells; `None` when it is gone.
    pub(crate) fn hear(&mut self) -> Option<String> {
        match self.told.recv_timeout(PATIENCE) {
            Ok(told) => Some(told),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the child {} hangs", self.id()),
        }
    }
}

/// Reads on while nobody hears: a child that tells much does not wait for its parent.
fn listen(out: ChildStdout) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some(line) = line.strip_prefix(MARK) {
                // Whoever dropped the role wants to hear no more.
                let _ = tell.send(line.to_owned());
            }
        }
    });
    told
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
