//! `hms serve`: the life of the node's process. It starts the node, tells systemd, turns signals into what they
//! mean, and ends. What a node is made of is `app`'s affair.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use super::Error;
use crate::app::Node;
use crate::config::{self, NodeConfig, Overrides};
use crate::telemetry;

const SIGNALS: &str = "\
SIGTERM and SIGINT let deliveries in flight end, then the node exits with 0; a second one ends it at once.
SIGHUP reads configuration and secrets again. Logs go to stderr, filtered by HMS_LOG or RUST_LOG.";

/// Run a node in the foreground
#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub(crate) struct Serve {
    /// Where the node keeps its state [default: ./hms-data]
    #[arg(long, env = "HMS_DATA_DIR", value_name = "D")]
    data_dir: Option<PathBuf>,
    /// Address of the admin endpoint [default: 127.0.0.1:8700]
    #[arg(long, value_name = "A")]
    listen: Option<SocketAddr>,
    /// The node's configuration [default: hms.yaml, if there is one]
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// Ask for no token, and let targets be on this machine; refused on any address but loopback
    #[arg(long)]
    insecure_loopback: bool,
}

impl Serve {
    pub fn run(self) -> Result<(), Error> {
        telemetry::start();
        let config = self.config()?;
        refuse_strangers(config.listen, self.insecure_loopback)?;
        actix_rt::System::new().block_on(live(config, self))
    }

    fn config(&self) -> Result<NodeConfig, Error> {
        let overrides = Overrides {
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            insecure_loopback: self.insecure_loopback,
        };
        config::load(self.config.as_deref(), overrides).map_err(|error| Error::Usage(error.to_string()))
    }
}

/// Where no token is asked for, nobody but this machine may reach the endpoint.
fn refuse_strangers(listen: SocketAddr, insecure_loopback: bool) -> Result<(), Error> {
    if listen.ip().is_loopback() || !insecure_loopback {
        return Ok(());
    }
    let why = "--insecure-loopback is for loopback addresses only; leave it away, or use";
    Err(Error::Usage(format!("{listen} is refused: {why} 127.0.0.1:{port} or [::1]:{port}", port = listen.port())))
}

async fn live(config: NodeConfig, serve: Serve) -> Result<(), Error> {
    // Before the start, so that a signal during a long recovery is not lost.
    let mut signals = Signals::new()?;
    let clear = config.tls.is_none() && !config.listen.ip().is_loopback();
    let node = Node::start(config).await.map_err(|error| Error::Failed(error.to_string()))?;
    info!(address = %node.address(), "the node listens");
    if serve.insecure_loopback {
        info!("no token is asked for: whoever is on this machine may use the admin endpoint");
    }
    if clear {
        warn!(
            "tokens come in the clear over the network: set `tls` in hms.yaml, or put a proxy with TLS before the node"
        );
    }
    tell(&[NotifyState::Ready]);
    tokio::select! {
        () = feed_watchdog(&node) => {}
        () = until_stopped(&node, &serve, &mut signals) => {}
    }
    tell(&[NotifyState::Stopping]);
    info!("the node stops: deliveries in flight end first");
    tokio::select! {
        () = node.stop() => {
            info!("the node has stopped");
            Ok(())
        }
        () = signals.stop() => {
            warn!("a second signal: the node ends at once");
            // Not by returning, which would wait for what is blocked.
            std::process::exit(1)
        }
    }
}

/// Reloads as often as it is told to, until it is told to stop.
async fn until_stopped(node: &Node, serve: &Serve, signals: &mut Signals) {
    while let Told::Reload = signals.next().await {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        reload(node, serve).await;
        tell(&[NotifyState::Ready]);
    }
}

/// A configuration that is not valid leaves the node with the one that it has.
async fn reload(node: &Node, serve: &Serve) {
    let reloaded = match serve.config() {
        Ok(config) => node.reload(config).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match reloaded {
        Ok(()) => info!("configuration and secrets are read again"),
        Err(why) => warn!("the node goes on with the configuration that it has: {why}"),
    }
}

/// Never returns. A node that does not answer is not fed for, and systemd starts another.
async fn feed_watchdog(node: &Node) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let pause = (limit / 3).max(Duration::from_millis(10));
    let mut tick = interval(pause);
    loop {
        tick.tick().await;
        match timeout(pause, node.alive()).await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            _ => warn!("the node does not answer: the watchdog is not fed"),
        }
    }
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd can't be told");
    }
}

enum Told {
    Stop,
    Reload,
}

/// What the operating system tells the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|error| Error::Failed(format!("no signal handler: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    async fn stop(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_tokens() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for insecure in [true, false] {
            assert!(refuse_strangers(at("127.0.0.1:8700"), insecure).is_ok());
            assert!(refuse_strangers(at("[::1]:8700"), insecure).is_ok());
        }
        assert!(refuse_strangers(at("0.0.0.0:8700"), false).is_ok());
        let error = refuse_strangers(at("0.0.0.0:8700"), true).expect_err("is open to strangers");
        assert!(error.to_string().ends_with("use 127.0.0.1:8700 or [::1]:8700"), "{error}");
    }
}
