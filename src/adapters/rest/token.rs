//! Tokens of OAuth 2.0's client credentials grant (RFC 6749, 4.4): fetched, kept in memory, fetched again before
//! they expire. Never stored.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use hms_actors::failure::Failure;

use super::auth::{Mask, basic, sensitive};
use super::client::{Answer, Endpoint};
use super::request::{Prepared, request_headers};
use super::template::checked;
use super::{RestContext, classify};
use crate::secrets::Secret;

/// How long a token is used whose answer doesn't say how long it is good.
const UNTOLD: Duration = Duration::from_secs(300);

/// A token is not used in the last part of its life, so that it doesn't expire on the way.
const MARGIN: Duration = Duration::from_secs(60);

/// One token endpoint.
pub(super) struct TokenSource {
    url: Url,
    client_id: String,
    form: Bytes,
    endpoint: Endpoint,
    timeout: Duration,
    /// Locked while a token is fetched: requests that need it wait for that one.
    kept: Mutex<Option<Token>>,
}

struct Token {
    value: SecretString,
    good_until: Instant,
    /// Of the secret that it was given for.
    generation: u64,
}

impl TokenSource {
    pub fn new<'a>(
        url: &str,
        client_id: &str,
        form: impl Iterator<Item = (&'a str, &'a str)>,
        timeout: Duration,
        context: &RestContext,
    ) -> Result<Self, Failure> {
        let url = checked(url).map_err(|why| Failure::configuration(format!("token_url `{url}`: {why}")))?;
        let endpoint = Endpoint::new(&url, timeout, context)?;
        let form =
            Serializer::new(String::new()).append_pair("grant_type", "client_credentials").extend_pairs(form).finish();
        Ok(Self { url, client_id: client_id.to_owned(), form: form.into(), endpoint, timeout, kept: Mutex::new(None) })
    }

    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// A token that is still good, within the target's timeout.
    pub async fn token(
        &self,
        secret: &Secret,
        generation: u64,
        context: &RestContext,
    ) -> Result<SecretString, Failure> {
        let found = timeout(self.timeout, async {
            let mut kept = self.kept.lock().await;
            if let Some(token) = &*kept
                && token.generation == generation
                && Instant::now() < token.good_until
            {
                return Ok(token.value.clone());
            }
            // Dropped first: if the fetch fails, there is none.
            *kept = None;
            let token = self.fetch(secret, generation, context).await?;
            Ok(kept.insert(token).value.clone())
        });
        let late = || Failure::transient_definite(format!("no answer from {} within {:?}", self.host(), self.timeout));
        found.await.unwrap_or_else(|_| Err(late())).map_err(classify::before_the_event)
    }

    /// Drops a token that was refused, unless another request has replaced it already.
    pub async fn forget(&self, refused: &SecretString) {
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_some_and(|token| token.value.expose_secret() == refused.expose_secret()) {
            *kept = None;
        }
    }

    async fn fetch(&self, secret: &Secret, generation: u64, context: &RestContext) -> Result<Token, Failure> {
        let asked = Instant::now();
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pair = basic(&encoded(&self.client_id), &encoded(secret.value.expose_secret()));
        let mut headers = request_headers(&self.url, self.form.len(), "application/x-www-form-urlencoded");
        let header = SecretString::from(format!("Basic {}", pair.expose_secret()));
        headers.insert(AUTHORIZATION, sensitive(&header, &secret.name)?);
        let request = Prepared { method: Method::POST, url: self.url.clone(), headers, body: self.form.clone() };
        let answer = self.endpoint.send(request, generation).await?;

        let mut mask = Mask::new(&secret.name);
        mask.hide(secret.value.expose_secret());
        mask.hide(pair.expose_secret());
        match classify::failure(&answer, |text| mask.apply(text), false, context.clock.now()) {
            Some(failure) => Err(failure),
            None => read(&answer, asked, generation),
        }
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: serde_json::Value,
}

/// The answer's text is not repeated: it may hold a token.
fn read(answer: &Answer, asked: Instant, generation: u64) -> Result<Token, Failure> {
    let granted: Granted = serde_json::from_slice(&answer.body)
        .map_err(|_| Failure::configuration("the answer is not a JSON object with an `access_token`"))?;
    // Some servers write the number as a string.
    let seconds = granted.expires_in.as_u64().or_else(|| granted.expires_in.as_str()?.parse().ok());
    let life = seconds.map_or(UNTOLD, Duration::from_secs);
    let margin = MARGIN.min(life / 5);
    let good_until = asked + (life - margin).min(Duration::from_secs(86_400));
    Ok(Token { value: granted.access_token.into(), good_until, generation })
}
