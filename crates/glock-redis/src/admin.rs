//! What an operator does: listing, forced release, preflight.

mod list;
mod preflight;

use std::sync::Arc;

use async_trait::async_trait;
use glock_core::{
    Action, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId, Warning,
};

use crate::{admin::list::Cursor, lock::RedisLock};

#[async_trait]
impl LockAdmin for RedisLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let (call, client) = (self.client.call(Action::List), Arc::clone(&self.client));
        let (prefix, until) = (prefix.clone(), call.deadline());
        let from = after.map(Cursor::parse).transpose()?.unwrap_or_default();
        call.run(list::page(client, prefix, from, max, until)).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (call, client) = (self.client.call(Action::ForceRelease), Arc::clone(&self.client));
        let until = call.deadline();
        call.run(client.force_release(id.clone(), expected, until)).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let (call, client) = (self.client.call(Action::Preflight), Arc::clone(&self.client));
        let until = call.deadline();
        call.run(preflight::warnings(client, until)).await
    }
}
