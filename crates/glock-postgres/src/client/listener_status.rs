//! Where the connection that listens comes from, and whether notifications arrive on it.

use std::{error::Error, sync::Arc};

use glock_core::{Action, Fault, LockError};
use sqlx::postgres::PgConnectOptions;

use crate::error::Failure;

const NOT_LISTENING: &str = "the connection that listens for releases could not be made";

/// Where the listening connection comes from.
#[derive(Clone)]
pub(crate) enum ListenerSource {
    /// The settings of the pool's own connections.
    Pool,
    /// Settings of its own, such as those of a direct connection where the pool goes through a pooler.
    Own(Box<PgConnectOptions>),
    /// There is none; waiters poll.
    None,
}

/// Whether notifications arrive.
#[derive(Debug, Clone)]
pub(crate) enum ListenerStatus {
    /// There is no connection, or it is being made.
    Connecting,
    /// The connection listens, and a notification that was sent has arrived.
    Listening,
    /// The connection listens, and a notification that was sent has not arrived.
    Silent,
    /// The connection could not be made; that is tried again.
    Failed(Fault, Arc<dyn Error + Send + Sync>),
}

impl ListenerStatus {
    /// The failure of the connection, if the server refused it: what may pass is no concern of a waiter.
    pub(crate) fn rejected(&self) -> Option<LockError> {
        match self {
            Self::Failed(Fault::Rejected, cause) => {
                let failure = Failure::new(Fault::Rejected, Arc::clone(cause));
                Some(failure.explained(NOT_LISTENING).during(Action::Wait))
            }
            _ => None,
        }
    }
}
