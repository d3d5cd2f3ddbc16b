//! Where the node may connect to: one judgement, on the very address that a connection is about to be made to. Names
//! are looked up here and nowhere else, and only what was judged is connected to, so an answer that changes between
//! two look-ups helps nobody.
//!
//! | address | is a target |
//! | --- | --- |
//! | link-local, metadata of a cloud, unspecified, multicast, broadcast, reserved | never |
//! | the node's own listen address and port | never |
//! | IPv6 that a gateway would turn into one of these or into loopback | never |
//! | loopback | if `egress.allow` names it, `connect_to` leads to exactly it, or with `--insecure-loopback` |
//! | everything else, private networks too | yes, and with `egress.allow` only if that has it |
//!
//! Not here: what ranges there are ([`ranges`]), and connecting.

pub mod ranges;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hms_actors::failure::Failure;
use url::Host;

use crate::config::ConnectTo;
use crate::yaml::values::FromText;
use ranges::{Network, hidden, is_loopback, never, plain};

/// An entry of `egress.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    Network(Network),
    /// As it stands in recipes or in `connect_to`, in lower case and without a dot at its end.
    Host(String),
}

/// The rules of a node.
#[derive(Clone)]
pub struct Egress {
    /// `None`: not restricted.
    allow: Option<Vec<Allowed>>,
    /// Whether the node was started with `--insecure-loopback`.
    insecure_loopback: bool,
    /// Where the node itself listens, once it does.
    own: Arc<OnceLock<SocketAddr>>,
    names: Arc<dyn Names>,
}

/// From a host and port of a recipe to where a connection is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    host: String,
    port: u16,
    /// What `connect_to` says instead.
    instead: Option<(String, u16)>,
}

/// What turns names into addresses.
#[async_trait]
pub trait Names: Send + Sync {
    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Names as the system looks them up.
#[derive(Debug, Clone, Copy)]
pub struct System;

/// Why an address is not connected to, in words that say what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub rule: Rule,
    words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Never,
    Own,
    Loopback,
    Allow,
}

impl Egress {
    pub fn new(allow: Option<Vec<Allowed>>, insecure_loopback: bool, own: Arc<OnceLock<SocketAddr>>) -> Self {
        Self { allow, insecure_loopback, own, names: Arc::new(System) }
    }

    /// The same rules, with names looked up elsewhere.
    pub fn with_names(self, names: Arc<dyn Names>) -> Self {
        Self { names, ..self }
    }

    /// The addresses of the host at the end of the way, each with the port. They are not judged yet.
    pub async fn look_up(&self, way: &Way) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = way.end();
        self.names.look_up(host, port).await
    }

    /// Those of the addresses that may be connected to; a refusal if there is none among them.
    pub fn permit(&self, way: &Way, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let mut refused = None;
        let mut permitted = Vec::new();
        for address in found {
            match self.judge(way, address) {
                Ok(()) => permitted.push(address),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        match refused {
            Some(why) if permitted.is_empty() => Err(why),
            _ => Ok(permitted),
        }
    }

    /// Whether a connection may be made to this address.
    pub fn judge(&self, way: &Way, address: SocketAddr) -> Result<(), Refused> {
        let ip = plain(address.ip());
        if self.own.get().is_some_and(|own| leads_to(*own, ip, address.port())) {
            return Err(way.refused(Rule::Own, address, "where this node itself listens, which is never a target"));
        }
        if let Some(what) = never(ip) {
            return Err(way.refused(Rule::Never, address, &format!("{what}, which is never a target")));
        }
        for inner in hidden(ip).into_iter().map(IpAddr::V4) {
            if let Some(what) = never(inner).or(is_loopback(inner).then_some("a loopback address")) {
                let what = format!("{inner} ({what}) in another form, which is never a target");
                return Err(way.refused(Rule::Never, address, &what));
            }
        }
        if is_loopback(ip) && !self.may_loop_back(way, ip, address.port()) {
            let (Way { host, port, .. }, to) = (way, SocketAddr::new(ip, address.port()));
            let what = format!(
                "a loopback address, and nothing of the operator's leads there. In hms.yaml write `egress: {{allow: \
                 [\"{ip}\"]}}`, or lead there with `connect_to: {{\"{host}:{port}\": \"{to}\"}}`; on a machine of a \
                 developer's `hms serve --insecure-loopback` opens the way too"
            );
            return Err(way.refused(Rule::Loopback, address, &what));
        }
        match &self.allow {
            Some(allow) if !allow.iter().any(|entry| entry.has(way, ip)) => {
                let what = format!("not in `egress.allow` of hms.yaml: add `{ip}` or `{}` there", way.host);
                Err(way.refused(Rule::Allow, address, &what))
            }
            _ => Ok(()),
        }
    }

    /// What can be seen without looking a name up: addresses in all their spellings, and names that say what they are.
    pub fn at_sight(&self, way: &Way) -> Result<(), Refused> {
        let (host, port) = way.end();
        if let Some(ip) = address_in(host) {
            return self.judge(way, SocketAddr::new(ip, port));
        }
        match &self.allow {
            Some(allow) if allow.iter().all(|entry| matches!(entry, Allowed::Host(_)) && !entry.names(way)) => {
                let words =
                    format!("`{}` is not in `egress.allow` of hms.yaml: add it, or the network it is in", way.host);
                Err(Refused { rule: Rule::Allow, words })
            }
            _ => Ok(()),
        }
    }

    fn may_loop_back(&self, way: &Way, ip: IpAddr, port: u16) -> bool {
        let leads_here = |(host, to): &(String, u16)| {
            *to == port && address_in(host).is_some_and(|end| end == ip || (is_local_name(host) && is_loopback(ip)))
        };
        let names_it = |entry: &Allowed| match entry {
            Allowed::Network(network) => network.is_loopback() && network.contains(ip),
            Allowed::Host(host) => is_local_name(host) && entry.names(way),
        };
        self.insecure_loopback
            || way.instead.as_ref().is_some_and(leads_here)
            || self.allow.iter().flatten().any(names_it)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl Way {
    /// `host` without the brackets of a url.
    pub fn new(host: &str, port: u16, connect_to: &ConnectTo) -> Self {
        let end = connect_to.resolve(host, port);
        let instead = (end != (host, port)).then(|| (end.0.to_owned(), end.1));
        Self { host: host.to_owned(), port, instead }
    }

    /// The host and port that are connected to.
    pub fn end(&self) -> (&str, u16) {
        self.instead.as_ref().map_or((&self.host, self.port), |(host, port)| (host, *port))
    }

    fn refused(&self, rule: Rule, address: SocketAddr, what: &str) -> Refused {
        let detour = if self.instead.is_some() { " (by `connect_to`)" } else { "" };
        let words = format!("`{}:{}` is at {address}{detour}: that is {what}. Nothing was sent", self.host, self.port);
        Refused { rule, words }
    }
}

impl Allowed {
    fn has(&self, way: &Way, ip: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(ip),
            Self::Host(_) => self.names(way),
        }
    }

    /// Whether this is the recipe's host, or the one that `connect_to` puts in its place.
    fn names(&self, way: &Way) -> bool {
        let Self::Host(allowed) = self else { return false };
        [way.host.as_str(), way.end().0].iter().any(|host| bare(host) == *allowed)
    }
}

impl FromText for Allowed {
    const EXPECTED: &'static str = "a host such as gis.vdot.gov, or a network such as 10.0.0.0/8";

    fn from_text(text: &str) -> Result<Self, Option<String>> {
        match Network::parse(text) {
            Ok(network) => match network.never() {
                Some(what) => Err(Some(format!("{what} is never a target, whatever is allowed"))),
                None => Ok(Self::Network(network)),
            },
            Err(Some(help)) => Err(Some(help)),
            Err(None) => host(text).map(Self::Host),
        }
    }
}

fn host(text: &str) -> Result<String, Option<String>> {
    if text.contains('*') {
        return Err(Some("each host by its own name: there are no wildcards".to_owned()));
    }
    let name = bare(text);
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(ok) {
        return Err(text.contains(':').then(|| "without a port".to_owned()));
    }
    match Host::parse(&name) {
        Ok(Host::Domain(_)) => Ok(name),
        Ok(address) => Err(Some(format!("write the address as {address}"))),
        Err(_) => Err(None),
    }
}

#[async_trait]
impl Names for System {
    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refused {}

/// The way to the partner is wrong, no event is to blame, and nothing has left.
impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::configuration(refused.to_string())
    }
}

/// Whether whoever connects to `ip:port` reaches what listens on `own`.
fn leads_to(own: SocketAddr, ip: IpAddr, port: u16) -> bool {
    let listens = plain(own.ip());
    own.port() == port && (listens == ip || (listens.is_unspecified() && is_of_this_machine(ip)))
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    is_loopback(ip) || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The address that a host's text is: in any spelling that is read as one, or under a name that says so.
fn address_in(host: &str) -> Option<IpAddr> {
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    let without_zone = unbracketed.split('%').next().unwrap_or_default();
    if let Ok(ip) = without_zone.parse() {
        return Some(ip);
    }
    if is_local_name(host) {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    if METADATA.contains(&bare(host).as_str()) {
        return Some(Ipv4Addr::new(169, 254, 169, 254).into());
    }
    match Host::parse(host) {
        Ok(Host::Ipv4(ip)) => Some(ip.into()),
        Ok(Host::Ipv6(ip)) => Some(ip.into()),
        Ok(Host::Domain(_)) | Err(_) => None,
    }
}

/// Names of the metadata services of clouds.
const METADATA: [&str; 5] = [
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Names that mean this machine.
fn is_local_name(host: &str) -> bool {
    let host = bare(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || matches!(host.as_str(), "localhost.localdomain" | "ip6-localhost" | "ip6-loopback")
}

/// A name as it is compared.
fn bare(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
