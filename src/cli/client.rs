//! The HTTP client of the admin endpoint: where the node is, which token it gets, and what its answers mean for a command.
//! It knows the problem details of errors; what a good answer holds is each command's affair.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Identity, Method, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Error;

/// How long an answer may take, where the command does not say otherwise.
const DEADLINE: Duration = Duration::from_secs(30);

/// Options that every client command has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Connection {
    /// Address of the node's admin endpoint
    #[arg(long, global = true, env = "HMS_NODE", value_name = "URL", default_value = "http://127.0.0.1:8700", value_parser = node_url)]
    pub node: Url,
    /// File with the token; without it HMS_TOKEN, HMS_TOKEN_FILE, then admin.token in the data directory
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates (PEM) that an https node is trusted by, instead of the system's
    #[arg(long, global = true, env = "HMS_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate (PEM) for a node that asks its clients for one
    #[arg(long, global = true, env = "HMS_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, global = true, env = "HMS_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Print JSON, as the node gives it
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connection {
    pub fn client(&self) -> Result<Client, Error> {
        let mut tls = Tls { roots: None, identity: None };
        if let Some(file) = &self.ca_file {
            let roots = Certificate::from_pem_bundle(&read("--ca-file", file)?).ok().filter(|roots| !roots.is_empty());
            tls.roots = Some(roots.ok_or_else(|| not_pem("--ca-file", file, "certificates"))?);
        }
        if let (Some(cert), Some(key)) = (&self.client_cert, &self.client_key) {
            let both = [read("--client-cert", cert)?, b"\n".to_vec(), read("--client-key", key)?].concat();
            let identity =
                Identity::from_pem(&both).map_err(|_| not_pem("--client-cert", cert, "a certificate and its key"));
            tls.identity = Some(identity?);
        }
        Client::with_tls(self.node.clone(), token(self.token_file.as_deref())?, tls)
    }
}

/// What an https node is trusted by, and what it trusts this command by.
struct Tls {
    roots: Option<Vec<Certificate>>,
    identity: Option<Identity>,
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |error| Error::Usage(format!("{option}: {} can't be read: {error}", file.display()));
    std::fs::read(file).map_err(wrong)
}

fn not_pem(option: &str, file: &Path, what: &str) -> Error {
    Error::Usage(format!("{option}: {} does not hold {what} in PEM", file.display()))
}

fn node_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; expected something like http://127.0.0.1:8700"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err("expected http://HOST:PORT or https://HOST:PORT".to_owned()),
    }
}

/// A token, if there is one, and where it is from: for those whose token is refused.
struct Token {
    secret: Option<SecretString>,
    from: String,
}

impl Token {
    fn new(secret: SecretString, from: impl Into<String>) -> Self {
        Self { secret: Some(secret), from: from.into() }
    }

    /// What to do when the node says 401.
    fn advice(&self) -> String {
        let places = "--token-file, HMS_TOKEN or HMS_TOKEN_FILE";
        match &self.secret {
            Some(_) => format!("the token is that of {}; another one is given by {places}", self.from),
            None => format!("no token was found: there is none in {}; give one by {places}", self.from),
        }
    }
}

/// The token, from the first place that has one. None of them has to: a node on loopback may need none.
fn token(file: Option<&Path>) -> Result<Token, Error> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(file) = file {
        return Ok(Token::new(read_token(file)?, format!("--token-file {}", file.display())));
    }
    if let Some(token) = given("HMS_TOKEN") {
        let token = token.into_string().map_err(|_| Error::Usage("HMS_TOKEN is not text".to_owned()))?;
        return Ok(Token::new(token.trim().to_owned().into(), "HMS_TOKEN"));
    }
    if let Some(file) = given("HMS_TOKEN_FILE") {
        let file = Path::new(&file);
        return Ok(Token::new(read_token(file)?, format!("HMS_TOKEN_FILE, {}", file.display())));
    }
    let data_dir = given("HMS_DATA_DIR").map_or_else(|| PathBuf::from("./hms-data"), PathBuf::from);
    let file = data_dir.join("admin.token");
    let from = file.display().to_string();
    // Not there, or another user's: then it is not the token of this command.
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Token::new(text.trim().to_owned().into(), from)),
        Err(error) => Ok(Token { secret: None, from: format!("{from} ({error})") }),
    }
}

fn read_token(file: &Path) -> Result<SecretString, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Usage(format!("the token file {} can't be read: {error}", file.display())))?;
    Ok(text.trim().to_owned().into())
}

/// One request.
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Option<(&'static str, Bytes)>,
    within: Duration,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, within: DEADLINE }
    }
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }
    pub fn body(self, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self { body: Some((content_type, bytes.into())), ..self }
    }
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }
}

/// What the node answered, good or bad.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
    /// What to do about a token that was refused.
    pub advice: String,
}

/// RFC 9457, as much of it as a reader wants to see.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl Answer {
    /// The body, if the node agreed.
    pub fn accepted(self) -> Result<Bytes, Error> {
        if self.status.is_success() { Ok(self.body) } else { Err(Error::Refused(self.reason())) }
    }

    /// Why the node refused, in its words.
    pub fn reason(&self) -> String {
        let words = match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => problem.detail.or(problem.title),
            Err(_) => None,
        };
        let words = words.unwrap_or_else(|| format!("the node answered {}", self.status));
        match self.status {
            StatusCode::UNAUTHORIZED => format!("{words} ({})", self.advice),
            _ => words,
        }
    }
}

/// A node's admin endpoint.
pub(crate) struct Client {
    http: reqwest::Client,
    node: String,
    authorization: Option<HeaderValue>,
    advice: String,
}

impl Client {
    /// Without a token.
    #[cfg(test)]
    pub fn new(node: Url) -> Result<Self, Error> {
        let token = Token { secret: None, from: "a test".to_owned() };
        Self::with_tls(node, token, Tls { roots: None, identity: None })
    }

    fn with_tls(node: Url, token: Token, tls: Tls) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("hms/", env!("CARGO_PKG_VERSION")));
        let http = tls.roots.into_iter().fold(http, |http, roots| http.tls_certs_only(roots));
        let http = tls.identity.into_iter().fold(http, |http, identity| http.identity(identity));
        let http = http.build().map_err(|error| Error::Failed(format!("no HTTP client: {}", innermost(&error))))?;
        let authorization = token.secret.as_ref().map(bearer).transpose()?;
        let node = node.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, node, authorization, advice: token.advice() })
    }

    /// One try; an error only if there was no answer.
    pub async fn call(&self, call: Call) -> Result<Answer, Error> {
        let mut request = self.http.request(call.method, format!("{}{}", self.node, call.path)).timeout(call.within);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some((content_type, body)) = call.body {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(Answer { status, retry_after, body, advice: self.advice.clone() })
    }

    /// The body of a good answer.
    pub async fn accepted(&self, call: Call) -> Result<Bytes, Error> {
        self.call(call).await?.accepted()
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
        Error::Unreachable { node: self.node.clone(), why }
    }
}

/// Reads an answer of the node; one that makes no sense comes from another version, or from something else.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Failed(format!("the node's answer makes no sense: {error}")))
}

fn bearer(token: &SecretString) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| Error::Usage("the token holds characters that a header can't carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The words of the first cause: "Connection refused", not "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, retry_after: None, body: Bytes::from_static(body.as_bytes()), advice: "look there".to_owned() }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_node() {
        let refused = answer(409, r#"{"title":"Conflict","detail":"target cobol_finance has a backlog of 3"}"#);
        assert_eq!(refused.reason(), "target cobol_finance has a backlog of 3");
        let stranger = answer(401, r#"{"title":"Unauthorized","detail":"a token is needed"}"#);
        assert_eq!(stranger.reason(), "a token is needed (look there)");
        assert_eq!(answer(502, "<html>").reason(), "the node answered 502 Bad Gateway");
    }

    #[test]
    fn a_node_is_an_http_address() {
        assert!(node_url("http://127.0.0.1:8700").is_ok());
        for wrong in ["127.0.0.1:8700", "ftp://host", "localhost:8700", ""] {
            assert!(node_url(wrong).is_err(), "{wrong}");
        }
    }
}
