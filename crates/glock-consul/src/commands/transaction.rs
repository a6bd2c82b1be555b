//! Transactions on keys: their operations, and what became of them.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    client::ConsulClient,
    error::ConsulError,
    schema::{Entry, encoded},
    session::Owner,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Txn {
    results: Option<Vec<TxnResult>>,
    errors: Option<Vec<TxnError>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct TxnResult {
    kv: Option<Entry>,
}

/// Why an operation of a transaction was refused. Nothing of the transaction was done.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TxnError {
    /// Which operation.
    pub(crate) op_index: usize,
    what: String,
}

/// The operations of a transaction that were refused.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Vec<TxnError>);

impl ConsulClient {
    /// Sends a transaction on one key. Returns the index of its write.
    pub(super) async fn txn(
        &self,
        operations: Vec<Value>,
    ) -> Result<Result<u64, Refusal>, ConsulError> {
        let done = self.transaction(operations).await?;
        let index = |entries: Vec<Entry>| {
            let last = entries.last().map(|entry| entry.modify_index);
            last.ok_or_else(|| self.unexpected("a transaction without results"))
        };
        done.map_or_else(|refusal| Ok(Err(refusal)), |entries| Ok(Ok(index(entries)?)))
    }

    /// Sends a transaction. Returns what its operations have read and written, or which were refused.
    pub(crate) async fn transaction(
        &self,
        operations: Vec<Value>,
    ) -> Result<Result<Vec<Entry>, Refusal>, ConsulError> {
        self.transact(operations, "").await
    }

    /// Sends a transaction that only reads, as the leader and a majority confirm it.
    pub(crate) async fn read_transaction(
        &self,
        operations: Vec<Value>,
    ) -> Result<Result<Vec<Entry>, Refusal>, ConsulError> {
        self.transact(operations, "consistent").await
    }

    async fn transact(
        &self,
        operations: Vec<Value>,
        query: &str,
    ) -> Result<Result<Vec<Entry>, Refusal>, ConsulError> {
        let operations: Vec<_> = operations.into_iter().map(|kv| json!({"KV": kv})).collect();
        let body = Value::Array(operations).to_string();
        let reply = self.send(self.request(Method::PUT, "txn", query, body)?).await?;
        if reply.status == 409 {
            let txn: Txn = self.parse(&reply.body)?;
            let refusal = Refusal(txn.errors.unwrap_or_default());
            let text = refusal.text();
            if text.contains("Permission denied") {
                return Err(ConsulError::status(403, text.as_bytes()));
            }
            return Ok(Err(refusal));
        }
        let txn: Txn = self.parse(&self.expect_ok(reply)?.body)?;
        let results = txn.results.unwrap_or_default();
        Ok(Ok(results.into_iter().filter_map(|result| result.kv).collect()))
    }
}

impl Refusal {
    /// Consul's words.
    pub(crate) fn text(&self) -> String {
        let errors: Vec<_> = self.0.iter().map(|error| &*error.what).collect();
        errors.join("; ")
    }
}

impl From<Refusal> for ConsulError {
    /// A refusal that the caller does not expect.
    fn from(refusal: Refusal) -> Self {
        Self::status(409, refusal.text().as_bytes())
    }
}

/// Operations that check that the session has the key, and by the same grant.
pub(crate) fn checks(key: &str, owner: &Owner) -> (Value, Value) {
    let check = json!({"Verb": "check-session", "Key": key, "Session": owner.session});
    (check, check_index(key, owner.index))
}

/// An operation that checks that a key is there, and was not written since.
pub(crate) fn check_index(key: &str, index: u64) -> Value {
    json!({"Verb": "check-index", "Key": key, "Index": index})
}

/// An operation that reads all keys under a prefix.
pub(crate) fn get_tree(prefix: &str) -> Value {
    json!({"Verb": "get-tree", "Key": prefix})
}

/// An operation that locks a key.
pub(crate) fn lock(key: &str, session: &str, value: &impl Serialize) -> Result<Value, ConsulError> {
    let value = encoded(value).map_err(|err| ConsulError::NotSent(err.into()))?;
    Ok(json!({"Verb": "lock", "Key": key, "Value": value, "Session": session}))
}

/// An operation by which the session gives up the key.
pub(crate) fn unlock(key: &str, session: &str) -> Value {
    json!({"Verb": "unlock", "Key": key, "Value": "", "Session": session})
}

/// An operation that deletes a key, whether it is there or not.
pub(crate) fn delete(key: &str) -> Value {
    json!({"Verb": "delete", "Key": key})
}

/// An operation that deletes a key unless it was written since. It succeeds if there is no such key.
pub(crate) fn delete_cas(key: &str, index: u64) -> Value {
    json!({"Verb": "delete-cas", "Key": key, "Index": index})
}
