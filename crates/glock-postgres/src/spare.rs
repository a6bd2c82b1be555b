//! `Spare`: connections that pass from one call to the next without going back to the pool between.
//!
//! The driver checks each connection that goes back with a round trip. Calls that follow each other
//! closely, as under contention, would pay for it. So a connection is handed to the next call that
//! waits for one, or kept for a moment if the pool has others to give.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{self, Instant},
};

/// How long a connection is kept unused.
const KEPT_MIN: Duration = Duration::from_millis(40);
/// How often is looked; so it is back in the pool after at most 60 ms.
const SWEEP: Duration = Duration::from_millis(20);
/// How long a connection may be away from a pool that has others to give. Then the pool sees to
/// its age.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// The same for a pool that has none left: the application's own tasks may be waiting.
const AWAY_MAX_SCARCE: Duration = Duration::from_millis(100);

/// A connection that is away from its pool.
struct Away {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

/// A connection in use. If it is dropped, a statement was cut off half-way and may never be
/// answered: the connection is closed, and its place in the pool is free at once.
pub(crate) struct Borrowed {
    /// `None` only while it is dropped or given back.
    away: Option<Away>,
}

impl Borrowed {
    pub(crate) fn get(&mut self) -> &mut PoolConnection<Postgres> {
        let away = self.away.as_mut();
        &mut away.expect("only `drop` and `give_back` take it, and both end `self`").connection
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        drop(self.away.take().map(|away| away.connection.detach()));
    }
}

impl From<Away> for Borrowed {
    fn from(away: Away) -> Self {
        Self { away: Some(away) }
    }
}

/// The connections that are kept; none a moment after the last call.
#[derive(Default)]
pub(crate) struct Spare {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Vec<Kept>,
    /// Calls that wait for a connection of a pool that has none left.
    waiting: VecDeque<oneshot::Sender<Away>>,
    /// How many calls wait for a pool that should have one.
    asking: usize,
    /// Whether a task sees to it that what is kept goes back.
    swept: bool,
}

struct Kept {
    away: Away,
    since: Instant,
    runtime: Handle,
}

impl Kept {
    /// The pool spawns a task to take a connection back, and there may be no runtime any more
    /// where the last lock is dropped.
    fn give_back(self) {
        let _in_runtime = self.runtime.enter();
        drop(self.away);
    }
}

impl Spare {
    /// A connection: the one that was used last, else one from `pool`.
    pub(crate) async fn take(&self, pool: &PgPool) -> Result<Borrowed, sqlx::Error> {
        if pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        let handed = {
            let mut state = self.state();
            if let Some(kept) = state.kept.pop() {
                return Ok(kept.away.into());
            }
            if has_more(pool) {
                state.asking += 1;
                None
            } else {
                let (hand, handed) = oneshot::channel();
                // Who has been served by the pool, or has given up, waits no more.
                state.waiting.retain(|hand| !hand.is_closed());
                state.waiting.push_back(hand);
                Some(handed)
            }
        };
        let from_pool = async {
            let connection = pool.acquire().await?;
            Ok(Away { connection, since: Instant::now() })
        };
        let away: Result<_, sqlx::Error> = match handed {
            None => {
                let _asking = Asking(self);
                from_pool.await
            }
            // Dropping the other one is harmless: it stands in the pool's queue, or it goes back.
            Some(handed) => tokio::select! {
                biased;
                Ok(away) = handed => Ok(away),
                away = from_pool => away,
            },
        };
        away.map(Borrowed::from)
    }

    /// Takes back a connection on which nothing is under way.
    pub(crate) fn give_back(self: &Arc<Self>, pool: &PgPool, mut borrowed: Borrowed) {
        let (Some(mut away), Ok(runtime)) = (borrowed.away.take(), Handle::try_current()) else {
            return;
        };
        let scarce = !has_more(pool);
        let away_max = if scarce { AWAY_MAX_SCARCE } else { AWAY_MAX };
        if away.since.elapsed() > away_max || pool.is_closed() {
            return;
        }
        let mut state = self.state();
        while let Some(hand) = state.waiting.pop_front() {
            match hand.send(away) {
                Ok(()) => return,
                // It was served by the pool, or given up.
                Err(unwanted) => away = unwanted,
            }
        }
        if scarce || state.asking > 0 {
            return;
        }
        state.kept.push(Kept { away, since: Instant::now(), runtime: runtime.clone() });
        if !mem::replace(&mut state.swept, true) {
            runtime.spawn(Broom(Arc::downgrade(self)).sweep());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `pool` has a connection to give, or may open another.
fn has_more(pool: &PgPool) -> bool {
    pool.num_idle() > 0 || pool.size() < pool.options().get_max_connections()
}

impl Drop for Spare {
    fn drop(&mut self) {
        mem::take(&mut self.state().kept).into_iter().for_each(Kept::give_back);
    }
}

/// Counts a call that waits for the pool.
struct Asking<'a>(&'a Spare);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.state().asking -= 1;
    }
}

/// Gives back what was kept for too long, for as long as something is kept.
struct Broom(Weak<Spare>);

impl Broom {
    async fn sweep(mut self) {
        loop {
            time::sleep(SWEEP).await;
            let Some(spare) = self.0.upgrade() else { return };
            let overdue = {
                let mut state = spare.state();
                let (overdue, fresh): (Vec<_>, _) = mem::take(&mut state.kept)
                    .into_iter()
                    .partition(|kept| kept.since.elapsed() > KEPT_MIN);
                state.kept = fresh;
                state.swept = !state.kept.is_empty();
                if !state.swept {
                    self.0 = Weak::new();
                }
                overdue
            };
            overdue.into_iter().for_each(Kept::give_back);
        }
    }
}

/// A runtime that is shut down drops its tasks; the next one sweeps again.
impl Drop for Broom {
    fn drop(&mut self) {
        if let Some(spare) = self.0.upgrade() {
            spare.state().swept = false;
        }
    }
}
