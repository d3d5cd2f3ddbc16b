//! Secrets: where a name is looked for, and which host may be given it. Values are `SecretString`s and
//! appear in no log, error, metric, ticket, audit record or stored byte.
//!
//! Not here: what a secret is used for. An adapter asks, uses the value once and forgets it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use hms_actors::failure::Failure;
use hms_actors::id::TargetName;

/// What a target's secrets end in, whatever they are for.
const SUFFIXES: [&str; 7] = ["KEY", "TOKEN", "PASSWORD", "CLIENT_SECRET", "SSH_KEY", "CERT", "CLIENT_CERT"];

/// The node's own names: no recipe may send their values anywhere.
const OWN_PREFIX: &str = "HMS_";

/// The key of the audit's checkpoints.
pub const AUDIT_SIGNING_KEY: &str = "AUDIT_SIGNING_KEY";

/// The token that anchors are told checkpoints with.
pub const ANCHOR_TOKEN: &str = "ANCHOR_TOKEN";

/// The node's own too, whatever a target is named.
const OWN: [&str; 2] = [AUDIT_SIGNING_KEY, ANCHOR_TOKEN];

/// No key or token is larger; a path to something else must not fill the memory.
const MAX_BYTES: u64 = 64 * 1024;

/// The places that secrets come from.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The environment as it was at start.
    environment: BTreeMap<String, SecretString>,
    /// `secrets_dir`, `$CREDENTIALS_DIRECTORY` and `/run/secrets`, as far as they are given, in that order.
    directories: Vec<PathBuf>,
    /// Secret name → the only hosts that may be given it.
    hosts: BTreeMap<String, Vec<String>>,
}

/// A secret and the name under which it was found.
#[derive(Debug)]
pub struct Secret {
    pub name: String,
    pub value: SecretString,
}

/// Tells whether a secret has changed, without holding its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Secrets {
    /// The places of this process. The environment is read now and never again.
    pub fn of_process(secrets_dir: Option<PathBuf>, hosts: BTreeMap<String, Vec<String>>) -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        Self::new(std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))), secrets_dir, hosts)
    }

    /// As [`Secrets::of_process`], with an environment of the caller's.
    pub fn new(
        environment: impl IntoIterator<Item = (String, String)>,
        secrets_dir: Option<PathBuf>,
        hosts: BTreeMap<String, Vec<String>>,
    ) -> Self {
        let environment: BTreeMap<String, SecretString> =
            environment.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect();
        let credentials = environment.get("CREDENTIALS_DIRECTORY").map(|path| PathBuf::from(path.expose_secret()));
        let directories = [secrets_dir, credentials, Some(PathBuf::from("/run/secrets"))];
        Self { environment, directories: directories.into_iter().flatten().collect(), hosts }
    }

    /// The names under which a target's secret is looked for, in order. `suffix` is `KEY`, `TOKEN`, `PASSWORD`,
    /// `CLIENT_SECRET` or `SSH_KEY`; leading words are dropped one by one while a word is left before the last
    /// word of the suffix: `cobol_finance`, `SSH_KEY` → `COBOL_FINANCE_SSH_KEY`, `FINANCE_SSH_KEY`, `SSH_KEY`;
    /// `vdot_gis`, `KEY` → `VDOT_GIS_KEY`, `GIS_KEY`. Names that begin with `HMS_` are left out.
    pub fn names(target: &TargetName, suffix: &str) -> Vec<String> {
        let full = format!("{}_{suffix}", target.as_str().to_ascii_uppercase());
        let words: Vec<&str> = full.split(['_', '-', '.']).filter(|word| !word.is_empty()).collect();
        (0..words.len() - 1)
            .map(|dropped| words[dropped..].join("_"))
            .filter(|name| !name.starts_with(OWN_PREFIX) && !OWN.contains(&name.as_str()))
            .collect()
    }

    /// What to look for when a recipe may name the secret itself: that name alone, or the derived names.
    /// An explicit name that isn't derived from the target's must be listed in `secret_hosts`, or a recipe
    /// could have any file of `secrets_dir` sent to any host.
    pub fn names_for(&self, target: &TargetName, suffix: &str, explicit: Option<&str>) -> Result<Vec<String>, Failure> {
        let Some(name) = explicit else { return Ok(Self::names(target, suffix)) };
        if OWN.contains(&name) {
            return Err(Failure::configuration(format!("secret `{name}` is the node's own, and is given to nobody")));
        }
        let derived = SUFFIXES.iter().any(|suffix| Self::names(target, suffix).iter().any(|derived| derived == name));
        if derived || self.hosts.contains_key(name) {
            return Ok(vec![name.to_owned()]);
        }
        Err(Failure::configuration(format!(
            "secret `{name}` is not derived from the target's name `{target}`: list it, with the hosts that may be \
             given it, under `secret_hosts` in hms.yaml"
        )))
    }

    /// The first of `names` that exists anywhere, if `host` may be given it.
    /// A configuration failure says which names were looked for, and where; never a value.
    pub fn find(&self, names: &[String], host: &str) -> Result<Secret, Failure> {
        for name in names {
            if let Some(value) = self.look_up(name)? {
                self.check_host(name, host)?;
                return Ok(Secret { name: name.clone(), value });
            }
        }
        Err(Failure::configuration(format!("no secret {}; looked for {}", names.join(" or "), self.places())))
    }

    /// A secret that the node itself uses, and sends nowhere.
    pub fn own(&self, name: &str) -> Result<Option<SecretString>, Failure> {
        self.look_up(name)
    }

    /// Whether one of `names` exists and can be read.
    pub fn present(&self, names: &[String]) -> bool {
        names.iter().any(|name| matches!(self.look_up(name), Ok(Some(_))))
    }

    /// All places of one name.
    fn look_up(&self, name: &str) -> Result<Option<SecretString>, Failure> {
        check_name(name)?;
        // `NAME=` is how many launchers unset a variable.
        if let Some(value) = self.environment.get(name).filter(|value| !value.expose_secret().is_empty()) {
            return Ok(Some(trimmed(value.expose_secret().to_owned())));
        }
        let pointer = format!("{name}_FILE");
        if let Some(path) = self.environment.get(&pointer).map(ExposeSecret::expose_secret).filter(|p| !p.is_empty()) {
            let missing = || Failure::configuration(format!("{pointer} names `{path}`, which does not exist"));
            return read(Path::new(path))?.map(Some).ok_or_else(missing);
        }
        for directory in &self.directories {
            if let Some(value) = read(&directory.join(name))? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn check_host(&self, name: &str, host: &str) -> Result<(), Failure> {
        match self.hosts.get(name) {
            Some(allowed) if !allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) => {
                Err(Failure::configuration(format!(
                    "secret `{name}` may not be given to `{host}`: `secret_hosts` in hms.yaml binds it to {}",
                    allowed.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }

    /// The places in words, for whoever has to put a secret into one of them.
    fn places(&self) -> String {
        let directories: Vec<String> = self.directories.iter().map(|path| path.display().to_string()).collect();
        format!(
            "an environment variable of that name, one named NAME_FILE with a path, and a file of that name in {}",
            directories.join(", ")
        )
    }
}

impl Secret {
    /// Changes when the value or the name under which it is found changes.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update([0]);
        hash.update(self.value.expose_secret().as_bytes());
        Fingerprint(hash.finalize().into())
    }
}

impl fmt::Debug for Fingerprint {
    /// The hash of a weak password gives it away, so it isn't shown either.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// A name becomes part of a path, so it must not lead anywhere.
fn check_name(name: &str) -> Result<(), Failure> {
    if name.starts_with(OWN_PREFIX) {
        return Err(Failure::configuration(format!("secret `{name}`: names that begin with HMS_ are the node's own")));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Failure::configuration(format!(
            "`{name}` is not a secret's name: expected letters, digits and _ - . without a leading dot"
        )));
    }
    Ok(())
}

/// A secret's file, or `None` if there is none at `path`.
fn read(path: &Path) -> Result<Option<SecretString>, Failure> {
    let wrong = |what: String| Failure::configuration(format!("secret file `{}` {what}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(wrong(format!("can't be read: {error}"))),
    };
    let mut text = String::new();
    match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
        Ok(read) if read as u64 > MAX_BYTES => Err(wrong(format!("is larger than {MAX_BYTES} bytes"))),
        Ok(_) if text.trim().is_empty() => Err(wrong("is empty".into())),
        Ok(_) => Ok(Some(trimmed(text))),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(wrong("is not UTF-8 text".into())),
        Err(error) => Err(wrong(format!("can't be read: {error}"))),
    }
}

/// Editors and `echo` end a line; a token has no line end, while a key of many lines is kept whole.
fn trimmed(mut text: String) -> SecretString {
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if let Some(length) = line.filter(|line| !line.contains('\n')).map(str::len) {
        text.truncate(length);
    }
    SecretString::from(text)
}

#[cfg(test)]
mod tests;
