//! The `hms` command. Its life is the command line's: see `cli`.

use std::process::ExitCode;

/// Memory is mostly given back on another thread than it was taken on: events are read on one, delivered on the next, their
/// receipts written on a third. glibc's allocator spent three quarters of a delivery's CPU on that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    hms_sync::cli::main()
}
