//! How a hold of a fenced lock begins: one attempt in a session of its own, and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Lease, LockError, LockId,
    toolkit::{Attempt, CallDeadline, Mutex},
};
use tokio::time::{self, Instant};

use crate::{
    client::Link,
    error::{before, during, is_group_gone, is_session_over},
    schema::{millis, random_number},
    session::{
        cp_session::CpSession,
        hold_table::{Hold, Origin},
        names::CpOwner,
        sessions::{CpSessions, SessionGuard},
    },
    wire::{HazelcastError, Uuid, cp},
};

/// An attempt to take a fenced lock.
pub(crate) struct CpAttempt {
    pub(crate) sessions: Arc<CpSessions>,
    pub(crate) id: LockId,
    pub(crate) lock: String,
    pub(crate) ttl: Duration,
    /// How long a member parks the request while another owner has the lock.
    pub(crate) park_max: Duration,
    /// The session whose request was sent last.
    pub(crate) session: Mutex<Option<Arc<CpSession>>>,
}

/// A spare session may be over, and so may the next one; then a new one is tried.
const SESSIONS_MAX: usize = 3;
/// The pause before a parked request is sent again, over another connection.
const PAUSE: Duration = Duration::from_millis(50);

impl CpAttempt {
    /// Tries with one session. Returns `None` if that is over: another one should try.
    async fn try_with(
        &self,
        guard: SessionGuard,
        until: CallDeadline,
    ) -> Result<Option<Lease>, LockError> {
        let session = Arc::clone(guard.session());
        *self.session.lock() = Some(Arc::clone(&session));
        let owner = cp::Endpoint { session: session.id, thread: random_number()? };
        let asked = if self.park_max.is_zero() {
            self.ask(&session, owner, until).await
        } else {
            self.ask_parked(&session, owner).await
        };
        match asked {
            Ok(Some((fence, sent_at))) => {
                let owner = CpOwner::new(&session.group, owner);
                let token = owner.token()?;
                let (id, fence) = (self.id.clone(), FencingToken::new(fence));
                let lease = Lease::granted(id, token, fence, sent_at, self.ttl);
                let end = sent_at.checked_add(self.ttl).unwrap_or(sent_at);
                let (lock, origin) = (self.lock.clone(), Origin::Own);
                guard.granted(Hold { lock, owner, end, origin });
                Ok(Some(lease.bound_to(session.deadline().clone())))
            }
            Ok(None) => {
                guard.give_back();
                Err(LockError::Held { id: self.id.clone(), holder: None })
            }
            Err(err) if is_session_over(&err) => {
                guard.ended();
                Ok(None)
            }
            Err(err) => {
                if is_group_gone(&err) {
                    self.sessions.groups.forget();
                }
                Err(during(err, Action::Acquire))
            }
        }
    }

    /// Requests the lock, over another connection where one is silent: the invocation's id makes of them
    /// one request. Returns the fence, and when the TTL begins.
    async fn ask(
        &self,
        session: &CpSession,
        owner: cp::Endpoint,
        until: CallDeadline,
    ) -> Result<Option<(u64, Instant)>, HazelcastError> {
        let invocation = random_uuid()?;
        let try_lock =
            |link: &Link| link.send(session.group.try_lock(&self.lock, owner, invocation, 0));
        let client = self.sessions.client();
        let sent = client.send(until, |link| Ok((session.sending(), try_lock(link)?))).await;
        let (link, (sent_at, reply)) = sent?;
        let first = link.reply(until, async { cp::fence(reply.await?) }).await;
        let fence = match first {
            Err(HazelcastError::ReplyLost(lost)) => {
                // A copy that comes late would take the lock again after its release.
                session.suspect();
                let again = client.send(until, try_lock).await;
                let (link, reply) = again.map_err(|_| HazelcastError::ReplyLost(lost))?;
                link.reply(until, async { cp::fence(reply.await?) }).await?
            }
            first => first?,
        };
        session.confirmed(sent_at);
        Ok(fence.map(|fence| (fence, sent_at)))
    }

    /// Requests the lock, parked by the members until it is granted. A request whose connection ends is sent
    /// again, and finds the place of the first.
    async fn ask_parked(
        &self,
        session: &CpSession,
        owner: cp::Endpoint,
    ) -> Result<Option<(u64, Instant)>, HazelcastError> {
        let (invocation, began) = (random_uuid()?, Instant::now());
        loop {
            let until = self.sessions.call(Action::Acquire).deadline();
            let left = self.park_max.saturating_sub(began.elapsed());
            let asked = async {
                let try_lock = |link: &Link| {
                    let park_max = millis(left).max(1);
                    link.send(session.group.try_lock(&self.lock, owner, invocation, park_max))
                };
                let (_link, reply) = self.sessions.client().send(until, try_lock).await?;
                cp::fence(reply.await?)
            };
            match asked.await {
                // The TTL begins now: the session holds the lock until this client ends it.
                Ok(fence) => return Ok(fence.map(|fence| (fence, Instant::now()))),
                Err(HazelcastError::ReplyLost(_) | HazelcastError::NotSent(_))
                    if !left.is_zero() && session.deadline().deadline() > Instant::now() =>
                {
                    session.suspect();
                    time::sleep(PAUSE).await;
                }
                Err(err) => return Err(err),
            }
        }
    }
}

impl Attempt for CpAttempt {
    /// One round trip where there is a spare session.
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let before = |err| before(err, Action::Acquire);
        // A waiter whose session was closed has given up, or comes back by itself.
        let sessions_max = if self.park_max.is_zero() { SESSIONS_MAX } else { 1 };
        for _ in 0..sessions_max {
            let until = if self.park_max.is_zero() {
                until
            } else {
                self.sessions.call(Action::Acquire).deadline()
            };
            let client = self.sessions.client();
            let call = (Action::Acquire, until);
            let group = self.sessions.groups.of(client, call, &self.lock).await?;
            let guard = self.sessions.take(&group, until).await?;
            if let Some(lease) = self.try_with(guard, until).await? {
                return Ok(lease);
            }
        }
        Err(before(HazelcastError::NotSent("each of its sessions was over".into())))
    }

    /// Without its session an attempt has no effect, even if its request is still in flight.
    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        let session = self.session.lock().clone();
        match session {
            Some(session) => self.sessions.close(&session, until).await,
            None => Err(LockError::NotHeld { id: self.id.clone() }),
        }
    }
}

fn random_uuid() -> Result<Uuid, HazelcastError> {
    Uuid::random().map_err(|err| HazelcastError::NotSent(err.into()))
}
