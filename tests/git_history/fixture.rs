//! A git repository made up with `git fast-import`: branches, merges, renames, deletions, odd names and odd clocks.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files that change again and again.
const FILES: usize = 400;
const AUTHORS: usize = 7;
const START: u64 = 1_600_000_000;

/// A bare repository that grows on request, the same for the same seed.
pub(crate) struct Fixture {
    pub(crate) path: PathBuf,
    /// Every path that a commit ever named, for the tests to ask for.
    pub(crate) paths: Vec<Vec<u8>>,
    live: Vec<Vec<u8>>,
    dice: u64,
    commits: usize,
    stream: Vec<u8>,
    /// The last commit of main, for branches to leave from.
    pub(crate) tip: Option<usize>,
    /// Seconds from one commit to the next, about.
    pub(crate) pace: u64,
    clock: u64,
}

impl Fixture {
    pub(crate) fn new(path: &Path, seed: u64) -> Self {
        let done = git(path, &["init", "--quiet", "--bare", "."]);
        assert!(done.is_empty(), "git init says {done}");
        git(path, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        let odd: [&[u8]; 5] = [
            b"with space \"and quotes\".txt",
            "doc/na\u{ef}ve \u{1f9f6}.md".as_bytes(),
            b"tab\tand\nline.txt",
            b"latin-\xe9.txt",
            b"back\\slash",
        ];
        let mut live: Vec<Vec<u8>> = odd.iter().map(|name| name.to_vec()).collect();
        live.push([b"deep/".repeat(110), b"end".to_vec()].concat());
        let plain = (0..FILES).map(|n| format!("src/part{}/file{n}.rs", n % 23).into_bytes());
        live.extend(plain);
        Self {
            path: path.to_owned(),
            paths: live.clone(),
            live,
            dice: seed,
            commits: 0,
            stream: Vec::new(),
            tip: None,
            pace: 60,
            clock: START,
        }
    }

    /// Adds at least `count` commits; a branch that has begun is finished.
    pub(crate) fn grow(&mut self, count: usize) {
        let end = self.commits + count;
        while self.commits < end {
            match self.roll(12) {
                0 => self.branch_and_merge(1),
                1 => self.branch_and_merge(2),
                2 => self.rename(),
                _ => self.change("main", self.tip),
            }
        }
        self.flush();
    }

    /// Adds one commit of `count` new files.
    pub(crate) fn add_many_files(&mut self, count: usize) {
        let paths = (0..count).map(|n| format!("many/{}/{n}", n % 100).into_bytes());
        let edits: String = paths.map(|path| self.write(&path)).collect();
        self.commit("main", self.tip.into_iter().collect(), &edits);
        self.flush();
    }

    fn change(&mut self, branch: &str, parent: Option<usize>) {
        let edits = self.edits();
        self.commit(branch, parent.into_iter().collect(), &edits);
    }

    /// One to three files written anew, or one taken away, or nothing at all.
    fn edits(&mut self) -> String {
        match self.roll(20) {
            0 => String::new(),
            1 if self.live.len() > FILES / 2 => {
                let at = self.roll(self.live.len());
                format!("D {}\n", quoted(&self.live.swap_remove(at)))
            }
            2 => {
                let path = format!("new/{}.txt", self.commits).into_bytes();
                self.paths.push(path.clone());
                self.live.push(path.clone());
                self.write(&path)
            }
            n => (0..1 + n % 3).fold(String::new(), |text, _| {
                let at = self.roll(self.live.len());
                let path = self.live[at].clone();
                text + &self.write(&path)
            }),
        }
    }

    fn write(&mut self, path: &[u8]) -> String {
        self.dice = self.dice.wrapping_add(1);
        let text = format!("made by commit {} ({})\n", self.commits, self.dice);
        format!(
            "M 100644 inline {}\ndata {}\n{text}\n",
            quoted(path),
            text.len()
        )
    }

    /// The whole content moves; with renames off it is one file deleted and one added.
    fn rename(&mut self) {
        let at = self.roll(self.live.len());
        let from = self.live[at].clone();
        let to = format!("moved/{}.rs", self.commits).into_bytes();
        // Written first: a file may be live here and not yet in the tree.
        let edits = format!("{}R {} {}\n", self.write(&from), quoted(&from), quoted(&to));
        self.live[at].clone_from(&to);
        self.paths.push(to);
        self.commit("main", self.tip.into_iter().collect(), &edits);
    }

    /// Side branches of a few commits, main moving on meanwhile, then one merge of them all.
    fn branch_and_merge(&mut self, branches: usize) {
        let Some(base) = self.tip else {
            return self.change("main", None);
        };
        let mut tips = Vec::new();
        let mut theirs = String::new();
        for _ in 0..branches {
            let mut tip = base;
            for _ in 0..=self.roll(3) {
                let path = self.live[self.dice_below(self.live.len())].clone();
                let edits = self.write(&path);
                theirs += &edits;
                self.commit("side", vec![tip], &edits);
                tip = self.commits;
            }
            tips.push(tip);
        }
        self.change("main", Some(base));
        // Every third merge keeps our side only.
        let edits = if self.roll(3) == 0 {
            String::new()
        } else {
            theirs
        };
        let parents = std::iter::once(self.commits).chain(tips).collect();
        self.commit("main", parents, &edits);
    }

    /// Two branches that merge each other, so that two merges have two best common ancestors, then a merge of both.
    pub(crate) fn merge_crosswise(&mut self) {
        let base: Vec<usize> = self.tip.into_iter().collect();
        let [ours, theirs] = [(); 2].map(|()| self.side(base.clone()));
        let merges = [vec![ours, theirs], vec![theirs, ours]].map(|both| self.side(both));
        self.commit("main", merges.to_vec(), "");
        self.flush();
    }

    /// A branch of `count` commits that is never merged: off the tip of main, or of nothing in common with it.
    pub(crate) fn leave(&mut self, branch: &str, from: Option<usize>, count: usize) {
        let mut parents: Vec<usize> = from.into_iter().collect();
        for _ in 0..count {
            let path = format!("{branch}/{}.txt", self.commits).into_bytes();
            let edits = self.write(&path);
            self.paths.push(path);
            self.commit(branch, parents, &edits);
            parents = vec![self.commits];
        }
        self.flush();
    }

    fn side(&mut self, parents: Vec<usize>) -> usize {
        let edits = self.edits();
        self.commit("side", parents, &edits);
        self.commits
    }

    fn commit(&mut self, branch: &str, parents: Vec<usize>, edits: &str) {
        self.commits += 1;
        let mark = self.commits;
        let author = self.roll(AUTHORS).min(self.roll(AUTHORS));
        // Clocks of people differ: a child may claim to be older than its parent.
        self.clock += self.pace;
        let time = self.clock - self.roll(600) as u64;
        let message = format!("change number {mark}\n\nand why\n");
        let mut text = format!("commit refs/heads/{branch}\nmark :{mark}\n");
        let _ = writeln!(
            text,
            "author Person {author} <p{author}@example.org> {time} +0100"
        );
        let _ = writeln!(text, "committer Person <p@example.org> {time} +0100");
        let _ = writeln!(text, "data {}\n{message}", message.len());
        for (at, parent) in parents.iter().enumerate() {
            let word = if at == 0 { "from" } else { "merge" };
            let _ = writeln!(text, "{word} :{parent}");
        }
        self.stream.extend_from_slice(text.as_bytes());
        self.stream.extend_from_slice(edits.as_bytes());
        self.stream.push(b'\n');
        if branch == "main" {
            self.tip = Some(mark);
        }
    }

    /// Hands the stream to git; the marks are kept beside the repository for the next one.
    fn flush(&mut self) {
        let marks = format!("{}.marks", self.path.display());
        let mut import = git_command(&self.path);
        import.args(["fast-import", "--quiet", "--force"]);
        import.arg(format!("--import-marks-if-exists={marks}"));
        import.arg(format!("--export-marks={marks}"));
        let mut child = import
            .stdin(Stdio::piped())
            .spawn()
            .expect("git is installed");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(&self.stream).expect("git reads the stream");
        drop(input);
        assert!(
            child.wait().expect("git ends").success(),
            "git fast-import refused the stream"
        );
        self.stream.clear();
    }

    fn roll(&mut self, bound: usize) -> usize {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.dice_below(bound)
    }

    fn dice_below(&self, bound: usize) -> usize {
        usize::try_from((self.dice >> 33) % bound as u64).expect("it is below the bound")
    }
}

/// A path as fast-import reads it: C style, every odd byte in octal.
fn quoted(path: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x20..0x7f => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text + "\""
}

fn git_command(path: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(path)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env("TZ", "UTC");
    git
}

/// What git says, without the last line's end.
pub(crate) fn git(path: &Path, words: &[&str]) -> String {
    let output = git_command(path)
        .args(words)
        .output()
        .expect("git is installed");
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {words:?}: {failed}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end_matches('\n')
        .to_owned()
}
