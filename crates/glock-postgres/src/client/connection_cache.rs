//! `ConnectionCache`: connections that go from one call to the next without a stay in the pool.
//!
//! The driver checks each connection that goes back to its pool with a round trip. Calls in close
//! succession, as under contention, would pay for it. So a connection is handed to the next call that
//! waits for one, or kept for a moment if the pool has others to give.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use glock_core::toolkit::{BackgroundTask, Mutex, Worker};
use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

/// How long an idle connection is kept at least.
const IDLE_MIN: Duration = Duration::from_millis(40);
/// How often idle connections are looked at: one is back in the pool after at most 60 ms.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// How long a connection may be out of a pool that has others to give. After that it goes back, so
/// that the pool can replace it when it is old.
const CHECKED_OUT_MAX: Duration = Duration::from_secs(10);
/// The same for a pool that has none left: the application's own tasks may be waiting for one.
const CHECKED_OUT_MAX_SCARCE: Duration = Duration::from_millis(100);

/// A connection that is out of its pool.
struct CheckedOut {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

/// A connection in use. If it is dropped, a statement was cut off half-way and its reply may never
/// arrive: the connection is closed, and the pool may open another one at once.
pub(crate) struct InUse {
    /// `None` only while it is dropped or given back.
    checked_out: Option<CheckedOut>,
}

impl InUse {
    pub(crate) fn get(&mut self) -> &mut PoolConnection<Postgres> {
        let checked_out = self.checked_out.as_mut();
        &mut checked_out
            .expect("only `drop` and `give_back` take it, and both end `self`")
            .connection
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        drop(self.checked_out.take().map(|checked_out| checked_out.connection.detach()));
    }
}

/// The connections that are kept; none a moment after the last call.
#[derive(Default)]
pub(crate) struct ConnectionCache {
    state: Mutex<State>,
    sweeper: BackgroundTask,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    /// Calls that wait for a connection of a pool that has none left.
    waiting: VecDeque<oneshot::Sender<CheckedOut>>,
    /// How many calls wait for a pool that should have a connection.
    awaiting_pool: usize,
}

struct Idle {
    checked_out: CheckedOut,
    since: Instant,
    runtime: Handle,
}

impl Idle {
    /// The pool spawns a task to take a connection back, and the last lock may be dropped outside of
    /// a runtime.
    fn give_back(self) {
        let _in_runtime = self.runtime.enter();
        drop(self.checked_out);
    }
}

impl ConnectionCache {
    /// A connection: the one that was used last, else one from `pool`.
    pub(crate) async fn take(&self, pool: &PgPool) -> Result<InUse, sqlx::Error> {
        if pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        let handed = {
            let mut state = self.state.lock();
            if let Some(idle) = state.idle.pop() {
                return Ok(InUse { checked_out: Some(idle.checked_out) });
            }
            if has_more(pool) {
                state.awaiting_pool += 1;
                None
            } else {
                let (hand, handed) = oneshot::channel();
                // Calls that the pool has served, or that gave up, wait no more.
                state.waiting.retain(|hand| !hand.is_closed());
                state.waiting.push_back(hand);
                Some(handed)
            }
        };
        let from_pool = async {
            let connection = pool.acquire().await?;
            Ok(CheckedOut { connection, since: Instant::now() })
        };
        let checked_out: Result<_, sqlx::Error> = match handed {
            None => {
                let _awaiting = AwaitingPool(self);
                from_pool.await
            }
            // Dropping the other future is harmless: it leaves the pool's queue, or its connection
            // goes back.
            Some(handed) => tokio::select! {
                biased;
                Ok(checked_out) = handed => Ok(checked_out),
                checked_out = from_pool => checked_out,
            },
        };
        Ok(InUse { checked_out: Some(checked_out?) })
    }

    /// Takes back a connection on which no statement runs.
    pub(crate) fn give_back(self: &Arc<Self>, pool: &PgPool, mut in_use: InUse) {
        let (Some(mut checked_out), Ok(runtime)) =
            (in_use.checked_out.take(), Handle::try_current())
        else {
            return;
        };
        let scarce = !has_more(pool);
        let checked_out_max = if scarce { CHECKED_OUT_MAX_SCARCE } else { CHECKED_OUT_MAX };
        if checked_out.since.elapsed() > checked_out_max || pool.is_closed() {
            return;
        }
        {
            let mut state = self.state.lock();
            while let Some(hand) = state.waiting.pop_front() {
                match hand.send(checked_out) {
                    Ok(()) => return,
                    // The pool has served that call, or it gave up.
                    Err(unwanted) => checked_out = unwanted,
                }
            }
            if scarce || state.awaiting_pool > 0 {
                return;
            }
            state.idle.push(Idle { checked_out, since: Instant::now(), runtime });
        }
        self.sweeper.start(self);
    }
}

/// Whether `pool` has a connection to give, or may open another.
fn has_more(pool: &PgPool) -> bool {
    pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections()
}

/// Gives back the connections that were idle for too long, for as long as there are idle ones.
impl Worker for ConnectionCache {
    async fn round(&self) -> Option<Duration> {
        let overdue: Vec<_> = {
            let mut state = self.state.lock();
            state.idle.extract_if(.., |idle| idle.since.elapsed() > IDLE_MIN).collect()
        };
        overdue.into_iter().for_each(Idle::give_back);
        (!self.state.lock().idle.is_empty()).then_some(SWEEP_PAUSE)
    }
}

impl Drop for ConnectionCache {
    fn drop(&mut self) {
        mem::take(&mut self.state.get_mut().idle).into_iter().for_each(Idle::give_back);
    }
}

/// Counts a call that waits for the pool.
struct AwaitingPool<'a>(&'a ConnectionCache);

impl Drop for AwaitingPool<'_> {
    fn drop(&mut self) {
        self.0.state.lock().awaiting_pool -= 1;
    }
}
