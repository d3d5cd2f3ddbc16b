//! A power cut: what the disk was never asked to keep is gone. A kill alone loses nothing that was written, so the
//! node says what it has synced (`HMS_FAULT=power`), and the rest is cut off. What is cut are the journals, which are
//! the truth; the cache beside them stays as it is, as if it had come to the disk by itself.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

/// What a file lost.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    pub file: PathBuf,
    pub bytes: u64,
}

/// Cuts the journals of a node that was killed. It must have run with `power` or `nosync` in its `HMS_FAULT`.
pub fn cut(data_dir: &Path) -> Vec<Lost> {
    let mut notes = Vec::new();
    for folder in ["events", "audit", "work"] {
        let entries = fs::read_dir(data_dir.join(folder)).expect("a node has run here");
        let paths = entries.map(|entry| entry.expect("the folder can be read").path());
        notes.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "synced")));
    }
    assert!(!notes.is_empty(), "no journal says what is synced: start the node with HMS_FAULT=power");
    notes.sort();
    notes.iter().filter_map(|note| cut_one(note)).collect()
}

fn cut_one(note: &Path) -> Option<Lost> {
    let text = fs::read_to_string(note).expect("the node wrote it");
    let synced: u64 = text.parse().expect("a length, whole or not at all");
    let file = note.with_extension("");
    // Retention may have removed or rewritten it; both are synced as a whole.
    let content = fs::read(&file).ok()?;
    let rest = content.get(usize::try_from(synced).expect("a file in memory")..)?;
    // Room ahead is zeros, and no loss.
    let bytes = rest.iter().rposition(|&byte| byte != 0)? as u64 + 1;
    OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(synced)).expect("the file is ours");
    Some(Lost { file, bytes })
}
