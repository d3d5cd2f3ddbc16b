//! The keys of partners: one for each, in versions, made only when an operator says so.
//!
//! `<data-dir>/privacy-keys/` is their secret storage: a file `PARTNER.vN` (0600) for each version, its 32 random bytes
//! in hex. The partner's name is percent-encoded. The highest version is current; what was begun with an older one is
//! finished with it, so that a file stays as long as its tokens matter.
//!
//! `work/key-fingerprints` in the data directory remembers which key a version was when it was first used: a line
//! `PARTNER N FINGERPRINT` each, replaced as a whole. Another key under a version that is known is not used.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use hms_actors::failure::Failure;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret, SecretBox};
use sha2_of_hmac::Sha256;

const FOLDER: &str = "privacy-keys";
const FINGERPRINTS: &str = "work/key-fingerprints";
const BYTES: usize = 32;
const LONGEST_NAME: usize = 200;

/// What may stand in a file's name.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// One version of a partner's key, as what is made of it for each use.
pub struct Key {
    version: u32,
    mac: Hmac<Sha256>,
    ff1: SecretBox<[u8; BYTES]>,
    fingerprint: String,
}

impl Key {
    pub fn new(version: u32, bytes: [u8; BYTES]) -> Self {
        let secret = SecretBox::new(Box::new(bytes));
        let part = |what: &[u8]| -> [u8; BYTES] {
            let mut mac = mac_with(secret.expose_secret());
            mac.update(what);
            mac.finalize().into_bytes().into()
        };
        Self {
            version,
            mac: mac_with(&part(b"hms token")),
            ff1: SecretBox::new(Box::new(part(b"hms ff1"))),
            fingerprint: hex::encode(&part(b"hms fingerprint")[..16]),
        }
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn mac(&self) -> Hmac<Sha256> {
        self.mac.clone()
    }

    pub(super) fn ff1(&self) -> &[u8] {
        self.ff1.expose_secret()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(v{}, {})", self.version, self.fingerprint)
    }
}

fn mac_with(key: &[u8; BYTES]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

/// What an operator is shown of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    pub partner: String,
    pub version: u32,
    pub current: bool,
    /// What is remembered, else what the file says; absent if the file can't be read.
    pub fingerprint: Option<String>,
    /// Why it can't be used, if it can't.
    pub wrong: Option<String>,
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    #[error("{0}")]
    Name(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Missing(String),
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// The keys of a node.
#[derive(Debug)]
pub struct Keys {
    folder: PathBuf,
    fingerprints: PathBuf,
    /// Off for whoever only looks: then nothing is written.
    remembers: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    current: HashMap<String, u32>,
    keys: HashMap<(String, u32), Arc<Key>>,
}

impl Keys {
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join(FOLDER),
            fingerprints: data_dir.join(FINGERPRINTS),
            remembers: true,
            known: Mutex::default(),
        }
    }

    /// For a look without a node.
    pub fn read_only(data_dir: &Path) -> Self {
        Self { remembers: false, ..Self::new(data_dir) }
    }

    /// Files are read again: after a reload.
    pub fn forget(&self) {
        *self.known() = Known::default();
    }

    /// The version that new work of a partner begins with.
    pub fn current(&self, partner: &str) -> Result<u32, Failure> {
        let mut known = self.known();
        if let Some(version) = known.current.get(partner) {
            return Ok(*version);
        }
        let newest = self.versions(partner)?.into_iter().max().ok_or_else(|| missing(partner))?;
        known.current.insert(partner.to_owned(), newest);
        Ok(newest)
    }

    /// One version, whose fingerprint is remembered from now on.
    pub fn get(&self, partner: &str, version: u32) -> Result<Arc<Key>, Failure> {
        let mut known = self.known();
        let name = (partner.to_owned(), version);
        if let Some(key) = known.keys.get(&name) {
            return Ok(key.clone());
        }
        let gone = || {
            Failure::configuration(format!(
                "version {version} of the privacy key of partner `{partner}` is gone, and work was begun with it: put \
                 {} back",
                self.path(partner, version).display()
            ))
        };
        let key = Arc::new(self.read(partner, version)?.ok_or_else(gone)?);
        self.check(partner, &key)?;
        known.keys.insert(name, key.clone());
        Ok(key)
    }

    /// The first key of a partner.
    pub fn create(&self, partner: &str) -> Result<KeyInfo, NotMade> {
        let partner = named(partner)?;
        let mut known = self.known();
        if let Some(newest) = self.versions(&partner)?.into_iter().max() {
            let why = format!(
                "partner `{partner}` has a key (version {newest}): `hms privacy key rotate {partner}` makes the next one"
            );
            return Err(NotMade::Exists(why));
        }
        if let Some(newest) = self.remembered_versions(&partner)?.into_iter().max() {
            let why = format!(
                "the key of partner `{partner}` is gone (version {newest} was in use): put {} back, or make the next one \
                 with `hms privacy key rotate {partner}`; its tokens will be other ones",
                self.path(&partner, newest).display()
            );
            return Err(NotMade::Exists(why));
        }
        Ok(self.make(&mut known, &partner, 1)?)
    }

    /// The next version: what is begun from now on uses it.
    pub fn rotate(&self, partner: &str) -> Result<KeyInfo, NotMade> {
        let partner = named(partner)?;
        let mut known = self.known();
        let versions = self.versions(&partner)?.into_iter().chain(self.remembered_versions(&partner)?);
        let newest = versions.max().ok_or_else(|| {
            NotMade::Missing(format!(
                "partner `{partner}` has no key: `hms privacy key create {partner}` makes the first one"
            ))
        })?;
        Ok(self.make(&mut known, &partner, newest + 1)?)
    }

    /// Every version of every key, by partner and version.
    pub fn list(&self) -> Result<Vec<KeyInfo>, Failure> {
        let known = self.known();
        let mut found = BTreeMap::new();
        for (partner, version) in self.files()? {
            found.insert((partner, version), ());
        }
        let newest =
            |partner: &str| found.keys().filter(|(name, _)| name == partner).map(|(_, version)| *version).max();
        let info = |(partner, version): &(String, u32)| {
            let checked = self.read(partner, *version).and_then(|key| {
                let key = key.ok_or_else(|| missing(partner))?;
                self.matches(partner, &key).map(|_| key)
            });
            KeyInfo {
                current: newest(partner) == Some(*version),
                partner: partner.clone(),
                version: *version,
                fingerprint: checked.as_ref().ok().map(|key| key.fingerprint().to_owned()),
                wrong: checked.err().map(|failure| failure.message),
            }
        };
        let infos = found.keys().map(info).collect();
        drop(known);
        Ok(infos)
    }

    /// The file first: a fingerprint without a file would forbid its version for ever.
    fn make(&self, known: &mut Known, partner: &str, version: u32) -> Result<KeyInfo, Failure> {
        let mut bytes = [0; BYTES];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| Failure::node(format!("no randomness: {error}")))?;
        let path = self.path(partner, version);
        self.write(&path, &bytes).map_err(|error| failed("write", &path, &error))?;
        let key = Key::new(version, bytes);
        self.check(partner, &key)?;
        let info = KeyInfo {
            partner: partner.to_owned(),
            version,
            current: true,
            fingerprint: Some(key.fingerprint().to_owned()),
            wrong: None,
        };
        known.current.insert(partner.to_owned(), version);
        known.keys.insert((partner.to_owned(), version), Arc::new(key));
        Ok(info)
    }

    /// On disk to stay on return, under its name only when it is whole; never over one that is there.
    fn write(&self, path: &Path, bytes: &[u8; BYTES]) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
        writeln!(file, "{}", hex::encode(bytes))?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }

    fn read(&self, partner: &str, version: u32) -> Result<Option<Key>, Failure> {
        let path = self.path(partner, version);
        let wrong = |why: &str| Failure::configuration(format!("privacy key `{}`: {why}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => SecretBox::new(Box::new(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&format!("not readable: {error}"))),
        };
        let mode = std::fs::metadata(&path).map_err(|error| wrong(&error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(wrong("others than the node can read it: chmod 600 (and think of rotating it)"));
        }
        let mut bytes = [0; BYTES];
        let read = hex::decode_to_slice(text.expose_secret().trim(), &mut bytes);
        read.map_err(|_| wrong("expected 32 bytes in hex: put the right file back"))?;
        Ok(Some(Key::new(version, bytes)))
    }

    /// Whether it is the key that this version was at its first use; at the first use it is remembered.
    fn check(&self, partner: &str, key: &Key) -> Result<(), Failure> {
        if self.matches(partner, key)? || !self.remembers {
            return Ok(());
        }
        let mut all = self.remembered()?;
        all.insert((partner.to_owned(), key.version), key.fingerprint.clone());
        self.remember(&all).map_err(|error| failed("write", &self.fingerprints, &error))
    }

    /// Whether it is remembered. Another key under its version is an error.
    fn matches(&self, partner: &str, key: &Key) -> Result<bool, Failure> {
        match self.remembered()?.get(&(partner.to_owned(), key.version)) {
            None => Ok(false),
            Some(first) if *first == key.fingerprint => Ok(true),
            Some(first) => Err(Failure::configuration(format!(
                "version {} of the privacy key of partner `{partner}` is another key ({}) than the one that was first \
                 used ({first}): put the right file back, or make a new version with `hms privacy key rotate {partner}`",
                key.version, key.fingerprint
            ))),
        }
    }

    fn remembered(&self) -> Result<BTreeMap<(String, u32), String>, Failure> {
        let text = match std::fs::read_to_string(&self.fingerprints) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed("read", &self.fingerprints, &error)),
        };
        let entry = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            [partner, version, print] => Some(((decoded(partner)?, version.parse().ok()?), print.to_owned())),
            _ => None,
        };
        let wrong = || Failure::node(format!("{}: not a list of fingerprints", self.fingerprints.display()));
        text.lines().map(|line| entry(line).ok_or_else(wrong)).collect()
    }

    fn remember(&self, all: &BTreeMap<(String, u32), String>) -> io::Result<()> {
        let folder = self.fingerprints.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let new = self.fingerprints.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        for ((partner, version), print) in all {
            writeln!(file, "{} {version} {print}", encoded(partner))?;
        }
        file.sync_all()?;
        std::fs::rename(&new, &self.fingerprints)?;
        File::open(folder)?.sync_all()
    }

    fn remembered_versions(&self, partner: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.remembered()?.into_keys().filter(|(name, _)| name == partner).map(|(_, version)| version).collect())
    }

    fn versions(&self, partner: &str) -> Result<Vec<u32>, Failure> {
        Ok(self.files()?.into_iter().filter(|(name, _)| name == partner).map(|(_, version)| version).collect())
    }

    fn files(&self) -> Result<Vec<(String, u32)>, Failure> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(&self.folder, &error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| unreadable(&self.folder, &error))?.file_name();
            let parts = name.to_str().and_then(|name| name.rsplit_once(".v"));
            let key = parts.and_then(|(partner, version)| Some((decoded(partner)?, version.parse().ok()?)));
            found.extend(key.filter(|(_, version)| *version > 0));
        }
        Ok(found)
    }

    fn path(&self, partner: &str, version: u32) -> PathBuf {
        self.folder.join(format!("{}.v{version}", encoded(partner)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(partner: &str) -> Failure {
    Failure::configuration(format!(
        "there is no privacy key for partner `{partner}`, and labelled fields go to it only as tokens: \
         `hms privacy key create {partner}` makes one"
    ))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::configuration(format!("privacy keys `{}`: not readable: {error}", path.display()))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::node(format!("can't {what} {}: {error}", path.display()))
}

/// A partner's name as it is compared: in lower case.
fn named(partner: &str) -> Result<String, NotMade> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if partner.is_empty() || partner.starts_with('.') || partner.contains(odd) || encoded(partner).len() > LONGEST_NAME
    {
        let why = "a partner is the host of its targets, or `recipe/target` for local files".to_owned();
        return Err(NotMade::Name(why));
    }
    Ok(partner.to_ascii_lowercase())
}

fn encoded(partner: &str) -> String {
    utf8_percent_encode(partner, NAME).to_string()
}

fn decoded(partner: &str) -> Option<String> {
    percent_decode_str(partner).decode_utf8().ok().map(|name| name.into_owned())
}

#[cfg(test)]
mod tests;
