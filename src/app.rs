//! Placeholder of the wiring: the signatures that the command line is written against.

use std::net::SocketAddr;

use crate::config::NodeConfig;
use crate::recipe::model::Recipe;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub insecure_loopback: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

pub struct Node {
    address: SocketAddr,
}

impl Node {
    pub async fn start(config: NodeConfig, _options: Options) -> Result<Self, StartError> {
        Ok(Self { address: config.listen })
    }
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    pub async fn alive(&self) -> bool {
        true
    }
    pub async fn reload(&self) {}
    pub async fn stop(self) {}
}

/// What one target would be sent.
pub struct TargetPreview {
    pub target: String,
    pub guarantee: String,
    /// Request line, headers and body, or path and rows.
    pub text: String,
    pub missing_secrets: Vec<String>,
}

/// `event` is JSON as it would be published: a structured CloudEvent, or the data alone.
pub fn preview(_recipe: &Recipe, _event: &[u8]) -> Result<Vec<TargetPreview>, String> {
    Ok(Vec::new())
}
