//! The statements that only queues need, and their replies.

use std::{collections::HashMap, sync::LazyLock};

use glock_core::toolkit::{
    AcquireReply, AcquireRequest, CallDeadline, LockStatus, LockWaiters, WaiterId,
};
use sqlx::SqlStr;

use crate::{
    client::{Access, Micros, Statement},
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

impl Commands {
    /// Takes the lock, or puts the waiter into its queue.
    pub(crate) async fn enter(
        &self,
        request: AcquireRequest<'_>,
        waiter: WaiterId,
        until: CallDeadline,
    ) -> Result<AcquireReply, Failure> {
        type Row = (bool, i64, i64, Micros, bool, String, bool);

        let bind = |query: Statement, now| {
            let query = self.bind(request, query, now).bind(waiter.to_string());
            query.bind(waiter.client.to_string())
        };
        let reply = self.connections().fetch::<Row>(Access::Write, until, &ENTER, bind).await?;
        match reply.rows.into_iter().next() {
            Some((true, fence, reserved, ..)) => {
                if fence >= reserved {
                    self.reserve(until, fence).await?;
                }
                Ok(AcquireReply::Granted { fence: token(fence)?, sent_at: reply.sent_at })
            }
            Some((false, _, _, left, is_first, turn, is_new)) => {
                // A reservation that was there before has notified already.
                let turn =
                    if is_new { self.pass(false, &turn) } else { self.client.number_of(&turn) };
                Ok(AcquireReply::Waiting { free_in: is_first.then(|| duration(left)), turn })
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
            bind_keys(query.bind(self.client.to_string()).bind(now), keys())
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
                let number_of = |waiter: &str| self.client.number_of(waiter);
                // The names have neither quotes nor commas.
                let places = queue.trim_matches(['[', ']']).split(',');
                let places = places.filter_map(|waiter| number_of(waiter.trim_matches('"')));
                let first = number_of(&first).map(|number| (number, duration(left)));
                lock.status(number_of(&turn), first, places)
            })
            .collect())
    }

    /// The waiters of this client that locks are reserved for.
    pub(crate) async fn turns(&self, until: CallDeadline) -> Result<Vec<u64>, Failure> {
        let bind = |query: Statement, now| query.bind(self.client.to_string()).bind(now);
        let reply = self.connections().fetch(Access::Read, until, &sql::TURNS, bind).await?;
        Ok(reply
            .rows
            .iter()
            .filter_map(|(waiter,): &(String,)| self.client.number_of(waiter))
            .collect())
    }
}
