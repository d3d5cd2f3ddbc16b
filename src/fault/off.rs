//! Builds for use: every fault point is nothing.

use std::io;
use std::path::PathBuf;

use hms_actors::id::{Epoch, TargetKey};
use hms_actors::work::Work;

#[inline(always)]
pub fn point(_name: &str) {}

#[inline(always)]
pub fn adapter(_name: &str, _target: &TargetKey) {}

#[inline(always)]
pub fn sync(
    _file: impl FnOnce() -> PathBuf,
    _written: std::ops::Range<u64>,
    sync: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    sync()
}

#[inline(always)]
pub fn synced(_file: impl FnOnce() -> PathBuf, _length: u64) {}

#[inline(always)]
pub fn no_plan() -> bool {
    false
}

#[inline(always)]
pub fn no_epoch() -> bool {
    false
}

#[inline(always)]
pub fn ghost(_target: &TargetKey, _epoch: Epoch, _work: &Work) -> Option<(Epoch, Work)> {
    None
}
