//! Checkpoints: C2SP `tlog-checkpoint`, the root of the audit's tree at one size, as a signed note.
//!
//! ```text
//! <origin: which log this is>
//! <number of records>
//! <base64 of the root>
//!
//! — <key name> <base64 of key id and signature>
//! ```

use std::fmt;

use super::note::{self, SIGNATURE, SigningKey, VerifierKey};
use super::tree::Hash;
use super::{base64, hash_of, number};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, base64(&self.root))
    }
}

impl Checkpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.strip_suffix('\n').ok_or("its text has no end")?.split('\n');
        let mut line = |what: &str| lines.next().filter(|line| !line.is_empty()).ok_or(format!("it has no {what}"));
        let origin = line("origin")?.to_owned();
        let size = line("size")?;
        let root = line("root")?;
        let size = number(size).ok_or_else(|| format!("`{size}` is no size"))?;
        let root = hash_of(root).ok_or_else(|| format!("`{root}` is no root"))?;
        if lines.any(str::is_empty) {
            return Err("its text has an empty line".to_owned());
        }
        Ok(Self { origin, size, root })
    }
}

/// A checkpoint with the note that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub checkpoint: Checkpoint,
    pub note: String,
}

impl Signed {
    pub fn sign(checkpoint: Checkpoint, key: &SigningKey) -> Self {
        Self { note: key.sign(&checkpoint.to_string()), checkpoint }
    }

    /// A note of one of these keys about the log of that name.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, String> {
        let checkpoint = Checkpoint::parse(note::open(note, keys)?)?;
        let names = || keys.iter().map(VerifierKey::name).collect::<Vec<_>>();
        if !names().contains(&checkpoint.origin.as_str()) {
            return Err(format!("it is of the log {}, and not of {}", checkpoint.origin, names().join(" or ")));
        }
        Ok(Self { checkpoint, note: note.to_owned() })
    }

    /// What a note says, whoever signed it.
    pub fn unchecked(note: &str) -> Result<Checkpoint, String> {
        let end = note.rfind("\n\n").ok_or("it has no signatures")?;
        let signatures = &note[end + 2..];
        if !signatures.starts_with(SIGNATURE) || !signatures.ends_with('\n') {
            return Err("its signatures are cut off".to_owned());
        }
        Checkpoint::parse(&note[..=end])
    }
}

/// The notes of a file that holds one or several, one after the other, as anchors do.
pub fn notes(text: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let (mut note, mut is_signed) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        let signature = line.starts_with(SIGNATURE);
        if is_signed && !signature {
            notes.push(std::mem::take(&mut note));
            is_signed = false;
        }
        if !note.is_empty() || line != "\n" {
            note.push_str(line);
        }
        is_signed |= signature;
    }
    if !note.is_empty() {
        notes.push(note);
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::generate(|_| name.to_owned()).unwrap().0
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: "log".to_owned(), size, root: [7; 32] }
    }

    #[test]
    fn a_checkpoint_is_three_lines_and_a_signature() {
        let key = key("log");
        let signed = Signed::sign(checkpoint(12), &key);
        let root = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        assert!(signed.note.starts_with(&format!("log\n12\n{root}\n\n\u{2014} log ")), "{}", signed.note);
        assert_eq!(Signed::open(&signed.note, &[key.public().clone()]).unwrap(), signed);
    }

    #[test]
    fn what_is_signed_but_no_checkpoint_of_this_log_is_refused() {
        let key = key("log");
        let root = base64(&[7; 32]);
        for (text, why) in [
            (format!("other\n1\n{root}\n"), "it is of the log other, and not of log"),
            (format!("log\n01\n{root}\n"), "`01` is no size"),
            (format!("log\n+1\n{root}\n"), "`+1` is no size"),
            ("log\n1\nAAAA\n".to_owned(), "`AAAA` is no root"),
            ("log\n1\n".to_owned(), "it has no root"),
        ] {
            assert_eq!(Signed::open(&key.sign(&text), &[key.public().clone()]).unwrap_err(), why);
        }
        let more = format!("log\n1\n{root}\nan extension\n");
        assert!(Signed::open(&key.sign(&more), &[key.public().clone()]).is_ok());
    }

    #[test]
    fn notes_one_after_the_other_are_told_apart() {
        let key = key("log");
        let of = |size| Signed::sign(checkpoint(size), &key).note;
        let both = format!("{}\n{}", of(1), of(2));
        assert_eq!(notes(&both), [of(1), of(2)]);
        assert_eq!(notes(&format!("{}{}", of(1), of(2))), [of(1), of(2)]);
        assert_eq!(notes(&of(3)), [of(3)]);
        assert_eq!(notes(""), Vec::<String>::new());
        let torn = format!("{}\n{}", of(1), &of(2)[..9]);
        assert_eq!(notes(&torn), [of(1), of(2)[..9].to_owned()]);
    }
}
