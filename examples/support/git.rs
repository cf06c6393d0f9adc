//! A git repository asked through the real `git` command: its commits with the files they touch, parents first.
//!
//! Plumbing only (`rev-list` into `diff-tree`), so that nobody's git configuration changes the answer. A commit's files
//! are those in which it differs from any of its parents, renames off: exactly the commits in which
//! `git log --full-history -- FILE` lists a file.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What one commit says.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    pub(crate) parents: Vec<String>,
    pub(crate) author: String,
    pub(crate) email: String,
    /// Seconds since 1970, when the change was written; may be before it.
    pub(crate) authored: i64,
    /// The same, when the commit was made.
    pub(crate) committed: i64,
    pub(crate) subject: String,
    /// In the order of their paths, none twice.
    pub(crate) files: Vec<Change>,
}

/// One file that a commit touched.
#[derive(Debug)]
pub(crate) struct Change {
    /// As the tree has it: bytes, not always UTF-8.
    pub(crate) path: Vec<u8>,
    /// git's letter: `A`dded, `M`odified, `D`eleted, `T`ype changed.
    pub(crate) letter: char,
}

/// A commit under the name that somebody gives it.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    pub(crate) name: String,
    pub(crate) sha: String,
}

/// A repository with at least one commit.
pub(crate) struct Repository {
    directory: PathBuf,
}

const FIELDS: &str = "--format=commit%x00%H%x00%P%x00%an%x00%ae%x00%at%x00%ct%x00%s";
const MARK: &[u8] = b"commit";

impl Repository {
    /// The repository that `path` stands in; bare ones too.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let within = Self {
            directory: path.to_owned(),
        };
        let bare = within.line(&["rev-parse", "--is-bare-repository"])? == "true";
        let root = if bare {
            "--absolute-git-dir"
        } else {
            "--show-toplevel"
        };
        let root = within.line(&["rev-parse", root])?;
        let found = Self {
            directory: PathBuf::from(root),
        };
        found.line(&["rev-parse", "--verify", "HEAD^{commit}"])?;
        Ok(found)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The last part of the directory's path, in characters that can be printed.
    pub(crate) fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or("root".as_ref());
        name.to_string_lossy().replace(char::is_control, "?")
    }

    /// What a branch, a tag or any other name of a commit points at.
    pub(crate) fn tip(&self, name: &str) -> io::Result<Tip> {
        let sha = self.line(&["rev-parse", "--verify", &format!("{name}^{{commit}}")]);
        let sha = sha.map_err(|error| io::Error::other(format!("{name} is no commit: {error}")))?;
        Ok(Tip {
            name: name.to_owned(),
            sha,
        })
    }

    /// Two tips worth comparing: `HEAD` and the newest branch that is elsewhere; or the first two sides of the last merge;
    /// or `HEAD` and where it was ten commits ago, or less if there are less.
    pub(crate) fn two_tips(&self) -> io::Result<[Tip; 2]> {
        let head = self.tip("HEAD")?;
        let format = "--format=%(objectname) %(refname:short)";
        let branches = self.line(&[
            "for-each-ref",
            "--sort=-committerdate",
            format,
            "refs/heads",
        ])?;
        let mut branches = branches.lines().filter_map(|line| line.split_once(' '));
        if let Some((_, name)) = branches.find(|(sha, _)| *sha != head.sha) {
            return Ok([head, self.tip(name)?]);
        }
        let merge = self.line(&["rev-list", "--merges", "--max-count=1", "HEAD"])?;
        if !merge.is_empty() {
            let side = |number| self.tip(&format!("{merge:.10}^{number}"));
            return Ok([side(1)?, side(2)?]);
        }
        let past = self.line(&["rev-list", "--first-parent", "--max-count=11", "HEAD"])?;
        let back = past.lines().count().saturating_sub(1);
        Ok([head, self.tip(&format!("HEAD~{back}"))?])
    }

    /// `git rev-list --count` of `HEAD`, another commit, or `ONE..OTHER`.
    pub(crate) fn count(&self, range: &str) -> io::Result<u64> {
        number(&self.line(&["rev-list", "--count", range])?)
    }

    /// `git merge-base --all`; none where two histories have nothing in common.
    pub(crate) fn merge_bases(&self, one: &Tip, other: &Tip) -> io::Result<Vec<String>> {
        let mut command = self.git(&["merge-base", "--all", &one.sha, &other.sha]);
        let output = command.output()?;
        if output.status.code() != Some(1) || !output.stderr.is_empty() {
            accepted("merge-base", output.status, &output.stderr)?;
        }
        Ok(text(output.stdout).lines().map(str::to_owned).collect())
    }

    /// How many commits the `tips` reach that none of the `known` ones does.
    pub(crate) fn count_beyond(&self, tips: &[Tip], known: &[String]) -> io::Result<u64> {
        let (mut walk, mut output) = self.walk(&["--count"], tips, known)?;
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        finish(&mut walk)?;
        number(text.trim())
    }

    /// The commits that the `tips` reach and none of the `known` ones does, parents before their children.
    pub(crate) fn commits_beyond(&self, tips: &[Tip], known: &[String]) -> io::Result<Commits> {
        let (walk, shas) = self.walk(&["--topo-order", "--reverse"], tips, known)?;
        let mut diff = self.git(&[
            "diff-tree",
            "--stdin",
            "--always",
            "-m",
            "-r",
            "-z",
            "--root",
        ]);
        diff.args([
            "--name-status",
            "--no-renames",
            "--ignore-submodules=none",
            FIELDS,
        ]);
        let mut diff = diff.stdin(shas).stdout(Stdio::piped()).spawn()?;
        let tokens = BufReader::with_capacity(1 << 16, taken(&mut diff)?.1);
        Ok(Commits {
            walk,
            diff,
            tokens,
            head: None,
            begun: false,
        })
    }

    /// `git log --full-history` of one file, by sha, newest first.
    pub(crate) fn history_of(&self, path: &str) -> io::Result<Vec<String>> {
        let only = format!(":(top,literal){path}");
        let mut log = self.git(&[
            "-c",
            "log.follow=false",
            "-c",
            "log.showSignature=false",
            "log",
        ]);
        let output = log
            .args(["--full-history", "--format=%H", "--", &only])
            .output()?;
        accepted("log", output.status, &output.stderr)?;
        Ok(text(output.stdout).lines().map(str::to_owned).collect())
    }

    fn git(&self, words: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.arg("-C")
            .arg(&self.directory)
            .args(["-c", "i18n.logOutputEncoding=UTF-8"])
            .args(words);
        // Set inside a hook, they would point at the repository that runs the hook.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            git.env_remove(name);
        }
        git
    }

    fn line(&self, words: &[&str]) -> io::Result<String> {
        let output = self.git(words).output()?;
        accepted(words[0], output.status, &output.stderr)?;
        Ok(text(output.stdout).trim_end_matches('\n').to_owned())
    }

    /// Known commits that the repository has lost since (a rewritten branch, collected) are passed over.
    fn walk(
        &self,
        words: &[&str],
        tips: &[Tip],
        known: &[String],
    ) -> io::Result<(Child, ChildStdout)> {
        let mut list = self.git(&["rev-list", "--ignore-missing", "--stdin"]);
        let list = list
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = list.spawn()?;
        let (input, output) = taken(&mut child)?;
        // rev-list reads all of it before it writes, so that neither side waits for the other.
        let mut input = input.ok_or_else(|| io::Error::other("git takes no input"))?;
        for tip in tips {
            writeln!(input, "{}", tip.sha)?;
        }
        for sha in known {
            writeln!(input, "^{sha}")?;
        }
        Ok((child, output))
    }
}

/// The commits of a running `git rev-list | git diff-tree`.
pub(crate) struct Commits {
    walk: Child,
    diff: Child,
    tokens: BufReader<ChildStdout>,
    /// The commit whose header was read and whose files come next.
    head: Option<Commit>,
    begun: bool,
}

impl Commits {
    /// The next commit; `None` once both commands have ended well.
    pub(crate) fn next_commit(&mut self) -> io::Result<Option<Commit>> {
        if !self.begun {
            self.begun = true;
            self.head = match self.token()? {
                Some(_) => Some(self.header()?),
                None => None,
            };
        }
        let Some(mut commit) = self.head.take() else {
            finish(&mut self.walk)?;
            finish(&mut self.diff)?;
            return Ok(None);
        };
        while let Some(token) = self.token()? {
            if token == MARK {
                let next = self.header()?;
                if next.sha != commit.sha {
                    self.head = Some(next);
                    break;
                }
                continue; // A merge comes once for each parent.
            }
            let path = self.token()?.ok_or_else(cut)?;
            let letter = token.trim_ascii().first().copied().ok_or_else(cut)?;
            commit.files.push(Change {
                path,
                letter: char::from(letter),
            });
        }
        // Stable: of a file in which a merge differs from several parents, the first parent's letter stays.
        commit.files.sort_by(|a, b| a.path.cmp(&b.path));
        commit
            .files
            .dedup_by(|later, first| later.path == first.path);
        Ok(Some(commit))
    }

    fn header(&mut self) -> io::Result<Commit> {
        Ok(Commit {
            sha: self.field()?,
            parents: self
                .field()?
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            author: self.field()?,
            email: self.field()?,
            authored: self.time()?,
            committed: self.time()?,
            subject: self.field()?,
            files: Vec::new(),
        })
    }

    fn field(&mut self) -> io::Result<String> {
        Ok(text(self.token()?.ok_or_else(cut)?))
    }

    /// git shows no time for a commit whose header is malformed; 0 stands for it.
    fn time(&mut self) -> io::Result<i64> {
        Ok(self.field()?.parse().unwrap_or(0))
    }

    /// The bytes up to the next NUL; `None` at the end.
    fn token(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut token = Vec::new();
        self.tokens.read_until(0, &mut token)?;
        Ok((token.pop() == Some(0)).then_some(token))
    }
}

fn taken(child: &mut Child) -> io::Result<(Option<ChildStdin>, ChildStdout)> {
    let output = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("git gives no output"))?;
    Ok((child.stdin.take(), output))
}

fn finish(child: &mut Child) -> io::Result<()> {
    accepted("history", child.wait()?, b"see above")
}

fn accepted(what: &str, status: std::process::ExitStatus, said: &[u8]) -> io::Result<()> {
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(said);
    Err(io::Error::other(format!(
        "git {what} failed: {}",
        said.trim()
    )))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned())
}

fn number<N: std::str::FromStr>(text: &str) -> io::Result<N> {
    text.parse()
        .map_err(|_| io::Error::other(format!("git gave {text:?} for a number")))
}

fn cut() -> io::Error {
    io::Error::other("git's output ends in the middle of a commit")
}
