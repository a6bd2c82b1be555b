//! `Client`: how a hold begins, is extended and ends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockConfig, LockError, LockId, OwnerToken, backend::CONSUL,
    toolkit::WaitQueue,
};
use tokio::time;

use crate::{
    ConsulClient, ConsulError,
    api::Locked,
    entry::Record,
    key::Keys,
    owner::Owner,
    session::{Loan, Sessions},
    wait::Watch,
};

/// What the clones of a lock share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) consul: ConsulClient,
    pub(crate) config: LockConfig,
    /// The server's `session_ttl_min`.
    pub(crate) ttl_min: Duration,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    pub(crate) watch: Watch,
    pub(crate) queue: WaitQueue,
}

/// In whose name the lock was asked for the last time: what an undo destroys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Option<String>>>);

/// A try may find a dead connection, the next one a dead session.
const AGAIN_MAX: usize = 2;
/// How often a hold is looked for again that others have moved meanwhile.
pub(crate) const MOVES_MAX: usize = 4;
/// Who asks again and again during the delay that somebody else's session has asked for is slowed down.
const DELAYED_PAUSE: Duration = Duration::from_millis(100);
/// A blocking query blocks for half the shortest TTL, within these limits.
const BLOCK_MIN: Duration = Duration::from_secs(2);
const BLOCK_MAX: Duration = Duration::from_secs(5);

impl Client {
    pub(crate) fn new(consul: ConsulClient, config: LockConfig, ttl_min: Duration) -> Self {
        Self {
            keys: Keys::new(&config),
            sessions: Sessions::new(consul.clone(), &config),
            watch: Watch::new(consul.clone(), (ttl_min / 2).clamp(BLOCK_MIN, BLOCK_MAX)),
            queue: WaitQueue::new(),
            consul,
            config,
            ttl_min,
        }
    }

    /// Tries to lock, in one round trip where there is a spare session.
    pub(crate) async fn acquire(
        self: Arc<Self>,
        id: LockId,
        ttl: Duration,
        asked: Asked,
    ) -> Result<Lease, LockError> {
        let key = self.keys.key(&id);
        let spare = self.sessions.take(ttl).await.map_err(|err| err.before(Action::Acquire))?;
        let mut tried = self.try_with(&id, &key, spare, &asked).await?;
        for _ in 0..AGAIN_MAX {
            if let Some(lease) = tried {
                return Ok(lease);
            }
            let new = self.sessions.create(ttl).await.map_err(|err| err.before(Action::Acquire))?;
            tried = self.try_with(&id, &key, new, &asked).await?;
        }
        tried.ok_or_else(|| {
            let why = "each of its sessions was over before it could be used, or was given up";
            ConsulError::NotSent(why.into()).before(Action::Acquire)
        })
    }

    /// One try, by one session; `None` if that session is over, and another should try.
    async fn try_with(
        &self,
        id: &LockId,
        key: &str,
        mut session: Loan,
        asked: &Asked,
    ) -> Result<Option<Lease>, LockError> {
        let failed = |err: ConsulError| err.during(Action::Acquire);
        let (name, ttl) = (session.session().id.clone(), session.session().ttl);
        asked.by(&name);
        let record = Record::new(&self.config.holder, ttl);
        let (fresh, locked) = tokio::join!(
            self.sessions.freshen(&mut session),
            self.consul.lock(key, &name, &record)
        );
        match locked {
            Ok(Locked::Granted(index)) => {
                // Dropping the session ends the hold; whether it has, nobody knows yet.
                let unknown =
                    |err| LockError::backend(CONSUL, Action::Acquire, Fault::Unknown, err);
                if !fresh.map_err(unknown)? {
                    return Ok(None);
                }
                // The TTL counts from the session's last renewal, which may be a while ago.
                let since = session.session().refreshed_at;
                let token = session.grant(key, index)?;
                let fence = FencingToken::new(index);
                Ok(Some(Lease::granted(id.clone(), token, fence, since, ttl)))
            }
            Ok(refused @ (Locked::Held | Locked::Delayed)) => {
                if matches!(refused, Locked::Delayed) {
                    // Nothing tells of the end of a delay, and the key looks free.
                    time::sleep(DELAYED_PAUSE).await;
                }
                // The last thing here: who is given up before has its session destroyed.
                session.give_back();
                Err(LockError::Held { id: id.clone(), holder: None })
            }
            Ok(Locked::NoSession) => Ok(None),
            // It may have taken the lock, or may yet, but not after its session has ended: then
            // another try is the only one.
            Err(err @ ConsulError::Lost(_)) => match self.sessions.end(&name).await {
                Ok(()) => {
                    session.ended();
                    Ok(None)
                }
                Err(_) => Err(failed(err)),
            },
            Err(err) => {
                if !err.is_unknown() {
                    session.give_back();
                }
                Err(failed(err))
            }
        }
    }

    /// Takes back what was asked for and nobody learned of: without its session no try can succeed,
    /// not even one that is still on its way.
    pub(crate) async fn undo(self: Arc<Self>, id: LockId, asked: Asked) -> Result<(), LockError> {
        let Some(session) = asked.last() else { return Err(LockError::NotHeld { id }) };
        self.sessions.end(&session).await.map_err(|err| err.during(Action::Release))
    }

    /// Ends a hold.
    pub(crate) async fn release(
        self: Arc<Self>,
        id: LockId,
        token: OwnerToken,
    ) -> Result<(), LockError> {
        let key = self.keys.key(&id);
        let released = match Owner::parse(&token) {
            Some(owner) => self.end(&key, &token, owner).await,
            None => Ok(false),
        };
        match released {
            Ok(true) => Ok(()),
            Ok(false) => Err(LockError::NotHeld { id }),
            Err(err) => Err(err.during(Action::Release)),
        }
    }

    async fn end(
        &self,
        key: &str,
        token: &OwnerToken,
        granted: Owner,
    ) -> Result<bool, ConsulError> {
        // Until it is given back, whatever goes wrong destroys the session, which ends the hold.
        let (mut owner, session) = match self.sessions.reclaim(token, key) {
            Some(known) => known,
            None => (granted, None),
        };
        let mut lost = None;
        for _ in 0..=MOVES_MAX {
            match self.consul.unlock(key, &owner).await {
                Ok(true) => {
                    match session.filter(|session| session.session().id == owner.session) {
                        Some(session) => session.give_back(),
                        None => self.end_other(owner.session).await,
                    }
                    return Ok(true);
                }
                Ok(false) => {}
                Err(err @ ConsulError::Lost(_)) if lost.is_none() => {
                    lost = Some(err);
                    continue;
                }
                Err(err) => return Err(err),
            }
            let entry = self.consul.entry(key).await?;
            match entry.and_then(|entry| entry.held_by(token)) {
                // A renewal has moved it, or is about to move it once more.
                Some(now) => owner = now,
                // If an answer was lost, nobody can tell whether this has ended it.
                None => return lost.map_or(Ok(false), Err),
            }
        }
        Err(ConsulError::NotSent("the hold is moved by others again and again".into()))
    }

    /// Ends the session of a hold that another client began, and that is over: at once, because this
    /// process may end as soon as it has released. What fails is tried again in the background.
    async fn end_other(&self, session: String) {
        if self.sessions.end(&session).await.is_err() {
            self.sessions.destroy(session);
        }
    }
}

impl Asked {
    fn by(&self, session: &str) {
        // No code that could panic runs under this lock, so what it holds is whole.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.into());
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
