//! `Signals`: what ends a wait for a lock, and is passed on to a command under it.

use std::{
    fs, io,
    task::{Context, Poll},
};

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Failure};

/// The signals that are watched. The last one is glock's own: a child has ended or stopped.
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

/// The signals that this process gets, without those that it was started to ignore, as `nohup` does.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let ignored = ignored();
        let watched = WATCHED
            .into_iter()
            .filter(|signal| *signal == Signal::SIGCHLD || ignored & bit(*signal) == 0);
        let mut blocked = SigSet::empty();
        let watch = |signal: Signal| {
            blocked.add(signal);
            Ok((signal, unix::signal(SignalKind::from_raw(signal as i32))?))
        };
        let signals: io::Result<_> = watched.map(watch).collect();
        let signals = signals.map(Self).map_err(unwatchable)?;
        // The program that started this one may have blocked them, and none would come.
        blocked.thread_unblock().map_err(unwatchable)?;
        Ok(signals)
    }

    /// The next one. `None`: a child has ended or stopped.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The next one that would end a process which does not watch it.
    pub(crate) async fn next_fatal(&mut self) -> Signal {
        loop {
            match self.next().await {
                None | Some(Signal::SIGWINCH) => {}
                Some(signal) => return signal,
            }
        }
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

pub(crate) fn unwatchable(err: impl Into<io::Error>) -> Failure {
    let err = err.into();
    Failure::new(Exit::Store, format!("cannot watch signals: {err}"))
}

/// From now on the terminal does not stop this process when this thread writes to it, or takes it back, from the
/// background.
pub(crate) fn use_terminal_from_background() -> nix::Result<()> {
    let mut background = SigSet::empty();
    background.add(Signal::SIGTTOU);
    background.thread_block()
}

/// The signals that this process was started to ignore. None where the system does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}
