//! The node's configuration, `hms.yaml`, checked and with every default filled in.
//!
//! Relative paths are relative to the folder that the file is in; `~/` is the home folder. Without a file
//! they are relative to the current folder.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use url::Url;

use crate::egress::Allowed;
use crate::recipe::model::Recipe;
use crate::recipe::own::TicketWebhook;
use crate::record;
use crate::yaml::diagnostics::{At, Collector, Diagnostics, nearest, quoted};
use crate::yaml::grammar::{Field, Grammar, Located, Reader};
use crate::yaml::tree::{self, Value};
use crate::yaml::values::{FromText, Pairs, SecretName, Size, Text};

/// What the node was told. Built by [`NodeConfig::load`]; the command line overrides single fields of it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// No token is asked for. Only ever true on loopback.
    pub insecure_loopback: bool,
    pub timezone: Tz,
    pub connect_to: ConnectTo,
    pub tls_ca_file: Option<PathBuf>,
    pub known_hosts: Option<PathBuf>,
    pub secrets_dir: Option<PathBuf>,
    /// Secret name → hosts that may be given it.
    pub secret_hosts: BTreeMap<String, Vec<String>>,
    /// The only places that the node may connect to. `None`: not restricted.
    pub egress: Option<Vec<Allowed>>,
    /// Whether only approved algorithms are used.
    pub fips: bool,
    pub retention: Duration,
    pub dedupe_window: Duration,
    pub limits: Limits,
    /// Where checkpoints of the audit are told to. Read at start.
    pub anchors: Vec<Anchor>,
    /// TLS of the admin endpoint.
    pub tls: Option<TlsFiles>,
    /// Policies of the operator's own.
    pub policies_dir: Option<PathBuf>,
    /// The recipe by which tickets are told to an outside task system.
    pub ticket_webhook: Option<Recipe>,
    /// Where the labels of fields stand.
    pub catalog: Option<PathBuf>,
}

/// A place outside of the node for checkpoints of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchor {
    File(PathBuf),
    Http(Url),
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Http(url) => write!(f, "{url}"),
        }
    }
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Who signs the certificates of clients, which are asked for then.
    pub client_ca: Option<PathBuf>,
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body. Default 8 MiB.
    pub body: u64,
    /// All feeds together. Default 16 GiB.
    pub disk: u64,
    /// One feed. Default 4 GiB.
    pub feed_disk: u64,
}

/// `host:port` of a recipe → where to connect instead, as curl's `--connect-to`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectTo(pub BTreeMap<(String, u16), (String, u16)>);

impl ConnectTo {
    /// Where to connect for `host:port`: the same, unless the configuration says otherwise.
    pub fn resolve<'a>(&'a self, host: &'a str, port: u16) -> (&'a str, u16) {
        self.0.get(&(host.to_ascii_lowercase(), port)).map_or((host, port), |(host, port)| (host.as_str(), *port))
    }
}

/// What the command line says, which wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub insecure_loopback: bool,
}

/// The file that is read when none is named, if it is there.
const FILE: &str = "hms.yaml";

/// The file's settings under those of the command line.
pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<NodeConfig, Diagnostics> {
    let default = Path::new(FILE);
    let mut config = NodeConfig::load(file.or_else(|| default.exists().then_some(default)))?;
    config.data_dir = overrides.data_dir.unwrap_or(config.data_dir);
    config.listen = overrides.listen.unwrap_or(config.listen);
    config.insecure_loopback = overrides.insecure_loopback;
    Ok(config)
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const GIB: u64 = 1 << 30;

record! {
    /// The node's configuration.
    pub struct ConfigDoc as "the configuration" {
        /// Where the node keeps its data. Default ./hms-data.
        optional data_dir: Text,
        /// Address of the admin endpoint. Default 127.0.0.1:8700.
        optional listen: SocketAddr,
        /// For dates in paths and for cron, such as America/New_York. Default UTC.
        optional timezone: Tz,
        /// Where to connect for a recipe's `host:port` instead, as curl's --connect-to.
        optional connect_to: Pairs<HostPort>,
        /// Roots of TLS that are added to the system's, in PEM.
        optional tls_ca_file: Text,
        /// Host keys of SFTP partners. Default ~/.ssh/known_hosts.
        optional known_hosts: Text,
        /// A folder with a file per secret.
        optional secrets_dir: Text,
        /// Which hosts a secret may be given to.
        optional secret_hosts: Pairs<Vec<Located<Text>>>,
        /// How long events are kept at least. Default 7d.
        optional retention: Duration,
        /// How long ids of events are remembered at least. Default 7d.
        optional dedupe_window: Duration,
        /// Largest sizes.
        optional limits: LimitsDoc,
        /// A folder with policies (`*.cedar`), which are added to those that the node has.
        optional policies_dir: Text,
        /// What the fields of feeds are: a file with their labels. Default none.
        optional catalog: Text,
        /// `required`: approved algorithms only, over TLS and SSH; a node that can't does not start.
        optional fips: Fips,
        /// Where the node may connect to. Default: everywhere but to this machine and to what is never a target.
        optional egress: EgressDoc,
        /// Where checkpoints of the audit log are anchored: paths of files, or urls of witnesses.
        optional anchors: Vec<Located<Text>>,
        /// Told of each ticket: a url, or a mapping with the keys of a `rest` target.
        optional ticket_webhook: TicketWebhook,
        /// TLS of the admin endpoint.
        optional tls: TlsDoc,
    }
}

record! {
    /// Largest sizes.
    pub struct LimitsDoc as "`limits`" {
        /// Of a request's body. Default 8MiB.
        optional body: Size,
        /// Of all feeds together. Default 16GiB.
        optional disk: Size,
        /// Of one feed. Default 4GiB.
        optional feed_disk: Size,
    }
}

record! {
    /// Where the node may connect to.
    pub struct EgressDoc as "`egress`" {
        /// Hosts, or networks as CIDR.
        required allow: Vec<Located<Allowed>>,
    }
}

record! {
    /// TLS of the admin endpoint.
    pub struct TlsDoc as "`tls`" {
        /// Certificate, in PEM.
        required cert: Text,
        /// Its key, in PEM.
        required key: Text,
        /// Who signs the certificates of clients, which are asked for then.
        optional client_ca: Text,
    }
}

impl NodeConfig {
    /// Reads `hms.yaml`; all defaults without a path.
    pub fn load(path: Option<&Path>) -> Result<Self, Diagnostics> {
        let home = std::env::home_dir();
        let Some(path) = path else { return Self::parse("", "", Path::new(""), home.as_deref()) };
        let file = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|error| Diagnostics::of_file(&file, format!("not readable: {error}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&file, tree::text(&file, &bytes)?, folder, home.as_deref())
    }

    /// Parses and checks the text of a file that is in `folder`.
    pub fn parse(file: &str, text: &str, folder: &Path, home: Option<&Path>) -> Result<Self, Diagnostics> {
        let mut tree = tree::parse(file, text)?;
        if tree.value == Value::Null {
            tree.value = Value::Map(Vec::new());
        }
        let mut reader = Reader::new(Collector::new(file, text));
        let doc = ConfigDoc::read(&tree, &mut reader);
        let config = doc.and_then(|doc| Check { folder, home, errors: &mut reader.errors }.config(doc));
        reader.errors.finish(config)
    }
}

struct Check<'c, 'a> {
    folder: &'c Path,
    home: Option<&'c Path>,
    errors: &'c mut Collector<'a>,
}

impl Check<'_, '_> {
    fn config(mut self, doc: ConfigDoc) -> Option<NodeConfig> {
        let default_known_hosts = self.home.map(|home| home.join(".ssh/known_hosts"));
        Some(NodeConfig {
            data_dir: self.path(doc.data_dir).unwrap_or_else(|| PathBuf::from("./hms-data")),
            listen: doc.listen.map_or(SocketAddr::from(([127, 0, 0, 1], 8700)), |listen| listen.value),
            insecure_loopback: false,
            timezone: doc.timezone.map_or(Tz::UTC, |zone| zone.value),
            connect_to: self.connect_to(doc.connect_to),
            tls_ca_file: self.path(doc.tls_ca_file),
            known_hosts: self.path(doc.known_hosts).or(default_known_hosts),
            secrets_dir: self.path(doc.secrets_dir),
            secret_hosts: self.secret_hosts(doc.secret_hosts),
            egress: doc.egress.and_then(|egress| allowed(egress.value)),
            fips: doc.fips.is_some(),
            retention: doc.retention.map_or(WEEK, |time| time.value),
            dedupe_window: doc.dedupe_window.map_or(WEEK, |time| time.value),
            limits: self.limits(doc.limits),
            anchors: self.anchors(doc.anchors),
            tls: self.tls(doc.tls),
            policies_dir: self.path(doc.policies_dir),
            ticket_webhook: doc.ticket_webhook.map(|webhook| webhook.value.0),
            catalog: self.path(doc.catalog),
        })
    }

    fn path(&mut self, path: Field<Text>) -> Option<PathBuf> {
        let Located { value: Text(text), at } = path?;
        let Some(in_home) = text.strip_prefix("~/") else { return Some(self.folder.join(text)) };
        if self.home.is_none() {
            self.errors.error(at, "`~` needs the home folder, and there is none").help("give the whole path");
        }
        Some(self.home?.join(in_home))
    }

    fn tls(&mut self, doc: Field<TlsDoc>) -> Option<TlsFiles> {
        let TlsDoc { cert, key, client_ca, .. } = doc?.value;
        // The grammar has complained of one that is missing.
        Some(TlsFiles { cert: self.path(cert)?, key: self.path(key)?, client_ca: self.path(client_ca) })
    }

    fn connect_to(&mut self, pairs: Field<Pairs<HostPort>>) -> ConnectTo {
        let mut map = BTreeMap::new();
        for (from, to) in pairs.map(|pairs| pairs.value.0).unwrap_or_default() {
            match HostPort::from_text(&from.value) {
                Ok(HostPort(host, port)) => {
                    if map.insert((host, port), (to.value.0, to.value.1)).is_some() {
                        self.errors.error(from.at, format!("{} is given twice", quoted(&from.value)));
                    }
                }
                Err(_) => self.expected(from.at, HostPort::EXPECTED, &from.value),
            }
        }
        ConnectTo(map)
    }

    fn secret_hosts(&mut self, pairs: Field<Pairs<Vec<Located<Text>>>>) -> BTreeMap<String, Vec<String>> {
        let mut map = BTreeMap::new();
        for (name, hosts) in pairs.map(|pairs| pairs.value.0).unwrap_or_default() {
            if SecretName::from_text(&name.value).is_err() {
                self.expected(name.at, SecretName::EXPECTED, &name.value);
            }
            let hosts = hosts.value.into_iter().map(|host| host.value.0.to_ascii_lowercase()).collect();
            map.insert(name.value, hosts);
        }
        map
    }

    fn anchors(&mut self, doc: Field<Vec<Located<Text>>>) -> Vec<Anchor> {
        let mut anchors = Vec::new();
        for anchor in doc.map(|doc| doc.value).unwrap_or_default() {
            let at = anchor.at;
            let found = if anchor.value.0.starts_with("http://") || anchor.value.0.starts_with("https://") {
                match Url::parse(&anchor.value.0) {
                    Ok(url) if url.username().is_empty() && url.password().is_none() => Some(Anchor::Http(url)),
                    Ok(_) => {
                        let error = self.errors.error(at, "an anchor's url holds no credentials");
                        error.help("a bearer token is the secret ANCHOR_TOKEN");
                        None
                    }
                    Err(_) => {
                        self.expected(at, "a path, or an http or https url", &anchor.value.0);
                        None
                    }
                }
            } else {
                self.path(Some(anchor)).map(Anchor::File)
            };
            match found {
                Some(found) if anchors.contains(&found) => {
                    self.errors.error(at, format!("{} is given twice", quoted(&found.to_string())));
                }
                found => anchors.extend(found),
            }
        }
        anchors
    }

    fn limits(&mut self, doc: Field<LimitsDoc>) -> Limits {
        let doc = doc.map(|doc| doc.value);
        let size = |pick: fn(&LimitsDoc) -> Field<Size>, default: u64| {
            doc.as_ref().and_then(pick).map_or(default, |size| size.value.0)
        };
        let disk = size(|limits| limits.disk, 16 * GIB);
        let limits =
            Limits { body: size(|l| l.body, 8 << 20), disk, feed_disk: size(|l| l.feed_disk, disk.min(4 * GIB)) };
        let at = |pick: fn(&LimitsDoc) -> Field<Size>| doc.as_ref().and_then(pick).map_or(At::START, |size| size.at);
        if limits.feed_disk > limits.disk {
            self.errors.error(at(|l| l.feed_disk), "one feed (`feed_disk`) can't have more than all of them (`disk`)");
        }
        if limits.body > limits.feed_disk {
            self.errors.error(at(|l| l.body), "one request (`body`) can't have more than a feed (`feed_disk`)");
        }
        limits
    }

    fn expected(&mut self, at: At, expected: &str, found: &str) {
        self.errors.error(at, format!("expected {expected}, found {}", quoted(found)));
    }
}

/// `fips: required`.
#[derive(Debug, Clone, Copy)]
pub struct Fips;

impl FromText for Fips {
    const EXPECTED: &'static str = "`required`";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let help = || "without the key, everything that TLS 1.2 and OpenSSH's defaults offer is used".to_owned();
        (text == "required").then_some(Self).ok_or_else(|| Some(help()))
    }
    fn pattern() -> Option<&'static str> {
        Some("^required$")
    }
}

/// `None` only if an error was reported.
fn allowed(doc: EgressDoc) -> Option<Vec<Allowed>> {
    Some(doc.allow?.value.into_iter().map(|entry| entry.value).collect())
}

/// `host:port`, the host in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(pub String, pub u16);

impl FromText for HostPort {
    const EXPECTED: &'static str = "host:port";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let (host, port) = text.rsplit_once(':').ok_or(None)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(None)?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if host.is_empty() || host.contains(odd) { Err(None) } else { Ok(Self(host.to_ascii_lowercase(), port)) }
    }
}

impl FromText for SocketAddr {
    const EXPECTED: &'static str = "an address and a port such as 127.0.0.1:8700";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        text.parse().map_err(|_| None)
    }
}

impl FromText for Tz {
    const EXPECTED: &'static str = "a time zone such as UTC or America/New_York";
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let help = || nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        text.parse().map_err(|_| help().map(|zone| format!("did you mean `{zone}`?")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NodeConfig, String> {
        let home = Some(Path::new("/home/ann"));
        NodeConfig::parse("hms.yaml", text, Path::new("/etc/hms"), home).map_err(|errors| errors.to_string())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        for text in ["", "# nothing\n"] {
            let config = parse(text).unwrap();
            assert_eq!(config.data_dir, Path::new("./hms-data"));
            assert_eq!(config.listen.to_string(), "127.0.0.1:8700");
            assert_eq!((config.timezone, config.retention, config.dedupe_window), (Tz::UTC, WEEK, WEEK));
            assert_eq!(config.known_hosts.as_deref(), Some(Path::new("/home/ann/.ssh/known_hosts")));
            assert_eq!(config.limits, Limits { body: 8 << 20, disk: 16 << 30, feed_disk: 4 << 30 });
        }
    }

    #[test]
    fn every_key_is_read_and_paths_are_relative_to_the_file() {
        let config = parse(
            "data_dir: data
listen: '[::1]:9000'
timezone: America/New_York
connect_to:
  GIS.vdot.gov:443: 127.0.0.1:18443
tls_ca_file: extra-roots.pem
known_hosts: ~/hosts
secrets_dir: /run/secrets
retention: 1d
dedupe_window: 2h
limits: {body: 1MiB, disk: 1GiB, feed_disk: 512MiB}
secret_hosts: {GIS_KEY: [gis.vdot.gov]}
anchors: [anchors/audit.txt, 'https://witness.example/add']
egress: {allow: [10.0.0.0/8, gis.vdot.gov, '127.0.0.1']}
fips: required
tls: {cert: own.pem, key: ~/own.key, client_ca: /etc/clients.pem}
catalog: catalog.yaml
",
        )
        .unwrap();
        let witness = Anchor::Http(Url::parse("https://witness.example/add").unwrap());
        assert_eq!(config.anchors, [Anchor::File(PathBuf::from("/etc/hms/anchors/audit.txt")), witness]);
        assert_eq!(config.data_dir, Path::new("/etc/hms/data"));
        assert_eq!(config.connect_to.resolve("gis.vdot.gov", 443), ("127.0.0.1", 18443));
        assert_eq!(config.connect_to.resolve("gis.vdot.gov", 80), ("gis.vdot.gov", 80));
        assert_eq!(config.tls_ca_file.as_deref(), Some(Path::new("/etc/hms/extra-roots.pem")));
        assert_eq!(config.known_hosts.as_deref(), Some(Path::new("/home/ann/hosts")));
        assert_eq!(config.secrets_dir.as_deref(), Some(Path::new("/run/secrets")));
        assert_eq!(config.limits, Limits { body: 1 << 20, disk: 1 << 30, feed_disk: 512 << 20 });
        assert_eq!(config.secret_hosts["GIS_KEY"], ["gis.vdot.gov"]);
        assert_eq!(config.timezone, Tz::America__New_York);
        assert_eq!((config.egress.map(|allow| allow.len()), config.fips), (Some(3), true));
        let tls = config.tls.unwrap();
        let client_ca = Some(PathBuf::from("/etc/clients.pem"));
        assert_eq!(tls, TlsFiles { cert: "/etc/hms/own.pem".into(), key: "/home/ann/own.key".into(), client_ca });
        assert_eq!(config.catalog.as_deref(), Some(Path::new("/etc/hms/catalog.yaml")));
    }

    #[test]
    fn every_error_is_shown_at_once() {
        let errors = parse(
            "listen: localhost
timezone: America/NewYork
conect_to: {gis: 127.0.0.1:1}
limits: {body: big, disk: 1MiB, feed_disk: 2MiB}
retention: 0s
tls: {cert: a}
secret_hosts: {HMS_TOKEN: [a]}
anchors: ['https://a:b@witness', same, same, 'http://']
egress: {allow: [10.0.0.1/8]}
fips: yes please
",
        )
        .unwrap_err();
        for expected in [
            "hms.yaml:1:9: error: expected an address and a port such as 127.0.0.1:8700, found `localhost`",
            "did you mean `America/New_York`?",
            "did you mean `connect_to`?",
            "hms.yaml:3:13: error: expected host:port, found `gis`",
            "hms.yaml:4:16: error: expected a size",
            "hms.yaml:4:44: error: one feed (`feed_disk`) can't have more than all of them (`disk`)",
            "it must be longer than zero",
            "hms.yaml:6:6: error: missing key `key`",
            "hms.yaml:7:16: error: expected the name of a secret",
            "an anchor's url holds no credentials",
            "`/etc/hms/same` is given twice",
            "expected a path, or an http or https url, found `http://`",
            "did you mean `10.0.0.0/8`?",
            "hms.yaml:10:7: error: expected `required`, found `yes please`",
        ] {
            assert!(errors.contains(expected), "{expected}\n\n{errors}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let errors = NodeConfig::load(Some(Path::new("/nowhere/hms.yaml"))).unwrap_err().to_string();
        assert!(errors.starts_with("/nowhere/hms.yaml:1:1: error: not readable: No such file"), "{errors}");
    }
}
