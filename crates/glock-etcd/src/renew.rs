//! `Renew`: a keep-alive of the lease beside a read of the key, and the transfer to a longer lease.

use std::{sync::Arc, time::Duration};

use etcd_client::{GetOptions, KeyValue};
use glock_core::{Action, Fault, Lease, LockError, backend};
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    commands,
    error::is_lease_gone,
    schema::{Owner, is_of},
    session::lease::SpareLease,
};

/// One renewal.
pub(crate) struct Renew {
    client: Arc<Client>,
    lease: Lease,
    /// Whether the lease's TTL is one that etcd has granted to this process.
    ttl_known: bool,
    ttl: Duration,
    owner: Owner,
    key: String,
    /// The revision that created the key: the fencing token.
    created: i64,
}

impl Renew {
    pub(crate) fn new(
        client: &Arc<Client>,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<Self, LockError> {
        let not_held = || LockError::NotHeld { id: lease.id().clone() };
        let owner = Owner::of(lease.owner()).ok_or_else(not_held)?;
        let key = client.range(lease.id()).key(&owner.suffix);
        let created = i64::try_from(lease.fence().get()).map_err(|_| not_held())?;
        // A lease made from text, whose TTL may be forged, counts as expired.
        let ttl_known = !lease.is_expired();
        // The same lease once more, for a call that may outlive the caller's.
        let lease = lease.renewed(Instant::now(), lease.ttl());
        Ok(Self { client: Arc::clone(client), lease, ttl_known, ttl, owner, key, created })
    }

    /// Sends the keep-alive and the read of the key together: one round trip, and no commit. If the
    /// read finds the key, it has seen it on a lease that the keep-alive extends.
    pub(crate) async fn run(mut self) -> Result<Lease, LockError> {
        loop {
            let since = Instant::now();
            let (lease, ttl) = (self.owner.lease, self.lease.ttl().min(self.ttl));
            let kept = self.client.rpc.keep_alive(Action::Renew, lease, ttl);
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
                let granted = self.client.rpc.time_to_live(Action::Renew, lease).await?;
                let granted = Duration::from_secs(granted.granted_ttl().unsigned_abs());
                self.lease = self.lease.renewed(since, granted);
            }
            if self.ttl > self.lease.ttl() {
                return self.transfer(kv, since).await;
            }
            return self.renewed(since, self.lease.ttl());
        }
    }

    async fn read(&self, ttl: Duration) -> Result<Option<KeyValue>, LockError> {
        let request = |client: &etcd_client::Client| {
            let (mut client, key) = (client.kv_client(), self.key.clone());
            async move { client.get(key, None::<GetOptions>).await }
        };
        let mut reply = self.client.rpc.send(Action::Renew, Some(ttl), request).await.0?;
        let ours = |kv: &KeyValue| {
            kv.create_revision() == self.created && is_of(kv.value(), &self.owner.secret)
        };
        Ok(reply.take_kvs().into_iter().find(ours))
    }

    /// A lease's TTL cannot be changed, so a longer one takes another lease, and a round trip more.
    async fn transfer(self, kv: KeyValue, kept_at: Instant) -> Result<Lease, LockError> {
        let leases = &self.client.leases;
        let (next, reply, sent) = loop {
            let next = leases.take(Action::Renew, self.ttl).await?;
            let client = Arc::clone(&self.client);
            let mut transfer = Transfer { client, old: kv.clone(), next, unresolved: true };
            // Late requests fail: each transfer writes the key, and compares that it was not written.
            let txn = commands::transfer(&kv, transfer.next.id);
            let request = self.client.rpc.txn(Action::Renew, &txn);
            let next = &mut transfer.next;
            let (reply, sent) = next.send(&self.client.rpc, Action::Renew, request, |_| true).await;
            match reply {
                // A spare lease that had run out, or was revoked by an operator.
                Err(err) if is_lease_gone(&err) => transfer.unresolved = false,
                Err(err) => {
                    if sent == 1 && err.fault() == Some(Fault::Rejected) {
                        transfer.unresolved = false;
                        leases.put(transfer.next.clone());
                    }
                    return Err(err);
                }
                Ok(reply) => {
                    transfer.unresolved = false;
                    break (transfer.next.clone(), reply, sent);
                }
            }
        };
        let there = commands::same_hold(&reply, &kv);
        let moved = reply.succeeded() || there.as_ref().is_some_and(|kv| kv.lease() == next.id);
        if !moved {
            // Sent more than once, it may have been moved to `next`, and on by another renewal.
            if sent == 1 {
                leases.put(next);
            }
            return match there {
                Some(_) => Err(concurrent_renewal()),
                None => Err(self.not_held()),
            };
        }
        leases.put(SpareLease { id: kv.lease(), ttl: self.lease.ttl(), since: kept_at });
        let owner = Owner { lease: next.id, ..self.owner };
        Self { owner, ..self }.renewed(next.since, next.ttl)
    }

    fn renewed(&self, since: Instant, ttl: Duration) -> Result<Lease, LockError> {
        let (id, owner) = (self.lease.id().clone(), self.owner.token()?);
        Ok(Lease::granted(id, owner, self.lease.fence(), since, ttl))
    }

    fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.lease.id().clone() }
    }
}

fn concurrent_renewal() -> LockError {
    let why = "another renewal of the same lease came in between";
    LockError::backend(backend::ETCD, Action::Renew, Fault::Unavailable, why)
}

/// A transfer of a hold to another lease. Dropped before its reply came, it is resolved in the
/// background.
struct Transfer {
    client: Arc<Client>,
    /// The key as it was before.
    old: KeyValue,
    next: SpareLease,
    unresolved: bool,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.unresolved {
            let client = Arc::clone(&self.client);
            self.client.rpc.spawn(resolve(client, self.old.clone(), self.next.clone()));
        }
    }
}

/// Finds out whether a transfer has happened and sees to it that it cannot happen later. Keeps the next
/// lease alive meanwhile.
///
/// A renewal or release of the same hold may find the key on the next lease before this does. That
/// lease is theirs then, so it is left to run out wherever they may have it.
async fn resolve(client: Arc<Client>, old: KeyValue, next: SpareLease) {
    let (rpc, rewrite) = (&client.rpc, commands::transfer(&old, old.lease()));
    let began = Instant::now();
    let (mut kept_at, resolve_max) = (began, next.ttl.max(rpc.limit() * 2));
    while kept_at.elapsed() < next.ttl && began.elapsed() < resolve_max {
        let now = Instant::now();
        if matches!(rpc.keep_alive(Action::Renew, next.id, next.ttl).await, Ok(true)) {
            kept_at = now;
        }
        // Once the key is rewritten, or gone, the revision that the transfer compares is history.
        if let Ok(reply) = rpc.txn(Action::Renew, &rewrite).await.0 {
            let there = commands::same_hold(&reply, &old);
            if reply.succeeded() {
                // It has not happened, so no other renewal has seen the next lease.
                client.leases.put(next);
            } else if there.is_some_and(|kv| kv.lease() == next.id) {
                // It has happened, and no other renewal has ended the old lease.
                client.leases.end(old.lease());
            }
            return;
        }
        sleep(next.ttl / 4).await;
    }
}
