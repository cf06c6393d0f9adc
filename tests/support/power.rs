//! A disk that knows which bytes and names are durable, and makes the images that a power cut may leave of the rest.
//!
//! Bytes become durable by a sync of their file, names by a sync of their directory. What was not synced may be there
//! after the cut or not, one 512-byte sector and one name at a time; a file's length is apart from its bytes.

use super::dice::Dice;
use super::disk::TestDisk;
use quipu::io::{Access, Disk, DiskFile, DiskLock, Entry, LockError, Map, MemoryDisk};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// How much of what was not synced is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Nothing,
    Everything,
    /// Each sector, name and length as the dice fall.
    Some,
}

/// The files of a directory and their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) dirs: Vec<String>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, usize),
    Remove(String),
    Rename(String, String, usize),
    Dir(String),
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    durable_dirs: Vec<String>,
    pending: Vec<NameChange>,
}

/// The disk; a clone is the same disk.
#[derive(Clone)]
pub(crate) struct PowerDisk {
    cache: MemoryDisk,
    state: Arc<Mutex<State>>,
    preallocates: bool,
}

impl PowerDisk {
    pub(crate) fn new(preallocates: bool) -> Self {
        Self {
            cache: MemoryDisk::new(),
            state: Arc::default(),
            preallocates,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What a power cut at this moment may leave.
    pub(crate) fn cut(&self, keep: Keep, dice: &mut Dice) -> Image {
        let state = self.state().clone();
        let (names, dirs) = state.names_after(keep, dice);
        let files = names
            .into_iter()
            .filter(|(name, _)| match name.split_once('/') {
                Some((dir, _)) => dirs.iter().any(|d| d == dir),
                None => true,
            })
            .map(|(name, inode)| (name, state.inodes[inode].after(keep, dice)))
            .collect();
        Image { files, dirs }
    }

    /// The same disk as a new process finds it after the old one was killed: all that was written, synced or not.
    pub(crate) fn after_kill(&self) -> PowerDisk {
        let state = self.state().clone();
        let live = state.live.keys().map(|name| {
            let file = self.cache.open(name, Access::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_at(&mut bytes, 0).unwrap();
            (name.clone(), bytes)
        });
        let image = Image {
            files: live.collect(),
            dirs: vec!["segments".to_owned()],
        };
        PowerDisk {
            cache: image.memory(),
            state: Arc::new(Mutex::new(state)),
            preallocates: self.preallocates,
        }
    }

    /// A sync of this file failed, and its pages now look clean: they stay in the cache and never reach the disk.
    pub(crate) fn lose_unsynced(&self, name: &str) {
        let mut state = self.state();
        let inode = state.live[name];
        state.inodes[inode].pending.clear();
    }
}

impl Image {
    /// A disk with these files.
    pub(crate) fn disk(&self) -> TestDisk {
        let disk = TestDisk::new();
        self.write_into(&disk);
        disk
    }

    fn memory(&self) -> MemoryDisk {
        let disk = MemoryDisk::new();
        self.write_into(&disk);
        disk
    }

    fn write_into(&self, disk: &dyn Disk) {
        disk.prepare().unwrap();
        for dir in &self.dirs {
            disk.create_dir(dir).unwrap();
        }
        for (name, bytes) in &self.files {
            let file = disk.open(name, Access::CreateNew).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
            for (index, block) in bytes.chunks(BLOCK).enumerate() {
                if *block != ZEROS[..block.len()] {
                    file.write_at(block, (index * BLOCK) as u64).unwrap();
                }
            }
        }
    }

    /// All files of a disk.
    pub(crate) fn of(disk: &dyn Disk) -> Image {
        let mut image = Image::default();
        let mut open = vec![String::new()];
        while let Some(dir) = open.pop() {
            for entry in disk.list(&dir).unwrap() {
                let name = match dir.as_str() {
                    "" => entry.name.clone(),
                    dir => format!("{dir}/{}", entry.name),
                };
                if entry.is_file {
                    let file = disk.open(&name, Access::Read).unwrap();
                    let mut bytes = vec![0; usize::try_from(entry.bytes).unwrap()];
                    file.read_at(&mut bytes, 0).unwrap();
                    image.files.insert(name, bytes);
                } else {
                    image.dirs.push(name.clone());
                    open.push(name);
                }
            }
        }
        image
    }

    /// Writes the files into a real directory.
    pub(crate) fn write_to(&self, root: &std::path::Path) {
        std::fs::create_dir_all(root).unwrap();
        for dir in &self.dirs {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (name, bytes) in &self.files {
            std::fs::write(root.join(name), bytes).unwrap();
        }
    }

    /// A disk that all of this is durable on.
    pub(crate) fn power(&self, preallocates: bool) -> PowerDisk {
        let names: BTreeMap<String, usize> = self.files.keys().cloned().zip(0..).collect();
        let inodes = self.files.values().map(|bytes| Inode {
            durable: bytes.clone(),
            pending: Vec::new(),
        });
        let state = State {
            inodes: inodes.collect(),
            live: names.clone(),
            durable: names,
            durable_dirs: self.dirs.clone(),
            pending: Vec::new(),
        };
        PowerDisk {
            cache: self.memory(),
            state: Arc::new(Mutex::new(state)),
            preallocates,
        }
    }
}

impl State {
    fn names_after(&self, keep: Keep, dice: &mut Dice) -> (BTreeMap<String, usize>, Vec<String>) {
        let (mut names, mut dirs) = (self.durable.clone(), self.durable_dirs.clone());
        for change in &self.pending {
            let kept = match keep {
                Keep::Nothing => false,
                Keep::Everything => true,
                Keep::Some => dice.one_in(2),
            };
            if kept {
                change.apply(&mut names, &mut dirs);
            }
        }
        (names, dirs)
    }

    fn sync_dir(&mut self, dir: &str) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change.dir() == dir {
                change.apply(&mut self.durable, &mut self.durable_dirs);
            } else {
                self.pending.push(change);
            }
        }
    }
}

impl NameChange {
    fn dir(&self) -> &str {
        let (Self::Set(name, _) | Self::Remove(name) | Self::Rename(name, ..) | Self::Dir(name)) =
            self;
        name.rsplit_once('/').map_or("", |(dir, _)| dir)
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>, dirs: &mut Vec<String>) {
        match self {
            Self::Set(name, inode) => drop(names.insert(name.clone(), *inode)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Dir(name) if !dirs.contains(name) => dirs.push(name.clone()),
            Self::Dir(_) => {}
        }
    }
}

impl Change {
    /// The bytes it touches of a file that is `len` long.
    fn span(&self, len: usize) -> (usize, usize) {
        match self {
            Self::Write(at, bytes) => (*at, at + bytes.len()),
            Self::Length(new) => (*new, len.max(*new)),
        }
    }

    fn length_after(&self, len: usize) -> usize {
        match self {
            Self::Write(at, bytes) => len.max(at + bytes.len()),
            Self::Length(new) => *new,
        }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(new) => content.resize(*new, 0),
        }
    }

    /// Writes only what lies in `from..to`; the content is as long as it ever gets.
    fn apply_within(&self, content: &mut [u8], from: usize, to: usize) {
        match self {
            Self::Write(at, bytes) => content[from..to].copy_from_slice(&bytes[from - at..to - at]),
            Self::Length(_) => content[from..to].fill(0),
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    fn after(&self, keep: Keep, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        if keep == Keep::Nothing || self.pending.is_empty() {
            return content;
        }
        if keep == Keep::Everything {
            self.pending.iter().for_each(|c| c.apply(&mut content));
            return content;
        }
        let mut lengths = vec![content.len()];
        for change in &self.pending {
            lengths.push(change.length_after(*lengths.last().unwrap()));
        }
        let longest = *lengths.iter().max().unwrap();
        content.resize(longest, 0);
        let pattern = Pattern::roll(dice, self.pending.len(), longest.div_ceil(SECTOR));
        let mut versions: BTreeMap<usize, usize> = BTreeMap::new();
        for (index, (change, len)) in self.pending.iter().zip(&lengths).enumerate() {
            let (start, end) = change.span(*len);
            let mut from = start;
            while from < end {
                let sector = from / SECTOR;
                let to = ((sector + 1) * SECTOR).min(end);
                let version = versions
                    .entry(sector)
                    .or_insert_with(|| pattern.version(sector, dice));
                if index < *version {
                    change.apply_within(&mut content, from, to);
                }
                from = to;
            }
        }
        content.truncate(lengths[dice.below(lengths.len())]);
        content
    }
}

/// Which sectors of a file are kept.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Each { changes: usize },
    OnlyBelow { sector: usize, changes: usize },
    OnlyFrom { sector: usize, changes: usize },
    All { changes: usize },
    None,
}

impl Pattern {
    fn roll(dice: &mut Dice, changes: usize, sectors: usize) -> Self {
        let sector = dice.below(sectors.max(1));
        match dice.below(8) {
            0..=3 => Self::Each { changes },
            4 => Self::OnlyBelow { sector, changes },
            5 => Self::OnlyFrom { sector, changes },
            6 => Self::All { changes },
            _ => Self::None,
        }
    }

    /// How many of the changes a sector has seen.
    fn version(self, sector: usize, dice: &mut Dice) -> usize {
        match self {
            Self::Each { changes } => match dice.below(4) {
                0 => dice.below(changes + 1),
                1 => 0,
                _ => changes,
            },
            Self::OnlyBelow { sector: s, changes } if sector < s => changes,
            Self::OnlyFrom { sector: s, changes } if sector >= s => changes,
            Self::All { changes } => changes,
            Self::OnlyBelow { .. } | Self::OnlyFrom { .. } | Self::None => 0,
        }
    }
}

impl std::fmt::Debug for PowerDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PowerDisk")
    }
}

impl Disk for PowerDisk {
    fn describe(&self) -> String {
        "a disk that loses power".to_owned()
    }

    fn prepare(&self) -> io::Result<()> {
        self.cache.prepare()
    }

    fn lock(&self, owner: u32) -> Result<Box<dyn DiskLock>, LockError> {
        self.cache.lock(owner)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.cache.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.cache.create_dir(dir)?;
        self.state().pending.push(NameChange::Dir(dir.to_owned()));
        Ok(())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = self.cache.open(name, access)?;
        if access == Access::CreateNew {
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.live.insert(name.to_owned(), inode);
            state.pending.push(NameChange::Set(name.to_owned(), inode));
        }
        Ok(Arc::new(PowerFile {
            file,
            inode: state.live[name],
            state: Arc::clone(&self.state),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        self.cache.rename(from, to)?;
        let inode = state.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.live.insert(to.to_owned(), inode);
        state
            .pending
            .push(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        self.cache.remove(name)?;
        state.live.remove(name);
        state.pending.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.cache.sync_dir(dir)?;
        self.state().sync_dir(dir);
        Ok(())
    }

    fn preallocates(&self) -> bool {
        self.preallocates
    }
}

#[derive(Debug)]
struct PowerFile {
    file: Arc<dyn DiskFile>,
    inode: usize,
    state: Arc<Mutex<State>>,
}

impl PowerFile {
    fn change<T>(&self, change: impl FnOnce(&mut Inode) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut state.inodes[self.inode])
    }
}

impl DiskFile for PowerFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.change(|inode| {
            let written = self.file.write_at(bytes, offset)?;
            let at = usize::try_from(offset).unwrap();
            inode
                .pending
                .push(Change::Write(at, bytes[..written].to_vec()));
            Ok(written)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Inode::sync);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.change(Inode::sync);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(|inode| {
            self.file.set_len(bytes)?;
            let len = usize::try_from(bytes).unwrap();
            inode.pending.push(Change::Length(len));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn map(&self, len: u64) -> io::Result<Map> {
        self.file.map(len)
    }
}
