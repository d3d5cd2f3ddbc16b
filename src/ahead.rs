//! Room that a journal has on disk ahead of its end. The sync of an append that makes a file longer waits for the file
//! system to write that down as well; in room that is there already it waits for the bytes alone. The room reads as zeros,
//! with which no frame begins: for whoever opens the file it is a torn end without a byte in it.

use std::fs::File;
use std::io;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

const STEP: u64 = 256 << 10;

/// A larger append makes the file longer by itself: waiting for that is little beside its bytes.
const SMALL: u64 = 64 << 10;

/// Where the room of one file ends.
#[derive(Debug, Default)]
pub struct Ahead(u64);

impl Ahead {
    /// Sees to room for so many bytes after `end`, where the file's content ends. Without any the append itself tells
    /// whether it fits.
    pub fn reserve(&mut self, file: &File, end: u64, bytes: u64) {
        if bytes > SMALL || end + bytes <= self.0 {
            return;
        }
        self.0 = match rustix::fs::fallocate(file, FallocateFlags::empty(), end, bytes + STEP) {
            Ok(()) => end + bytes + STEP,
            Err(Errno::OPNOTSUPP) => u64::MAX,
            Err(_) => {
                // A part of it may be there, and on a full disk somebody else needs it.
                let _ = file.set_len(end);
                0
            }
        };
    }

    /// Cuts the file to its content.
    pub fn cut(&mut self, file: &File, end: u64) -> io::Result<()> {
        self.0 = 0;
        file.set_len(end)
    }

    pub fn is_there(&self) -> bool {
        self.0 > 0
    }
}
