//! What an operator does: listing, forced release, preflight.

mod preflight;

use std::sync::Arc;

use glock_core::{
    Action, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId, Warning,
    async_trait,
    toolkit::{holders, page_of_ids},
};
use hyper::Method;

use crate::{
    client::{Client, ConsulClient},
    error::ConsulError,
    lock::ConsulLock,
    renew::TRANSFERS_MAX,
    schema::{Entry, in_path},
};

#[async_trait]
impl LockAdmin for ConsulLock {
    /// The agent returns the names of all keys at once; holders are read page by page.
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let (client, prefix, after) = (Arc::clone(&self.client), prefix.clone(), after.cloned());
        let list = async move {
            let start = client.keys.beginning_with(prefix.as_str());
            let keys = client.consul.keys(&start).await.map_err(|err| err.during(Action::List))?;
            let ids = keys.iter().filter_map(|key| client.keys.id(key));
            let (ids, next) = page_of_ids(ids, &prefix, after.as_ref(), max);
            let read = async |id: LockId| {
                let entry = client.consul.entry(&client.keys.key(&id)).await;
                Ok(entry.map_err(|err| err.during(Action::List))?.and_then(|entry| entry.holder()))
            };
            holders(ids, next, read).await
        };
        self.client.call(Action::List).run(list).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.keys.key(id));
        let release = async move {
            let ended = client.end_hold(&key, expected).await;
            ended.map_err(|err| err.during(Action::ForceRelease))
        };
        self.client.call(Action::ForceRelease).run(release).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let check = async move {
            let warnings = preflight::warnings(&client).await;
            warnings.map_err(|err| err.during(Action::Preflight))
        };
        self.client.call(Action::Preflight).run(check).await
    }
}

impl Client {
    /// Ends the hold with the token `expected`, wherever renewals transfer it meanwhile, and its session.
    async fn end_hold(&self, key: &str, expected: FencingToken) -> Result<bool, ConsulError> {
        let mut reply_lost = false;
        for _ in 0..=TRANSFERS_MAX {
            let entry = self.consul.entry(key).await?;
            let is_wanted = entry.as_ref().and_then(Entry::holder);
            let is_wanted = is_wanted.is_some_and(|holder| holder.fence == expected);
            let Some(owner) = entry.filter(|_| is_wanted).and_then(|entry| entry.owner()) else {
                return Ok(reply_lost);
            };
            match self.consul.release(key, &owner).await {
                Ok(true) => {
                    self.end_session(owner.session).await;
                    return Ok(true);
                }
                Ok(false) => {}
                Err(ConsulError::ReplyLost(_)) if !reply_lost => reply_lost = true,
                Err(err) => return Err(err),
            }
        }
        Err(ConsulError::NotSent("the hold is transferred again and again".into()))
    }
}

impl ConsulClient {
    /// The names of all keys that begin with `start`.
    async fn keys(&self, start: &str) -> Result<Vec<String>, ConsulError> {
        let path = format!("kv/{}", in_path(start));
        let request = self.request(Method::GET, &path, "keys&consistent", "")?;
        let reply = self.send_idempotent(request).await?;
        self.entries(&reply)
    }
}
