//! The `hms` command. Its life is the command line's: see `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hms_sync::cli::main()
}
