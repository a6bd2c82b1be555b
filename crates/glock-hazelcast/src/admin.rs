//! What an operator does: listing, forced release, preflight. The map's lock here, the fenced lock in
//! `admin/fenced.rs`.

mod fenced;
mod force_release;
mod list;
mod preflight;

use std::sync::Arc;

use async_trait::async_trait;
use glock_core::{
    Action, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId, Warning,
};

use crate::{admin::list::Cursor, lock::HazelcastLock};

#[async_trait]
impl LockAdmin for HazelcastLock {
    /// The keys of the records are read partition after partition. A key that another program has locked and
    /// glock never did has no record, and is not listed.
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let from = after.map_or_else(|| Ok(Cursor::start()), Cursor::parse)?;
        let (client, prefix) = (Arc::clone(&self.client), prefix.clone());
        let call = self.client.call(Action::List);
        let until = call.deadline();
        call.run(list::page(client, prefix, from, max, until)).await
    }

    /// In the name of the hold's owner, which is on record. A lock that another program has is not ended.
    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, id) = (Arc::clone(&self.client), id.clone());
        let call = self.client.call(Action::ForceRelease);
        let until = call.deadline();
        call.run(async move { client.force_release(&id, expected, until).await }).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let call = self.client.call(Action::Preflight);
        let until = call.deadline();
        call.run(async move { preflight::of_map(&client, until).await }).await
    }
}
