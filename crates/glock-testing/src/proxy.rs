//! A TCP proxy that fails on command, to see what a lock does when its store is slow, silent or gone.
//!
//! ```no_run
//! # async fn example(store: std::net::SocketAddr) -> std::io::Result<()> {
//! use glock_testing::proxy::Proxy;
//!
//! let proxy = Proxy::start(store).await?;
//! // .. connect to `proxy.addr()` instead of `store`, warm the connection up, then:
//! proxy.cut_after_request();
//! // .. acquire: the store grants it, and the client cannot know.
//! # Ok(())
//! # }
//! ```
//!
//! Bytes are never reordered, changed or left out in the middle: TCP cannot do that, so a client need not bear it. A
//! connection that lost bytes to [`Proxy::drop_replies`] or [`Proxy::drop_requests`] loses all later ones of that
//! direction too, its end included, and is reset by [`Proxy::pass`].
//!
//! The proxy knows no protocol, but for what HTTP/2 says to itself (pings, windows), which it does not count, and for where
//! requests end, if a [`Framing`] says so, to count those that are sent at once. For all else a request is what a client sends until the server speaks; where requests overlap on one
//! connection, or the server speaks unasked, a one-shot cut may meet another reply than the one meant. Cut on a
//! connection that is connected, greeted and otherwise quiet.

mod control;
mod counts;
mod direction;
mod listener;
mod relay;
mod requests;
mod turns;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::proxy::control::{Control, Cut, Faults, Mode, NewConnections};
pub use crate::proxy::counts::Counts;
pub use crate::proxy::requests::Framing;

/// A proxy on a loopback port of its own before one upstream server.
///
/// Every method takes effect at once and on live connections: what the client sends after a method has returned meets the
/// new fault. The last of [`pass`](Self::pass), [`hold_replies`](Self::hold_replies), [`drop_replies`](Self::drop_replies),
/// [`drop_requests`](Self::drop_requests) and [`stall`](Self::stall) is in force; a delay, a refusal and a one-shot cut
/// come on top. Dropping the proxy closes the port and all connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    control: Arc<Control>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before `upstream`, which need not be up yet: a client is reset while it is not.
    ///
    /// # Errors
    ///
    /// When no loopback port can be opened.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it leaves nothing open.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_framed(upstream, Framing::Turns).await
    }

    /// As [`start`](Self::start), and counts requests by how they are delimited, see [`Counts::asked`].
    ///
    /// # Errors
    ///
    /// When no loopback port can be opened.
    ///
    /// # Cancel safety
    ///
    /// Dropped early, it leaves nothing open.
    pub async fn start_framed(upstream: SocketAddr, framing: Framing) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let control = Control::new(framing);
        let listener = tokio::spawn(listener::listen(listener, upstream, Arc::clone(&control)));
        Ok(Self { addr, control, listener })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lifts every fault, a one-shot cut not yet taken included. Held bytes go out in order, late ones now.
    pub fn pass(&self) {
        self.control.state().armed = None;
        self.control.change(|faults| {
            let Faults { cuts, mutes, .. } = *faults;
            *faults = Faults { cuts, mutes, mutes_lifted: mutes, ..Faults::default() };
        });
    }

    /// Forwards every byte `delay` after it came, each way: a round trip takes twice that longer.
    pub fn delay(&self, delay: Duration) {
        self.control.change(|faults| faults.delay = delay);
    }

    /// Keeps back what the server sends, until [`pass`](Self::pass).
    pub fn hold_replies(&self) {
        self.set(Mode::HoldReplies);
    }

    /// Drops what the server sends, held replies included: requests are done, clients get no reply.
    pub fn drop_replies(&self) {
        self.set(Mode::DropReplies);
    }

    /// Drops what clients send: nothing is done, clients get no reply.
    pub fn drop_requests(&self) {
        self.set(Mode::DropRequests);
    }

    /// Moves nothing either way and keeps connections open: a partition. New connections open, and stall.
    pub fn stall(&self) {
        self.set(Mode::Stall);
    }

    /// Moves nothing any more on the connections that the proxy has taken, and keeps them open: a firewall that has
    /// forgotten them. Later ones are not affected. [`pass`](Self::pass) resets those that are mute.
    pub fn mute(&self) {
        self.control.change(|faults| faults.mutes += 1);
    }

    /// Resets every connection that the proxy has taken, at both ends. Later ones are taken.
    pub fn cut(&self) {
        self.control.change(|faults| faults.cuts += 1);
    }

    /// Resets new connections as soon as they are made, before upstream sees them. Open ones live on.
    pub fn refuse(&self) {
        self.control.change(|faults| faults.new_connections = NewConnections::Refuse);
    }

    /// Takes connections again.
    pub fn accept(&self) {
        self.control.change(|faults| faults.new_connections = NewConnections::Accept);
    }

    /// At the first byte of the next request, resets its connection: nothing of it reaches upstream.
    pub fn cut_before_request(&self) {
        self.arm(Cut::BeforeRequest);
    }

    /// Forwards the first `count` bytes of the next request, then resets its connection. A shorter request is forwarded
    /// whole and cut at the first byte of its reply.
    pub fn cut_inside_request(&self, count: usize) {
        self.arm(Cut::InsideRequest(count));
    }

    /// Forwards the whole next request and resets its connection at the first byte of the reply: the store has done it,
    /// the client does not know.
    pub fn cut_after_request(&self) {
        self.arm(Cut::AfterRequest);
    }

    /// Forwards the next request and the first `count` bytes of its reply, then resets the connection. After a shorter
    /// reply, the reset comes at the client's next byte.
    pub fn cut_inside_reply(&self, count: usize) {
        self.arm(Cut::InsideReply(count));
    }

    /// Resets the client that sends the next request, and forwards that request `after` later: what happens where
    /// something between the two ends still has it. [`Counts::late`] counts it once upstream has replied; no client gets that reply.
    pub fn cut_and_deliver_late(&self, after: Duration) {
        self.arm(Cut::LateRequest(after));
    }

    /// Whether a one-shot cut still waits for its request. A test that expects a cut asserts that this is false.
    pub fn is_armed(&self) -> bool {
        self.control.state().armed.is_some()
    }

    /// All counters, as of one moment.
    pub fn counts(&self) -> Counts {
        self.control.state().counts
    }

    /// Sets all counters to zero. What is open stays in [`connections`](Self::connections).
    pub fn reset_counters(&self) {
        self.control.state().counts = Counts::default();
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.control.state().open
    }

    /// How many connections have a request without a reply.
    pub fn open_requests(&self) -> usize {
        self.control.state().open_requests
    }

    /// See [`Counts::accepted`].
    pub fn accepted(&self) -> u64 {
        self.counts().accepted
    }

    /// See [`Counts::requests`].
    pub fn requests(&self) -> u64 {
        self.counts().requests
    }

    /// See [`Counts::replies`].
    pub fn replies(&self) -> u64 {
        self.counts().replies
    }

    /// See [`Counts::round_trips`].
    pub fn round_trips(&self) -> u64 {
        self.counts().round_trips
    }

    /// See [`Counts::bytes_up`].
    pub fn bytes_up(&self) -> u64 {
        self.counts().bytes_up
    }

    /// See [`Counts::bytes_down`].
    pub fn bytes_down(&self) -> u64 {
        self.counts().bytes_down
    }

    fn set(&self, mode: Mode) {
        self.control.change(|faults| faults.mode = mode);
    }

    fn arm(&self, cut: Cut) {
        self.control.state().armed = Some(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The listener's task owns the port and the tasks of all connections.
        self.listener.abort();
    }
}
