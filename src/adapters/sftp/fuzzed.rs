//! What is fuzzed here: known_hosts (see src/fuzzed.rs).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::known_hosts::{KnownHosts, Verdict, fingerprint};

const KEY: &[u8] = b"a key that no file has";

/// First line: the name of a host; the rest: a file. Whatever the file says, a key that isn't in it is never known, and
/// a line more that revokes a key wins over all others.
pub(crate) fn known_hosts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (name, file) = text.split_once('\n').unwrap_or(("partner.example", &text));
    let known = KnownHosts::parse(file);
    let encoded = STANDARD.encode(KEY);
    if !file.contains(&encoded) {
        assert_ne!(known.check(name, KEY), Verdict::Known, "{file}");
    }
    assert!(known.key_types(name).len() <= file.lines().count());
    for key in file.split_ascii_whitespace().filter_map(|word| STANDARD.decode(word).ok()).take(8) {
        let revoked = format!("{file}\n@revoked * ssh-ed25519 {}\n", STANDARD.encode(&key));
        let verdict = KnownHosts::parse(&revoked).check(name, &key);
        assert!(matches!(verdict, Verdict::Revoked { .. }), "{verdict:?} for {}: {revoked}", fingerprint(&key));
    }
}
