//! `acquire`: one attempt to take a lock, and its undo.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use glock_core::{
    Action, Fault, Lease, LockError, LockId,
    toolkit::{Attempt, Backoff, CallDeadline},
};

use crate::{
    client::Client,
    commands::{self, AcquireReply},
    error::is_lease_gone,
    schema::{Owner, secret},
    session::lease::SpareLease,
};

/// The first pause after a request that had no effect. All pauses together take at most as long as one
/// member may take to reply.
const PAUSE: Duration = Duration::from_millis(10);

/// Tries once to take the lock for `ttl`, which is one that etcd counts in.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    let attempt = |tries| {
        // If all members are slow, another one is no faster.
        let patience = client.rpc.attempt_max() * 2_u32.pow(tries);
        let (client, id, lease_in_use) = (Arc::clone(client), id.clone(), AtomicI64::new(NO_LEASE));
        Ok(Acquire { client, id, ttl, patience, lease_in_use })
    };
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

/// An attempt to take a lock, on a lease of its own.
struct Acquire {
    client: Arc<Client>,
    id: LockId,
    ttl: Duration,
    /// How long to wait for one member if there are others.
    patience: Duration,
    /// The lease whose request may have taken the lock: revoking it undoes that.
    lease_in_use: AtomicI64,
}

const NO_LEASE: i64 = 0;

impl Attempt for Acquire {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let (mut backoff, mut paused) = (Backoff::new(PAUSE, Duration::MAX), Duration::ZERO);
        loop {
            match self.send().await {
                // A spare lease that had run out, or was revoked by an operator.
                Err(err) if is_lease_gone(&err) => {}
                // It had no effect: no member can be reached, or none has a leader.
                Err(err) if err.fault() == Some(Fault::Unavailable) => {
                    paused += backoff.peek();
                    if paused > self.client.rpc.attempt_max() {
                        return Err(err);
                    }
                    backoff.sleep().await;
                }
                result => return result,
            }
        }
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        match self.lease_in_use.load(Ordering::Acquire) {
            NO_LEASE => Ok(()),
            // Nor can a request in flight use a lease that is gone.
            lease => self.client.rpc.revoke(Action::Acquire, lease).await.map(drop),
        }
    }
}

impl Acquire {
    /// Sends the request to one member.
    async fn send(&self) -> Result<Lease, LockError> {
        let (client, action) = (&*self.client, Action::Acquire);
        let mut lease = client.leases.take(action, self.ttl).await?;
        self.lease_in_use.store(lease.id, Ordering::Release);
        let suffix = client.suffixes.take(&self.id)?;
        let owner = Owner { lease: lease.id, suffix, secret: secret()? };
        let range = client.range(&self.id);
        let (key, value) = (range.key(&owner.suffix), client.value(&owner.secret));
        let txn = commands::acquire(&range, &key, &value, lease.id);
        // In a box, because the driver's futures are large.
        let request = Box::pin(client.rpc.send_once(action, self.patience, |client| {
            let mut client = client.kv_client();
            async move { client.txn(txn).await.map(|reply| AcquireReply::of(&reply)) }
        }));
        let granted = |reply: &Result<_, LockError>| matches!(reply, Ok(AcquireReply::Granted(_)));
        match lease.send(&client.rpc, action, request, granted).await {
            Ok(AcquireReply::Granted(fence)) => {
                let (id, owner) = (self.id.clone(), owner.token()?);
                Ok(Lease::granted(id, owner, fence, lease.since, lease.ttl))
            }
            Ok(AcquireReply::Held(holder)) => {
                self.give_back(Some(lease), owner.suffix);
                Err(LockError::Held { id: self.id.clone(), holder })
            }
            Err(err) => {
                if err.fault().is_some_and(|fault| fault != Fault::Unknown) {
                    self.give_back(Some(lease).filter(|_| !is_lease_gone(&err)), owner.suffix);
                }
                Err(err)
            }
        }
    }

    /// Gives back what a request did not use. There is nothing to undo any more.
    fn give_back(&self, lease: Option<SpareLease>, suffix: String) {
        if let Some(lease) = lease {
            self.lease_in_use.store(NO_LEASE, Ordering::Release);
            self.client.leases.put(lease);
        }
        self.client.suffixes.give_back(&self.id, suffix);
    }
}
