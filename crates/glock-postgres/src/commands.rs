//! `Commands`: the statements that glock sends, one an operation, and their replies.

pub(crate) mod queue_sql;
pub(crate) mod sql;
pub(crate) mod statements;

use std::{collections::HashSet, sync::OnceLock, time::Duration};

use glock_core::{
    FencingToken, Holder, OwnerToken,
    toolkit::{AcquireReply, AcquireRequest, CallDeadline, ClientId},
};
use tokio::time::Instant;

use crate::{
    client::{
        Connections,
        SendMode::{self, Hold, Repeatable},
        Statement,
    },
    commands::statements::Statements,
    error::Failure,
    schema::Schema,
};

/// The operations on one table. Each grant has an owner token of its own, so each statement may be
/// carried out twice.
pub(crate) struct Commands {
    pub(crate) connections: Connections,
    schema: Schema,
    /// The client's name in queues.
    pub(crate) client: ClientId,
    /// Made once the table is found, for every table of that name but this one is another lock's.
    statements: OnceLock<Statements>,
}

/// What came of a release.
pub(crate) struct Released {
    /// Whether the lease still ran.
    pub(crate) was_live: bool,
    /// The waiter of this client that the lock is reserved for now.
    pub(crate) turn: Option<u64>,
}

impl Commands {
    pub(crate) fn new(connections: Connections, schema: Schema, client: ClientId) -> Self {
        Self { connections, schema, client, statements: OnceLock::new() }
    }

    pub(crate) async fn statements(&self, until: CallDeadline) -> Result<&Statements, Failure> {
        if let Some(statements) = self.statements.get() {
            return Ok(statements);
        }
        let schema = self.schema.resolve(&self.connections, until).await?;
        Ok(self.statements.get_or_init(|| Statements::new(&schema, self.connections.limits())))
    }

    /// The names, with the table as it was found.
    pub(crate) async fn schema(&self, until: CallDeadline) -> Result<&Schema, Failure> {
        Ok(&self.statements(until).await?.schema)
    }

    pub(crate) async fn acquire(
        &self,
        request: AcquireRequest<'_>,
        mode: &SendMode,
        until: CallDeadline,
    ) -> Result<AcquireReply, Failure> {
        let (sql, secret) = (self.statements(until).await?, request.owner.reveal());
        let bind = |query: Statement| bind_request(request, query);
        let reply = self.connections.fetch(mode, until, &sql.acquire, bind, secret).await?;
        match reply.row {
            Some((true, _, _, fence, _)) => {
                Ok(AcquireReply::Granted { fence: token(fence)?, sent_at: reply.sent_at })
            }
            Some((false, true, label, fence, left)) => {
                read_holder((label, fence, left)).map(|holder| AcquireReply::Held(Some(holder)))
            }
            Some((false, false, ..)) | None => Ok(AcquireReply::Held(None)),
        }
    }

    /// Returns the instant just before the request was sent, or `None` if the lease is over.
    pub(crate) async fn renew(
        &self,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Option<Instant>, Failure> {
        let (sql, secret) = (self.statements(until).await?, owner.reveal());
        let bind = |query: Statement| query.bind(key).bind(secret).bind(millis(ttl));
        let reply = self.connections.fetch(&Hold, until, &sql.renew, bind, secret).await?;
        Ok(reply.row.map(|()| reply.sent_at))
    }

    /// Renews the leases of these keys, but for rows that are locked. Returns the instant just before the request was
    /// sent, and the owners whose leases were renewed.
    pub(crate) async fn renew_all(
        &self,
        keys: Vec<String>,
        owners: Vec<String>,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<(Instant, HashSet<String>), Failure> {
        let sql = self.statements(until).await?;
        let bind =
            |query: Statement| query.bind(keys.clone()).bind(owners.clone()).bind(millis(ttl));
        let reply = self.connections.fetch(&Hold, until, &sql.renew_all, bind, "").await?;
        let (renewed,): (Vec<String>,) = reply.row.unwrap_or_default();
        Ok((reply.sent_at, renewed.into_iter().collect()))
    }

    /// Frees the lock if `owner` has it. `has_expired` says whether its lease can have run out by now.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        until: CallDeadline,
        has_expired: impl Fn() -> bool + Send,
    ) -> Result<Released, Failure> {
        type Row = (bool, String);

        let (sql, secret) = (self.statements(until).await?, owner.reveal());
        let bind = |query: Statement| query.bind(key).bind(secret).bind(self.client.to_string());
        let reply = self.connections.fetch::<Row>(&Hold, until, &sql.release, bind, secret).await?;
        Ok(match reply.row {
            Some((was_live, turn)) => Released { was_live, turn: self.client.number_of(&turn) },
            // If the lease still runs, only an earlier request whose reply was lost can have freed it.
            None => Released { was_live: reply.repeated && !has_expired(), turn: None },
        })
    }

    /// Asks for a notification of the release. Returns the rest of the holder's lease, or `None` if
    /// the lock may be free.
    pub(crate) async fn set_waited(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Duration>, Failure> {
        let sql = self.statements(until).await?;
        let bind = |query: Statement| query.bind(key);
        let reply = self.connections.fetch(&Repeatable, until, &sql.set_waited, bind, "").await?;
        Ok(reply.row.map(|(left,)| remaining(left)))
    }

    pub(crate) async fn inspect(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Holder>, Failure> {
        let sql = self.statements(until).await?;
        let bind = |query: Statement| query.bind(key);
        let reply = self.connections.fetch(&Repeatable, until, &sql.inspect, bind, "").await?;
        reply.row.map(read_holder).transpose()
    }
}

/// Adds the first four parameters of an acquire: see `statements`.
pub(crate) fn bind_request(request: AcquireRequest<'_>, query: Statement) -> Statement {
    let query = query.bind(request.key).bind(request.owner.reveal());
    query.bind(millis(request.ttl)).bind(request.holder)
}

pub(crate) fn read_holder((label, fence, left): (String, i64, i64)) -> Result<Holder, Failure> {
    Ok(Holder::new(label, token(fence)?).with_remaining(Some(remaining(left))))
}

pub(crate) fn token(fence: i64) -> Result<FencingToken, Failure> {
    u64::try_from(fence).map(FencingToken::new).map_err(Failure::unexpected_reply)
}

pub(crate) fn remaining(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A checked TTL is a whole number of milliseconds, and a year at most.
pub(crate) fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}
