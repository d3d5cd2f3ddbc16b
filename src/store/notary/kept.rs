//! What the notary keeps beside the audit: the key, the public keys, and the last checkpoint. Each file is replaced as
//! a whole, on disk to stay before anything relies on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hms_actors::failure::Failure;
use secrecy::{ExposeSecret, SecretString};

use super::in_data;
use crate::proof::{Signed, SigningKey, VerifierKey};
use crate::store::file::{at, sync_dir};

const KEY: &str = "audit.key";
const PUBLIC: &str = "audit.pub";
const CHECKPOINT: &str = "audit.checkpoint";

pub(super) struct Kept {
    data: PathBuf,
    pub key: SigningKey,
    /// All that ever signed; that in use is the last.
    pub keys: Vec<VerifierKey>,
    pub last: Option<Arc<Signed>>,
}

impl Kept {
    /// Reads what is there; makes a key if there is none and none is given.
    pub fn open(data: &Path, given: Option<&SecretString>) -> Result<Self, Failure> {
        let public = in_data(data, PUBLIC);
        let mut keys = Vec::new();
        for line in read(&public)?.unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
            keys.push(line.parse().map_err(|why| Failure::node(format!("{}: {why}", public.display())))?);
        }
        let known_before = !keys.is_empty();
        let key = match given {
            Some(text) => SigningKey::parse(text).map_err(|why| {
                Failure::configuration(format!("the secret AUDIT_SIGNING_KEY is no signing key: {why}"))
            })?,
            None => own_key(&in_data(data, KEY), known_before)?,
        };
        keys.retain(|known: &VerifierKey| known != key.public());
        keys.push(key.public().clone());
        if let Some(other) = keys.iter().find(|other| other.name() != key.public().name()) {
            return Err(Failure::configuration(format!(
                "the signing key is named {}, and {} has {}: a log keeps its name, so a new key needs the same one; move audit.pub, \
                 audit.checkpoint and audit/ away to begin a new log",
                key.public().name(),
                public.display(),
                other.name()
            )));
        }
        let path = in_data(data, CHECKPOINT);
        let last = match read(&path)? {
            Some(note) => Some(Arc::new(
                Signed::open(&note, &keys).map_err(|why| unusable(&path, &format!("is not to be trusted: {why}")))?,
            )),
            // It is stored before the public key is, so this one is not new.
            None if known_before => return Err(unusable(&path, "is missing")),
            None => None,
        };
        Ok(Self { data: data.to_owned(), key, keys, last })
    }

    pub fn path(&self) -> PathBuf {
        in_data(&self.data, CHECKPOINT)
    }

    /// Whether the key in use has signed it, and not one before it.
    pub fn is_current(&self, signed: &Signed) -> bool {
        Signed::open(&signed.note, std::slice::from_ref(self.key.public())).is_ok()
    }

    /// Stores a checkpoint, and then it is the last one.
    pub fn store(&mut self, signed: Signed) -> Result<Arc<Signed>, Failure> {
        let path = self.path();
        replace(&path, signed.note.as_bytes(), 0o644).map_err(|e| at(&path, "store the checkpoint in", &e))?;
        let signed = Arc::new(signed);
        self.last = Some(signed.clone());
        Ok(signed)
    }

    pub fn store_public(&self) -> Result<(), Failure> {
        let path = in_data(&self.data, PUBLIC);
        let text = lines(&self.keys);
        if read(&path)?.is_some_and(|known| known == text) {
            return Ok(());
        }
        replace(&path, text.as_bytes(), 0o644).map_err(|e| at(&path, "write", &e))
    }
}

pub(super) fn lines(keys: &[VerifierKey]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

fn own_key(path: &Path, known_before: bool) -> Result<SigningKey, Failure> {
    if let Some(text) = read(path)? {
        let wrong = |why| Failure::node(format!("{}: {why}: restore it from a backup", path.display()));
        return SigningKey::parse(&SecretString::from(text)).map_err(wrong);
    }
    if known_before {
        return Err(Failure::node(format!(
            "{} is missing, and so is the secret AUDIT_SIGNING_KEY: restore one of them; a log is not continued with a key that nobody knows",
            path.display()
        )));
    }
    // The first key names the log. A name of the machine's would tell of it.
    let name = |public: &str| format!("hms-sync/{}", &public[..16]);
    let (key, text) = SigningKey::generate(name).map_err(Failure::node)?;
    let line = SecretString::from(format!("{}\n", text.expose_secret()));
    replace(path, line.expose_secret().as_bytes(), 0o600).map_err(|e| at(path, "write", &e))?;
    tracing::info!(
        "a key for the audit's checkpoints was made: {}; anchor its public key elsewhere: {}",
        path.display(),
        key.public()
    );
    Ok(key)
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::node(format!(
        "{} {why}. It says how much of the audit was signed, and nothing is signed that does not continue it: restore it from a backup. \
         Without one, compare the audit with an anchored checkpoint (hms audit verify FILE --key … --checkpoint …), then put the anchored \
         checkpoint in its place",
        path.display()
    ))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, "read", &error)),
    }
}

/// Old or new, never half of it, also after power loss.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let _ = fs::remove_file(&new);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}
