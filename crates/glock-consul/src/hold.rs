//! `Client`: how a hold begins, is extended and ends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockConfig, LockError, LockId, OwnerToken, WaitQueue,
    backend::CONSUL,
};
use tokio::time::{self, Instant};

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
                session.give_back();
                if matches!(refused, Locked::Delayed) {
                    // Nothing tells of the end of a delay, and the key looks free.
                    time::sleep(DELAYED_PAUSE).await;
                }
                Err(LockError::Held { id: id.clone(), holder: None })
            }
            Ok(Locked::NoSession) => Ok(None),
            // It may have taken the lock, or may yet, but not after its session has ended: then
            // another try is the only one.
            Err(err @ ConsulError::Lost(_)) => match self.sessions.end(&name).await {
                Ok(()) => {
                    session.leave();
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

    /// Extends a hold: since when its TTL counts from then on, and which that is. A session's TTL
    /// never changes, so a shorter one than it has leaves it as it is.
    pub(crate) async fn renew(
        self: Arc<Self>,
        id: LockId,
        token: OwnerToken,
        ttl: Duration,
    ) -> Result<(Instant, Duration), LockError> {
        let not_held = || LockError::NotHeld { id: id.clone() };
        let failed = |err: ConsulError| err.during(Action::Renew);
        let key = self.keys.key(&id);
        let granted = Owner::parse(&token).ok_or_else(not_held)?;
        let own = self.sessions.of(&token, &key).map_or(granted, |held| held.owner());
        let renewed = self.extend(&key, &token, own, ttl).await;
        renewed.map_err(failed)?.ok_or_else(not_held)
    }

    /// Renews the session that has the key and looks whether it has it, in one round trip: the
    /// session alone proves no hold, which may have been released by somebody who knows its token,
    /// or by an operator.
    async fn extend(
        &self,
        key: &str,
        token: &OwnerToken,
        mut owner: Owner,
        ttl: Duration,
    ) -> Result<Option<(Instant, Duration)>, ConsulError> {
        for _ in 0..=AGAIN_MAX {
            let sent_at = Instant::now();
            let (lives, entry) =
                tokio::join!(self.consul.renew_session(&owner.session), self.consul.entry(key));
            let entry = entry?;
            let now = entry.as_ref().and_then(|entry| entry.held_by(token));
            let (Some(entry), Some(now)) = (entry, now) else {
                // If the session is ours it holds nothing any more, and ends.
                drop(self.sessions.reclaim(token, key));
                return Ok(None);
            };
            if now != owner {
                // Another process has moved it.
                self.sessions.forget(token, key);
                owner = now;
                continue;
            }
            if !lives? {
                self.sessions.destroy(owner.session);
                return Ok(None);
            }
            let record = entry.record();
            let wanted = Record::new(&record.holder, ttl);
            if record.ttl < wanted.ttl {
                let fence = Some(record.fence.unwrap_or(entry.modify_index));
                let record = Record { fence, was: Some(token.reveal().to_owned()), ..wanted };
                let since = self.move_to_new_session(key, token, &owner, ttl, &record).await?;
                return Ok(since.map(|since| (since, ttl)));
            }
            self.sessions.refreshed(token, key, &owner, sent_at);
            return Ok(Some((sent_at, Duration::from_millis(record.ttl))));
        }
        Err(ConsulError::NotSent("the hold is moved by others again and again".into()))
    }

    /// A hold for a longer TTL moves to another session, and keeps its owner token, which the record
    /// tells. If the answer is lost, nobody here knows which session has it.
    async fn move_to_new_session(
        &self,
        key: &str,
        token: &OwnerToken,
        owner: &Owner,
        ttl: Duration,
        record: &Record,
    ) -> Result<Option<Instant>, ConsulError> {
        let session = self.sessions.create(ttl).await?;
        self.sessions.forget(token, key);
        match self.consul.hand_on(key, owner, &session.session().id, record).await {
            Ok(Some(index)) => {
                self.sessions.destroy(owner.session.clone());
                let since = session.session().refreshed_at;
                session.hold(token, key, index);
                Ok(Some(since))
            }
            Ok(None) => {
                session.give_back();
                Ok(None)
            }
            Err(err) => {
                if err.is_unknown() {
                    session.leave();
                } else {
                    session.give_back();
                }
                Err(err)
            }
        }
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
        let (owner, session) = match self.sessions.reclaim(token, key) {
            Some((owner, session)) => (owner, Some(session)),
            None => (granted, None),
        };
        let deleted = match self.consul.unlock(key, &owner).await {
            Err(err @ ConsulError::Lost(_)) => {
                // If it is gone now, nobody can tell whether this has ended it.
                if !self.consul.unlock(key, &owner).await? {
                    return Err(err);
                }
                true
            }
            deleted => deleted?,
        };
        if deleted {
            match session {
                Some(session) => session.give_back(),
                None => self.end_other(owner.session).await,
            }
            return Ok(true);
        }
        let entry = self.consul.entry(key).await?;
        let Some(moved) = entry.and_then(|entry| entry.held_by(token)) else { return Ok(false) };
        let deleted = self.consul.unlock(key, &moved).await?;
        self.end_other(moved.session).await;
        Ok(deleted)
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
