//! Who we are to a partner: from a recipe's `auth` to the header of one request. Secrets are read at each
//! request; their values leave this file only in headers that are marked as sensitive.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use hms_actors::failure::Failure;
use hms_actors::id::TargetName;

use super::RestContext;
use super::request::{Prepared, header_name};
use super::token::TokenSource;
use crate::recipe::model;
use crate::secrets::{Secret, Secrets};

/// How long reading a secret may take.
pub(super) const READ: Duration = Duration::from_secs(10);

/// Where secrets come from: in a node that is [`Secrets`].
pub trait FindSecret: Send + Sync {
    /// The target's secret of the kind that `suffix` says, if `host` may be given it. A name that the recipe gives stands alone.
    fn find(&self, target: &TargetName, suffix: &str, explicit: Option<&str>, host: &str) -> Result<Secret, Failure>;
}

impl FindSecret for Secrets {
    fn find(&self, target: &TargetName, suffix: &str, explicit: Option<&str>, host: &str) -> Result<Secret, Failure> {
        Secrets::find(self, &self.names_for(target, suffix, explicit)?, host)
    }
}

/// The auth header of one request.
#[derive(Debug)]
pub(super) struct Credential {
    header: HeaderName,
    value: HeaderValue,
    /// Counts the values that the secret has had: another one means that connections are closed.
    pub generation: u64,
    pub mask: Mask,
    /// The token in the header, if it is one.
    token: Option<SecretString>,
}

impl Credential {
    /// The request with its auth header.
    pub fn sign(&self, request: &Prepared) -> Prepared {
        let mut signed = request.clone();
        signed.headers.insert(self.header.clone(), self.value.clone());
        signed
    }
}

/// A target's `auth`, compiled.
pub(super) struct Auth {
    scheme: Scheme,
    target: TargetName,
    /// The name that the recipe gives to the secret, and the kind of secret.
    secret: Option<String>,
    suffix: &'static str,
    /// The host that is given the secret.
    host: String,
    context: Arc<RestContext>,
    last: RefCell<Option<SecretString>>,
    generation: Cell<u64>,
}

enum Scheme {
    Header(HeaderName),
    Bearer,
    Basic { username: String },
    Token(Box<TokenSource>),
}

impl Auth {
    pub fn new(
        target: &TargetName,
        auth: &model::Auth,
        url: &Url,
        timeout: Duration,
        context: Arc<RestContext>,
    ) -> Result<Self, Failure> {
        let scheme = match auth {
            model::Auth::ApiKey { .. } => Scheme::Header(header(auth)?),
            model::Auth::Bearer { .. } => Scheme::Bearer,
            model::Auth::Basic { username, .. } => Scheme::Basic { username: username.clone() },
            model::Auth::OAuth2ClientCredentials { token_url, client_id, scope, audience, .. } => {
                let form = [("scope", scope), ("audience", audience)];
                let form = form.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
                Scheme::Token(Box::new(TokenSource::new(token_url, client_id, form, timeout, &context)?))
            }
        };
        let host = match &scheme {
            Scheme::Token(source) => source.host().to_owned(),
            _ => url.host_str().unwrap_or_default().to_owned(),
        };
        let (secret, suffix) = secret_of(auth);
        let (target, secret) = (target.clone(), secret.clone());
        Ok(Self { scheme, target, secret, suffix, host, context, last: RefCell::new(None), generation: Cell::new(0) })
    }

    /// The header for a request that goes out now.
    pub async fn credential(&self) -> Result<Credential, Failure> {
        let secret = self.find().await?;
        let generation = self.generation_of(&secret.value);
        let exposed = secret.value.expose_secret();
        let mut mask = Mask::new(&secret.name);
        mask.hide(exposed);
        let mut token = None;
        let (header, text) = match &self.scheme {
            Scheme::Header(name) => (name.clone(), SecretString::from(exposed)),
            Scheme::Bearer => (AUTHORIZATION, SecretString::from(format!("Bearer {exposed}"))),
            Scheme::Basic { username } => {
                let pair = basic(username, exposed);
                mask.hide(pair.expose_secret());
                (AUTHORIZATION, SecretString::from(format!("Basic {}", pair.expose_secret())))
            }
            Scheme::Token(source) => {
                let found = source.token(&secret, generation, &self.context).await?;
                mask.hide(found.expose_secret());
                let text = SecretString::from(format!("Bearer {}", found.expose_secret()));
                token = Some(found);
                (AUTHORIZATION, text)
            }
        };
        let value = sensitive(&text, &secret.name)?;
        Ok(Credential { header, value, generation, mask, token })
    }

    /// Reads the secret away from the arbiter: it may lie on a disk that does not answer.
    async fn find(&self) -> Result<Secret, Failure> {
        let (context, target, suffix) = (self.context.clone(), self.target.clone(), self.suffix);
        let (secret, host) = (self.secret.clone(), self.host.clone());
        let found = spawn_blocking(move || context.secrets.find(&target, suffix, secret.as_deref(), &host));
        match timeout(READ, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(Failure::node(format!("reading secrets: {error}"))),
            Err(_) => Err(Failure::configuration("secrets can't be read: the disk that they are on does not answer")),
        }
    }

    /// The partner did not take this one: drops the token that it held, if it held one. True if another try
    /// would bring a fresh one.
    pub async fn forget(&self, refused: &Credential) -> bool {
        match (&self.scheme, &refused.token) {
            (Scheme::Token(source), Some(token)) => {
                source.forget(token).await;
                true
            }
            _ => false,
        }
    }

    fn generation_of(&self, value: &SecretString) -> u64 {
        let mut last = self.last.borrow_mut();
        let same = last.as_ref().is_some_and(|last| last.expose_secret() == value.expose_secret());
        if !same {
            *last = Some(value.clone());
            self.generation.set(self.generation.get() + 1);
        }
        self.generation.get()
    }
}

/// The name of the auth header.
pub(super) fn header(auth: &model::Auth) -> Result<HeaderName, Failure> {
    match auth {
        model::Auth::ApiKey { header, .. } => header_name(header),
        _ => Ok(AUTHORIZATION),
    }
}

/// What `hms sync check` shows in place of the value.
pub(super) fn shown(target: &TargetName, auth: &model::Auth) -> String {
    let (secret, suffix) = secret_of(auth);
    let name = secret.clone().or_else(|| Secrets::names(target, suffix).into_iter().next()).unwrap_or_default();
    match auth {
        model::Auth::ApiKey { .. } => format!("<secret {name}>"),
        model::Auth::Bearer { .. } => format!("Bearer <secret {name}>"),
        model::Auth::Basic { .. } => format!("Basic <secret {name}>"),
        model::Auth::OAuth2ClientCredentials { .. } => format!("Bearer <token for secret {name}>"),
    }
}

/// The name that the recipe gives, and the kind of secret.
fn secret_of(auth: &model::Auth) -> (&Option<String>, &'static str) {
    match auth {
        model::Auth::ApiKey { secret, .. } => (secret, "KEY"),
        model::Auth::Bearer { secret } => (secret, "TOKEN"),
        model::Auth::Basic { secret, .. } => (secret, "PASSWORD"),
        model::Auth::OAuth2ClientCredentials { secret, .. } => (secret, "CLIENT_SECRET"),
    }
}

/// User and password as HTTP's basic scheme wants them.
pub(super) fn basic(user: &str, password: &str) -> SecretString {
    STANDARD.encode(format!("{user}:{password}")).into()
}

pub(super) fn sensitive(text: &SecretString, name: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| {
        Failure::configuration(format!("secret `{name}` holds characters that a header can't carry, as a line break"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What must not be repeated, though a partner's answer may hold it.
pub(super) struct Mask {
    name: String,
    hidden: Vec<SecretString>,
}

impl Mask {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), hidden: Vec::new() }
    }

    /// Hides `value`, also as JSON would spell it.
    pub fn hide(&mut self, value: &str) {
        let escaped = serde_json::Value::from(value).to_string();
        let escaped = escaped.trim_matches('"');
        for spelled in [value, escaped, &escaped.replace('/', "\\/")] {
            if !spelled.is_empty() {
                self.hidden.push(spelled.into());
            }
        }
    }

    pub fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.hidden {
            text = text.replace(value.expose_secret(), &format!("<secret {}>", self.name));
        }
        text
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({})", self.name)
    }
}
