//! `Store`: the records that all clients of a `MemoryLock` share.

use std::{collections::HashMap, time::Duration};

use glock_core::{
    FencingToken, Holder, LockError, LockId, OwnerToken,
    toolkit::{Mutex, Wakeups},
};
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Store {
    records: Mutex<Records>,
    wakeups: Wakeups,
}

#[derive(Debug, Default)]
struct Records {
    by_key: HashMap<String, Hold>,
    /// The last token given out, for all locks together: it survives whatever happens to a record.
    fence: u64,
}

#[derive(Debug)]
struct Hold {
    owner: OwnerToken,
    label: String,
    fence: FencingToken,
    expires: Instant,
}

impl Records {
    /// The hold on `key`, unless it has run out.
    fn live(&self, key: &str) -> Option<&Hold> {
        self.by_key.get(key).filter(|hold| Instant::now() < hold.expires)
    }
}

impl Store {
    pub(super) fn acquire(
        &self,
        key: &str,
        id: &LockId,
        owner: &OwnerToken,
        label: &str,
        ttl: Duration,
    ) -> Result<FencingToken, LockError> {
        let mut records = self.records.lock();
        if let Some(hold) = records.live(key) {
            let holder = Some(Box::new(hold.holder()));
            return Err(LockError::Held { id: id.clone(), holder });
        }
        records.fence += 1;
        let fence = FencingToken::new(records.fence);
        let expires = Instant::now() + ttl;
        let hold = Hold { owner: owner.clone(), label: label.into(), fence, expires };
        records.by_key.insert(key.into(), hold);
        Ok(fence)
    }

    pub(super) fn renew(
        &self,
        key: &str,
        id: &LockId,
        owner: &OwnerToken,
        ttl: Duration,
    ) -> Result<(), LockError> {
        let mut records = self.records.lock();
        if records.live(key).is_none_or(|hold| hold.owner != *owner) {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        if let Some(hold) = records.by_key.get_mut(key) {
            // Never to an earlier time: the old lease stays good for what it was.
            hold.expires = hold.expires.max(Instant::now() + ttl);
        }
        Ok(())
    }

    pub(super) fn release(
        &self,
        key: &str,
        id: &LockId,
        owner: &OwnerToken,
    ) -> Result<(), LockError> {
        let mut records = self.records.lock();
        if records.live(key).is_none_or(|hold| hold.owner != *owner) {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        records.by_key.remove(key);
        drop(records);
        self.wakeups.wake(key);
        Ok(())
    }

    pub(super) fn holder(&self, key: &str) -> Option<Holder> {
        self.records.lock().live(key).map(Hold::holder)
    }

    /// The ids of what is held under keys that begin so.
    pub(super) fn ids(&self, prefix: &str) -> Vec<LockId> {
        let records = self.records.lock();
        let held = records.by_key.keys().filter(|key| records.live(key).is_some());
        held.filter_map(|key| LockId::new(key.strip_prefix(prefix)?).ok()).collect()
    }

    /// Ends the hold with this token. Returns whether there was one.
    pub(super) fn force_release(&self, key: &str, expected: FencingToken) -> bool {
        let mut records = self.records.lock();
        if records.live(key).is_none_or(|hold| hold.fence != expected) {
            return false;
        }
        records.by_key.remove(key);
        drop(records);
        self.wakeups.wake(key);
        true
    }

    pub(super) fn owner(&self, key: &str) -> Option<OwnerToken> {
        self.records.lock().live(key).map(|hold| hold.owner.clone())
    }

    pub(super) fn evict(&self, key: &str) {
        self.records.lock().by_key.remove(key);
        self.wakeups.wake(key);
    }

    pub(super) fn held(&self, prefix: &str) -> usize {
        let records = self.records.lock();
        records
            .by_key
            .keys()
            .filter(|key| key.starts_with(prefix) && records.live(key).is_some())
            .count()
    }

    pub(super) fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }
}

impl Hold {
    fn holder(&self) -> Holder {
        let remaining = self.expires.saturating_duration_since(Instant::now());
        Holder::new(self.label.clone(), self.fence).with_remaining(Some(remaining))
    }
}
