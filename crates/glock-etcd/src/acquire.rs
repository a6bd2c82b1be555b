//! `acquire`: one try to take a lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use etcd_client::TxnResponse;
use glock_core::{
    Action, Fault, Lease, LockError, LockId, backend,
    toolkit::{Call, FnAttempt},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    client::rpc::{Store, fence, holder, revision},
    commands,
    error::{is_lease_gone, is_worth_repeating, silent},
    schema::{Owner, secret, value},
    session::lease::lease,
    session::pool::{Leases, Spare},
};

/// No attempt begins after so many quarters of the call's time limit.
const ATTEMPTS_QUARTERS: u32 = 3;
/// Before the second attempt, where the first has done nothing; each later one is twice as long. All
/// together are as long as one member may take to answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Tries once to take the lock for `ttl`, which is one that etcd counts in.
pub(crate) async fn acquire(
    store: &Arc<Store>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    // The lease whose requests may have taken the lock: revoking it undoes them all.
    let in_use = Arc::new(AtomicI64::new(0));
    let work = {
        let (store, id, in_use) = (Arc::clone(store), id.clone(), Arc::clone(&in_use));
        async move { Try { store, id, ttl, in_use }.run().await }
    };
    let undo = {
        let store = Arc::clone(store);
        move || {
            let (store, lease) = (Arc::clone(&store), in_use.load(Ordering::Acquire));
            async move { undo(&store, lease).await }
        }
    };
    Call::new(backend::ETCD, Action::Acquire, store.limit())
        .acquire(ttl, FnAttempt::new(work, undo))
        .await
}

/// Takes back whatever was done on the lease.
async fn undo(store: &Store, lease: i64) -> Result<(), LockError> {
    // Without a lease, nothing was asked for; and of one that is gone, nothing comes any more.
    if lease != 0 {
        store.revoke(Action::Acquire, lease).await?;
    }
    Ok(())
}

/// One try, which may take several requests where connections break.
struct Try {
    store: Arc<Store>,
    id: LockId,
    ttl: Duration,
    in_use: Arc<AtomicI64>,
}

impl Try {
    async fn run(self) -> Result<Lease, LockError> {
        let (since, store) = (Instant::now(), &self.store);
        let until = store.limit() / 4 * ATTEMPTS_QUARTERS;
        let (mut patience, mut pause, mut paused) = (store.attempt(), PAUSE, Duration::ZERO);
        loop {
            let began = Instant::now();
            let result = self.once(patience).await;
            let Err(err) = &result else { return result };
            let late = since.elapsed() > until;
            if is_lease_gone(err) && !late {
                // A spare one that had run out, or was revoked by an operator.
                continue;
            }
            if late || !is_worth_repeating(err) {
                return result;
            }
            let lease = self.in_use.load(Ordering::Acquire);
            if lease == 0 {
                // Nothing happened: no member can be reached, or none has a leader.
                paused += pause;
                if paused > store.attempt() || since.elapsed() + pause > until {
                    return result;
                }
                sleep(pause).await;
                pause *= 2;
                continue;
            }
            // It may have happened, or happen yet. Without its lease it has not, and never will.
            if store.revoke(Action::Acquire, lease).await.is_err() {
                return result;
            }
            self.in_use.store(0, Ordering::Release);
            if began.elapsed() >= patience {
                // If all are slow, another one is no faster.
                patience = (patience * 2).min(store.limit());
            }
        }
    }

    /// Asks one member, for so long if there are others.
    async fn once(&self, patience: Duration) -> Result<Lease, LockError> {
        let (store, action) = (&*self.store, Action::Acquire);
        let mut spare = lease(store, action, self.ttl).await?;
        self.in_use.store(spare.id, Ordering::Release);
        let owner = Owner { lease: spare.id, seat: store.seats.take(&self.id)?, secret: secret()? };
        let range = store.range(&self.id);
        let key = range.key(&owner.seat);
        let txn =
            commands::take(&range, &key, &value(&owner.secret, &store.config.holder), spare.id);
        // The driver's futures are large.
        let request = Box::pin(store.ask_once(action, |client| {
            let mut client = client.kv_client();
            async move { client.txn(txn).await }
        }));
        // A member that is silent is given up for another, if there is one. Else the call's own
        // limit is what ends it.
        let request = async {
            if store.source.has_others() {
                timeout(patience, request).await.unwrap_or_else(|_| Err(silent(action)))
            } else {
                request.await
            }
        };
        let succeeded = |answer: &Result<TxnResponse, LockError>| {
            answer.as_ref().is_ok_and(TxnResponse::succeeded)
        };
        let answer = Leases::freshened(store, action, &mut spare, request, succeeded).await;
        let answer = match answer {
            // Nobody has done anything with them.
            Err(err) if err.fault().is_some_and(|fault| fault != Fault::Unknown) => {
                if is_lease_gone(&err) {
                    store.seats.give_back(&self.id, owner.seat);
                } else {
                    self.leave(spare, owner.seat);
                }
                return Err(err);
            }
            answer => answer?,
        };
        if answer.succeeded() {
            let fence = fence(revision(answer.header()));
            let (id, owner) = (self.id.clone(), owner.token()?);
            return Ok(Lease::granted(id, owner, fence, spare.since, spare.ttl));
        }
        self.leave(spare, owner.seat);
        let holder = commands::kvs(&answer, 0).first().map(|kv| Box::new(holder(kv)));
        Err(LockError::Held { id: self.id.clone(), holder })
    }

    /// Gives back what a request did not use. There is nothing to undo any more.
    fn leave(&self, spare: Spare, seat: String) {
        self.in_use.store(0, Ordering::Release);
        self.store.leases.give_back(spare);
        self.store.seats.give_back(&self.id, seat);
    }
}
