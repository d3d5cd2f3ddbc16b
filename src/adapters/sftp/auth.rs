//! Who we are to an SFTP server: from a recipe's `auth` to a login. Secrets are read at each connection.

use async_ssh2_lite::{AsyncSession, Error};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hms_actors::failure::Failure;
use hms_actors::id::TargetName;
use secrecy::{ExposeSecret, SecretSlice};

use super::stream::Stream;
use crate::recipe::model::SftpAuth;
use crate::secrets::{Fingerprint, Secret, Secrets};

/// What we log in with.
pub enum Credential {
    Key(Secret),
    Password(Secret),
}

impl Credential {
    /// The secret that `auth` asks for, if `host` may be given it.
    pub fn find(secrets: &Secrets, target: &TargetName, auth: &SftpAuth, host: &str) -> Result<Self, Failure> {
        match auth {
            SftpAuth::Key { secret } => {
                let names = secrets.names_for(target, "SSH_KEY", Some(secret))?;
                Self::key(secrets.find(&names, host)?)
            }
            SftpAuth::Password { secret } => {
                let names = secrets.names_for(target, "PASSWORD", secret.as_deref())?;
                Ok(Self::Password(secrets.find(&names, host)?))
            }
            SftpAuth::Derived => {
                let keys = Secrets::names(target, "SSH_KEY");
                let passwords = Secrets::names(target, "PASSWORD");
                let secret = secrets.find(&[keys.clone(), passwords].concat(), host)?;
                if keys.contains(&secret.name) { Self::key(secret) } else { Ok(Self::Password(secret)) }
            }
        }
    }

    fn key(secret: Secret) -> Result<Self, Failure> {
        if has_passphrase(secret.value.expose_secret()) {
            return Err(Failure::configuration(format!(
                "secret `{}` is a private key with a passphrase, which is not supported: give a key without one \
                 (`ssh-keygen -p` removes it)",
                secret.name
            )));
        }
        Ok(Self::Key(secret))
    }

    /// Whether it may be used where only approved algorithms are.
    pub fn check_approved(&self) -> Result<(), Failure> {
        match self {
            Self::Key(key) if is_ed25519(key.value.expose_secret()) => Err(Failure::configuration(format!(
                "secret `{}` is an Ed25519 key, which `fips: required` leaves out: give an ECDSA or RSA key",
                key.name
            ))),
            _ => Ok(()),
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let (Self::Key(secret) | Self::Password(secret)) = self;
        secret.fingerprint()
    }

    /// The name of the secret, for messages.
    pub fn name(&self) -> &str {
        let (Self::Key(secret) | Self::Password(secret)) = self;
        &secret.name
    }

    pub async fn log_in(&self, session: &AsyncSession<Stream>, user: &str) -> Result<(), Error> {
        match self {
            Self::Key(key) => session.userauth_pubkey_memory(user, None, key.value.expose_secret(), None).await,
            Self::Password(password) => session.userauth_password(user, password.value.expose_secret()).await,
        }
    }
}

/// Whether a private key is encrypted: libssh2 alone can't tell it from a broken one.
fn has_passphrase(key: &str) -> bool {
    if key.contains("BEGIN ENCRYPTED PRIVATE KEY") || key.contains("Proc-Type: 4,ENCRYPTED") {
        return true;
    }
    let bytes = body(key);
    // `openssh-key-v1\0`, then the cipher's name with its length.
    bytes.strip_prefix(b"openssh-key-v1\0").is_some_and(|rest| !rest.starts_with(b"\0\0\0\x04none"))
}

/// By the name of OpenSSH's format, or by the object identifier of PKCS #8.
fn is_ed25519(key: &str) -> bool {
    const IDENTIFIER: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
    let bytes = SecretSlice::from(body(key));
    let has = |name: &[u8]| bytes.expose_secret().windows(name.len()).any(|window| window == name);
    has(b"ssh-ed25519") || (key.contains("BEGIN PRIVATE KEY") && has(IDENTIFIER))
}

/// The bytes of a key in PEM or in OpenSSH's format.
fn body(key: &str) -> Vec<u8> {
    let text: String = key.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    STANDARD.decode(text).unwrap_or_default()
}
