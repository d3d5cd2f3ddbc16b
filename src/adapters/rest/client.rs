//! How requests travel: time limits, `connect_to`, and what is kept of an answer.
//! No redirects, no proxies, no retries: an attempt is one request. Not what an answer means.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Request, StatusCode, redirect, retry};
use rustls::ClientConfig;
use tokio::time::Instant;
use url::{Host, Url};

use hms_actors::failure::Failure;

use super::negotiated::Connections;
use super::request::Prepared;
use super::tls::ClientCert;
use super::{RestContext, classify};
use crate::config::ConnectTo;
use crate::egress::{Egress, Way};

/// Shorter than what servers grant (75 s and less): a connection that is reused isn't one that is being closed.
const IDLE: Duration = Duration::from_secs(15);

/// A host that can't be reached is known as such before the time for the answer is up.
const CONNECT: Duration = Duration::from_secs(5);

/// So much of an answer's body is read.
pub(super) const ANSWER: usize = 64 * 1024;

/// The way to one host of a recipe. Connections are kept, on the arbiter that made them.
#[derive(Debug)]
pub(super) struct Endpoint {
    route: Route,
    timeout: Duration,
    egress: Egress,
    tls: Arc<ClientConfig>,
    client_cert: Option<ClientCert>,
    /// The client, and the generations of secret and certificate with which its connections were made.
    client: RefCell<Option<((u64, u64), Client)>>,
    connections: Connections,
}

/// An answer, as far as it matters.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<String>,
    /// At most [`ANSWER`] bytes, and fewer if the connection broke or the time was up: the status is what counts.
    pub body: Vec<u8>,
    pub took: Duration,
    /// What TLS agreed on for the connection over which it came. `None` without TLS, or if that can't be told.
    pub agreed: Option<Arc<str>>,
}

impl Endpoint {
    /// `url` gives scheme, host and port; paths differ from request to request.
    pub fn new(url: &Url, timeout: Duration, context: &RestContext) -> Result<Self, Failure> {
        let (route, egress) = (Route::new(url, &context.connect_to)?, context.egress.clone());
        let tls = context.tls.plain();
        let (client, connections) = (RefCell::new(None), Connections::default());
        Ok(Self { route, timeout, egress, tls, client_cert: None, client, connections })
    }

    /// The same, with a certificate of our own for who asks for one.
    pub fn with_client_cert(self, client_cert: Option<ClientCert>) -> Self {
        Self { client_cert, ..self }
    }

    /// One request, one answer, within the timeout. A new `generation` closes the connections of the old one.
    pub async fn send(&self, request: Prepared, generation: u64) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let url = self.route.to(request.url);
        self.check_literal(&url)?;
        let (certificate, tls) = match &self.client_cert {
            Some(certificate) => certificate.current().await?,
            None => (0, self.tls.clone()),
        };
        let mut sent = Request::new(request.method, url);
        *sent.headers_mut() = request.headers;
        *sent.body_mut() = Some(request.body.into());
        let sent = self.client((generation, certificate), &tls)?.execute(sent);
        let mut response = sent.await.map_err(|error| classify::no_answer(&error, &self.route.name, self.timeout))?;
        let (status, agreed) = (response.status(), self.connections.agreed(response.extensions()));
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(ANSWER - body.len())]);
            if body.len() == ANSWER {
                break;
            }
        }
        Ok(Answer { status, retry_after, body, took: begun.elapsed(), agreed })
    }

    /// An address in a url is connected to as it is: nobody looks it up, so nobody else would judge it.
    fn check_literal(&self, url: &Url) -> Result<(), Failure> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::from(address),
            Some(Host::Ipv6(address)) => IpAddr::from(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        Ok(self.egress.judge(&self.route.way, (address, self.route.port).into())?)
    }

    fn client(&self, generation: (u64, u64), tls: &ClientConfig) -> Result<Client, Failure> {
        let mut kept = self.client.borrow_mut();
        if let Some((made, client)) = &*kept
            && *made == generation
        {
            return Ok(client.clone());
        }
        let client = self.build(tls)?;
        *kept = Some((generation, client.clone()));
        Ok(client)
    }

    fn build(&self, tls: &ClientConfig) -> Result<Client, Failure> {
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .dns_resolver(Lookup { way: self.route.way.clone(), egress: self.egress.clone() })
            .redirect(redirect::Policy::none())
            // With room for a retry it would keep a copy of each request, though it never makes one.
            .retry(retry::never().max_retries_per_request(0))
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT.min(self.timeout))
            .timeout(self.timeout)
            .pool_idle_timeout(IDLE);
        if self.route.tls {
            client = client.connector_layer(self.connections.clone());
        }
        client.build().map_err(|error| Failure::node(format!("no HTTP client: {}", error.without_url())))
    }
}

/// The recipe's host and port, and where they really are. TLS checks the recipe's name in either case.
#[derive(Debug)]
struct Route {
    /// For messages: `host:port` of the recipe, and that of `connect_to` if there is one.
    name: String,
    way: Way,
    /// The address in place of the recipe's, if that is an address: those are never looked up.
    address: Option<IpAddr>,
    port: u16,
    tls: bool,
}

impl Route {
    fn new(url: &Url, connect_to: &ConnectTo) -> Result<Self, Failure> {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(Failure::configuration(format!("url `{url}` has no host")));
        };
        let bare = host.to_string().trim_matches(['[', ']']).to_owned();
        let (to, to_port) = connect_to.resolve(&bare, port);
        let way = Way::new(&bare, port, connect_to);
        let tls = url.scheme() == "https";
        let mut route = Self { name: format!("{host}:{port}"), way, address: None, port: to_port, tls };
        if (to, to_port) != (&bare, port) {
            route.name = format!("{} (at {to}:{to_port})", route.name);
        }
        match (host, to.parse()) {
            _ if to == bare => {}
            (Host::Domain(_), _) => {}
            (_, Ok(address)) if url.scheme() == "http" => route.address = Some(address),
            _ => {
                let why = "only a host with a name can be somewhere else; over http an address can be at another one";
                return Err(Failure::configuration(format!("connect_to: `{bare}` is an address: {why}")));
            }
        }
        Ok(route)
    }

    /// The url that leads there. A looked-up address can't bring its port, so that goes into the url.
    fn to(&self, mut url: Url) -> Url {
        if let Some(address) = self.address {
            url.set_ip_host(address).expect("an http url has a host");
        }
        if url.port_or_known_default() != Some(self.port) {
            url.set_port(Some(self.port)).expect("an http url has a host");
        }
        url
    }
}

/// Looks up the host at the end of the way, whatever the name in the url is, and gives out only what may be
/// connected to.
struct Lookup {
    way: Way,
    egress: Egress,
}

impl Resolve for Lookup {
    fn resolve(&self, _: Name) -> Resolving {
        let (way, egress) = (self.way.clone(), self.egress.clone());
        Box::pin(async move {
            let found = egress.look_up(&way).await?;
            Ok(Box::new(egress.permit(&way, found)?.into_iter()) as Addrs)
        })
    }
}
