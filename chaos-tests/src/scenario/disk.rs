//! A small disk for the node's data, so that full is full. Needs root: it is a file system of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// It goes when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, bytes: u64) -> Self {
        fs::create_dir_all(at).expect("the home is writable");
        let mut mount = Command::new("mount");
        process::run(mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(at), b"").ok();
        Self(at.to_owned())
    }

    /// To the last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a name needs no room");
        let error = std::io::copy(&mut std::io::repeat(b'x'), &mut ballast).expect_err("the disk is small");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The node may still be ending in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
