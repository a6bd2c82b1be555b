//! What a lock asks of Consul's HTTP API: transactions on a key, sessions, blocking queries.

use std::{collections::HashMap, time::Duration};

use hyper::{Method, body::Bytes};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ConsulClient, ConsulError,
    connections::{Answer, Connections},
    entry::{Entry, Record},
    key::in_path,
    owner::{Owner, is_session},
};

/// How a try to lock a key ended.
#[derive(Debug)]
pub(crate) enum Locked {
    /// It is ours, as of this Raft index.
    Granted(u64),
    /// Another session has it.
    Held,
    /// A session of somebody who asked for a delay had it, and the delay is not over.
    Delayed,
    /// Our session is over.
    NoSession,
}

/// What was read of the keys under a prefix.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The Raft index that it is of.
    pub(crate) index: u64,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Txn {
    #[serde(default)]
    results: Option<Vec<TxnResult>>,
    #[serde(default)]
    errors: Option<Vec<TxnError>>,
}

#[derive(Deserialize)]
struct TxnResult {
    #[serde(rename = "KV")]
    kv: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnError {
    #[serde(default)]
    what: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Session {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
}

impl ConsulClient {
    /// Locks `key` by `session`, once: a try that got lost must not be made again, because it may
    /// arrive after the lock was released.
    pub(crate) async fn lock(
        &self,
        key: &str,
        session: &str,
        record: &Record,
    ) -> Result<Locked, ConsulError> {
        let lock =
            json!({"Verb": "lock", "Key": key, "Value": encoded(record)?, "Session": session});
        match self.txn(vec![lock]).await? {
            Ok(index) => Ok(Locked::Granted(index)),
            Err(errors) if errors.contains("invalid session") => Ok(Locked::NoSession),
            Err(errors) if errors.contains("already held") => Ok(Locked::Held),
            Err(errors) if errors.contains("lock delay") => Ok(Locked::Delayed),
            // Another version's words: whoever has it says why it was refused.
            Err(errors) => match self.entry(key).await? {
                Some(entry) if entry.is_held() => Ok(Locked::Held),
                _ => Err(ConsulError::answered(409, errors.as_bytes())),
            },
        }
    }

    /// Deletes `key` if it is still the hold of `owner`; whether it was.
    pub(crate) async fn unlock(&self, key: &str, owner: &Owner) -> Result<bool, ConsulError> {
        let (check, _) = checks(key, owner);
        let delete = json!({"Verb": "delete-cas", "Key": key, "Index": owner.index});
        Ok(self.txn(vec![check, delete]).await?.is_ok())
    }

    /// Moves the hold of `owner` to `session`; the Raft index, or `None` if it was over.
    pub(crate) async fn hand_on(
        &self,
        key: &str,
        owner: &Owner,
        session: &str,
        record: &Record,
    ) -> Result<Option<u64>, ConsulError> {
        let (check, index) = checks(key, owner);
        let value = encoded(record)?;
        let unlock =
            json!({"Verb": "unlock", "Key": key, "Value": &value, "Session": &owner.session});
        let lock = json!({"Verb": "lock", "Key": key, "Value": &value, "Session": session});
        Ok(self.txn(vec![check, index, unlock, lock]).await?.ok())
    }

    /// Who has `key`, as the leader knows after asking the others.
    pub(crate) async fn entry(&self, key: &str) -> Result<Option<Entry>, ConsulError> {
        let path = format!("kv/{}", in_path(key));
        let answer = self.again(self.request(Method::GET, &path, "consistent", "")?).await?;
        Ok(entries(&answer)?.into_iter().next())
    }

    /// All keys under `prefix`: at once, or when something has changed since `index`, or after
    /// `max` and a sixteenth of it.
    pub(crate) async fn changes(
        &self,
        connection: &Connections,
        prefix: &str,
        index: Option<u64>,
        max: Duration,
    ) -> Result<Seen, ConsulError> {
        let path = format!("kv/{}", in_path(prefix));
        // The leader's word is enough to wake somebody, who looks for himself.
        let mut query = "recurse".to_owned();
        if let Some(index) = index {
            query = format!("{query}&index={index}&wait={}ms", max.as_millis());
        }
        let answer = connection.send(self.request(Method::GET, &path, &query, "")?).await?;
        let entries = entries(&answer)?;
        let index = answer.index.ok_or_else(|| garbled("it has no X-Consul-Index"))?;
        Ok(Seen { index, entries })
    }

    /// Makes a session that no health check ends, and that deletes its keys when it ends. The delay
    /// before they can be locked again is zero on purpose: fencing tokens do what it is for.
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
            // What older servers call it.
            "Checks": [],
        });
        let request = self.request(Method::PUT, "session/create", "", wanted.to_string())?;
        let answer = expect_ok(self.once(request).await?)?;
        let session: Session = parse(&answer.body)?;
        if is_session(&session.id) { Ok(session.id) } else { Err(garbled("a strange session id")) }
    }

    /// Starts a session's TTL again; `false` if the session is over.
    pub(crate) async fn renew_session(&self, session: &str) -> Result<bool, ConsulError> {
        let path = format!("session/renew/{session}");
        let answer = self.again(self.request(Method::PUT, &path, "", "")?).await?;
        // An agent that has no such path at all says so in the words of a web server.
        let no_path = answer.body.starts_with(b"404 page");
        if answer.status == 404 && !no_path {
            return Ok(false);
        }
        expect_ok(answer).map(|_| true)
    }

    /// Ends a session and with it the hold that it may have. Also if a try to lock by it is still
    /// on its way: that will be refused.
    pub(crate) async fn destroy_session(&self, session: &str) -> Result<(), ConsulError> {
        let path = format!("session/destroy/{session}");
        let answer = self.again(self.request(Method::PUT, &path, "", "")?).await?;
        expect_ok(answer).map(drop)
    }

    /// All sessions by their names, of which ours are all different.
    pub(crate) async fn sessions_by_name(&self) -> Result<HashMap<String, String>, ConsulError> {
        let request = self.request(Method::GET, "session/list", "consistent", "")?;
        let answer = expect_ok(self.again(request).await?)?;
        let sessions: Vec<Session> = parse(&answer.body)?;
        let known = sessions.into_iter().filter(|session| is_session(&session.id));
        Ok(known.map(|session| (session.name, session.id)).collect())
    }

    /// A transaction on one key: the index of what it wrote, or what its operations complained of.
    async fn txn(&self, operations: Vec<Value>) -> Result<Result<u64, String>, ConsulError> {
        let operations: Vec<_> = operations.into_iter().map(|kv| json!({"KV": kv})).collect();
        let body = Value::Array(operations).to_string();
        let answer = self.once(self.request(Method::PUT, "txn", "", body)?).await?;
        if answer.status == 409 {
            let txn: Txn = parse(&answer.body)?;
            let errors = txn.errors.unwrap_or_default();
            let errors: Vec<_> = errors.into_iter().map(|error| error.what).collect();
            if errors.iter().any(|what| what.contains("Permission denied")) {
                return Err(ConsulError::answered(403, errors.join("; ").as_bytes()));
            }
            return Ok(Err(errors.join("; ")));
        }
        let txn: Txn = parse(&expect_ok(answer)?.body)?;
        let last = txn.results.and_then(|mut results| results.pop()).and_then(|last| last.kv);
        last.map(|kv| Ok(kv.modify_index)).ok_or_else(|| garbled("a transaction without results"))
    }
}

/// That the key is the session's, and that it is the same grant.
fn checks(key: &str, owner: &Owner) -> (Value, Value) {
    (
        json!({"Verb": "check-session", "Key": key, "Session": owner.session}),
        json!({"Verb": "check-index", "Key": key, "Index": owner.index}),
    )
}

fn encoded(record: &Record) -> Result<String, ConsulError> {
    record.encoded().map_err(|err| ConsulError::NotSent(err.into()))
}

fn expect_ok(answer: Answer) -> Result<Answer, ConsulError> {
    if answer.status == 200 {
        return Ok(answer);
    }
    Err(ConsulError::answered(answer.status, &answer.body))
}

/// None is said with status 404, and with an index: unlike by an agent that has no such path.
fn entries(answer: &Answer) -> Result<Vec<Entry>, ConsulError> {
    match answer.status {
        200 => parse(&answer.body),
        404 if answer.index.is_some() => Ok(Vec::new()),
        status => Err(ConsulError::answered(status, &answer.body)),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, ConsulError> {
    // The error's text says where, and nothing of the body, which may have session ids in it.
    serde_json::from_slice(body).map_err(|err| garbled(format!("line {}", err.line())))
}

fn garbled(why: impl Into<String>) -> ConsulError {
    ConsulError::Garbled(why.into())
}
