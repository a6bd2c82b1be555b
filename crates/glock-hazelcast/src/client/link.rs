//! `Link`: a connection that is logged in, as requests use it.

use std::time::Duration;

use glock_core::toolkit::CallDeadline;

use crate::wire::{Connection, HazelcastError, PendingReply, Request, auth::Welcome};

/// A connection that is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) welcome: Welcome,
    /// Which of the addresses.
    pub(crate) address: usize,
    pub(crate) number: u64,
}

/// Why a connection could not be opened, for all who wait for it.
#[derive(Debug, Clone)]
pub(crate) enum Failed {
    Refused(&'static str),
    OutOfReach(String),
}

/// Who gave up sooner, as a renewal of a short lease does, has not waited long enough to tell.
const SILENT_MIN: Duration = Duration::from_millis(100);

impl Link {
    pub(crate) fn replies(&self) -> bool {
        !self.connection.is_silent() && !self.connection.is_closed()
    }

    /// Notes that a request which was sent `ago` has no reply: the member is not asked first again.
    pub(crate) fn gave_up(connection: &Connection, ago: Duration) {
        if ago >= SILENT_MIN {
            connection.mark_silent();
        }
    }

    /// Waits for a reply as long as one attempt may. A member that is silent for longer is not asked first
    /// again.
    pub(crate) async fn reply<T>(
        &self,
        until: CallDeadline,
        reply: impl Future<Output = Result<T, HazelcastError>>,
    ) -> Result<T, HazelcastError> {
        until.reply(reply).await.unwrap_or_else(|no_reply| {
            Self::gave_up(&self.connection, no_reply.0);
            Err(HazelcastError::ReplyLost(no_reply.into()))
        })
    }

    pub(crate) fn send(&self, request: Request) -> Result<PendingReply, HazelcastError> {
        self.connection.send(request)
    }

    pub(crate) fn partitions(&self) -> i32 {
        self.welcome.partitions
    }
}

impl Failed {
    pub(crate) fn of(err: &HazelcastError) -> Self {
        if let HazelcastError::Refused(why) = err {
            return Self::Refused(why);
        }
        let source = std::error::Error::source(err).map(|err| format!(": {err}"));
        Self::OutOfReach(format!("{err}{}", source.unwrap_or_default()))
    }
}
