//! What an operator does: listing, forced release, preflight.

mod preflight;

use std::sync::Arc;

use etcd_client::{GetOptions, Txn};
use glock_core::{
    Action, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId, Warning,
    async_trait,
    toolkit::{holders, prefix_end},
};

use crate::{
    client::Client,
    commands::{self, text},
    lock::EtcdLock,
    schema::{keys_of, lock_of},
};

/// How many keys are read at a time: a lock has one more for each waiter.
const KEYS_AT_ONCE: i64 = 500;

#[async_trait]
impl LockAdmin for EtcdLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let client = Arc::clone(&self.client);
        let keys = keys_of(&client.config.namespace, prefix);
        let start = match after.map(ListCursor::as_str) {
            None => keys.clone(),
            Some(after) if after.starts_with(&client.config.namespace) => after.to_owned(),
            Some(_) => {
                return Err(LockError::invalid("cursor", "it is not one of a listing on etcd"));
            }
        };
        // The separator of the namespace has a character after it.
        let end = prefix_end(&keys).unwrap_or_default();
        self.client.call(Action::List).run(list(client, (start, end), max)).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let release = Arc::clone(&self.client).force_release(id.clone(), expected);
        self.client.call(Action::ForceRelease).run(release).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        self.client.call(Action::Preflight).run(preflight::warnings(client)).await
    }
}

/// A page of the keys from `start` on and before `end`. The keys of a lock's waiters are stepped over.
async fn list(
    client: Arc<Client>,
    (mut start, end): (String, String),
    max: usize,
) -> Result<HoldPage, LockError> {
    let namespace = &client.config.namespace;
    let mut ids: Vec<LockId> = Vec::new();
    let mut more = true;
    while more && ids.len() < max && start < end {
        let options = GetOptions::new().with_range(&*end).with_keys_only().with_limit(KEYS_AT_ONCE);
        let reply = client.rpc.get(Action::List, &start, &options).await?;
        more = reply.more();
        for key in reply.kvs().iter().map(|kv| text(kv.key())) {
            if key < start {
                // Of a lock that the page has already.
                continue;
            }
            if ids.len() >= max {
                more = true;
                break;
            }
            // A key of another program may lack a separator.
            let Some((id, next)) = lock_of(namespace, &key) else {
                start = key + "\0";
                continue;
            };
            ids.extend(id);
            start = next;
        }
    }
    let next = (more && start < end).then(|| ListCursor::new(start));
    holders(ids, next, |id| Arc::clone(&client).inspect(Action::List, id)).await
}

impl Client {
    /// Ends the hold with the token `expected`. Returns whether it was there, or may have been ended by an
    /// earlier request whose reply was lost.
    async fn force_release(
        self: Arc<Self>,
        id: LockId,
        expected: FencingToken,
    ) -> Result<bool, LockError> {
        let (action, range) = (Action::ForceRelease, self.range(&id));
        let look = Txn::new().and_then([commands::get_first(&range)]);
        let reply = self.rpc.txn(action, &look).await.0?;
        let first = commands::kvs(&reply, 0).into_iter().next();
        let Some(first) = first.filter(|kv| commands::holder(kv).fence == expected) else {
            return Ok(false);
        };
        let txn = commands::force_release(&range, &text(first.key()), first.create_revision());
        let (reply, sent) = self.rpc.txn(action, &txn).await;
        Ok(reply?.succeeded() || sent > 1)
    }
}
