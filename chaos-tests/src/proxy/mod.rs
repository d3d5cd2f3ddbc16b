//! A TCP proxy between the node and a partner that fails as it is told. It knows bytes and connections, no protocol.
//! Its address stays the same over all faults, also while nobody listens there.

mod gate;
mod line;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::port::Port;

/// What is wrong with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens: new connections are refused. Those that exist go on.
    Refuse,
    /// Connections that exist are reset; new ones are taken and reset.
    Reset,
    /// Connections that exist are reset, and nobody listens: the machine is gone.
    Down,
    /// All that is sent arrives so much later, in order; `jitter` is at most added.
    Latency { base: Duration, jitter: Duration },
    /// At most so many bytes a second, per connection and direction.
    Bandwidth { bytes_per_second: u64 },
    /// The end of a stream arrives so much later than its last byte.
    SlowClose(Duration),
    /// Connections are taken, and nothing is forwarded. When it heals, what waited goes on.
    BlackHole,
    /// So many more bytes pass on each connection (a new one: from its beginning), then it is reset.
    CutAt(u64),
    /// So many more bytes pass on each connection (a new one: from its beginning); every later one arrives changed.
    Garbage { from: u64 },
}

/// The direction in which a fault is. `Refuse`, `Reset` and `Down` have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    Partner,
    Node,
    Both,
}

/// The proxy. It is healthy from the start and gone when dropped, with all its connections.
pub struct Proxy {
    address: SocketAddr,
    counters: Arc<Counters>,
    commands: Option<mpsc::UnboundedSender<gate::Command>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    to_partner: AtomicU64,
    to_node: AtomicU64,
}

/// The fault that is on. Each has a number of its own, so that a connection knows when to count anew.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    fault: Option<(Towards, Fault)>,
    number: u64,
}

impl Proxy {
    pub fn start(to: SocketAddr) -> Self {
        Self::seeded(to, 0)
    }

    /// The seed decides jitter and garbage; the same connections with the same seed get the same.
    pub fn seeded(to: SocketAddr, seed: u64) -> Self {
        let (port, counters) = (Port::reserve(), Arc::<Counters>::default());
        let address = port.address();
        let (commands, orders) = mpsc::unbounded_channel();
        let gate = gate::Gate::new(port, to, seed, counters.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the machine has file descriptors").block_on(gate.run(orders));
        });
        let proxy = Self { address, counters, commands: Some(commands), thread: Some(thread) };
        proxy.heal(); // it listens on return
        proxy
    }

    /// Where the node connects to.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// From now on this is wrong, in both directions, and nothing else is.
    pub fn set(&self, fault: Fault) {
        self.set_towards(Towards::Both, fault);
    }

    pub fn set_towards(&self, towards: Towards, fault: Fault) {
        self.change(Some((towards, fault)));
    }

    /// Nothing is wrong any more.
    pub fn heal(&self) {
        self.change(None);
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    /// Bytes forwarded so far.
    pub fn bytes_to_partner(&self) -> u64 {
        self.counters.to_partner.load(Ordering::Relaxed)
    }

    pub fn bytes_to_node(&self) -> u64 {
        self.counters.to_node.load(Ordering::Relaxed)
    }

    /// Returns when it is so.
    fn change(&self, fault: Option<(Towards, Fault)>) {
        let (done, is_done) = std::sync::mpsc::channel();
        let commands = self.commands.as_ref().expect("it is taken by drop only");
        commands.send(gate::Command { fault, done }).expect("the proxy's thread lives as long as the proxy");
        is_done.recv().expect("the proxy's thread does not panic");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Weather {
    fn towards(&self, direction: Towards) -> Option<Fault> {
        let (towards, fault) = self.fault?;
        (towards == direction || towards == Towards::Both).then_some(fault)
    }
}
