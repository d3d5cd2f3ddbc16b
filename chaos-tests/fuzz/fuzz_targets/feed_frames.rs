//! `feed_frames` of src/fuzzed.rs; no check of its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hms_sync::fuzzed::run("feed_frames", bytes));
