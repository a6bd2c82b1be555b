//! What a lock's methods do, once they have a time limit: on the session that is open, or on a new one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use glock_core::{
    Action, FencingToken, Holder, Lease, LockError, LockId, OwnerToken,
    toolkit::{SessionDeadline, WaitQueue},
};
use tokio::time::{self, Instant};
use zookeeper_client::Error;

use crate::{
    acquire::{AcquireReply, AcquireTxn, take},
    commands::{self, FLAP_PAUSE},
    error::{error, in_doubt, is_unknown},
    schema::{self, LockPaths},
    session::hold_table::OwnerNode,
    session::opener::{Session, Sessions},
    session::pending_hold::PendingHold,
};

/// What the calls of one client share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) sessions: Sessions,
    pub(crate) namespace: String,
    pub(crate) limit: Duration,
    /// In which order this client's waiters go to the servers' queue.
    pub(crate) arrivals: WaitQueue,
}

/// How often one call asks for a lock while the answers are lost.
const TRIES_MAX: u32 = 12;

/// Who asks for a lock in one call: another owner with each try. Cloning is cheap.
#[derive(Clone, Default)]
pub(crate) struct Owners(Arc<Mutex<Option<OwnerToken>>>);

impl Owners {
    fn another(&self) -> Result<OwnerToken, LockError> {
        let owner = OwnerToken::random()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner.clone());
        Ok(owner)
    }

    /// The only one whose hold may have come to be known of: what those before it asked for is
    /// deleted already.
    fn latest(&self) -> Option<OwnerToken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A lease that a call works on; the lease itself stays with the caller.
pub(crate) struct LeaseRef {
    pub(crate) id: LockId,
    pub(crate) owner: OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) ttl: Duration,
    pub(crate) session_deadline: Option<SessionDeadline>,
}

impl LeaseRef {
    pub(crate) fn of(lease: &Lease) -> Self {
        Self {
            id: lease.id().clone(),
            owner: lease.owner().clone(),
            fence: lease.fence(),
            ttl: lease.ttl(),
            session_deadline: lease.session().cloned(),
        }
    }

    pub(crate) fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.id.clone() }
    }
}

impl Client {
    pub(crate) fn place(&self, id: &LockId) -> LockPaths {
        LockPaths::new(&self.namespace, id)
    }

    pub(crate) async fn session(&self, action: Action) -> Result<Arc<Session>, LockError> {
        self.sessions.get(action, self.limit).await
    }

    /// Takes the lock, or is told that somebody has it or waits for it.
    pub(crate) async fn acquire(
        &self,
        id: LockId,
        owners: Owners,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let session = self.session(Action::Acquire).await?;
        let taken = self.take(&session, &id, &owners, ttl, AcquireTxn::Plain).await;
        if taken.is_ok() || !session.is_over() {
            return taken;
        }
        // What was asked for on a session that is over ends with it: ask on another one.
        let session = self.session(Action::Acquire).await?;
        self.take(&session, &id, &owners, ttl, AcquireTxn::Plain).await
    }

    /// Takes the lock on `session`, as a newcomer or as the first in line. Each time that an answer
    /// is lost, another owner asks: a request may arrive long after its connection is gone, and
    /// could not be told from the hold that its repeat took.
    pub(crate) async fn take(
        &self,
        session: &Arc<Session>,
        id: &LockId,
        owners: &Owners,
        ttl: Duration,
        txn: AcquireTxn<'_>,
    ) -> Result<Lease, LockError> {
        let mut last = Error::ConnectionLoss;
        for _ in 0..TRIES_MAX {
            let owner = owners.another()?;
            let owner_node =
                OwnerNode { place: self.place(id), generation: 0, owner: owner.clone() };
            let sent_at = Instant::now();
            let pending = session.holds.pending(session, owner_node, sent_at + ttl);
            match take(session, pending.owner_node(), txn).await {
                Ok(AcquireReply::Granted(fence)) => {
                    pending.granted();
                    let lease = Lease::granted(id.clone(), owner, fence, sent_at, ttl);
                    return Ok(lease.bound_to(session.liveness.session_deadline().clone()));
                }
                Ok(AcquireReply::Held) => {
                    pending.refused();
                    return Err(LockError::Held { id: id.clone(), holder: None });
                }
                // The claim is dropped, and what may still come is deleted.
                Ok(AcquireReply::Lost(err)) => last = err,
                Ok(AcquireReply::InDoubt(err)) => return Err(in_doubt(Action::Acquire, err)),
                Err(err) => {
                    if !is_unknown(&err) {
                        pending.refused();
                    }
                    return Err(error(Action::Acquire, err));
                }
            }
        }
        Err(error(Action::Acquire, last))
    }

    /// Ends a hold that nobody learned of. The ledger sees to it.
    pub(crate) fn take_back(&self, owners: &Owners) {
        if let (Some(session), Some(owner)) = (self.sessions.current(), owners.latest()) {
            session.holds.expire_now(&owner, 0);
        }
    }

    pub(crate) async fn release(&self, lease: LeaseRef) -> Result<(), LockError> {
        let session = self.session(Action::Release).await?;
        let ended = match session.holds.release(&self.place(&lease.id), &lease.owner) {
            Some(pending) => match self.end_own(&session, pending).await {
                // Gone, or moved away by a renewal elsewhere.
                Ok(false) => self.end_any(&session, &lease).await,
                ended => ended,
            },
            None => self.end_any(&session, &lease).await,
        };
        match ended {
            Ok(true) => Ok(()),
            // All holds have ended with their session.
            Ok(false) | Err(Error::SessionExpired) => Err(lease.not_held()),
            Err(err) => Err(error(Action::Release, err)),
        }
    }

    async fn end_own(&self, session: &Session, pending: PendingHold) -> Result<bool, Error> {
        let mut in_doubt = false;
        loop {
            match commands::end(session, pending.owner_node()).await {
                Ok(ended) => {
                    pending.refused();
                    // Gone after an answer was lost: that request has done it.
                    return Ok(ended || in_doubt);
                }
                Err(err) if is_unknown(&err) && !session.is_over() => in_doubt = true,
                Err(err) => return Err(err),
            }
            time::sleep(FLAP_PAUSE).await;
        }
    }

    /// Releases a lease that this client does not have on record: of another client, or long over.
    async fn end_any(&self, session: &Session, lease: &LeaseRef) -> Result<bool, Error> {
        let place = self.place(&lease.id);
        let mut in_doubt = false;
        let mut generation = 0;
        loop {
            let owner_node =
                OwnerNode { place: place.clone(), generation, owner: lease.owner.clone() };
            match commands::end(session, &owner_node).await {
                Ok(true) => return Ok(true),
                Ok(false) => match commands::find(session, &place, lease.fence).await? {
                    Some(found) if found != generation => {
                        generation = found;
                        continue;
                    }
                    // Gone, or another owner's.
                    _ => return Ok(in_doubt),
                },
                Err(err) if is_unknown(&err) && !session.is_over() => in_doubt = true,
                Err(err) => return Err(err),
            }
            time::sleep(FLAP_PAUSE).await;
        }
    }

    pub(crate) async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let session = self.session(Action::Inspect).await?;
        let place = self.place(id);
        let path = place.lock();
        let read = || commands::synced_read(&session, &path, || session.client.get_data(&path));
        match commands::retry_read(&session, read).await {
            Ok((data, stat)) => Ok(Some(schema::holder(&data, &stat))),
            // What is not there can be asked for by anybody: may this one see it if it is?
            Err(Error::NoNode) => {
                let namespace = || session.client.get_data(place.namespace());
                match commands::retry_read(&session, namespace).await {
                    Ok(_) | Err(Error::NoNode) => Ok(None),
                    Err(err) => Err(error(Action::Inspect, err)),
                }
            }
            Err(err) => Err(error(Action::Inspect, err)),
        }
    }
}
