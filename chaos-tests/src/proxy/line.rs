//! One connection through the proxy: two streams of bytes, each with its own fault.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Counters, Fault, Towards, Weather};

/// Read at once, and so the most that one pause holds back.
const CHUNK: usize = 16 * 1024;

/// Chunks on their way; the sender is held back beyond them, as by a full window.
const ON_THE_WAY: usize = 64;

/// A narrow line sends so often in a second.
const PIECES_A_SECOND: u64 = 50;

/// A socket that is closed in the middle sends a reset instead of an end.
pub(super) fn reset_when_dropped(socket: &TcpStream) {
    linger(socket, Some(Duration::ZERO));
}

fn linger(socket: &TcpStream, time: Option<Duration>) {
    SockRef::from(socket).set_linger(time).expect("SO_LINGER exists");
}

/// Forwards both ways until both have ended. A partner that is not there, an error of one side and the end of this
/// future are a reset for the other side.
pub(super) async fn connect(
    mut client: TcpStream,
    to: SocketAddr,
    seed: u64,
    weather: watch::Receiver<Weather>,
    counters: Arc<Counters>,
) {
    let Ok(mut partner) = TcpStream::connect(to).await else { return };
    reset_when_dropped(&partner);
    for socket in [&client, &partner] {
        socket.set_nodelay(true).expect("TCP_NODELAY exists");
    }
    let (from_node, to_node) = client.split();
    let (from_partner, to_partner) = partner.split();
    let there = Stream::new(Towards::Partner, seed, &weather, &counters.to_partner);
    let back = Stream::new(Towards::Node, !seed, &weather, &counters.to_node);
    let ended = tokio::try_join!(there.forward(from_node, to_partner), back.forward(from_partner, to_node));
    if ended.is_ok() {
        linger(&client, None);
        linger(&partner, None);
    }
}

/// The bytes in one direction.
struct Stream<'a> {
    direction: Towards,
    weather: watch::Receiver<Weather>,
    random: SmallRng,
    counter: &'a AtomicU64,
    /// Bytes since the weather of this number began.
    passed: u64,
    number: u64,
}

impl<'a> Stream<'a> {
    fn new(direction: Towards, seed: u64, weather: &watch::Receiver<Weather>, counter: &'a AtomicU64) -> Self {
        let (weather, random) = (weather.clone(), SmallRng::seed_from_u64(seed));
        Self { direction, weather, random, counter, passed: 0, number: 0 }
    }

    async fn forward(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let (queue, mut queued) = mpsc::channel(ON_THE_WAY);
        let (weather, direction) = (self.weather.clone(), self.direction);
        let mut random = SmallRng::from_rng(&mut self.random);
        let read = async move {
            let mut due = Instant::now();
            loop {
                let mut chunk = vec![0; CHUNK];
                let length = from.read(&mut chunk).await?;
                chunk.truncate(length);
                due = due.max(Instant::now() + latency(weather.borrow().towards(direction), &mut random));
                if queue.send((due, chunk)).await.is_err() || length == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        let write = async {
            while let Some((due, mut chunk)) = queued.recv().await {
                sleep_until(due).await;
                if chunk.is_empty() {
                    return self.end(&mut to).await;
                }
                self.carry(&mut chunk, &mut to).await?;
            }
            Ok(())
        };
        tokio::try_join!(read, write).map(drop)
    }

    /// The bytes of a chunk, one stretch of the same fault after the other.
    async fn carry(&mut self, mut rest: &mut [u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        while !rest.is_empty() {
            let fault = self.fault();
            let mut length = rest.len();
            match fault {
                Some(Fault::BlackHole) => {
                    self.change().await?;
                    continue;
                }
                Some(Fault::Bandwidth { bytes_per_second }) => {
                    length = length.min((bytes_per_second / PIECES_A_SECOND).max(1) as usize);
                    sleep(Duration::from_secs_f64(length as f64 / bytes_per_second as f64)).await;
                }
                Some(Fault::CutAt(limit)) => length = length.min(limit.saturating_sub(self.passed) as usize),
                Some(Fault::Garbage { from }) => {
                    let good = from.saturating_sub(self.passed).min(length as u64) as usize;
                    rest[good..].iter_mut().for_each(|byte| *byte ^= self.random.random_range(1..=255u8));
                }
                _ => {}
            }
            let (piece, later) = rest.split_at_mut(length);
            to.write_all(piece).await?;
            self.passed += length as u64;
            self.counter.fetch_add(length as u64, Ordering::Relaxed);
            if matches!(fault, Some(Fault::CutAt(limit)) if self.passed >= limit) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            rest = later;
        }
        Ok(())
    }

    async fn end(&mut self, to: &mut WriteHalf<'_>) -> io::Result<()> {
        while self.fault() == Some(Fault::BlackHole) {
            self.change().await?;
        }
        if let Some(Fault::SlowClose(time)) = self.fault() {
            sleep(time).await;
        }
        to.shutdown().await
    }

    fn fault(&mut self) -> Option<Fault> {
        let weather = *self.weather.borrow();
        if weather.number != self.number {
            (self.number, self.passed) = (weather.number, 0);
        }
        weather.towards(self.direction)
    }

    async fn change(&mut self) -> io::Result<()> {
        // A fault that was set before the connection was noticed by `fault`, not by the receiver.
        if self.weather.borrow_and_update().number != self.number {
            return Ok(());
        }
        self.weather.changed().await.map_err(io::Error::other)
    }
}

fn latency(fault: Option<Fault>, random: &mut SmallRng) -> Duration {
    match fault {
        Some(Fault::Latency { base, jitter }) => base + jitter.mul_f64(random.random_range(0.0..=1.0)),
        _ => Duration::ZERO,
    }
}
