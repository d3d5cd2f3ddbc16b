//! The socket below an SSH session: when it is ready, and how it is ended from outside of libssh2.
//!
//! The stream that comes with async-ssh2-lite sleeps a millisecond per would-block. This one waits for
//! poll(2) to agree, through tokio: tokio alone is edge-triggered and can't see what libssh2 reads by itself.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_ssh2_lite::session_stream::BlockDirectionsExt;
use async_ssh2_lite::{AsyncSessionStream, Error, util::ssh2_error_is_would_block};
use async_trait::async_trait;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::Shutdown;
use ssh2::{BlockDirections, Session};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A TCP stream whose readiness is real.
pub struct Stream(TcpStream);

/// A second descriptor of a session's socket. An error, a timeout or a future that is dropped half-way leaves
/// libssh2 in the middle of something: the next write may answer Ok and write nothing, and closing a handle
/// blocks the thread for ever when the server is stalled. Ending the line first makes both impossible.
pub struct Line {
    socket: OwnedFd,
    ended: Cell<bool>,
}

/// Ends the line when it is dropped before the operation was finished.
#[must_use]
pub struct Guard<'a>(Option<&'a Line>);

impl Stream {
    pub fn new(stream: TcpStream) -> io::Result<(Self, Line)> {
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        Ok((Self(stream), Line { socket, ended: Cell::new(false) }))
    }

    /// Ready when the socket is ready in one of the directions that libssh2 waits for.
    fn poll_ready(&self, cx: &mut Context<'_>, wanted: BlockDirections) -> Poll<io::Result<()>> {
        // When it waits for nothing it wants to be asked again; tokio's budget still lets others run.
        let any = matches!(wanted, BlockDirections::None);
        let writable = (any || wanted.is_writable()).then_some(Interest::WRITABLE);
        let readable = (any || wanted.is_readable()).then_some(Interest::READABLE);
        for side in [writable, readable].into_iter().flatten() {
            if let Poll::Ready(result) = self.poll_side(cx, side) {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    }

    fn poll_side(&self, cx: &mut Context<'_>, side: Interest) -> Poll<io::Result<()>> {
        loop {
            let known = if side.is_writable() { self.0.poll_write_ready(cx) } else { self.0.poll_read_ready(cx) };
            ready!(known)?;
            // Would-block makes tokio forget what it knew, unless something new has come meanwhile.
            match self.0.try_io(side, || self.look(side)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// What the system says now, without waiting.
    fn look(&self, side: Interest) -> io::Result<()> {
        let flags = if side.is_writable() { PollFlags::OUT } else { PollFlags::IN };
        let ready = rustix::event::poll(&mut [PollFd::new(&self.0, flags)], Some(&Timespec::default()))?;
        if ready > 0 { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[async_trait]
impl AsyncSessionStream for Stream {
    async fn x_with<R>(
        &self,
        mut op: impl FnMut() -> Result<R, ssh2::Error> + Send,
        session: &Session,
        _expected: BlockDirections,
        _sleep: Option<Duration>,
    ) -> Result<R, Error> {
        loop {
            match op() {
                Err(error) if ssh2_error_is_would_block(&error) => {}
                result => return Ok(result?),
            }
            std::future::poll_fn(|cx| self.poll_ready(cx, session.block_directions())).await?;
        }
    }

    fn poll_x_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut() -> io::Result<R> + Send,
        session: &Session,
        _expected: BlockDirections,
        _sleep: Option<Duration>,
    ) -> Poll<io::Result<R>> {
        loop {
            match op() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(self.poll_ready(cx, session.block_directions()))?;
        }
    }
}

impl Line {
    pub fn end(&self) {
        if !self.ended.replace(true) {
            // It fails when the peer has ended it already, which is as good.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    pub fn guard(&self) -> Guard<'_> {
        Guard(Some(self))
    }
}

impl Guard<'_> {
    /// The operation was finished: the session is in a known state.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.0 {
            line.end();
        }
    }
}
