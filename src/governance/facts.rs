//! What policies are told of a target.

use url::Url;

use crate::recipe::model::{Adapter, Classification, Recipe, Target};

/// What a residency that nobody has stated is called.
pub const UNKNOWN: &str = "unknown";

/// What the node's configuration adds to a target's facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Node {
    /// `fips: required`.
    pub fips_required: bool,
}

/// Every attribute of the schema's `Recipe` and `Target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub recipe: String,
    pub feed: String,
    pub name: String,
    pub adapter: &'static str,
    /// In lower case; empty for a local file.
    pub host: String,
    pub residency: String,
    pub classification: &'static str,
    pub transport: &'static str,
    pub encrypted: bool,
    pub approved_algorithms: bool,
    pub fips_required: bool,
}

impl Facts {
    pub fn of(recipe: &Recipe, target: &Target, node: Node) -> Self {
        let (transport, host) = way(&target.adapter);
        let local = transport == "local";
        Self {
            recipe: recipe.id.to_string(),
            feed: recipe.source.feed.to_string(),
            name: target.name.to_string(),
            adapter: target.adapter.word(),
            host: host.to_ascii_lowercase(),
            residency: target.residency.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            classification: match target.classification {
                Classification::External => "external",
                Classification::Internal => "internal",
            },
            transport,
            encrypted: transport != "http",
            // With `fips: required` the node restricts what it negotiates, in TLS and in SSH.
            approved_algorithms: local || (node.fips_required && transport != "http"),
            fips_required: node.fips_required,
        }
    }

    /// For the operator.
    pub fn place(&self) -> String {
        let host = if self.host.is_empty() { "a local file" } else { &self.host };
        format!("{host}, residency {}, {}", self.residency, self.transport)
    }
}

/// How it goes there, and to which host.
fn way(adapter: &Adapter) -> (&'static str, String) {
    match adapter {
        Adapter::Rest(rest) => {
            let host = Url::parse(&rest.url).ok().and_then(|url| url.host_str().map(str::to_owned));
            // What is not surely encrypted is not.
            let https = rest.url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
            (if https { "https" } else { "http" }, host.unwrap_or_default())
        }
        Adapter::Sftp(sftp) => ("sftp", sftp.host.clone()),
        Adapter::File(_) => ("local", String::new()),
    }
}
