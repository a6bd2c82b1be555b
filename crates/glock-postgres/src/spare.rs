//! `Spare`: connections that are kept for a moment after use, in case the next call comes at once.
//!
//! The driver checks each connection that goes back to its pool with a round trip. Calls that follow
//! each other closely, as release and acquire do under contention, would pay for it.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sqlx::{Postgres, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

/// How long a connection is kept unused.
const KEPT_MIN: Duration = Duration::from_millis(40);
/// How often is looked; so it is back in the pool after at most 60 ms.
const SWEEP: Duration = Duration::from_millis(20);
/// How long a connection may be away from its pool in all, which then sees to its age.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// A connection in use. If it is dropped, a statement was cut off half-way and may never be
/// answered: the connection is closed, and its place in the pool is free at once.
pub(crate) struct Borrowed {
    /// `None` only while it is dropped or kept.
    connection: Option<PoolConnection<Postgres>>,
    since: Instant,
}

impl Borrowed {
    pub(crate) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection), since: Instant::now() }
    }

    pub(crate) fn get(&mut self) -> &mut PoolConnection<Postgres> {
        self.connection.as_mut().expect("only `drop` and `keep` take it, and both take `self`")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }
}

/// The connections that are kept; none a moment after the last call.
#[derive(Default)]
pub(crate) struct Spare {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    idle: Vec<Idle>,
    /// Whether a task sees to it that they go back.
    swept: bool,
}

struct Idle {
    connection: PoolConnection<Postgres>,
    borrowed_at: Instant,
    kept_at: Instant,
    runtime: Handle,
}

impl Idle {
    /// The pool spawns a task to take a connection back, and there may be no runtime any more
    /// where the last lock is dropped.
    fn give_back(self) {
        let _in_runtime = self.runtime.enter();
        drop(self.connection);
    }
}

impl Spare {
    /// The connection that was used last, if one is kept.
    pub(crate) fn take(&self) -> Option<Borrowed> {
        let Idle { connection, borrowed_at, .. } = self.kept().idle.pop()?;
        Some(Borrowed { connection: Some(connection), since: borrowed_at })
    }

    /// Keeps a connection for a moment, unless somebody may be waiting for it.
    pub(crate) fn keep(self: &Arc<Self>, pool: &sqlx::PgPool, mut borrowed: Borrowed) {
        let Some(connection) = borrowed.connection.take() else { return };
        let free = pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections();
        let Ok(runtime) = Handle::try_current() else { return drop(connection.detach()) };
        if !free || borrowed.since.elapsed() > AWAY_MAX {
            return drop(connection);
        }
        let idle = Idle {
            connection,
            borrowed_at: borrowed.since,
            kept_at: Instant::now(),
            runtime: runtime.clone(),
        };
        let mut kept = self.kept();
        kept.idle.push(idle);
        if !mem::replace(&mut kept.swept, true) {
            let broom = Broom(Arc::downgrade(self));
            runtime.spawn(async move { broom.sweep().await });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        mem::take(&mut self.kept().idle).into_iter().for_each(Idle::give_back);
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").field("idle", &self.kept().idle.len()).finish()
    }
}

/// Gives back what was kept for too long, for as long as something is kept.
struct Broom(Weak<Spare>);

impl Broom {
    async fn sweep(mut self) {
        loop {
            time::sleep(SWEEP).await;
            let Some(spare) = self.0.upgrade() else { return };
            let mut kept = spare.kept();
            let (stale, fresh): (Vec<_>, Vec<_>) = mem::take(&mut kept.idle)
                .into_iter()
                .partition(|idle| idle.kept_at.elapsed() > KEPT_MIN);
            kept.idle = fresh;
            kept.swept = !kept.idle.is_empty();
            let done = !kept.swept;
            drop(kept);
            stale.into_iter().for_each(Idle::give_back);
            if done {
                self.0 = Weak::new();
                return;
            }
        }
    }
}

/// A runtime that is shut down drops its tasks; the next one sweeps again.
impl Drop for Broom {
    fn drop(&mut self) {
        if let Some(spare) = self.0.upgrade() {
            spare.kept().swept = false;
        }
    }
}
