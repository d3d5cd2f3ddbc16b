//! The proxy's door: who is let in, and who is thrown out. What happens on a connection is `line.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Counters, Fault, Towards, Weather, line};
use crate::port::Port;

pub(super) struct Command {
    pub fault: Option<(Towards, Fault)>,
    pub done: std::sync::mpsc::Sender<()>,
}

pub(super) struct Gate {
    port: Port,
    to: SocketAddr,
    seed: u64,
    counters: Arc<Counters>,
    weather: watch::Sender<Weather>,
    connections: JoinSet<()>,
}

impl Gate {
    pub fn new(port: Port, to: SocketAddr, seed: u64, counters: Arc<Counters>) -> Self {
        Self { port, to, seed, counters, weather: watch::Sender::default(), connections: JoinSet::new() }
    }

    /// Until the proxy is dropped.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut listener = None;
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some(Command { fault, done }) = command else { return };
                    self.change(&mut listener, fault).await;
                    let _ = done.send(()); // who asked waits for it
                }
                Some(client) = accept(listener.as_ref()) => self.take(client),
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    async fn change(&mut self, listener: &mut Option<TcpListener>, fault: Option<(Towards, Fault)>) {
        let kind = fault.map(|(_, fault)| fault);
        match kind {
            Some(Fault::Refuse | Fault::Down) => *listener = None,
            _ => *listener = Some(listener.take().unwrap_or_else(|| self.listen())),
        }
        self.weather.send_modify(|weather| *weather = Weather { fault, number: weather.number + 1 });
        if matches!(kind, Some(Fault::Reset | Fault::Down)) {
            // Dropped in the middle, a connection is reset: see `line`.
            self.connections.shutdown().await;
        }
    }

    fn listen(&self) -> TcpListener {
        let listener = self.port.listen();
        listener.set_nonblocking(true).expect("a socket of ours");
        TcpListener::from_std(listener).expect("the runtime is up")
    }

    fn take(&mut self, client: TcpStream) {
        let number = self.counters.connections.fetch_add(1, Ordering::Relaxed);
        line::reset_when_dropped(&client);
        if matches!(self.weather.borrow().fault, Some((_, Fault::Reset))) {
            return;
        }
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.connections.spawn(line::connect(client, self.to, seed, self.weather.subscribe(), self.counters.clone()));
    }
}

/// The next connection; never one without a listener.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}
