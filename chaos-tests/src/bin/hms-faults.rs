//! `hms` with fault points compiled in: `HMS_FAULT` names the faults it is to have (`src/fault.rs`). Never installed.

fn main() -> std::process::ExitCode {
    hms_sync::cli::main()
}
