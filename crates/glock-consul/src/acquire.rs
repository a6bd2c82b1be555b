//! How a hold begins: one attempt by one session after another, and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, backend,
    toolkit::{Attempt, CallDeadline, Mutex},
};
use tokio::time;

use crate::{
    client::Client, commands::AcquireReply, error::ConsulError, schema::Record,
    session::SessionGuard,
};

/// An attempt to take a lock.
struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    ttl: Duration,
    /// The session whose acquire was sent last.
    session: Mutex<Option<String>>,
}

/// How many sessions are tried: a spare whose connection broke, a spare that is over, and a new one.
const SESSIONS_MAX: usize = 3;
/// During the delay that another program's session asked for, callers that try in a loop are slowed down.
const DELAYED_PAUSE: Duration = Duration::from_millis(100);

impl Client {
    /// Tries once to take the lock.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        id: &LockId,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let (client, id) = (Arc::clone(self), id.clone());
        let attempt = AcquireAttempt { client, id, ttl, session: Mutex::default() };
        self.call(Action::Acquire).acquire(ttl, attempt).await
    }
}

impl Attempt for AcquireAttempt {
    /// One round trip where there is a spare session.
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let (sessions, before) =
            (&self.client.sessions, |err: ConsulError| err.before(Action::Acquire));
        let mut session = sessions.take(self.ttl).await.map_err(before)?;
        for _ in 1..SESSIONS_MAX {
            if let Some(lease) = self.try_with(session).await? {
                return Ok(lease);
            }
            session = sessions.create(self.ttl).await.map_err(before)?;
        }
        let granted = self.try_with(session).await?;
        granted.ok_or_else(|| before(ConsulError::NotSent("each of its sessions was over".into())))
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
    /// Returns `None` if the session is over: another one should try.
    async fn try_with(&self, mut session: SessionGuard) -> Result<Option<Lease>, LockError> {
        let Self { client, id, ttl, .. } = self;
        let (key, name) = (client.keys.key(id), session.session().id.clone());
        *self.session.lock() = Some(name.clone());
        let record = Record::new(&client.config.holder, *ttl);
        let acquire = client.consul.acquire(&key, &name, &record);
        let (renewed, reply) = tokio::join!(session.renew_if_old(), acquire);
        match reply {
            Ok(AcquireReply::Granted(index)) => {
                // On an error the guard ends the hold, but it is not known when.
                let unknown =
                    |err| LockError::backend(backend::CONSUL, Action::Acquire, Fault::Unknown, err);
                if !renewed.map_err(unknown)? {
                    return Ok(None);
                }
                // The TTL counts from the session's last renewal, which may be a while ago.
                let since = session.session().renewed_at;
                let token = session.granted(&key, index)?;
                let fence = FencingToken::new(index);
                Ok(Some(Lease::granted(id.clone(), token, fence, since, *ttl)))
            }
            Ok(refused @ (AcquireReply::Held | AcquireReply::Delayed)) => {
                if matches!(refused, AcquireReply::Delayed) {
                    // No event marks the end of a delay, and the key looks free.
                    time::sleep(DELAYED_PAUSE).await;
                }
                // After the last await: an attempt that is dropped before it destroys its session.
                session.give_back();
                Err(LockError::Held { id: id.clone(), holder: None })
            }
            Ok(AcquireReply::SessionOver) => Ok(None),
            // The request may have taken the lock, or may yet, but not once its session has ended.
            Err(err @ ConsulError::ReplyLost(_)) => {
                let destroyed = client.sessions.destroy(&name).await;
                destroyed.map_err(|_| err.during(Action::Acquire))?;
                session.ended();
                Ok(None)
            }
            Err(err) => {
                if !err.is_unknown() {
                    session.give_back();
                }
                Err(err.during(Action::Acquire))
            }
        }
    }
}
