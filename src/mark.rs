//! How long a journal was when it was last synced, and how many entries it had, in a file beside it. A torn end that nobody was promised and
//! bytes that were on disk to stay look alike in the journal itself; the mark tells them apart.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | length, little-endian |
//! | 8 | entries, for journals that count them |
//! | 4 | CRC-32 of both |
//!
//! It is written after each sync and never synced itself: it may be behind the journal, never ahead of it. One that
//! can't be read or written tells nothing, and nothing waits for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The mark of one journal.
#[derive(Debug)]
pub struct Mark(Option<File>);

/// What a mark says was on disk to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marked {
    pub length: u64,
    pub entries: u64,
}

pub const EXTENSION: &str = "mark";

impl Mark {
    /// Opens or creates the mark of a journal; with it what it says, nothing if it is new.
    pub fn open(journal: &Path) -> (Self, Marked) {
        let path = path_of(journal);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        match file {
            Ok(file) => {
                let marked = read(&file).unwrap_or_default();
                (Self(Some(file)), marked)
            }
            Err(error) => {
                tracing::warn!("{}: {error}: a journal that loses its end would not be noticed", path.display());
                (Self(None), Marked::default())
            }
        }
    }

    /// So much of the journal is on disk to stay.
    pub fn set(&self, marked: Marked) {
        // Behind is allowed: on a full disk the mark may stay where it was.
        let _ = self.write(marked);
    }

    /// The journal is about to become shorter: on return the mark promises nothing, also after power loss.
    pub fn withdraw(&self) -> io::Result<()> {
        self.write(Marked::default())?;
        self.0.as_ref().map_or(Ok(()), File::sync_all)
    }

    fn write(&self, marked: Marked) -> io::Result<()> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&marked.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&marked.entries.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        self.0.as_ref().map_or(Ok(()), |file| file.write_all_at(&bytes, 0))
    }
}

/// What the mark of a journal says, if there is one.
pub fn of(journal: &Path) -> Marked {
    File::open(path_of(journal)).ok().and_then(|file| read(&file)).unwrap_or_default()
}

fn read(file: &File) -> Option<Marked> {
    let mut bytes = [0; 20];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (entries, crc) = rest.split_first_chunk::<8>()?;
    let sound = crc32fast::hash(&bytes[..16]).to_le_bytes() == crc;
    sound.then(|| Marked { length: u64::from_le_bytes(*length), entries: u64::from_le_bytes(*entries) })
}

/// Where the mark of a journal is.
pub fn path_of(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(".");
    path.push(EXTENSION);
    path.into()
}

/// The journal is not written any more, or gone.
pub fn remove(journal: &Path) {
    // One that is left says nothing of a file that is followed by another.
    let _ = fs::remove_file(path_of(journal));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_damaged_one_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("k.log");
        let (mark, before) = Mark::open(&journal);
        assert_eq!(before, Marked::default());
        let marked = Marked { length: 77, entries: 3 };
        mark.set(marked);
        assert_eq!(Mark::open(&journal).1, marked);
        let whole = fs::read(path_of(&journal)).unwrap();
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            fs::write(path_of(&journal), &wrong).unwrap();
            assert_eq!(Mark::open(&journal).1, Marked::default(), "byte {at}");
            fs::write(path_of(&journal), &whole[..at]).unwrap();
            assert_eq!(Mark::open(&journal).1, Marked::default(), "cut at {at}");
        }
        mark.withdraw().unwrap();
        assert_eq!(Mark::open(&journal).1, Marked::default());
    }
}
