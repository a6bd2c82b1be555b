//! A page of what is held: keys by `SCAN`, from one server after another.

use std::sync::Arc;

use glock_core::{
    Action, Fault, HoldPage, IdPrefix, ListCursor, LockError, LockId, backend,
    toolkit::{CallDeadline, holders},
};
use redis::Value;

use crate::{
    client::{Client, Node},
    error,
};

/// Where a page begins: in the keys of a server, by that server's own cursor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    scan: u64,
    /// The server's address. Before the first one: empty.
    node: String,
}

impl Cursor {
    pub(super) fn parse(text: &ListCursor) -> Result<Self, LockError> {
        let parsed = text
            .as_str()
            .split_once('@')
            .and_then(|(scan, node)| Some(Self { scan: scan.parse().ok()?, node: node.into() }));
        parsed.ok_or_else(|| LockError::invalid("cursor", "it is not one of a listing on Redis"))
    }

    fn text(&self) -> ListCursor {
        ListCursor::new(format!("{}@{}", self.scan, self.node))
    }
}

/// A page from `from` on. A server without such a lock takes many steps, so a page may be empty.
pub(super) async fn page(
    client: Arc<Client>,
    prefix: IdPrefix,
    from: Cursor,
    max: usize,
    until: CallDeadline,
) -> Result<HoldPage, LockError> {
    if from == Cursor::default() {
        refuse_cluster_behind_one_connection(&client, until).await?;
    }
    let nodes = client.route.nodes(Action::List, until).await?;
    let half = until.left() / 2;
    let mut at = Some(from);
    let mut ids = Vec::new();
    while let Some(cursor) = at.take() {
        let Some(node) = nodes.iter().find(|node| node.name() >= cursor.node) else { break };
        // The server of the cursor serves no slots any more: the next one begins.
        let scan = if node.name() == cursor.node { cursor.scan } else { 0 };
        let (scan, keys) = scan_keys(&client, &prefix, node, scan, max, until).await?;
        ids.extend(keys);
        at = match scan {
            0 => nodes.iter().find(|next| *next > node).map(|next| (0, next)),
            scan => Some((scan, node)),
        }
        .map(|(scan, node)| Cursor { scan, node: node.name() });
        if !ids.is_empty() || until.left() < half {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let next = at.map(|cursor| cursor.text());
    let read = |id: LockId| {
        let (client, key) = (Arc::clone(&client), client.schema.key(&id).into());
        client.inspect(Action::List, key, until)
    };
    holders(ids, next, read).await
}

/// A connection that the application made may lead to a whole cluster, of which the driver sends `SCAN` to
/// any one node: the listing would lack the others' locks without a word.
async fn refuse_cluster_behind_one_connection(
    client: &Client,
    until: CallDeadline,
) -> Result<(), LockError> {
    let Some(node) = client.caller_s_server() else { return Ok(()) };
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("INFO");
    match client.route.ask(Action::List, &node, &cmd, until).await {
        Ok(_) => {
            let why = "this connection leads to a cluster, of which only `RedisLock::cluster` lists all nodes";
            Err(LockError::backend(backend::REDIS, Action::List, Fault::Rejected, why))
        }
        // It is no cluster, or may not be asked.
        Err(err) if err.fault() == Some(Fault::Rejected) => Ok(()),
        Err(err) => Err(err),
    }
}

/// One step of the server's cursor. Returns where the next one begins, and the ids that it met.
async fn scan_keys(
    client: &Client,
    prefix: &IdPrefix,
    node: &Node,
    scan: u64,
    max: usize,
    until: CallDeadline,
) -> Result<(u64, Vec<LockId>), LockError> {
    let mut cmd = redis::cmd("SCAN");
    cmd.arg(scan).arg("MATCH").arg(client.schema.pattern(prefix)).arg("COUNT").arg(max);
    let reply = client.route.ask(Action::List, node, &cmd, until).await?;
    let unexpected = || error::unexpected_reply(Action::List);
    let Value::Array(parts) = reply else { return Err(unexpected()) };
    let [Value::BulkString(next), Value::Array(keys)] = &parts[..] else {
        return Err(unexpected());
    };
    let next =
        str::from_utf8(next).ok().and_then(|next| next.parse().ok()).ok_or_else(unexpected)?;
    let id = |key: &Value| match key {
        Value::BulkString(key) => client.schema.id(str::from_utf8(key).ok()?),
        _ => None,
    };
    Ok((next, keys.iter().filter_map(id).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_others_are_refused() {
        for node in ["", "10.0.0.1:7000", "::1:7000"] {
            let cursor = Cursor { scan: u64::MAX, node: node.into() };
            assert_eq!(Cursor::parse(&cursor.text()).unwrap(), cursor);
        }
        for other in ["", "7", "x@", "-1@a"] {
            assert!(Cursor::parse(&ListCursor::new(other)).is_err(), "{other}");
        }
    }
}
