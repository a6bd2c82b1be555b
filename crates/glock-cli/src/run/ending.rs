//! `Ending`: how a command is ended whose lock is lost.

use std::time::Duration;

use glock_core::LossReason;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    exit::{Exit, Failure},
    output::{BAD, Output, painted},
    run::child::{Child, State},
};

/// What remains of the lease when SIGKILL is sent: the command must be gone before the lease is over, on a
/// busy machine too.
pub(super) const KILL_LEAD: Duration = Duration::from_millis(250);
/// How often it is looked whether the group is gone.
const LOOK: Duration = Duration::from_millis(5);
/// How long a killed group may take to go, on a machine whose disk hangs, say.
const GONE_MAX: Duration = Duration::from_secs(10);

/// Why a command is ended, and when SIGKILL follows.
pub(crate) struct Ending {
    why: String,
    kill_at: Instant,
}

impl Ending {
    /// The lock was lost. The lease would have lasted until `deadline`.
    pub(crate) fn lost(reason: LossReason, deadline: Instant, grace: Duration) -> Self {
        Self::new(format!("the lock was lost: {reason}"), deadline, grace)
    }

    /// No renewal came through. The lease lasts until `deadline`.
    pub(crate) fn not_renewed(deadline: Instant, grace: Duration) -> Self {
        Self::new("the lock could not be renewed in time".into(), deadline, grace)
    }

    fn new(why: String, deadline: Instant, grace: Duration) -> Self {
        let now = Instant::now();
        let latest = deadline.checked_sub(KILL_LEAD).unwrap_or(now);
        Self { why, kill_at: (now + grace).min(latest).max(now) }
    }
}

/// Ends the command and all that it has started: by SIGTERM, and by SIGKILL when the time is up.
pub(crate) async fn end(
    mut child: Child,
    ending: Ending,
    output: &Output,
) -> Result<Exit, Failure> {
    let Ending { why, kill_at } = ending;
    child.signal(Some(Signal::SIGTERM));
    // One that stands still would not get it.
    child.resume();
    output.event(
        || painted(BAD, format!("{why}; the command is ended")),
        || json!({"event": "lost", "reason": why}),
    );
    if !gone(&mut child, kill_at).await? {
        child.signal(Some(Signal::SIGKILL));
        if !gone(&mut child, Instant::now() + GONE_MAX).await? {
            output.event(
                || painted(BAD, "some of what the command started could not be ended"),
                || json!({"event": "not_ended"}),
            );
        }
    }
    child.give_terminal_back();
    Ok(Exit::Lost)
}

/// Waits until the whole group is gone, at most until `until`.
async fn gone(child: &mut Child, until: Instant) -> Result<bool, Failure> {
    loop {
        // One that has ended stays in the group until it was waited for.
        let has_ended = matches!(child.state()?, State::Ended(_));
        if has_ended && !child.signal(None) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}
