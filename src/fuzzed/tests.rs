//! The seeded short part of fuzzing: the kept corpus and a few thousand changes of it, the same ones on every
//! machine. The long part is cargo-fuzz, in chaos-tests/fuzz.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{TARGETS, run};

/// Changed inputs per target.
const CASES: usize = 2_000;
/// Whatever is longer is cut: what a few more bytes could show isn't worth the time here.
const LONGEST: usize = 4_096;

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/chaos-tests/fuzz/corpus"))
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// SplitMix64: the same numbers on every machine and in every version.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    /// A kept input with one to four changes.
    fn changed(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = kept[self.below(kept.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, kept);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, kept: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(32)).min(bytes.len());
        match self.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => bytes.insert(at, [0, b'\n', b'{', b'"', b'.', b'/', 0x80, 0xff][self.below(8)]),
            4 => {
                let other = &kept[self.below(kept.len())];
                let from = self.below(other.len() + 1);
                let piece = other[from..].iter().take(self.below(64)).copied();
                bytes.splice(at..end, piece).for_each(drop);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }
}

fn fuzz(target: &str) {
    let kept = kept(target);
    kept.iter().for_each(|input| run(target, input));
    let mut numbers = Numbers(0x5eed);
    for case in 0..CASES {
        let input = numbers.changed(&kept);
        if std::panic::catch_unwind(|| run(target, &input)).is_err() {
            panic!("{target}, case {case}: keep this input in its corpus:\n{}", input.escape_ascii());
        }
    }
}

macro_rules! seeded {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            fuzz($target);
        })*

        #[test]
        fn every_target_has_a_test_a_corpus_and_a_program() {
            let tested = BTreeSet::from([$($target),*]);
            assert_eq!(tested, TARGETS.iter().map(|(name, _)| *name).collect());
            let folders = fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(folders.collect::<BTreeSet<_>>(), tested.iter().map(|&name| name.to_owned()).collect());
            let manifest = fs::read_to_string(corpus().with_file_name("Cargo.toml")).unwrap();
            for name in tested {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no program of chaos-tests/fuzz");
            }
        }
    };
}

seeded! {
    no_configuration_panics_or_is_refused_without_a_place: "config",
    no_segment_of_a_feed_panics_or_reads_back_otherwise: "feed_frames",
    no_known_hosts_file_panics_or_makes_a_revoked_key_known: "known_hosts",
    no_path_template_panics_or_leads_out_of_its_folder: "path_template",
    no_publish_panics_or_is_stored_otherwise_than_it_was_sent: "publish",
    no_recipe_panics_or_is_refused_without_a_place: "recipe",
    no_stored_record_panics_or_reads_back_otherwise: "store_records",
    no_url_template_panics_or_lets_a_value_choose_the_host: "url_template",
}

/// It is copied with every clone.
#[test]
fn the_corpus_stays_small() {
    let bytes: usize = TARGETS.iter().flat_map(|(name, _)| kept(name)).map(|input| input.len()).sum();
    assert!(bytes < 200 << 10, "{bytes} bytes");
}
