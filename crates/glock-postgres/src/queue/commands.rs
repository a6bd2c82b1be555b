//! The statements that only queues need, and their replies.

use std::collections::HashMap;

use glock_core::toolkit::{
    AcquireReply, AcquireRequest, CallDeadline, LockStatus, LockWaiters, WaiterId,
};

use crate::{
    client::{SendMode, SendMode::Repeatable, Statement},
    commands::{Commands, bind_request, remaining, token},
    error::Failure,
};

/// The reply to an enter: see `queue_sql::enter`.
type Entered = (bool, i64, i64, bool, String);

/// What a heartbeat found: keys, and of each lock the waiter that it is reserved for, the first waiter, the
/// remaining milliseconds, the numbers of this client's waiters.
type Found = (Vec<String>, Vec<String>, Vec<String>, Vec<i64>, Vec<String>);

impl Commands {
    /// Takes the lock, or puts the waiter into its queue.
    pub(crate) async fn enter(
        &self,
        request: AcquireRequest<'_>,
        waiter: WaiterId,
        mode: &SendMode,
        until: CallDeadline,
    ) -> Result<AcquireReply, Failure> {
        let (sql, secret) = (&self.statements(until).await?.enter, request.owner.reveal());
        let (waiter, client) = (waiter.to_string(), self.client.to_string());
        let bind = |query: Statement| {
            bind_request(request, query).bind(waiter.clone()).bind(client.clone())
        };
        let reply = self.connections.fetch::<Entered>(mode, until, sql, bind, secret).await?;
        match reply.row {
            Some((true, fence, ..)) => {
                Ok(AcquireReply::Granted { fence: token(fence)?, sent_at: reply.sent_at })
            }
            Some((false, _, left, is_first, turn)) => {
                let free_in = is_first.then(|| remaining(left));
                Ok(AcquireReply::Waiting { free_in, turn: self.client.number_of(&turn) })
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
    ) -> Result<Option<u64>, Failure> {
        let (sql, waiter) = (self.statements(until).await?, waiter.to_string());
        let bind = |query: Statement| query.bind(key).bind(waiter.clone());
        let reply = self.connections.fetch(&Repeatable, until, &sql.leave, bind, "").await?;
        if reply.row != Some((true,)) {
            return Ok(None);
        }
        let bind = |query: Statement| bind(query).bind(self.client.to_string());
        let reply = self.connections.fetch(&Repeatable, until, &sql.forgo, bind, "").await?;
        let turn = |(turn,): (String,)| self.client.number_of(&turn);
        Ok(reply.row.and_then(turn))
    }

    /// Keeps the places of this client's waiters, whose locks have these keys.
    pub(crate) async fn heartbeat(
        &self,
        locks: &[(String, LockWaiters)],
        until: CallDeadline,
    ) -> Result<Vec<LockStatus>, Failure> {
        let sql = &self.statements(until).await?.heartbeat;
        let keys: Vec<String> = locks.iter().map(|(key, _)| key.clone()).collect();
        let bind = |query: Statement| query.bind(keys.clone()).bind(self.client.to_string());
        let reply = self.connections.fetch::<Found>(&Repeatable, until, sql, bind, "").await?;
        let (keys, turns, firsts, left, places) = reply.row.unwrap_or_default();
        let found = turns.into_iter().zip(firsts).zip(left).zip(places);
        let mut found: HashMap<_, _> = keys.into_iter().zip(found).collect();
        Ok(locks
            .iter()
            .map(|(key, lock)| {
                let (((turn, first), left), places) = found.remove(key).unwrap_or_default();
                let (turn, first) = (self.client.number_of(&turn), self.client.number_of(&first));
                let places = places.split(',').filter_map(|number| number.parse().ok());
                lock.status(turn, first.map(|number| (number, remaining(left))), places)
            })
            .collect())
    }
}
