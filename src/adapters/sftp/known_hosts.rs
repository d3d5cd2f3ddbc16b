//! OpenSSH's known_hosts: whether a key is the one that a host is known by.
//!
//! Written out because libssh2's own reader knows no wildcards, negation or markers. Not here: reading the
//! file and talking to the host ([`super::connect`]).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The lines of a known_hosts file that can be read. OpenSSH skips the others too.
#[derive(Debug)]
pub struct KnownHosts(Vec<Entry>);

/// What the file says of a host and the key it has shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The host is known by this key.
    Known,
    /// This very key is marked `@revoked`.
    Revoked { line: usize },
    /// The host is known by other keys only.
    Changed { line: usize, known_type: String },
    /// Only a `@cert-authority` line speaks of this host, and host certificates are not supported.
    AuthorityOnly { line: usize },
    /// Nothing speaks of this host.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    marker: Marker,
    names: Names,
    key_type: String,
    key: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Debug)]
enum Names {
    /// Patterns with `*`, `?` and a leading `!`.
    Patterns(Vec<String>),
    /// HMAC-SHA1 of the name.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl KnownHosts {
    pub fn parse(text: &str) -> Self {
        Self(text.lines().enumerate().filter_map(|(index, text)| Entry::parse(index + 1, text)).collect())
    }

    /// What the file says of the host `name` (see [`name_of`]) that has shown `key`.
    pub fn check(&self, name: &str, key: &[u8]) -> Verdict {
        let find = |marker, with_key: Option<&[u8]>| {
            self.of_host(name, marker).find(|entry| with_key.is_none_or(|key| entry.key == key))
        };
        if let Some(entry) = find(Marker::Revoked, Some(key)) {
            Verdict::Revoked { line: entry.line }
        } else if find(Marker::None, Some(key)).is_some() {
            Verdict::Known
        } else if let Some(entry) = find(Marker::None, None) {
            Verdict::Changed { line: entry.line, known_type: entry.key_type.clone() }
        } else if let Some(entry) = find(Marker::Authority, None) {
            Verdict::AuthorityOnly { line: entry.line }
        } else {
            Verdict::Unknown
        }
    }

    /// The types of key that the host is known by, to be asked for first: a host that has several would
    /// otherwise show one that isn't in the file.
    pub fn key_types(&self, name: &str) -> Vec<String> {
        self.of_host(name, Marker::None).map(|entry| entry.key_type.clone()).collect()
    }

    fn of_host<'a>(&'a self, name: &'a str, marker: Marker) -> impl Iterator<Item = &'a Entry> {
        self.0.iter().filter(move |entry| entry.marker == marker && entry.names.contain(name))
    }
}

/// The name under which known_hosts keeps a host.
pub fn name_of(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// A key's fingerprint, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

impl Entry {
    fn parse(line: usize, text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut names = words.next().filter(|word| !word.starts_with('#'))?;
        let marker = match names {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::Authority,
            _ if names.starts_with('@') => return None,
            _ => Marker::None,
        };
        if marker != Marker::None {
            names = words.next()?;
        }
        let key_type = words.next()?.to_owned();
        let key = STANDARD.decode(words.next()?).ok()?;
        Some(Self { line, marker, names: Names::parse(names)?, key_type, key })
    }
}

impl Names {
    fn parse(text: &str) -> Option<Self> {
        let Some(hashed) = text.strip_prefix("|1|") else {
            return Some(Self::Patterns(text.split(',').map(str::to_ascii_lowercase).collect()));
        };
        let (salt, hash) = hashed.split_once('|')?;
        Some(Self::Hashed { salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? })
    }

    fn contain(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let matching = |pattern: &str| matches(pattern.as_bytes(), name.as_bytes());
                patterns.iter().any(|pattern| matching(pattern))
                    && !patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(matching)
            }
            Self::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        }
    }
}

/// `*` is any text and `?` any one character. Only the last star is tried again, so it stays quadratic at worst.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, t) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
