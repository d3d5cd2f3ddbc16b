//! Signed notes and their keys: C2SP `signed-note`, with Ed25519 and nothing else. What is signed is not known here.
//!
//! | text | what |
//! | --- | --- |
//! | `<name>+<id, 8 hex digits>+<base64(0x01, public key)>` | a verifier key; the id is the beginning of SHA-256(name, 0x0a, 0x01, public key) |
//! | `PRIVATE+KEY+<name>+<id>+<base64(0x01, seed)>` | a signing key, as the note tools of Go write it |
//! | text, empty line, `— <name> <base64(id, signature)>` | a note; the signature is of the text with its last newline |

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The signature type of Ed25519.
const ED25519_TYPE: u8 = 1;

const PRIVATE: &str = "PRIVATE+KEY+";

/// Em dash and space.
pub const SIGNATURE: &str = "\u{2014} ";

/// A public key and the name that it signs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

impl VerifierKey {
    fn new(name: &str, public: [u8; 32]) -> Result<Self, String> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(format!("`{name}` is no name of a key: expected text without spaces and without `+`"));
        }
        let hash = Sha256::new().chain_update(name).chain_update([b'\n', ED25519_TYPE]).chain_update(public).finalize();
        Ok(Self { name: name.to_owned(), id: [hash[0], hash[1], hash[2], hash[3]], public })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn verify(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), encode(&self.public))
    }
}

impl FromStr for VerifierKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |why: &str| format!("`{text}` is no verifier key (NAME+ID+KEY): {why}");
        let (name, id, key) = parts(text).ok_or_else(|| wrong("it has no three parts"))?;
        let public = decode(key).ok_or_else(|| wrong("its last part is not the base64 of an Ed25519 key"))?;
        let known = Self::new(name, public)?;
        if hex::encode(known.id) == id { Ok(known) } else { Err(wrong("its id does not fit name and key")) }
    }
}

/// A private key. Its text is a secret; this holds it only inside of the signer.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifierKey,
}

impl SigningKey {
    /// No part of the text appears in an error.
    pub fn parse(text: &SecretString) -> Result<Self, String> {
        let wrong = || "expected a signing key as `PRIVATE+KEY+NAME+ID+KEY`".to_owned();
        let rest = text.expose_secret().trim().strip_prefix(PRIVATE).ok_or_else(wrong)?;
        let (name, id, key) = parts(rest).ok_or_else(wrong)?;
        let key = Self::of(name, &decode(key).ok_or_else(wrong)?)?;
        if hex::encode(key.public.id) == id { Ok(key) } else { Err("its id does not fit name and key".to_owned()) }
    }

    /// A new one, and its text. `name` is given the public key in hex.
    pub fn generate(name: impl FnOnce(&str) -> String) -> Result<(Self, SecretString), String> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| "the system has no randomness".to_owned())?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| error.to_string())?;
        let key = Self::of(&name(&hex::encode(pair.public_key())), &seed)?;
        let public = &key.public;
        let text = format!("{PRIVATE}{}+{}+{}", public.name, hex::encode(public.id), encode(&seed));
        Ok((key, SecretString::from(text)))
    }

    fn of(name: &str, seed: &[u8; 32]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|error| error.to_string())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| "not an Ed25519 key".to_owned())?;
        Ok(Self { public: VerifierKey::new(name, public)?, pair })
    }

    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// The text, which ends in a newline, as a signed note.
    pub fn sign(&self, text: &str) -> String {
        let signature = [&self.public.id[..], self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n{SIGNATURE}{} {}\n", self.public.name, STANDARD.encode(signature))
    }
}

/// The text of a note that one of the keys has signed. Signatures by other keys are nobody's affair here.
pub fn open<'a>(note: &'a str, keys: &[VerifierKey]) -> Result<&'a str, String> {
    if note.contains(|c: char| c < ' ' && c != '\n') {
        return Err("it has control characters".to_owned());
    }
    let end = note.rfind("\n\n").ok_or("it has no signatures")?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err("its signatures are cut off".to_owned());
    }
    let mut signers = Vec::new();
    let mut signed = false;
    for line in signatures.lines() {
        let parts = line.strip_prefix(SIGNATURE).and_then(|line| line.split_once(' '));
        let (name, signature) = parts.ok_or_else(|| format!("`{line}` is no signature"))?;
        let signature = STANDARD.decode(signature).ok().filter(|signature| signature.len() > 4);
        let signature = signature.ok_or_else(|| format!("`{line}` is no signature"))?;
        let (id, signature) = signature.split_at(4);
        signers.push(format!("{name}+{}", hex::encode(id)));
        if let Some(key) = keys.iter().find(|key| key.name == name && key.id == id) {
            if !key.verify(text, signature) {
                return Err(format!("the signature of {name}+{} is wrong", hex::encode(id)));
            }
            signed = true;
        }
    }
    let wanted = || keys.iter().map(|key| format!("{}+{}", key.name, hex::encode(key.id))).collect::<Vec<_>>();
    if signed {
        Ok(text)
    } else {
        Err(format!("it is signed by {}, and not by {}", signers.join(", "), wanted().join(" or ")))
    }
}

fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    Some((name, id, key))
}

fn encode(key: &[u8; 32]) -> String {
    STANDARD.encode([&[ED25519_TYPE], &key[..]].concat())
}

fn decode(text: &str) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(text).ok()?;
    let (kind, key) = bytes.split_first()?;
    (*kind == ED25519_TYPE).then(|| key.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of Go's package golang.org/x/mod/sumdb/note.
    const PRIVATE_KEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const PUBLIC_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_is_signed_and_read_as_go_does_it() {
        let key = SigningKey::parse(&SecretString::from(PRIVATE_KEY)).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC_KEY);
        assert_eq!(key.sign(TEXT), NOTE);
        assert_eq!(open(NOTE, &[PUBLIC_KEY.parse().unwrap()]).unwrap(), TEXT);
    }

    #[test]
    fn a_note_with_any_other_byte_is_refused() {
        let key = PUBLIC_KEY.parse::<VerifierKey>().unwrap();
        for at in 0..NOTE.len() {
            for bit in 0..8 {
                let mut bytes = NOTE.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                assert!(open(&text, std::slice::from_ref(&key)).is_err(), "byte {at}, bit {bit}: {text}");
            }
            let cut = NOTE.is_char_boundary(at).then(|| &NOTE[..at]);
            assert!(cut.is_none_or(|cut| open(cut, std::slice::from_ref(&key)).is_err()), "cut at {at}");
        }
    }

    #[test]
    fn a_signature_of_somebody_else_does_not_count_and_does_not_harm() {
        let (other, text) = SigningKey::generate(|_| "other".to_owned()).unwrap();
        assert_eq!(SigningKey::parse(&text).unwrap().public(), other.public());
        let key = PUBLIC_KEY.parse::<VerifierKey>().unwrap();
        let both = format!("{NOTE}{}", other.sign(TEXT).strip_prefix(TEXT).unwrap().trim_start());
        assert_eq!(open(&both, std::slice::from_ref(&key)).unwrap(), TEXT);
        assert_eq!(open(&both, &[other.public().clone()]).unwrap(), TEXT);
        let refused = open(&other.sign(TEXT), &[key]).unwrap_err();
        assert!(
            refused.contains("is signed by other+") && refused.contains("not by PeterNeumann+c74f20a3"),
            "{refused}"
        );
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_a_private_one() {
        for text in ["", "a", "a+b", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "a+b+AQ=="] {
            assert!(text.parse::<VerifierKey>().is_err(), "{text}");
        }
        for text in [PRIVATE_KEY.replace("c74f20a3", "c74f20a4"), PRIVATE_KEY[12..].to_owned(), "x".to_owned()] {
            let error = SigningKey::parse(&SecretString::from(text)).err().expect("it is none");
            assert!(!error.contains("AYEK"), "{error}");
        }
    }
}
