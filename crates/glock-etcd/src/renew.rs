//! `Renew`: a keep-alive of the lease, and the proof that the key is still ours.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, KeyValue};
use glock_core::{Action, Fault, Lease, LockError};
use tokio::time::Instant;

use crate::{
    client::rpc::Store,
    commands,
    error::is_lease_gone,
    schema::{Owner, is_of},
    session::lease::lease,
    session::pool::{Leases, Spare},
    session::transfer::Move,
};

/// One renewal.
pub(crate) struct Renew {
    store: Arc<Store>,
    lease: Lease,
    /// Whether the lease's TTL is one that etcd has told this process.
    ttl_known: bool,
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
        let key = store.range(lease.id()).key(&owner.seat);
        let made = i64::try_from(lease.fence().get()).map_err(|_| not_held())?;
        // One that was made from text, which may say anything, has run out.
        let ttl_known = !lease.is_expired();
        // The same lease again, for a call that may outlive the caller's.
        let lease = lease.renewed(Instant::now(), lease.ttl());
        Ok(Self { store: Arc::clone(store), lease, ttl_known, ttl, owner, key, made })
    }

    /// Sends the keep-alive and the read of the key together: one round trip, and no commit. A
    /// read that finds the key has seen it on a lease that the keep-alive extends.
    pub(crate) async fn run(mut self) -> Result<Lease, LockError> {
        loop {
            let since = Instant::now();
            let (lease, ttl) = (self.owner.lease, self.lease.ttl().min(self.ttl));
            let kept = self.store.keep_alive(Action::Renew, lease, ttl);
            let (kv, kept) = tokio::join!(self.read(ttl), kept);
            let Some(kv) = kv? else { return Err(self.not_held()) };
            if kv.lease() != self.owner.lease {
                // Another renewal has moved it.
                self.owner.lease = kv.lease();
                self.ttl_known = false;
                continue;
            }
            if !kept? {
                return Err(self.not_held());
            }
            if !self.ttl_known {
                self.lease = self.lease.renewed(since, self.granted().await?);
            }
            if self.ttl > self.lease.ttl() {
                return self.move_over(kv, since).await;
            }
            return self.renewed(since, self.lease.ttl());
        }
    }

    async fn read(&self, ttl: Duration) -> Result<Option<KeyValue>, LockError> {
        let ask = |client: &Client| {
            let (mut client, key) = (client.kv_client(), self.key.clone());
            async move { client.get(key, None).await }
        };
        let mut answer = self.store.ask_in_time(Action::Renew, ttl, ask).await?;
        let ours = |kv: &KeyValue| {
            kv.create_revision() == self.made && is_of(kv.value(), &self.owner.secret)
        };
        Ok(answer.take_kvs().into_iter().find(ours))
    }

    /// For how long the key's lease was granted.
    async fn granted(&self) -> Result<Duration, LockError> {
        let lease = self.owner.lease;
        let ask = |client: &Client| {
            let mut client = client.lease_client();
            async move { client.time_to_live(lease, None).await }
        };
        let (answer, _) = self.store.ask(Action::Renew, ask).await;
        Ok(Duration::from_secs(answer?.granted_ttl().unsigned_abs()))
    }

    /// A lease's TTL cannot be changed, so a longer one takes another lease, and a round trip more.
    async fn move_over(self, kv: KeyValue, kept_at: Instant) -> Result<Lease, LockError> {
        let (next, answer, asked) = loop {
            let next = lease(&self.store, Action::Renew, self.ttl).await?;
            let (store, key, old) = (Arc::clone(&self.store), self.key.clone(), kv.clone());
            let mut moving = Move { store, key, old, next, open: true };
            // Late requests fail: each move writes the key, and compares that nobody has meanwhile.
            let txn =
                commands::move_lease(&self.key, kv.value(), kv.mod_revision(), moving.next.id);
            let request = self.store.txn(Action::Renew, &txn);
            let (answer, asked) =
                Leases::freshened(&self.store, Action::Renew, &mut moving.next, request, |_| true)
                    .await;
            match answer {
                // A spare one that had run out, or was revoked by an operator.
                Err(err) if is_lease_gone(&err) => moving.open = false,
                Err(err) => {
                    if asked == 1 && err.fault() == Some(Fault::Rejected) {
                        moving.open = false;
                        self.store.leases.give_back(moving.next.clone());
                    }
                    return Err(err);
                }
                Ok(answer) => {
                    moving.open = false;
                    break (moving.next.clone(), answer, asked);
                }
            }
        };
        let there =
            commands::kvs(&answer, 0).into_iter().find(|kv| kv.create_revision() == self.made);
        let moved = answer.succeeded() || there.as_ref().is_some_and(|kv| kv.lease() == next.id);
        if !moved {
            // Asked for more than once, it may have been moved to, and be another renewal's by now.
            if asked == 1 {
                self.store.leases.give_back(next);
            }
            return match there {
                // Another renewal was first.
                Some(_) => Err(in_between()),
                None => Err(self.not_held()),
            };
        }
        let (since, ttl) = (next.since, next.ttl);
        let old = Spare::new(kv.lease(), self.lease.ttl(), kept_at);
        self.store.leases.give_back(old);
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

/// Takes back the lease that a released key was on.
pub(crate) fn left(store: &Store, lease: i64, known: i64, ttl: Duration, since: Option<Instant>) {
    // Of a lease that another renewal moved the key to, the TTL is not known here.
    if let Some(since) = since.filter(|_| lease == known) {
        store.leases.give_back(Spare::new(lease, ttl, since));
        return;
    }
    store.leases.end(lease);
}
