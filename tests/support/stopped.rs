//! Work on the calling thread that is stopped at a call to its disk: the power goes before it, or it fails.

use super::dice::Dice;
use super::power::{Image, Keep, PowerDisk};
use super::ruled::Ruled;
use quipu::StoreErrorKind;
use quipu::io::Disk;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The failure of a call.
pub(crate) fn on_purpose() -> io::Error {
    io::Error::other("it fails on purpose")
}

/// The disk before each of whose changes the power goes; `check` gets what is left if nothing, everything or some of what
/// is not synced was kept.
pub(crate) fn cut_everywhere(
    power: PowerDisk,
    seed: u64,
    check: impl Fn(&Image, &str) + Send + Sync + 'static,
) -> Ruled {
    let (disk, calls) = (power.clone(), AtomicU64::new(0));
    Ruled::new(power, move |call| {
        if call.op.changes() {
            let number = calls.fetch_add(1, SeqCst);
            let mut dice = Dice::new(seed ^ number << 20);
            for keep in [Keep::Nothing, Keep::Everything, Keep::Some] {
                let image = disk.cut(keep, &mut dice);
                let what = format!("seed {seed}, cut {keep:?} before call {number}, {call:?}");
                check(&image, &what);
            }
        }
        Ok(())
    })
}

/// Has `work` done on a disk that holds `before`, again and again, while its first, its second, its third .. call fails,
/// until it makes no call that does; `check` gets what each time left.
pub(crate) fn fail_everywhere<T>(
    before: &Image,
    work: impl Fn(&Ruled) -> quipu::Result<T>,
    check: impl Fn(&Image, &str),
) {
    for failing in 0.. {
        let disk = before.disk();
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let ruled = Ruled::new(disk.clone(), move |_| {
            match counted.fetch_add(1, SeqCst) == failing {
                true => Err(on_purpose()),
                false => Ok(()),
            }
        });
        let result = work(&ruled);
        let what = format!("call {failing} failed");
        check(&Image::of(&disk), &what);
        match result {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Io, "{what}: {error}"),
            // What may fail, such as sharing the bytes, does not stop it.
            Ok(_) if calls.load(SeqCst) > failing => {}
            Ok(_) => return,
        }
    }
}

/// The disk on which a copy is stopped at its last step: no manifest can be written.
pub(crate) fn without_manifest(disk: impl Disk + 'static) -> Ruled {
    Ruled::new(disk, |call| match call.name {
        "manifest.tmp" => Err(on_purpose()),
        _ => Ok(()),
    })
}
