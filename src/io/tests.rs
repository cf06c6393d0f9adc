//! One suite of claims about a disk, held by the real and by the memory disk.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::exact::MAX_RETRIES;
use super::*;

fn on_both(claim: impl Fn(&dyn Disk)) {
    let place = tempfile::tempdir().unwrap();
    let real = RealDisk::new(place.path().join("store"));
    real.prepare().unwrap();
    claim(&real);
    let memory = MemoryDisk::new();
    memory.prepare().unwrap();
    claim(&memory);
}

fn put(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(name, Access::CreateNew).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file
}

fn content(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

fn kind<T>(answer: io::Result<T>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

fn names(disk: &dyn Disk, dir: &str) -> Vec<String> {
    disk.list(dir)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

#[test]
fn lock_is_held_against_its_own_process_until_dropped() {
    on_both(|disk| {
        let lock = disk.lock(4711).unwrap();
        assert!(matches!(
            disk.lock(1),
            Err(LockError::Held { owner: Some(4711) })
        ));
        drop(lock);
        assert!(disk.lock(1).is_ok());
    });
}

#[test]
fn clone_of_a_memory_disk_is_the_same_directory() {
    let disk = MemoryDisk::new();
    let _lock = disk.lock(1).unwrap();
    put(&disk, "a", b"x");
    let again = disk.clone();
    assert_eq!(content(&again, "a"), b"x");
    assert!(matches!(
        again.lock(2),
        Err(LockError::Held { owner: Some(1) })
    ));
}

#[test]
fn files_are_listed_sorted_with_their_lengths() {
    on_both(|disk| {
        disk.create_dir("segments").unwrap();
        put(disk, "segments/2", b"22");
        put(disk, "segments/1", b"1");
        put(disk, "manifest", b"333");
        disk.sync_dir("segments").unwrap();
        disk.sync_dir("").unwrap();
        let file = |name: &str, bytes| Entry {
            name: name.to_owned(),
            bytes,
            is_file: true,
        };
        assert_eq!(disk.list("segments").unwrap(), [file("1", 1), file("2", 2)]);
        let top = disk.list("").unwrap();
        assert_eq!(top[0], file("manifest", 3));
        assert_eq!((top[1].name.as_str(), top[1].is_file), ("segments", false));
        assert_eq!(top.len(), 2);
    });
}

#[test]
fn directory_is_created_once_and_never_over_a_file() {
    on_both(|disk| {
        disk.create_dir("dir").unwrap();
        disk.create_dir("dir").unwrap();
        put(disk, "file", b"");
        assert_eq!(
            kind(disk.create_dir("file")),
            Some(ErrorKind::NotADirectory)
        );
        assert_eq!(kind(disk.create_dir("no/dir")), Some(ErrorKind::NotFound));
        assert_eq!(kind(disk.list("file")), Some(ErrorKind::NotADirectory));
        assert_eq!(kind(disk.list("none")), Some(ErrorKind::NotFound));
        assert_eq!(kind(disk.sync_dir("none")), Some(ErrorKind::NotFound));
    });
}

#[test]
fn open_says_what_is_there() {
    on_both(|disk| {
        put(disk, "file", b"x");
        disk.create_dir("dir").unwrap();
        for access in [Access::Read, Access::Write] {
            assert_eq!(kind(disk.open("none", access)), Some(ErrorKind::NotFound));
            assert_eq!(
                kind(disk.open("none/file", access)),
                Some(ErrorKind::NotFound)
            );
            assert_eq!(kind(disk.open("dir", access)), Some(ErrorKind::InvalidData));
            assert_eq!(disk.open("file", access).unwrap().len().unwrap(), 1);
        }
        for name in ["file", "dir"] {
            let again = disk.open(name, Access::CreateNew);
            assert_eq!(kind(again), Some(ErrorKind::AlreadyExists));
        }
    });
}

#[test]
fn file_opened_to_read_cannot_be_changed() {
    on_both(|disk| {
        put(disk, "file", b"old");
        let file = disk.open("file", Access::Read).unwrap();
        assert!(file.write_at(b"new", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert_eq!(content(disk, "file"), b"old");
    });
}

#[test]
fn name_that_leaves_the_directory_is_refused() {
    on_both(|disk| {
        for name in [
            "",
            "..",
            "../x",
            "a/../x",
            "/etc/passwd",
            "a//b",
            "./a",
            "a/",
            "a\0",
            "c:x",
        ] {
            let opened = disk.open(name, Access::CreateNew);
            assert_eq!(kind(opened), Some(ErrorKind::InvalidInput), "{name:?}");
            assert_eq!(
                kind(disk.remove(name)),
                Some(ErrorKind::InvalidInput),
                "{name:?}"
            );
        }
    });
}

#[test]
fn renamed_and_removed_files_keep_their_bytes_for_those_who_have_them() {
    on_both(|disk| {
        let (a, b) = (put(disk, "a", b"aa"), put(disk, "b", b"b"));
        disk.rename("a", "b").unwrap();
        assert_eq!(content(disk, "b"), b"aa");
        assert_eq!(b.len().unwrap(), 1);
        disk.remove("b").unwrap();
        assert_eq!(a.len().unwrap(), 2);
        assert_eq!(kind(disk.remove("b")), Some(ErrorKind::NotFound));
        assert_eq!(kind(disk.rename("b", "c")), Some(ErrorKind::NotFound));
    });
}

#[test]
fn bytes_not_written_are_zeros() {
    on_both(|disk| {
        let file = put(disk, "file", &[7; 5000]);
        file.set_len(3).unwrap();
        file.set_len(4).unwrap();
        write_all_at(&*file, b"x", 6000).unwrap();
        let mut expected = vec![0; 6001];
        expected[..3].fill(7);
        expected[6000] = b'x';
        assert!(content(disk, "file") == expected);
        let mut beyond = [1];
        assert_eq!(file.read_at(&mut beyond, 6001).unwrap(), 0);
        assert_eq!(file.read_at(&mut beyond, 1 << 40).unwrap(), 0);
        let short = read_exact_at(&*file, &mut [0; 2], 6000);
        assert_eq!(kind(short), Some(ErrorKind::UnexpectedEof));
        file.sync_data().unwrap();
        file.sync_all().unwrap();
    });
}

#[test]
fn map_sees_later_writes_below_its_length() {
    on_both(|disk| {
        let file = put(disk, "file", b"one");
        let map = file.map(10_000).unwrap();
        assert_eq!(map.slice(0, 3).unwrap(), b"one");
        write_all_at(&*file, b"two", 8000).unwrap();
        assert_eq!(map.slice(8000, 3).unwrap(), b"two");
        assert_eq!(
            file.len().unwrap(),
            8003,
            "a map does not lengthen its file"
        );
    });
}

#[test]
fn map_stays_when_the_file_grows_and_goes() {
    on_both(|disk| {
        let file = put(disk, "file", b"one");
        let (small, empty) = (file.map(4096).unwrap(), file.map(0).unwrap());
        write_all_at(&*file, b"far", 1 << 20).unwrap();
        write_all_at(&*file, b"two", 3).unwrap();
        write_all_at(&*file, b"edge", 4094).unwrap();
        let large = file.map((1 << 20) + 3).unwrap();
        drop(file);
        disk.remove("file").unwrap();
        assert_eq!(small.slice(0, 6).unwrap(), b"onetwo");
        assert_eq!(small.slice(4094, 2).unwrap(), b"ed");
        assert_eq!(large.slice(4094, 4).unwrap(), b"edge");
        assert_eq!(large.slice(1 << 20, 3).unwrap(), b"far");
        assert_eq!(empty.slice(0, 0).unwrap(), b"");
    });
}

#[test]
fn nothing_outside_a_map_is_lent() {
    on_both(|disk| {
        let map = put(disk, "file", b"0123456789").map(8).unwrap();
        assert_eq!(map.slice(6, 2).unwrap(), b"67");
        assert_eq!(map.slice(8, 0).unwrap(), b"");
        for (offset, len) in [(6, 3), (9, 0), (u64::MAX, 1), (1, usize::MAX)] {
            assert!(map.slice(offset, len).is_none(), "{offset} {len}");
        }
    });
}

#[test]
fn replaced_file_is_whole_and_leaves_nothing_beside_it() {
    on_both(|disk| {
        disk.create_dir("dir").unwrap();
        put(disk, "dir/name.tmp", b"left by a crash");
        for bytes in [&b"first"[..], b"2nd"] {
            replace(disk, "dir/name", bytes).unwrap();
            assert_eq!(content(disk, "dir/name"), bytes);
            assert_eq!(names(disk, "dir"), ["name"]);
        }
    });
}

#[test]
fn failed_replace_leaves_the_old_file() {
    on_both(|disk| {
        replace(disk, "name", b"old").unwrap();
        disk.create_dir("name.tmp").unwrap();
        assert!(replace(disk, "name", b"new").is_err());
        assert_eq!(content(disk, "name"), b"old");
    });
}

/// Every other call is interrupted, the others move at most `most` bytes.
#[derive(Debug)]
struct Stingy {
    inner: Arc<dyn DiskFile>,
    most: usize,
    calls: AtomicU32,
}

impl Stingy {
    fn file(inner: Arc<dyn DiskFile>, most: usize) -> Stingy {
        Stingy {
            inner,
            most,
            calls: AtomicU32::new(0),
        }
    }

    fn interrupt(&self) -> io::Result<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(ErrorKind::Interrupted.into()),
            _ => Ok(()),
        }
    }
}

impl DiskFile for Stingy {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.interrupt()?;
        let most = self.most.min(buffer.len());
        self.inner.read_at(&mut buffer[..most], offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.interrupt()?;
        self.inner
            .write_at(&bytes[..self.most.min(bytes.len())], offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn map(&self, len: u64) -> io::Result<Map> {
        self.inner.map(len)
    }
}

#[test]
fn short_and_interrupted_calls_are_completed() {
    on_both(|disk| {
        let file = Stingy::file(put(disk, "file", b""), 3);
        write_all_at(&file, b"0123456789", 5).unwrap();
        let mut back = [0; 10];
        read_exact_at(&file, &mut back, 5).unwrap();
        assert_eq!(&back, b"0123456789");
        assert_eq!(file.map(15).unwrap().slice(5, 10).unwrap(), b"0123456789");
    });
}

#[test]
fn write_of_nothing_is_an_error() {
    on_both(|disk| {
        let file = Stingy::file(put(disk, "file", b""), 0);
        let error = write_all_at(&file, b"x", 0).unwrap_err();
        assert_eq!(
            (error.written, error.source.kind()),
            (0, ErrorKind::WriteZero)
        );
    });
}

/// Takes one byte, then says "try again" for ever.
#[derive(Debug)]
struct Stuck(AtomicU32);

impl DiskFile for Stuck {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(2)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(1),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn map(&self, _: u64) -> io::Result<Map> {
        Err(ErrorKind::Unsupported.into())
    }
}

#[test]
fn endless_try_again_ends_and_says_how_far_it_came() {
    let file = Stuck(AtomicU32::new(0));
    let error = write_all_at(&file, b"xyz", 0).unwrap_err();
    assert_eq!(
        (error.written, error.source.kind()),
        (1, ErrorKind::WouldBlock)
    );
    assert_eq!(file.0.into_inner(), 1 + 1 + MAX_RETRIES);
}

#[test]
fn disk_that_claims_more_than_it_was_given_is_an_error() {
    assert!(read_exact_at(&Stuck(AtomicU32::new(0)), &mut [0], 0).is_err());
}
