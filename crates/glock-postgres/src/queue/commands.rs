//! The statements that only queues need, and their replies.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use glock_core::{
    FencingToken, OwnerToken,
    toolkit::{CallDeadline, LockStatus, LockWaiters, WaiterId},
};
use tokio::time::Instant;

use crate::{
    client::{SendMode, SendMode::Repeatable, Statement},
    commands::{Commands, millis, remaining, token},
    error::Failure,
};

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
        /// The waiter that the lock is reserved for, if it is this client's; else empty.
        turn: String,
    },
}

/// The reply to an enter: see `queue_sql::enter`.
type Entered = (bool, i64, i64, bool, String);

/// What a heartbeat found: keys, and of each lock the waiter that it is reserved for, the first waiter, the
/// remaining milliseconds, the numbers of this client's waiters.
type Found = (Vec<String>, Vec<String>, Vec<String>, Vec<i64>, Vec<String>);

impl Commands {
    /// Takes the lock, or puts the waiter into its queue.
    pub(crate) async fn enter(
        &self,
        (mode, until): (&SendMode, CallDeadline),
        key: &str,
        (owner, waiter): (&OwnerToken, WaiterId),
        ttl: Duration,
        holder: &str,
    ) -> Result<EnterReply, Failure> {
        let (sql, secret) = (&self.statements(until).await?.enter, owner.reveal());
        let (waiter, client) = (waiter.to_string(), &self.client);
        let bind = |query: Statement| {
            let query = query.bind(key).bind(secret).bind(millis(ttl)).bind(holder);
            query.bind(waiter.clone()).bind(client)
        };
        let reply = self.connections.fetch::<Entered>(mode, until, sql, bind, secret).await?;
        match reply.row {
            Some((true, fence, ..)) => {
                Ok(EnterReply::Granted { fence: token(fence)?, sent_at: reply.sent_at })
            }
            Some((false, _, left, is_first, turn)) => {
                let free_in = is_first.then(|| remaining(left));
                Ok(EnterReply::Waiting { free_in, turn })
            }
            None => Err(Failure::unexpected_reply("no row")),
        }
    }

    /// Takes the waiter out of the queue. Returns the one of this client whose turn it is then.
    pub(crate) async fn leave(
        &self,
        key: &str,
        waiter: WaiterId,
        until: CallDeadline,
    ) -> Result<String, Failure> {
        let (sql, waiter) = (self.statements(until).await?, waiter.to_string());
        let bind = |query: Statement| query.bind(key).bind(waiter.clone());
        let reply = self.connections.fetch(&Repeatable, until, &sql.leave, bind, "").await?;
        if reply.row != Some((true,)) {
            return Ok(String::new());
        }
        let bind = |query: Statement| bind(query).bind(&self.client);
        let reply = self.connections.fetch(&Repeatable, until, &sql.forgo, bind, "").await?;
        Ok(reply.row.map(|(turn,)| turn).unwrap_or_default())
    }

    /// Keeps the places of this client's waiters, whose locks have these keys.
    pub(crate) async fn heartbeat(
        &self,
        locks: &[(String, LockWaiters)],
        until: CallDeadline,
    ) -> Result<Vec<LockStatus>, Failure> {
        let sql = &self.statements(until).await?.heartbeat;
        let keys: Vec<String> = locks.iter().map(|(key, _)| key.clone()).collect();
        let bind = |query: Statement| query.bind(keys.clone()).bind(&self.client);
        let reply = self.connections.fetch::<Found>(&Repeatable, until, sql, bind, "").await?;
        let (keys, turns, firsts, left, places) = reply.row.unwrap_or_default();
        let found = turns.into_iter().zip(firsts).zip(left).zip(places);
        let mut found: HashMap<_, _> = keys.into_iter().zip(found).collect();
        Ok(locks
            .iter()
            .map(|(key, lock)| {
                let (((turn, first), left), places) = found.remove(key).unwrap_or_default();
                let (turn, first) = (self.own(&turn), self.own(&first));
                let places: HashSet<u64> =
                    places.split(',').filter_map(|number| number.parse().ok()).collect();
                let is_lost = |number: &u64| Some(*number) != turn && !places.contains(number);
                LockStatus {
                    turn,
                    first: first.map(|number| (number, remaining(left))),
                    lost: lock.numbers.iter().copied().filter(is_lost).collect(),
                }
            })
            .collect())
    }
}
