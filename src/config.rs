//! The node's configuration, `hms.yaml`, checked and with every default filled in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the node was told. Built by `load` from `hms.yaml`, the command line and the environment.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub data_dir: PathBuf,
    pub listen: std::net::SocketAddr,
    pub timezone: chrono_tz::Tz,
    pub connect_to: ConnectTo,
    pub tls_ca_file: Option<PathBuf>,
    pub known_hosts: Option<PathBuf>,
    pub secrets_dir: Option<PathBuf>,
    /// Secret name → hosts that may be given it.
    pub secret_hosts: BTreeMap<String, Vec<String>>,
    pub retention: Duration,
    pub dedupe_window: Duration,
    pub limits: Limits,
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
    pub listen: Option<std::net::SocketAddr>,
}

/// Placeholder of the loader.
pub fn load(_file: Option<&Path>, overrides: Overrides) -> Result<NodeConfig, String> {
    Ok(NodeConfig {
        data_dir: overrides.data_dir.unwrap_or_else(|| "./hms-data".into()),
        listen: overrides.listen.unwrap_or_else(|| ([127, 0, 0, 1], 8700).into()),
        timezone: chrono_tz::UTC,
        connect_to: ConnectTo::default(),
        tls_ca_file: None,
        known_hosts: None,
        secrets_dir: None,
        secret_hosts: BTreeMap::new(),
        retention: Duration::from_secs(7 * 86_400),
        dedupe_window: Duration::from_secs(7 * 86_400),
        limits: Limits { body: 8 << 20, disk: 16 << 30, feed_disk: 4 << 30 },
    })
}
