//! Stop signals: glock is never stopped while the command runs, and the command never for long.

use std::time::Duration;

use glock_core::toolkit::Backoff;
use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{self, SignalKind},
    time::{Instant, sleep_until},
};

use crate::{
    exit::Failure,
    signals::{unwatchable, use_terminal_from_background},
};

/// A command that has run for so long since it was stopped is resumed at once the next time.
const CALM: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// From now on no stop signal stops this process: nothing would renew the lock, nor end a command that goes on.
///
/// A terminal stops a whole group: glock's own if the command reads from elsewhere.
pub(crate) fn ignore() -> Result<(), Failure> {
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN] {
        // Once it is watched, it has no other effect for as long as this process lives.
        drop(unix::signal(SignalKind::from_raw(signal as i32)).map_err(unwatchable)?);
    }
    use_terminal_from_background().map_err(unwatchable)
}

/// When a command that was stopped is resumed: at once, but ever later if it is stopped again and again, as one is
/// that reads from a terminal which it has not got.
pub(crate) struct Resumption {
    pauses: Backoff,
    /// When to resume it, while it stands still.
    due: Option<Instant>,
    /// When it was resumed last.
    resumed_at: Option<Instant>,
}

impl Resumption {
    pub(crate) fn new() -> Self {
        Self { pauses: Backoff::new(PAUSE_MIN, PAUSE_MAX), due: None, resumed_at: None }
    }

    /// The command was stopped. Returns whether that is news.
    pub(crate) fn stopped(&mut self) -> bool {
        let now = Instant::now();
        let is_news = self.resumed_at.is_none_or(|at| now.saturating_duration_since(at) > CALM);
        let pause = if is_news {
            self.pauses.reset();
            Duration::ZERO
        } else {
            self.pauses.next_pause()
        };
        self.due = Some(now + pause);
        is_news
    }

    /// Returns when the command is to be resumed, once for each time that it was stopped.
    pub(crate) async fn due(&mut self) {
        let Some(due) = self.due else { return std::future::pending().await };
        sleep_until(due).await;
        (self.due, self.resumed_at) = (None, Some(due));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_stopped_again_and_again_is_resumed_ever_later() {
        let mut resumption = Resumption::new();
        assert!(timeout(CALM * 9, resumption.due()).await.is_err());
        let mut pauses = Vec::new();
        for n in 0..10 {
            assert_eq!(resumption.stopped(), n == 0);
            let since = Instant::now();
            resumption.due().await;
            pauses.push(since.elapsed());
        }
        assert!(pauses.is_sorted() && pauses[0] <= Duration::from_millis(1), "{pauses:?}");
        assert!(pauses[9] >= PAUSE_MAX, "{pauses:?}");
        advance(CALM * 2).await;
        assert!(resumption.stopped());
    }
}
