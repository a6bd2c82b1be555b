//! `Signals`: what is passed on to the command.

use std::{
    io,
    task::{Context, Poll},
};

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure};

/// The signals that are passed on. The last one is glock's own: a child has ended or stopped.
const WATCHED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGALRM,
    Signal::SIGCHLD,
];

/// The signals that this process gets.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let watch =
            |signal: Signal| Ok((signal, unix::signal(SignalKind::from_raw(signal as i32))?));
        let signals = WATCHED.into_iter().map(watch).collect::<io::Result<_>>();
        let failed = |err| Failure::new(Exit::Store, format!("cannot watch signals: {err}"));
        signals.map(Self).map_err(failed)
    }

    /// The next one. `None`: a child has ended or stopped.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        for (signal, stream) in &mut self.0 {
            if stream.poll_recv(cx).is_ready() {
                return Poll::Ready((*signal != Signal::SIGCHLD).then_some(*signal));
            }
        }
        Poll::Pending
    }
}
