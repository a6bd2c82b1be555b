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
    claim::Claim,
    error::{doubt, error, is_unknown},
    ledger::Proof,
    nodes::{self, FLAP_PAUSE},
    schema::{self, Place},
    session::{Session, Sessions},
    take::{Form, Try, take},
};

/// What the calls of one client share.
#[derive(Debug)]
pub(crate) struct Calls {
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
pub(crate) struct Subject {
    pub(crate) id: LockId,
    pub(crate) owner: OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) ttl: Duration,
    pub(crate) session_deadline: Option<SessionDeadline>,
}

impl Subject {
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

impl Calls {
    pub(crate) fn place(&self, id: &LockId) -> Place {
        Place::new(&self.namespace, id)
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
        let taken = self.take(&session, &id, &owners, ttl, Form::Plain).await;
        if taken.is_ok() || !session.is_over() {
            return taken;
        }
        // What was asked for on a session that is over ends with it: ask on another one.
        let session = self.session(Action::Acquire).await?;
        self.take(&session, &id, &owners, ttl, Form::Plain).await
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
        form: Form<'_>,
    ) -> Result<Lease, LockError> {
        let mut last = Error::ConnectionLoss;
        for _ in 0..TRIES_MAX {
            let owner = owners.another()?;
            let proof = Proof { place: self.place(id), generation: 0, owner: owner.clone() };
            let sent_at = Instant::now();
            let claim = session.ledger.claim(session, proof, sent_at + ttl);
            match take(session, claim.proof(), form).await {
                Ok(Try::Granted(fence)) => {
                    claim.granted();
                    let lease = Lease::granted(id.clone(), owner, fence, sent_at, ttl);
                    return Ok(lease.bound_to(session.pulse.session_deadline().clone()));
                }
                Ok(Try::Held) => {
                    claim.refused();
                    return Err(LockError::Held { id: id.clone(), holder: None });
                }
                // The claim is dropped, and what may still come is deleted.
                Ok(Try::Lost(err)) => last = err,
                Ok(Try::Doubt(err)) => return Err(doubt(Action::Acquire, err)),
                Err(err) => {
                    if !is_unknown(&err) {
                        claim.refused();
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
            session.ledger.doom(&owner, 0);
        }
    }

    pub(crate) async fn release(&self, subject: Subject) -> Result<(), LockError> {
        let session = self.session(Action::Release).await?;
        let ended = match session.ledger.release(&self.place(&subject.id), &subject.owner) {
            Some(claim) => match self.end_own(&session, claim).await {
                // Gone, or moved away by a renewal elsewhere.
                Ok(false) => self.end_any(&session, &subject).await,
                ended => ended,
            },
            None => self.end_any(&session, &subject).await,
        };
        match ended {
            Ok(true) => Ok(()),
            // All holds have ended with their session.
            Ok(false) | Err(Error::SessionExpired) => Err(subject.not_held()),
            Err(err) => Err(error(Action::Release, err)),
        }
    }

    async fn end_own(&self, session: &Session, claim: Claim) -> Result<bool, Error> {
        let mut doubt = false;
        loop {
            match nodes::end(session, claim.proof()).await {
                Ok(ended) => {
                    claim.refused();
                    // Gone after an answer was lost: that request has done it.
                    return Ok(ended || doubt);
                }
                Err(err) if is_unknown(&err) && !session.is_over() => doubt = true,
                Err(err) => return Err(err),
            }
            time::sleep(FLAP_PAUSE).await;
        }
    }

    /// Releases a lease that this client does not have on record: of another client, or long over.
    async fn end_any(&self, session: &Session, subject: &Subject) -> Result<bool, Error> {
        let place = self.place(&subject.id);
        let mut doubt = false;
        let mut generation = 0;
        loop {
            let proof = Proof { place: place.clone(), generation, owner: subject.owner.clone() };
            match nodes::end(session, &proof).await {
                Ok(true) => return Ok(true),
                Ok(false) => match nodes::find(session, &place, subject.fence).await? {
                    Some(found) if found != generation => {
                        generation = found;
                        continue;
                    }
                    // Gone, or another owner's.
                    _ => return Ok(doubt),
                },
                Err(err) if is_unknown(&err) && !session.is_over() => doubt = true,
                Err(err) => return Err(err),
            }
            time::sleep(FLAP_PAUSE).await;
        }
    }

    pub(crate) async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let session = self.session(Action::Inspect).await?;
        let place = self.place(id);
        let path = place.lock();
        let read = || nodes::fresh(&session, &path, || session.client.get_data(&path));
        match nodes::steadily(&session, read).await {
            Ok((data, stat)) => Ok(Some(schema::holder(&data, &stat))),
            // What is not there can be asked for by anybody: may this one see it if it is?
            Err(Error::NoNode) => {
                let namespace = || session.client.get_data(place.namespace());
                match nodes::steadily(&session, namespace).await {
                    Ok(_) | Err(Error::NoNode) => Ok(None),
                    Err(err) => Err(error(Action::Inspect, err)),
                }
            }
            Err(err) => Err(error(Action::Inspect, err)),
        }
    }
}
