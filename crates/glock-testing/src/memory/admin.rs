//! `LockAdmin` of a `MemoryLock`.

use glock_core::{
    Action, FencingToken, HeldLock, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId,
    Warning, async_trait, toolkit::page_of_ids,
};

use crate::memory::{MemoryLock, store::Store};

#[async_trait]
impl LockAdmin for MemoryLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let (lock, namespace) = (self.clone(), format!("{}/", self.client.config.namespace));
        let (prefix, after) = (prefix.clone(), after.cloned());
        let list = move |store: &Store| {
            let (ids, next) = page_of_ids(store.ids(&namespace), &prefix, after.as_ref(), max);
            let holder = |id: LockId| {
                let holder = store.holder(&format!("{namespace}{id}"))?;
                Some(HeldLock::new(id, holder))
            };
            Ok(HoldPage::new(ids.into_iter().filter_map(holder).collect(), next))
        };
        self.call(Action::List).run(async move { lock.serve_admin(Action::List, list).await }).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (lock, key) = (self.clone(), self.key(id));
        let release = move |store: &Store| Ok(store.force_release(&key, expected));
        let work = async move { lock.serve_admin(Action::ForceRelease, release).await };
        self.call(Action::ForceRelease).run(work).await
    }

    /// Nothing: it is only there as long as its process.
    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let lock = self.clone();
        let work = async move { lock.serve_admin(Action::Preflight, |_| Ok(Vec::new())).await };
        self.call(Action::Preflight).run(work).await
    }
}
