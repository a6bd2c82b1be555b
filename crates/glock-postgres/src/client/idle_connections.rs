//! `IdleConnections`: connections on which no statement runs, for the next calls.

use std::{mem, time::Duration};

use glock_core::toolkit::{Mutex, Worker};
use sqlx::PgPool;
use tokio::{runtime, time::Instant};

use crate::client::connector::OwnConnection;

/// How long the connection that was used last is kept unused.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How long the others are.
const SURPLUS_MAX: Duration = Duration::from_secs(10);
/// How old a connection may become, so that the server's caches for it do not grow for ever.
const AGE_MAX: Duration = Duration::from_mins(30);
/// How often to look.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Connections on which no statement runs. The last one used is at the end.
pub(crate) struct IdleConnections {
    idle: Mutex<Vec<Idle>>,
    /// They are closed with it.
    pool: PgPool,
}

struct Idle {
    connection: OwnConnection,
    used_at: Instant,
    /// Whether another connection has ended since it was used.
    suspect: bool,
}

impl IdleConnections {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { idle: Mutex::default(), pool }
    }

    /// The connection that was used last on this runtime, and whether it may be dead. The socket of
    /// another one is read by its own runtime, which may be busy or gone.
    pub(crate) fn take(&self, runtime: runtime::Id) -> Option<(OwnConnection, bool)> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|idle| idle.connection.runtime == runtime)?;
        let Idle { connection, suspect, .. } = idle.remove(at);
        Some((connection, suspect))
    }

    /// Closes the connections that were unused for longest, until at most `count` are left.
    pub(crate) fn shrink_to(&self, count: usize) {
        let surplus: Vec<_> = {
            let mut idle = self.idle.lock();
            let surplus = idle.len().saturating_sub(count);
            idle.drain(..surplus).collect()
        };
        drop(surplus);
    }

    /// Takes out all of them.
    pub(crate) fn drain(&self) -> Vec<OwnConnection> {
        mem::take(&mut *self.idle.lock()).into_iter().map(|idle| idle.connection).collect()
    }

    /// After a restart of the server, for one, they are all dead.
    pub(crate) fn suspect_all(&self) {
        self.idle.lock().iter_mut().for_each(|idle| idle.suspect = true);
    }

    /// Keeps a connection for the next call.
    pub(crate) fn put(&self, connection: OwnConnection) {
        if connection.opened_at.elapsed() < AGE_MAX && !self.pool.is_closed() {
            let idle = Idle { connection, used_at: Instant::now(), suspect: false };
            self.idle.lock().push(idle);
        }
    }
}

/// Closes the connections that were idle for too long, for as long as there are idle ones.
impl Worker for IdleConnections {
    async fn round(&self) -> Option<Duration> {
        if self.pool.is_closed() {
            self.shrink_to(0);
        }
        let (overdue, is_empty) = {
            let mut idle = self.idle.lock();
            let last = idle.len().saturating_sub(1);
            let mut overdue: Vec<_> =
                idle.extract_if(..last, |idle| idle.used_at.elapsed() > SURPLUS_MAX).collect();
            overdue.extend(idle.pop_if(|idle| idle.used_at.elapsed() > IDLE_MAX));
            (overdue, idle.is_empty())
        };
        drop(overdue);
        (!is_empty).then_some(SWEEP_PAUSE)
    }
}
