//! Test builds: what each fault point does when `HMS_FAULT` wants it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use hms_actors::id::{Epoch, TargetKey};
use hms_actors::work::Work;

use super::grammar::{self, Fault, Wanted};

static WANTED: LazyLock<Vec<Wanted>> = LazyLock::new(|| {
    let text = std::env::var("HMS_FAULT").unwrap_or_default();
    grammar::parse(&text).unwrap_or_else(|error| {
        eprintln!("HMS_FAULT: {error}");
        std::process::exit(2)
    })
});

/// Ends the process at once if this point is wanted: no destructors, no flushing. What a test wants to see is
/// what the disk has.
pub fn point(name: &str) {
    let here = |wanted: &&Wanted| matches!(&wanted.fault, Fault::Die { point, nth } if point == name && wanted.passed() == *nth);
    if WANTED.iter().any(|wanted| here(&wanted)) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

/// The beginning of an adapter's attempt: it may panic or block here.
pub fn adapter(name: &str, target: &TargetKey) {
    for wanted in WANTED.iter() {
        match &wanted.fault {
            Fault::Panic { place, times } if place.is(name, target) && wanted.passed() <= *times => {
                panic!("HMS_FAULT wants a panic in {name} of {target}")
            }
            Fault::Stuck { place, times, wait } if place.is(name, target) && wanted.passed() <= *times => {
                std::thread::sleep(*wait)
            }
            _ => {}
        }
    }
}

/// Syncs the file, in which `written` is new, or leaves it out.
pub fn sync(
    file: impl FnOnce() -> PathBuf,
    written: Range<u64>,
    sync: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if !notes_syncs() {
        return sync();
    }
    let file = file();
    if !WANTED.iter().any(|wanted| wanted.fault.skips_sync_of(&file)) {
        sync()?;
        note(&file, written.end);
    } else if lock(&NOTED).insert(file.clone()) {
        note(&file, written.start);
    }
    Ok(())
}

/// A file was opened, and all of it is synced.
pub fn synced(file: impl FnOnce() -> PathBuf, length: u64) {
    if notes_syncs() {
        let file = file();
        note(&file, length);
        lock(&NOTED).insert(file);
    }
}

/// Files of which this process has noted what is synced.
static NOTED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

fn notes_syncs() -> bool {
    WANTED.iter().any(|wanted| matches!(wanted.fault, Fault::Power | Fault::NoSync { .. }))
}

/// Whole or not at all, whenever the process is killed.
fn note(file: &Path, length: u64) {
    let beside = |end: &str| PathBuf::from(format!("{}.{end}", file.display()));
    let (new, to) = (beside("syncing"), beside("synced"));
    let noted = fs::write(&new, length.to_string()).and_then(|()| fs::rename(&new, &to));
    noted.unwrap_or_else(|error| panic!("{}: {error}", to.display()));
}

pub fn no_plan() -> bool {
    WANTED.iter().any(|wanted| wanted.fault == Fault::NoPlan)
}

pub fn no_epoch() -> bool {
    WANTED.iter().any(|wanted| wanted.fault == Fault::NoEpoch)
}

/// What an incarnation that should be dead stores once more, after its successor has stored its own. The first
/// call for a target that is to have a ghost does not return.
pub fn ghost(target: &TargetKey, epoch: Epoch, work: &Work) -> Option<(Epoch, Work)> {
    static HELD: LazyLock<Mutex<HashMap<TargetKey, (Epoch, Work)>>> = LazyLock::new(Mutex::default);
    if !WANTED.iter().any(|wanted| matches!(&wanted.fault, Fault::Ghost { of } if grammar::names(of, target))) {
        return None;
    }
    let mut held = lock(&HELD);
    let first = held.get(target).cloned();
    if first.is_none() {
        held.insert(target.clone(), (epoch, work.clone()));
        drop(held);
        panic!("HMS_FAULT wants a ghost of {target}");
    }
    first
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
