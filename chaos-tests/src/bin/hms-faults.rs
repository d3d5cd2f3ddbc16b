//! `hms` with fault points compiled in: `HMS_FAULT=point` ends it there as kill -9 would. Never installed.

fn main() -> std::process::ExitCode {
    hms_sync::cli::main()
}
