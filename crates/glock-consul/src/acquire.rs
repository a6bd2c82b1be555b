//! How a hold begins: one attempt by one session after another, and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, backend,
    toolkit::{Attempt, CallDeadline, Joining, Mutex},
};
use tokio::time;

use crate::{
    client::Client,
    commands::AcquireReply,
    error::ConsulError,
    queue::{
        claim::Claim,
        grant::Grant,
        place::{LockQueue, Place},
    },
    schema::{Entry, Record},
    session::SessionGuard,
};

/// An attempt to take a lock.
struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    ttl: Duration,
    /// `None`: the caller does not wait.
    joining: Option<Joining>,
    /// The session whose acquire was sent last.
    session: Mutex<Option<String>>,
}

/// What came of a claim.
enum Claimed {
    Granted(Lease),
    /// Another owner has the lock.
    Held,
    /// Others have to go first, or the right is gone: look again. Why, in Consul's words.
    Queued(String),
}

/// How many sessions are tried: a spare whose connection broke, a spare that is over, and a new one.
const SESSIONS_MAX: usize = 3;
/// How often a caller looks again because the queue has changed since it looked.
const LOOKS_MAX: usize = 4;
/// During the delay that another program's session asked for, callers that try in a loop are slowed down.
const DELAYED_PAUSE: Duration = Duration::from_millis(100);

impl Client {
    /// Tries once to take the lock. A waiter that is refused is then in the queue.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        id: &LockId,
        ttl: Duration,
        joining: Option<&Joining>,
    ) -> Result<Lease, LockError> {
        let (client, id, joining) = (Arc::clone(self), id.clone(), joining.cloned());
        let attempt = AcquireAttempt { client, id, ttl, joining, session: Mutex::default() };
        self.call(Action::Acquire).acquire(ttl, attempt).await
    }
}

impl Attempt for AcquireAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        match &self.joining {
            None => self.try_once().await,
            Some(joining) => self.enter(joining).await,
        }
    }

    /// Without its session an acquire has no effect, even if it is still in flight.
    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        let session = self.session.lock().clone();
        let Some(session) = session else {
            return Err(LockError::NotHeld { id: self.id.clone() });
        };
        let destroyed = self.client.sessions.destroy(&session).await;
        destroyed.map_err(|err| err.during(Action::Release))
    }
}

impl AcquireAttempt {
    /// One round trip where there is a spare session, and nobody waits.
    async fn try_once(&self) -> Result<Lease, LockError> {
        let (mut claim, mut refused) = (Claim::Try, String::new());
        for _ in 0..LOOKS_MAX {
            refused = match self.claim(&claim).await? {
                Claimed::Granted(lease) => return Ok(lease),
                Claimed::Held => return Err(self.held()),
                Claimed::Queued(why) => why,
            };
            let queue = self.client.look(&self.id).await.map_err(before)?;
            let next = self.client.move_on(&self.id, &queue, None).await.map_err(before)?;
            claim = next.ok_or_else(|| self.held())?;
        }
        Err(before(ConsulError::status(409, refused.as_bytes())))
    }

    /// Takes the lock by the right that this waiter has, or joins the queue.
    async fn enter(&self, joining: &Joining) -> Result<Lease, LockError> {
        let Self { client, id, .. } = self;
        let (number, waiter) = (joining.waiter().number, joining.waiter().to_string());
        let registry = &client.waiters.registry;
        if let Some(grant) = client.waiters.take_grant(number) {
            return self.granted(grant, number);
        }
        // Its lock is on the way, and it is woken then. To join would leave a place behind.
        if client.waiters.is_being_granted(number) {
            return Err(self.waiting(joining));
        }
        let has_joined = registry.has_joined(id, number);
        let mut claim = client.waiters.take_claim(number);
        // A try would be refused if others of this client wait.
        if claim.is_none() && !has_joined && !registry.has_waiters(id) {
            claim = Some(Claim::Try);
        }
        for _ in 0..LOOKS_MAX {
            // Its caller may have left meanwhile: no request is sent for it any more.
            if !registry.has_waiter(number) {
                return Err(self.held());
            }
            if let Some(claim) = claim.take()
                && let Claimed::Granted(lease) = self.claim(&claim).await?
            {
                client.waiters.gone(&client.keys.key(id), number);
                return Ok(lease);
            }
            if !has_joined {
                return Err(self.join(joining).await?);
            }
            let queue = client.look(id).await.map_err(before)?;
            claim = client.move_on(id, &queue, Some(number)).await.map_err(before)?;
            if claim.is_none() && queue.place(&waiter).is_none() {
                if client.waiters.is_being_granted(number) {
                    return Err(self.waiting(joining));
                }
                // It has lost its place.
                return Err(self.join(joining).await?);
            }
            if claim.is_none() {
                client.wait_in(id, &queue, &waiter).await.map_err(before)?;
                return Err(self.waiting(joining));
            }
        }
        if let Some(claim) = claim {
            // The queue has changed each time. The waiter tries again at once.
            client.waiters.turn(number, claim);
        }
        Err(self.waiting(joining))
    }

    /// The lock is the waiter's already: a release of this client has taken it.
    fn granted(&self, grant: Grant, number: u64) -> Result<Lease, LockError> {
        let Grant { session, index, next, .. } = grant;
        *self.session.lock() = Some(session.session().id.clone());
        self.client.waiters.gone(&self.client.keys.key(&self.id), number);
        self.lease(session, index, next)
    }

    /// The lease of the session that was granted the lock at `index`, with these waiters behind it.
    fn lease(
        &self,
        session: SessionGuard,
        index: u64,
        next: Vec<Place>,
    ) -> Result<Lease, LockError> {
        // The TTL counts from the session's last renewal, which may be a while ago.
        let since = session.session().renewed_at;
        let token = session.granted(&self.client.keys.key(&self.id), index, next)?;
        Ok(Lease::granted(self.id.clone(), token, FencingToken::new(index), since, self.ttl))
    }

    /// Joins the queue. Returns that the lock is held.
    async fn join(&self, joining: &Joining) -> Result<LockError, LockError> {
        let Self { client, id, ttl, .. } = self;
        let (number, waiter) = (joining.waiter().number, joining.waiter().to_string());
        let is_there = || client.waiters.registry.has_waiter(number);
        if is_there() {
            client.waiters.joins(number, *ttl);
            joining.joins();
            let queue = client.join(id, &waiter, *ttl).await;
            let queue = queue.map_err(|err| err.during(Action::Acquire))?;
            if is_there() {
                client.wait_in(id, &queue, &waiter).await.map_err(before)?;
            } else {
                // Its caller has left before it had a place to leave.
                client.leave(id, joining.waiter()).await.map_err(before)?;
            }
        }
        Ok(self.waiting(joining))
    }

    /// Takes the lock by this right, if the caller still has it.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, LockError> {
        let sessions = &self.client.sessions;
        let mut session = sessions.take(self.ttl).await.map_err(before)?;
        for _ in 1..SESSIONS_MAX {
            if let Some(claimed) = self.claim_with(session, claim).await? {
                return Ok(claimed);
            }
            session = sessions.create(self.ttl).await.map_err(before)?;
        }
        let claimed = self.claim_with(session, claim).await?;
        claimed.ok_or_else(|| before(ConsulError::NotSent("each of its sessions was over".into())))
    }

    /// Returns `None` if the session is over: another one should try.
    async fn claim_with(
        &self,
        mut session: SessionGuard,
        claim: &Claim,
    ) -> Result<Option<Claimed>, LockError> {
        let Self { client, id, ttl, .. } = self;
        let (key, queue) = (client.keys.key(id), client.keys.queue(id));
        let name = session.session().id.clone();
        *self.session.lock() = Some(name.clone());
        let record = Record::new(&client.config.holder, *ttl);
        let operations = claim.operations(&key, &queue);
        let acquire = client.consul.acquire(&key, &name, &record, operations);
        let (renewed, reply) = tokio::join!(session.renew_if_old(), acquire);
        match reply {
            Ok(AcquireReply::Granted(index, entries)) => {
                // On an error the guard ends the hold, but it is not known when.
                let unknown =
                    |err| LockError::backend(backend::CONSUL, Action::Acquire, Fault::Unknown, err);
                if !renewed.map_err(unknown)? {
                    return Ok(None);
                }
                let next = self.behind(claim, &entries);
                Ok(Some(Claimed::Granted(self.lease(session, index, next)?)))
            }
            Ok(AcquireReply::SessionOver) => Ok(None),
            Ok(refused) => {
                if matches!(refused, AcquireReply::Delayed) {
                    // No event marks the end of a delay, and the key looks free.
                    time::sleep(DELAYED_PAUSE).await;
                }
                // After the last await: an attempt that is dropped before it destroys its session. What
                // comes later is not to undo the hold of another call that uses it.
                *self.session.lock() = None;
                session.give_back();
                Ok(Some(match refused {
                    AcquireReply::Queued(why) => Claimed::Queued(why),
                    _ => Claimed::Held,
                }))
            }
            // The request may have taken the lock, or may yet, but not once its session has ended.
            Err(err @ ConsulError::ReplyLost(_)) => {
                let destroyed = client.sessions.destroy(&name).await;
                destroyed.map_err(|_| err.during(Action::Acquire))?;
                session.ended();
                Ok(None)
            }
            Err(err) => {
                if !err.is_unknown() {
                    *self.session.lock() = None;
                    session.give_back();
                }
                Err(err.during(Action::Acquire))
            }
        }
    }

    /// The waiters behind the one that took the lock, or the first few of them, where `entries` are what
    /// its transaction read. Without waiters, the mark is to go.
    fn behind(&self, claim: &Claim, entries: &[Entry]) -> Vec<Place> {
        let Self { client, id, .. } = self;
        match claim {
            Claim::Try | Claim::StaleMark(_) => Vec::new(),
            Claim::Reserved { next, .. } if !next.is_empty() => next.clone(),
            Claim::First(_) | Claim::Reserved { .. } => {
                let queue = LockQueue::read("", &client.keys.queue(id), entries);
                client.unmark(id, &queue);
                queue.next()
            }
        }
    }

    /// The lock is held, and the waiter is in its queue.
    fn waiting(&self, joining: &Joining) -> LockError {
        joining.note(None, None);
        self.held()
    }

    fn held(&self) -> LockError {
        LockError::Held { id: self.id.clone(), holder: None }
    }
}

fn before(err: ConsulError) -> LockError {
    err.before(Action::Acquire)
}
