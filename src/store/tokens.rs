//! The tokens of the admin endpoint, in `tokens.json`: two lines, replaced as a whole.
//!
//! | line | what |
//! | --- | --- |
//! | 1 | `{"version":1,"tokens":[{"name","role","feeds","created","expires","sha256"}]}`; moments in milliseconds since 1970, `sha256` the hash of the token in hex |
//! | 2 | SHA-256 of the first line without its end, in hex |
//!
//! A token itself is stored nowhere. A file that does not fit its checksum is refused: nobody gets in by a torn one.
//! That an operator made or revoked a token stands in the audit; who may and how is not decided here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use hms_actors::failure::Failure;
use hms_actors::id::{FeedName, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::file::{at, sync_dir};
use crate::access::{Fingerprint, Role};

const FILE: &str = "tokens.json";
const VERSION: u32 = 1;

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub name: String,
    pub role: Role,
    pub feeds: Vec<FeedName>,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    #[serde(with = "hex::serde")]
    pub sha256: Fingerprint,
}

impl Token {
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    tokens: Vec<Token>,
}

/// The tokens of a node. Changes block on the disk and are there to stay on return.
pub struct Tokens {
    folder: PathBuf,
    all: RwLock<Arc<Vec<Token>>>,
}

impl Tokens {
    pub fn open(data: &Path) -> Result<Self, Failure> {
        let path = data.join(FILE);
        let all = match fs::read(&path) {
            Ok(bytes) => read(&bytes).map_err(|why| {
                let path = path.display();
                Failure::node(format!(
                    "{path}: {why}: restore it, or `rm {path}`: then all tokens end, and the node makes a new admin token"
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(at(&path, "read", &error)),
        };
        Ok(Self { folder: data.to_owned(), all: RwLock::new(Arc::new(all)) })
    }

    pub fn all(&self) -> Arc<Vec<Token>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token with this hash. It takes as long for all of them.
    pub fn find(&self, sha256: &Fingerprint) -> Option<Token> {
        let mut found = None;
        for token in self.all().iter() {
            if bool::from(token.sha256.ct_eq(sha256)) {
                found = Some(token.clone());
            }
        }
        found
    }

    /// Takes the place of one with the same name.
    pub fn put(&self, token: Token) -> Result<(), Failure> {
        self.change(|all| {
            all.retain(|other| other.name != token.name);
            all.push(token);
        })
    }

    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        self.change(|all| all.retain(|token| token.name != name))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Token>)) -> Result<(), Failure> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = all.to_vec();
        change(&mut new);
        let content = Content { version: VERSION, tokens: new };
        let line = serde_json::to_string(&content).map_err(|error| Failure::node(format!("{FILE}: {error}")))?;
        let text = format!("{line}\n{}\n", checksum(&line));
        replace(&self.folder, FILE, text.as_bytes())?;
        *all = Arc::new(content.tokens);
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Token>, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    let (line, sum) = lines.next().zip(lines.next()).ok_or("it ends too early")?;
    if checksum(line) != sum {
        return Err("it is damaged: its checksum is another one".to_owned());
    }
    let content: Content = serde_json::from_str(line).map_err(|error| error.to_string())?;
    match content.version {
        VERSION => Ok(content.tokens),
        other => Err(format!("its version is {other}, this program reads {VERSION}")),
    }
}

fn checksum(line: &str) -> String {
    hex::encode(Sha256::digest(line))
}

/// Writes a file that only its owner may read, in one piece: whatever dies, it is the old one or the new one.
pub fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    let write = || {
        let _ = fs::remove_file(&new);
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_dir(folder)
    };
    write().map_err(|error| at(&path, "write", &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(name: &str, byte: u8) -> Token {
        let feeds = vec![FeedName::parse("grants").unwrap()];
        let (created, expires) = (Timestamp(5), Some(Timestamp(9)));
        Token { name: name.to_owned(), role: Role::Publisher, feeds, created, expires, sha256: [byte; 32] }
    }

    #[test]
    fn tokens_are_read_back_and_found_by_their_hash() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();
        assert!(tokens.all().is_empty());
        tokens.put(token("a", 1)).unwrap();
        tokens.put(token("b", 2)).unwrap();
        tokens.put(token("a", 3)).unwrap();
        let again = Tokens::open(dir.path()).unwrap();
        assert_eq!(again.all(), tokens.all());
        assert_eq!(again.find(&[3; 32]), Some(token("a", 3)));
        assert_eq!(again.find(&[1; 32]), None);
        again.remove("a").unwrap();
        assert_eq!(*Tokens::open(dir.path()).unwrap().all(), [token("b", 2)]);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        Tokens::open(dir.path()).unwrap().put(token("a", 1)).unwrap();
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..whole.len() - 1 {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            fs::write(dir.path().join(FILE), &wrong).unwrap();
            assert!(Tokens::open(dir.path()).is_err(), "byte {at}");
            fs::write(dir.path().join(FILE), &whole[..at]).unwrap();
            let error = Tokens::open(dir.path()).err().map(|failure| failure.message);
            assert!(error.is_some_and(|error| error.contains("tokens.json")), "cut at {at}");
        }
    }

    #[test]
    fn an_hour_is_over_when_it_has_come() {
        let token = token("a", 1);
        assert!(!token.has_expired(Timestamp(8)) && token.has_expired(Timestamp(9)));
        assert!(!Token { expires: None, ..token }.has_expired(Timestamp(i64::MAX)));
    }
}
