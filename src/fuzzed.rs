//! Every reader of bytes that somebody else wrote, by name, for fuzzing: authors' recipes and configuration,
//! publishers' requests, known_hosts, templates, and what stands on the disk. No part of the product: compiled
//! for tests and with the feature `fuzzed` alone. Each reader takes any bytes; it must neither panic nor break the
//! property that its function states. The targets of chaos-tests/fuzz and the ordinary test below run
//! the very same functions.

use std::path::Path;

use crate::adapters::{rest, sftp};
use crate::config::NodeConfig;
use crate::yaml::diagnostics::Diagnostics;
use crate::{feeds, recipe, store};

#[cfg(test)]
mod tests;

/// A reader with its property.
pub type Fuzzed = fn(&[u8]);

/// In the order of their names, which are those of the folders of the corpus.
pub const TARGETS: [(&str, Fuzzed); 8] = [
    ("config", config),
    ("feed_frames", feeds::fuzzed::frames),
    ("known_hosts", sftp::fuzzed::known_hosts),
    ("path_template", recipe::fuzzed::path_template),
    ("publish", feeds::fuzzed::publish),
    ("recipe", recipe_text),
    ("store_records", store::fuzzed::records),
    ("url_template", url_template),
];

/// Runs one target. A name that is not listed is a mistake of the caller's.
pub fn run(name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, fuzzed) = found.expect("the name of a fuzz target");
    fuzzed(bytes);
}

/// `hms.yaml`: refused with a place, or taken.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(errors) = NodeConfig::parse("hms.yaml", text, Path::new("/etc/hms-sync"), Some(Path::new("/root"))) {
        placed(&errors, bytes);
    }
}

/// A recipe: refused with a place, or taken, and then the same again when its own text is read.
fn recipe_text(bytes: &[u8]) {
    match recipe::parse_bytes("fuzzed.yaml", bytes) {
        Ok(taken) => {
            assert_eq!(taken.text.as_bytes(), bytes);
            assert_eq!(recipe::parse("fuzzed.yaml", &taken.text).as_ref(), Ok(&taken));
            let mut places = recipe::meeting::Places::default();
            let alone = places.find(&taken);
            places.put(&taken);
            assert_eq!(places.find(&taken), alone);
        }
        Err(errors) => placed(&errors, bytes),
    }
}

/// Each error has a line of the text and a column, and words that can't forge a line of a log.
fn placed(errors: &Diagnostics, bytes: &[u8]) {
    let lines = bytes.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count() + 1;
    assert!(errors.iter().next().is_some(), "refused without a word");
    for error in errors.iter() {
        assert!(error.line >= 1 && error.column >= 1 && error.line as usize <= lines + 1, "{error:?}");
        assert!(!error.message.is_empty() && !error.message.contains(|c: char| c.is_control()), "{error:?}");
    }
    assert!(errors.iter().count() <= 101);
}

/// First line: a url; the rest: a field's value. What the recipe takes, the adapter takes or refuses in words, and no
/// value leads to another host.
fn url_template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (url, value) = text.split_once('\n').unwrap_or((text, ""));
    if let Some(fields) = recipe::fuzzed::url_fields(url) {
        rest::fuzzed::url_template(url, &fields, value);
    }
}
