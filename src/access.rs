//! Who may do what at the admin endpoint: roles, callers, and what tokens are made of. Where tokens are kept is
//! the store's affair, which route needs what is in the table of routes.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hms_actors::id::FeedName;
use rand::TryRngCore;
use rand::rngs::OsRng;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Publish events, to all feeds or to those that the token names; nothing else
    Publisher,
    /// Look at everything, change nothing
    Viewer,
    /// What a viewer may; apply, steer and delete recipes, answer tickets, replay dead letters
    Operator,
    /// Everything, tokens included
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Publisher, Self::Viewer, Self::Operator, Self::Admin];

    /// Whether who has this role may do what needs the other one. Who operates the courier can't make up events:
    /// that is for publishers.
    pub fn includes(self, needed: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Operator => matches!(needed, Self::Operator | Self::Viewer),
            Self::Viewer | Self::Publisher => self == needed,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name: what the audit says.
    pub subject: String,
    pub role: Role,
    /// Of a publisher: its feeds; all if there are none.
    pub feeds: Vec<FeedName>,
}

/// What a presented token turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    Valid(Caller),
    /// It was one until a while ago; whose.
    Expired(String),
    /// Never one, or revoked.
    Unknown,
}

/// Why a request did not pass the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NoToken,
    UnknownToken,
    ExpiredToken,
    /// Too many wrong tokens came from its address.
    Throttled,
    /// The token is for something else.
    Forbidden,
    /// Without tokens: a page in a browser sent it.
    WebPage,
}

impl Refusal {
    pub const ALL: [Self; 6] =
        [Self::NoToken, Self::UnknownToken, Self::ExpiredToken, Self::Throttled, Self::Forbidden, Self::WebPage];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::Throttled => "throttled",
            Self::Forbidden => "forbidden",
            Self::WebPage => "web_page",
        }
    }
}

/// Scanners for leaked secrets find it by this.
pub const PREFIX: &str = "hms_";

/// The SHA-256 of a token: all that is ever stored of it. It has 256 random bits, so that nothing slower is needed.
pub type Fingerprint = [u8; 32];

/// A new token, from the operating system's random numbers.
pub fn new_token() -> Result<SecretString, rand::rand_core::OsError> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes)?;
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)).into())
}

pub fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn tokens_are_long_different_and_recognisable() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one.expose_secret(), other.expose_secret());
        let random = one.expose_secret().strip_prefix(PREFIX).unwrap();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
        assert!(!format!("{one:?}").contains(random));
    }

    #[test]
    fn roles_include_what_they_say() {
        use Role::{Admin, Operator, Publisher, Viewer};
        let included = |role: Role| Role::ALL.into_iter().filter(|&needed| role.includes(needed)).collect::<Vec<_>>();
        assert_eq!(included(Publisher), [Publisher]);
        assert_eq!(included(Viewer), [Viewer]);
        assert_eq!(included(Operator), [Viewer, Operator]);
        assert_eq!(included(Admin), Role::ALL);
    }
}
