//! Each request to Consul's HTTP API and its reply: transactions on a key, sessions, queries.

mod transaction;

use std::{collections::HashMap, time::Duration};

use hyper::{Method, body::Bytes};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::transaction::{
    check_index, checks, delete, delete_cas, get_tree, lock, unlock,
};
use crate::{
    client::{Connections, ConsulClient, Reply},
    error::ConsulError,
    schema::{Entry, Record, in_path},
    session::{Owner, is_session_id},
};

/// The reply to an acquire.
#[derive(Debug)]
pub(crate) enum AcquireReply {
    /// The session has the key, since this Raft index. With what the operations after it have read.
    Granted(u64, Vec<Entry>),
    /// Another session has it.
    Held,
    /// Others have to go first, or the caller's right is gone. Why, in Consul's words.
    Queued(String),
    /// Another program's session had it and asked for a delay, which is not over.
    Delayed,
    /// The session is over.
    SessionOver,
}

/// The keys under a prefix.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The Raft index at which they were read.
    pub(crate) index: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Snapshot {
    /// The index for the query after this reply, where the one before had the index `last`. `None`: it has gone
    /// back, as that of a restored store does, so the next query reads everything again.
    pub(crate) fn next_index(&self, last: Option<u64>) -> Option<u64> {
        let went_back = last.is_some_and(|last| self.index < last);
        (!went_back).then_some(self.index.max(1))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SessionInfo {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
}

impl ConsulClient {
    /// Locks `key` by `session`, between operations that check what the caller's right is. The request is
    /// sent once: one whose reply was lost may arrive after the lock was released.
    pub(crate) async fn acquire(
        &self,
        key: &str,
        session: &str,
        record: &Record,
        (before, after): (Vec<Value>, Vec<Value>),
    ) -> Result<AcquireReply, ConsulError> {
        // Each operation before has one result.
        let at = before.len();
        let mut operations = before;
        operations.push(lock(key, session, record)?);
        operations.extend(after);
        let refusal = match self.transaction(operations).await? {
            Ok(mut entries) => {
                let index = entries.get(at).map(|locked| locked.modify_index);
                let index = index.ok_or_else(|| self.unexpected("no result of the lock"))?;
                return Ok(AcquireReply::Granted(index, entries.split_off(at + 1)));
            }
            Err(refusal) => refusal.text(),
        };
        if refusal.contains("invalid session") {
            Ok(AcquireReply::SessionOver)
        } else if refusal.contains("lock delay") {
            Ok(AcquireReply::Delayed)
        } else if ["\" exists", "index is stale"].iter().any(|known| refusal.contains(known)) {
            Ok(AcquireReply::Queued(refusal))
        } else if refusal.contains("already held") {
            Ok(AcquireReply::Held)
        } else {
            // Another version's wording: the key itself shows why it was refused.
            match self.entry(key).await? {
                Some(entry) if entry.is_locked() => Ok(AcquireReply::Held),
                _ => Ok(AcquireReply::Queued(refusal)),
            }
        }
    }

    /// Deletes `key` if `owner` still has it. Returns whether it had.
    pub(crate) async fn release(&self, key: &str, owner: &Owner) -> Result<bool, ConsulError> {
        let (check, _) = checks(key, owner);
        Ok(self.txn(vec![check, delete_cas(key, owner.index)]).await?.is_ok())
    }

    /// Transfers the hold of `owner` to `session`. Returns the Raft index, or `None` if `owner` does not
    /// have the key any more.
    pub(crate) async fn transfer(
        &self,
        key: &str,
        owner: &Owner,
        session: &str,
        record: &Record,
    ) -> Result<Option<u64>, ConsulError> {
        let (check, index) = checks(key, owner);
        let operations =
            vec![check, index, unlock(key, &owner.session), lock(key, session, record)?];
        Ok(self.txn(operations).await?.ok())
    }

    /// Reads `key`, as the leader and a majority confirm it.
    pub(crate) async fn entry(&self, key: &str) -> Result<Option<Entry>, ConsulError> {
        let path = format!("kv/{}", in_path(key));
        let request = self.request(Method::GET, &path, "consistent", "")?;
        Ok(self.entries(&self.send_idempotent(request).await?)?.into_iter().next())
    }

    /// Reads all keys under `prefix`: at once, or with an `index` when one of them has changed since, or
    /// after `max` and a sixteenth of it.
    pub(crate) async fn blocking_query(
        &self,
        connection: &Connections,
        prefix: &str,
        index: Option<u64>,
        max: Duration,
    ) -> Result<Snapshot, ConsulError> {
        let path = format!("kv/{}", in_path(prefix));
        // Not confirmed by a majority: a waiter that it wakes tries, or looks for itself.
        let mut query = "recurse".to_owned();
        if let Some(index) = index {
            query = format!("{query}&index={index}&wait={}ms", max.as_millis());
        }
        let request = self.request(Method::GET, &path, &query, "")?;
        let reply = connection.send(request, Duration::MAX).await?;
        let entries = self.entries(&reply)?;
        let index = reply.index.ok_or_else(|| self.unexpected("it has no X-Consul-Index"))?;
        Ok(Snapshot { index, entries })
    }

    /// Creates a session that no health check ends and that deletes its keys when it ends, and returns
    /// its id. The delay before its keys can be locked again is zero on purpose: fencing tokens do what
    /// the delay is for.
    pub(crate) async fn create_session(
        &self,
        name: &str,
        ttl: Duration,
    ) -> Result<String, ConsulError> {
        let wanted = json!({
            "Name": name,
            "TTL": format!("{}ms", ttl.as_millis()),
            "LockDelay": "0s",
            "Behavior": "delete",
            "NodeChecks": [],
            // The name in older servers.
            "Checks": [],
        });
        let request = self.request(Method::PUT, "session/create", "", wanted.to_string())?;
        let reply = self.expect_ok(self.send(request).await?)?;
        let SessionInfo { id, .. } = self.parse(&reply.body)?;
        if is_session_id(&id) { Ok(id) } else { Err(self.unexpected("it has no session id")) }
    }

    /// Starts a session's TTL again. Returns `false` if the session is over.
    pub(crate) async fn renew_session(&self, session: &str) -> Result<bool, ConsulError> {
        let path = format!("session/renew/{session}");
        let reply = self.send_idempotent(self.request(Method::PUT, &path, "", "")?).await?;
        // What is no agent, and does not know the path, replies like a web server.
        let no_path = reply.body.starts_with(b"404 page");
        if reply.status == 404 && !no_path {
            return Ok(false);
        }
        self.expect_ok(reply).map(|_| true)
    }

    /// Ends a session, and with it the hold that it may have. An acquire by it that is still in flight
    /// will be refused.
    pub(crate) async fn destroy_session(&self, session: &str) -> Result<(), ConsulError> {
        let path = format!("session/destroy/{session}");
        let reply = self.send_idempotent(self.request(Method::PUT, &path, "", "")?).await?;
        self.expect_ok(reply).map(drop)
    }

    /// The ids of all sessions by their names. This crate never uses a name twice.
    pub(crate) async fn sessions_by_name(&self) -> Result<HashMap<String, String>, ConsulError> {
        let request = self.request(Method::GET, "session/list", "consistent", "")?;
        let reply = self.expect_ok(self.send_idempotent(request).await?)?;
        let sessions: Vec<SessionInfo> = self.parse(&reply.body)?;
        let known = sessions.into_iter().filter(|session| is_session_id(&session.id));
        Ok(known.map(|session| (session.name, session.id)).collect())
    }

    pub(crate) fn expect_ok(&self, reply: Reply) -> Result<Reply, ConsulError> {
        match reply.status {
            200 => Ok(reply),
            // Consul has these paths.
            404 | 405 => Err(self.unexpected(format!("status {}", reply.status))),
            status => Err(ConsulError::status(status, &reply.body)),
        }
    }

    /// No keys are a reply with status 404 and an index. One without an index comes from what is no agent.
    pub(crate) fn entries<T: for<'a> Deserialize<'a>>(
        &self,
        reply: &Reply,
    ) -> Result<Vec<T>, ConsulError> {
        match reply.status {
            200 => self.parse(&reply.body),
            404 if reply.index.is_some() => Ok(Vec::new()),
            404 => Err(self.unexpected("status 404 without X-Consul-Index")),
            status => Err(ConsulError::status(status, &reply.body)),
        }
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&self, body: &'a Bytes) -> Result<T, ConsulError> {
        let parsed = serde_json::from_slice(body);
        if parsed.is_ok() {
            self.replied_as_consul();
        }
        // Without the body, which may have session ids in it.
        parsed.map_err(|err| self.unexpected(format!("line {}", err.line())))
    }

    pub(crate) fn unexpected(&self, why: impl Into<String>) -> ConsulError {
        let why = why.into();
        if self.is_consul() {
            ConsulError::UnexpectedReply(why)
        } else {
            ConsulError::NotConsul(why)
        }
    }
}

/// The longest prefix that all keys have in common, for a query that covers them; empty for none.
pub(crate) fn common_prefix<'a>(mut keys: impl Iterator<Item = &'a str>) -> &'a str {
    let Some(mut common) = keys.next() else { return "" };
    for key in keys {
        let same = common.char_indices().zip(key.chars()).find(|((_, one), other)| one != other);
        let end = match same {
            Some(((at, _), _)) => at,
            None => common.len().min(key.len()),
        };
        common = &common[..end];
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_prefix_ends_between_characters() {
        let of = |keys: &[&'static str]| common_prefix(keys.iter().copied());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["ns/a"]), "ns/a");
        assert_eq!(of(&["ns/a", "ns/ab"]), "ns/a");
        assert_eq!(of(&["ns/ab", "ns/a"]), "ns/a");
        assert_eq!(of(&["ns/\u{e9}", "ns/\u{e8}", "ns/x"]), "ns/");
    }
}
