//! `Connections`: where a statement gets its connection, and how long it waits for one.

use std::{sync::Arc, time::Duration};

use glock_core::{Fault, toolkit::Backoff};
use sqlx::{Connection as _, PgPool};
use tokio::time;

use crate::{
    client::connection_cache::{ConnectionCache, InUse},
    error::Failure,
};

/// How often a connection that breaks while it is made is made again.
const CONNECTS_MAX: u32 = 3;
/// The pauses between.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pool's connections, for calls of limited time. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: PgPool,
    cache: Arc<ConnectionCache>,
    call_timeout: Duration,
}

impl Connections {
    pub(crate) fn new(pool: PgPool, call_timeout: Duration) -> Self {
        Self { pool, cache: Arc::default(), call_timeout }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// How long a call may wait for a connection: less than its own time limit, so that its caller
    /// learns that no statement was sent.
    fn connection_wait(&self) -> Duration {
        self.call_timeout * 3 / 4
    }

    /// How long a statement may wait for a row that another transaction has locked, likewise.
    pub(crate) fn lock_wait(&self) -> Duration {
        self.call_timeout * 4 / 5
    }

    /// A connection from the pool, or the one that was used last.
    pub(crate) async fn get(&self) -> Result<InUse, Failure> {
        let wait = self.connection_wait();
        match time::timeout(wait, self.connect()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(self.no_connection(wait)),
            Ok(Err(err)) => Err(Failure::not_sent(err)),
        }
    }

    async fn connect(&self) -> Result<InUse, sqlx::Error> {
        let mut pauses = Backoff::new(CONNECT_PAUSE, CONNECT_PAUSE_MAX);
        for _ in 0..CONNECTS_MAX {
            match self.cache.take(&self.pool).await {
                // The pool itself tries again only if the server refuses the connection.
                Err(sqlx::Error::Io(_)) => pauses.sleep().await,
                result => return result,
            }
        }
        self.cache.take(&self.pool).await
    }

    /// A connection that replies: after a restart of the server, every one in the pool is dead.
    pub(crate) async fn get_live(&self) -> Result<InUse, Failure> {
        let mut dead = 0;
        loop {
            let mut connection = self.get().await?;
            match connection.get().ping().await {
                Ok(()) => return Ok(connection),
                Err(err) if dead > self.pool.options().get_max_connections() => {
                    return Err(Failure::not_sent(err));
                }
                Err(_) => dead += 1,
            }
        }
    }

    /// Takes back a connection on which no statement runs.
    pub(crate) fn give_back(&self, connection: InUse) {
        self.cache.give_back(&self.pool, connection);
    }

    fn no_connection(&self, wait: Duration) -> Failure {
        let what = format!(
            "the pool had no connection to give within {:?} ({} of {} open, {} idle); either the \
             server is out of reach or the pool is too small",
            wait.min(self.pool.options().get_acquire_timeout()),
            self.pool.size(),
            self.pool.options().get_max_connections(),
            self.pool.num_idle(),
        );
        Failure::new(Fault::Unavailable, what)
    }
}
