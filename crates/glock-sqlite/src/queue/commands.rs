//! The statements that only queues need, and their replies.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
    time::Duration,
};

use glock_core::{
    FencingToken, OwnerToken,
    toolkit::{CallDeadline, LockStatus, LockWaiters, WaiterId},
};
use sqlx::SqlStr;
use tokio::time::Instant;

use crate::{
    client::{Access, Clock, Micros, Statement, micros},
    commands::{
        Commands, duration,
        sleepers::{bind_keys, places},
        token,
    },
    error::Failure,
    queue::sql,
};

static ENTER: LazyLock<SqlStr> = LazyLock::new(sql::enter);
static LEAVE: LazyLock<SqlStr> = LazyLock::new(sql::leave);
static FORGO: LazyLock<SqlStr> = LazyLock::new(sql::forgo);

/// The reply to a request to take the lock or to join its queue.
pub(crate) enum EnterReply {
    Granted {
        fence: FencingToken,
        /// The instant just before the request was sent.
        sent_at: Instant,
    },
    Waiting {
        /// If the waiter is the first: how long the lock is held or reserved.
        free_in: Option<Duration>,
        /// The waiter of this client that the lock is reserved for.
        turn: Option<u64>,
    },
}

impl Commands {
    /// Takes the lock, or puts the waiter into its queue.
    pub(crate) async fn enter(
        &self,
        until: CallDeadline,
        key: &str,
        (owner, waiter): (&OwnerToken, WaiterId),
        ttl: Duration,
        holder: &str,
    ) -> Result<EnterReply, Failure> {
        type Row = (bool, i64, i64, Micros, bool, String, bool);

        let clock = self.connections().clock();
        let bind = |query: Statement, now| {
            let query = query.bind(key.to_owned()).bind(owner.reveal().to_owned()).bind(now);
            let query = query.bind(micros(ttl)).bind(Clock::wall()).bind(holder.to_owned());
            let query = query.bind(clock.boot().to_owned()).bind(waiter.to_string());
            query.bind(self.client().to_owned())
        };
        let reply = self.connections().fetch::<Row>(Access::Write, until, &ENTER, bind).await?;
        match reply.rows.into_iter().next() {
            Some((true, fence, reserved, ..)) => {
                if fence >= reserved {
                    self.reserve(until, fence).await?;
                }
                Ok(EnterReply::Granted { fence: token(fence)?, sent_at: reply.sent_at })
            }
            Some((false, _, _, left, is_first, turn, is_new)) => {
                // A reservation that was there before has notified already.
                let turn = if is_new { self.pass(false, &turn) } else { self.own(&turn) };
                Ok(EnterReply::Waiting { free_in: is_first.then(|| duration(left)), turn })
            }
            None => Err(Failure::used_elsewhere()),
        }
    }

    /// Takes the waiter out of the queue. Returns the one of this client whose turn it is then.
    pub(crate) async fn leave(
        &self,
        key: &str,
        waiter: WaiterId,
        until: CallDeadline,
    ) -> Result<Option<u64>, Failure> {
        let name = waiter.to_string();
        let bind = |query: Statement, _| query.bind(key.to_owned()).bind(name.clone());
        let left = self.connections().fetch::<(bool,)>(Access::Write, until, &LEAVE, bind).await?;
        if left.rows.first() != Some(&(true,)) {
            return Ok(None);
        }
        let bind = |query: Statement, now| query.bind(key.to_owned()).bind(name.clone()).bind(now);
        let passed =
            self.connections().fetch::<(String,)>(Access::Write, until, &FORGO, bind).await?;
        Ok(passed.rows.first().and_then(|(turn,)| self.pass(false, turn)))
    }

    /// Keeps the places of this client's waiters, whose locks have these keys: at most
    /// [`BATCH`](crate::commands::sleepers::BATCH).
    pub(crate) async fn heartbeat(
        &self,
        locks: &[(String, LockWaiters)],
        until: CallDeadline,
    ) -> Result<Vec<LockStatus>, Failure> {
        type Row = (String, String, String, Micros, String);

        let keys = || locks.iter().map(|(key, _)| key);
        let bind = |query: Statement, now| {
            bind_keys(query.bind(self.client().to_owned()).bind(now), keys())
        };
        let sql = sql::heartbeat(&places(locks.len(), 3));
        let reply = self.connections().fetch::<Row>(Access::Write, until, &sql, bind).await?;
        let found = reply
            .rows
            .into_iter()
            .map(|(key, turn, first, left, queue)| (key, (turn, first, left, queue)));
        let mut found: HashMap<_, _> = found.collect();
        Ok(locks
            .iter()
            .map(|(key, lock)| {
                let (turn, first, left, queue) = found.remove(key).unwrap_or_default();
                let (turn, first) = (self.own(&turn), self.own(&first));
                // The names have neither quotes nor commas.
                let places = queue.trim_matches(['[', ']']).split(',');
                let places = places.filter_map(|waiter| self.own(waiter.trim_matches('"')));
                let places: HashSet<u64> = places.collect();
                let is_lost = |number: &u64| Some(*number) != turn && !places.contains(number);
                LockStatus {
                    turn,
                    first: first.map(|number| (number, duration(left))),
                    lost: lock.numbers.iter().copied().filter(is_lost).collect(),
                }
            })
            .collect())
    }

    /// The waiters of this client that locks are reserved for.
    pub(crate) async fn turns(&self, until: CallDeadline) -> Result<Vec<u64>, Failure> {
        let bind = |query: Statement, now| query.bind(self.client().to_owned()).bind(now);
        let reply = self.connections().fetch(Access::Read, until, &sql::TURNS, bind).await?;
        Ok(reply.rows.iter().filter_map(|(waiter,): &(String,)| self.own(waiter)).collect())
    }
}
