//! `Renew`: a keep-alive of the lease, and the proof that the key is still ours.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, KeyValue};
use glock_core::{Action, Lease, LockError};
use tokio::time::{Instant, sleep};

use crate::{
    leases::{Leases, Spare},
    schema::{Owner, lease_id},
    store::Store,
    txns,
};

/// One renewal.
pub(crate) struct Renew {
    store: Arc<Store>,
    lease: Lease,
    ttl: Duration,
    owner: Owner,
    key: String,
    /// The revision that made the key: the fencing token.
    made: i64,
}

impl Renew {
    pub(crate) fn new(store: &Arc<Store>, lease: &Lease, ttl: Duration) -> Result<Self, LockError> {
        let not_held = || LockError::NotHeld { id: lease.id().clone() };
        let owner = Owner::of(lease.owner()).ok_or_else(not_held)?;
        let key = store.range(lease.id()).key(&owner.secret);
        let made = i64::try_from(lease.fence().get()).map_err(|_| not_held())?;
        // The same lease again, for a call that may outlive the caller's.
        let lease = lease.renewed(Instant::now(), lease.ttl());
        Ok(Self { store: Arc::clone(store), lease, ttl, owner, key, made })
    }

    /// Sends the keep-alive and the read of the key together: one round trip, and no commit. A
    /// read that finds the key has seen it on a lease that the keep-alive extends.
    pub(crate) async fn run(mut self) -> Result<Lease, LockError> {
        loop {
            let since = Instant::now();
            let (kv, kept) =
                tokio::join!(self.read(), self.store.keep_alive(Action::Renew, self.owner.lease));
            let Some(kv) = kv? else { return Err(self.not_held()) };
            if kv.lease() != self.owner.lease {
                // Another renewal has moved it.
                self.owner.lease = kv.lease();
                self.lease = self.lease.renewed(since, self.granted().await?);
                continue;
            }
            if !kept? {
                return Err(self.not_held());
            }
            if self.ttl > self.lease.ttl() {
                return self.move_over(kv, since).await;
            }
            return self.renewed(since, self.lease.ttl());
        }
    }

    async fn read(&self) -> Result<Option<KeyValue>, LockError> {
        let ask = |client: &Client| {
            let (mut client, key) = (client.kv_client(), self.key.clone());
            async move { client.get(key, None).await }
        };
        let (mut answer, _) = self.store.ask(Action::Renew, ask).await?;
        Ok(answer.take_kvs().into_iter().find(|kv| kv.create_revision() == self.made))
    }

    /// For how long the key's lease was granted.
    async fn granted(&self) -> Result<Duration, LockError> {
        let lease = self.owner.lease;
        let ask = |client: &Client| {
            let mut client = client.lease_client();
            async move { client.time_to_live(lease, None).await }
        };
        let (answer, _) = self.store.ask(Action::Renew, ask).await?;
        Ok(Duration::from_secs(answer.granted_ttl().unsigned_abs()))
    }

    /// A lease's TTL cannot be changed, so a longer one takes another lease, and a round trip more.
    async fn move_over(self, kv: KeyValue, kept_at: Instant) -> Result<Lease, LockError> {
        let next = match self.store.leases.take(self.ttl) {
            Some(spare) => spare,
            None => Leases::grant(&self.store, Action::Renew, lease_id()?, self.ttl).await?,
        };
        // Late requests fail: each move writes the key, and compares that nobody has meanwhile.
        let txn = txns::move_lease(&self.key, kv.value(), kv.mod_revision(), next.id);
        let since = Instant::now();
        let (kept, moved) = tokio::join!(
            self.store.keep_alive(Action::Renew, next.id),
            self.store.txn(Action::Renew, &txn)
        );
        let since = if matches!(kept, Ok(true)) { since } else { next.since };
        let (answer, _) = match moved {
            Ok(moved) => moved,
            Err(err) => {
                // It may yet happen: until it cannot, the next lease must not run out.
                let store = Arc::clone(&self.store);
                self.store.spawn(settle(store, self.key, kv, next));
                return Err(err);
            }
        };
        let there = txns::kvs(&answer, 0).into_iter().find(|kv| kv.create_revision() == self.made);
        let moved = answer.succeeded() || there.as_ref().is_some_and(|kv| kv.lease() == next.id);
        if !moved {
            self.store.leases.give_back(next);
            return match there {
                // Another renewal was first.
                Some(_) => Err(in_between()),
                None => Err(self.not_held()),
            };
        }
        let ttl = next.ttl;
        if answer.succeeded() {
            let old = Spare::new(kv.lease(), self.lease.ttl(), kept_at);
            self.store.leases.give_back(old);
        }
        Self { owner: Owner { lease: next.id, ..self.owner }, ..self }.renewed(since, ttl)
    }

    fn renewed(&self, since: Instant, ttl: Duration) -> Result<Lease, LockError> {
        let (id, owner) = (self.lease.id().clone(), self.owner.token()?);
        Ok(Lease::granted(id, owner, self.lease.fence(), since, ttl))
    }

    fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.lease.id().clone() }
    }
}

fn in_between() -> LockError {
    let why = "another renewal of the same lease came in between";
    let fault = glock_core::Fault::Unavailable;
    LockError::backend(glock_core::backend::ETCD, Action::Renew, fault, why)
}

/// Sees to it that a move whose answer was lost has happened or never will, and keeps its lease
/// alive meanwhile.
async fn settle(store: Arc<Store>, key: String, kv: KeyValue, next: Spare) {
    let again = txns::move_lease(&key, kv.value(), kv.mod_revision(), kv.lease());
    let mut kept_at = Instant::now();
    while kept_at.elapsed() < next.ttl {
        let now = Instant::now();
        if matches!(store.keep_alive(Action::Renew, next.id).await, Ok(true)) {
            kept_at = now;
        }
        // Written once more, or gone: either way the revision that the move compares is history.
        if let Ok((answer, _)) = store.txn(Action::Renew, &again).await {
            let there = txns::kvs(&answer, 0).into_iter().next();
            if there.is_none_or(|kv| kv.lease() != next.id) {
                store.leases.give_back(next);
            }
            return;
        }
        sleep(next.ttl / 4).await;
    }
}

/// Takes back the lease that a released key was on.
pub(crate) fn left(store: &Store, lease: i64, known: i64, ttl: Duration, since: Option<Instant>) {
    // Of a lease that another renewal moved the key to, the TTL is not known here.
    if let Some(since) = since.filter(|_| lease == known) {
        store.leases.give_back(Spare::new(lease, ttl, since));
        return;
    }
    store.leases.end(lease);
}
