//! The node of the demo: this same executable as a child, so that it can be killed like any process, and the
//! commands that a user would type at it. Nothing here looks into the node.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::Trouble;

/// A start, recovery included, takes less than this; so does a command.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often something is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(25);

/// A running node.
pub(crate) struct Node {
    process: Child,
    address: SocketAddr,
    folder: PathBuf,
}

/// How far a target is, as `GET /v1/recipes/{id}/targets/{name}` tells.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub backlog: u64,
    pub last_error: Option<String>,
}

impl Node {
    /// Starts a node with the `hms.yaml` in `folder` and waits until it listens. Its log is `node.log` there.
    pub async fn start(folder: &Path, listen: SocketAddr) -> Result<Self, Trouble> {
        let path = log(folder);
        let output = OpenOptions::new().create(true).append(true).open(&path)?;
        let before = output.metadata()?.len();
        let mut process = hms(folder)
            .args(["serve", "--config", "hms.yaml", "--insecure-loopback", "--listen"])
            .arg(listen.to_string())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = listening(&fs::read(&path)?, before) {
                return Ok(Self { process, address, folder: folder.to_owned() });
            }
            if process.try_wait()?.is_some() || Instant::now() >= deadline {
                return Err(Trouble(format!("the node did not start:\n{}", fs::read_to_string(&path)?)));
            }
            sleep(LOOK).await;
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// As `kill -9`: the process gets no chance to say or save anything.
    pub async fn kill(mut self) -> Result<(), Trouble> {
        Ok(self.process.kill().await?)
    }

    /// Runs a command against this node: what it printed, and whether it ended with 0.
    pub async fn command(&self, arguments: &[&str]) -> Result<(String, bool), Trouble> {
        let run = hms(&self.folder)
            .args(arguments)
            .env("HMS_NODE", format!("http://{}", self.address))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let late = |_| Trouble(format!("`hms {}` did not end", arguments.join(" ")));
        let Output { status, stdout, stderr } = tokio::time::timeout(PATIENCE, run).await.map_err(late)??;
        let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Ok((text, status.success()))
    }

    /// The same for a command that has to end well.
    pub async fn must(&self, arguments: &[&str]) -> Result<String, Trouble> {
        match self.command(arguments).await? {
            (text, true) => Ok(text),
            (text, false) => Err(Trouble(format!("`hms {}` failed: {text}", arguments.join(" ")))),
        }
    }

    pub async fn target(&self, recipe: &str, target: &str) -> Result<Target, Trouble> {
        let url = format!("http://{}/v1/recipes/{recipe}/targets/{target}", self.address);
        let response = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?.get(url).send().await?;
        Ok(serde_json::from_slice(&response.error_for_status()?.bytes().await?)?)
    }

    /// Waits until nothing waits for a target any more.
    pub async fn drained(&self, recipe: &str, target: &str) -> Result<(), Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.target(recipe, target).await?;
            if state.backlog == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let error = state.last_error.unwrap_or_default();
                return Err(Trouble(format!("{} events still wait for {target}: {error}", state.backlog)));
            }
            sleep(LOOK).await;
        }
    }

    /// The lines of the log that users were promised.
    pub fn promised(&self) -> Result<Vec<String>, Trouble> {
        let log = fs::read_to_string(log(&self.folder))?;
        let message = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["message"].as_str()?.to_owned());
        Ok(log.lines().filter_map(message).filter(|message| message.starts_with("sync.")).collect())
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("node.log")
}

/// This executable in `folder`, with nothing of the user's own settings and secrets.
fn hms(folder: &Path) -> Command {
    let executable = std::env::current_exe().unwrap_or_else(|_| "hms".into());
    let mut command = Command::new(executable);
    command.current_dir(folder).env_clear().env("COLUMNS", "100");
    command
}

/// The address in the line that says so, after `before` bytes of the log.
fn listening(log: &[u8], before: u64) -> Option<SocketAddr> {
    let new = log.get(usize::try_from(before).ok()?..)?;
    new.split(|byte| *byte == b'\n').find_map(|line| {
        let line: Value = serde_json::from_slice(line).ok()?;
        (line.get("message")? == "the node listens").then_some(())?;
        line.get("address")?.as_str()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_log_of_this_start() {
        let old = "{\"message\":\"the node listens\",\"address\":\"127.0.0.1:1\"}\n";
        let new = "{\"message\":\"the node listens\",\"address\":\"127.0.0.1:2\"}\n";
        let log = format!("{old}{new}");
        assert_eq!(listening(log.as_bytes(), old.len() as u64), "127.0.0.1:2".parse().ok());
        assert_eq!(listening(old.as_bytes(), old.len() as u64), None);
    }
}
