//! The hashes of the tree on disk, so that a proof reads a few KiB and not the audit: `audit/tree/<n>` holds, 32 bytes
//! each and in order, the roots of the complete subtrees of 256^n records: 0 the leaves, 1 those of 256, 2 of 65,536.
//!
//! 256 neighbours are a tile. The checksum of a complete tile is its root, which stands in the file above; the last,
//! incomplete ones add up to the root that is signed. All of it can be made anew from the records, so that nothing waits
//! for a sync: `0.mark` ([`crate::mark`], its length is a number of records) says up to where it was synced. Only the hashes of
//! records that were moved out (`store/pruning.rs`) have nothing behind them; they are synced before that.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hms_actors::failure::Failure;

use crate::mark::{Mark, Marked};
use crate::proof::Hash;
use crate::proof::tree::{self, Edge, Nodes};
use crate::store::file::at;

/// Levels of one tile, as a power of two, and hashes in it.
const HEIGHT: u32 = 8;
const TILE: u64 = 1 << HEIGHT;

/// 256^5 records are enough.
const FILES: usize = 5;

/// After so many records the files are synced.
const SYNC: u64 = 1 << 16;

pub(super) struct Hashes {
    dir: PathBuf,
    files: Vec<File>,
    mark: Mark,
    synced: AtomicU64,
    /// Records of which the hashes are there.
    size: AtomicU64,
    /// Records that were moved out: below, nothing can be made anew.
    moved_out: AtomicU64,
}

impl Hashes {
    /// The hashes of at most so many records, as far as they were synced, and the edge of that tree. If they are damaged, or do not
    /// reach so far, that of the records that were moved out.
    pub fn open(dir: &Path, most: u64, base: &Edge) -> Result<(Self, Edge), Failure> {
        std::fs::create_dir_all(dir).map_err(|e| at(dir, "create", &e))?;
        let open = |number: usize| {
            let path = dir.join(number.to_string());
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            file.map_err(|e| at(&path, "open", &e))
        };
        let files = (0..FILES).map(open).collect::<Result<Vec<_>, _>>()?;
        let (mark, Marked { length: marked, .. }) = Mark::open(&dir.join("0"));
        let size = marked.min(most);
        let hashes = Self {
            dir: dir.to_owned(),
            files,
            mark,
            synced: AtomicU64::new(size),
            size: AtomicU64::new(size),
            moved_out: AtomicU64::new(base.size()),
        };
        let why = match Edge::of(&hashes, size) {
            Ok(edge) if size >= base.size() => return Ok((hashes, edge)),
            Ok(_) => format!("there are {size} hashes"),
            Err(failure) => failure.message,
        };
        tracing::warn!("{}: {why}: all hashes from record {} on are made anew", dir.display(), base.size());
        hashes.forget(base);
        Ok((hashes, base.clone()))
    }

    /// Begins anew, after the records that were moved out.
    pub fn forget(&self, base: &Edge) {
        self.size.store(base.size(), Ordering::Release);
        self.synced.store(base.size(), Ordering::Release);
        self.mark.set(Marked { length: base.size(), ..Marked::default() });
    }

    /// The records below `first` are gone.
    pub fn moved_out(&self, first: u64) {
        self.moved_out.store(first, Ordering::Release);
    }

    /// Whether the leaves from `first` on are these.
    pub fn same_leaves(&self, first: u64, leaves: &[Hash]) -> Result<(), Failure> {
        let stored = self.read(0, first, leaves.len() as u64)?;
        let Some(differs) = stored.iter().zip(leaves).position(|(stored, leaf)| stored != leaf) else { return Ok(()) };
        Err(self.damaged(&format!("that of record {} is not the record's", first + differs as u64)))
    }

    /// Adds leaves to the tree and what is complete with them to the files. After an error the edge is not to be used.
    pub fn append(&self, edge: &mut Edge, leaves: &[Hash]) -> Result<(), Failure> {
        let first = edge.size();
        let mut made: Vec<(u64, Vec<u8>)> = (0..FILES as u32).map(|n| (first >> (n * HEIGHT), Vec::new())).collect();
        for leaf in leaves {
            edge.push_and_tell(*leaf, |level, _, hash| {
                if level.is_multiple_of(HEIGHT)
                    && let Some((_, bytes)) = made.get_mut((level / HEIGHT) as usize)
                {
                    bytes.extend_from_slice(hash);
                }
            });
        }
        for (number, (index, bytes)) in made.iter().enumerate() {
            let written = self.files[number].write_all_at(bytes, index * 32);
            written.map_err(|e| at(&self.dir.join(number.to_string()), "write", &e))?;
        }
        self.size.store(edge.size(), Ordering::Release);
        if edge.size() - self.synced.load(Ordering::Acquire) >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// On return they are on disk to stay.
    pub fn sync(&self) -> Result<(), Failure> {
        self.try_sync().map_err(|e| at(&self.dir, "sync", &e))
    }

    fn try_sync(&self) -> io::Result<()> {
        let size = self.size.load(Ordering::Acquire);
        self.files.iter().try_for_each(File::sync_data)?;
        self.synced.store(size, Ordering::Release);
        self.mark.set(Marked { length: size, ..Marked::default() });
        Ok(())
    }

    pub fn damaged(&self, why: &str) -> Failure {
        let dir = self.dir.display();
        let mend = match self.moved_out.load(Ordering::Acquire) {
            0 => format!("stop the node, rm -r {dir}, and start it again; they are made anew"),
            first => format!(
                "stop the node, restore {dir} from a backup (records below {first} were moved out), and start it again"
            ),
        };
        Failure::node(format!("the hashes in {dir} are damaged: {why}. The records are not touched by that: {mend}"))
    }

    /// The tile in which a hash is, checked if it is complete, and where it begins.
    fn tile(&self, file: usize, index: u64) -> Result<(Vec<Hash>, u64), Failure> {
        let number = index / TILE;
        let first = number * TILE;
        let count = self.size.load(Ordering::Acquire) >> (file as u32 * HEIGHT);
        let there = count.saturating_sub(first).min(TILE);
        let tile = self.read(file, first, there)?;
        if there == TILE && file + 1 < FILES {
            let above = self.read(file + 1, number, 1)?;
            if above.first() != Some(&fold(tile.clone())) {
                return Err(self.damaged(&format!("tile {number} of file {file} is not what was hashed")));
            }
        }
        Ok((tile, first))
    }

    fn read(&self, file: usize, first: u64, count: u64) -> Result<Vec<Hash>, Failure> {
        let mut bytes = vec![0; count as usize * 32];
        let read = self.files[file].read_exact_at(&mut bytes, first * 32);
        read.map_err(|e| self.damaged(&format!("file {file} can't be read at hash {first}: {e}")))?;
        let (hashes, _) = bytes.as_chunks::<32>();
        Ok(hashes.to_vec())
    }
}

impl Drop for Hashes {
    /// So that the next start has nothing to hash.
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::debug!("{}: {error}", self.dir.display());
        }
    }
}

impl Nodes for Hashes {
    type Error = Failure;

    fn node(&self, level: u32, index: u64) -> Result<Hash, Failure> {
        let (file, height) = ((level / HEIGHT) as usize, level % HEIGHT);
        let (tile, first) = self.tile(file, index << height)?;
        let begin = ((index << height) - first) as usize;
        let part = tile.get(begin..begin + (1 << height));
        Ok(fold(part.ok_or_else(|| self.damaged(&format!("file {file} ends before hash {index}")))?.to_vec()))
    }
}

/// The root of a complete subtree.
fn fold(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| tree::join(&pair[0], &pair[1])).collect();
    }
    hashes[0]
}
