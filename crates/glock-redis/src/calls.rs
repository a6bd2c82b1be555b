//! `Calls`: what acquire, renew, release and a look send, and how the answers read.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Holder, Lease, LockError, LockId, OwnerToken, toolkit::Wakeups};
use tokio::time::Instant;

use crate::{
    error,
    schema::{self, Acquired, Garbled, Schema},
    session::{Answer, Request, Session},
};

/// One client's requests.
pub(crate) struct Calls {
    pub(crate) schema: Schema,
    pub(crate) session: Arc<Session>,
    /// The label that a grant carries.
    pub(crate) holder: String,
    /// Whom to wake after a release, where the server does not.
    pub(crate) wakes: Option<Wakeups>,
}

/// One try to acquire, sent once under an owner token of its own (but by a cluster's connection: see
/// the README): a copy of it that arrived after the release would take the lock again. It may be
/// undone several times.
pub(crate) struct Attempt {
    pub(crate) calls: Arc<Calls>,
    pub(crate) id: LockId,
    pub(crate) owner: OwnerToken,
    pub(crate) ttl: Duration,
}

impl Attempt {
    pub(crate) async fn make(&self) -> Result<Lease, LockError> {
        let schema = &self.calls.schema;
        let key = schema.key(&self.id);
        let request = Request {
            script: &schema.acquire,
            keys: &[&key, &Schema::fence_key(&key)],
            args: &[self.owner.reveal(), &millis(self.ttl), &self.calls.holder],
        };
        let answer = self.calls.session.ask(Action::Acquire, &request).await?;
        match schema::acquired(&answer.value).map_err(|Garbled| error::garbled(Action::Acquire))? {
            Acquired::Granted(fence) => {
                let (id, owner) = (self.id.clone(), self.owner.clone());
                Ok(Lease::granted(id, owner, fence, answer.sent_at, self.ttl))
            }
            Acquired::Held(holder) => {
                Err(LockError::Held { id: self.id.clone(), holder: Some(Box::new(holder)) })
            }
        }
    }

    pub(crate) async fn undo(&self) -> Result<(), LockError> {
        self.calls.release(&self.id, &self.owner, None).await
    }
}

impl Calls {
    /// Extends the lease; right before the request was sent.
    pub(crate) async fn renew(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        ttl: Duration,
    ) -> Result<Instant, LockError> {
        let request = Request {
            script: &self.schema.renew,
            keys: &[&self.schema.key(id)],
            args: &[owner.reveal(), &millis(ttl)],
        };
        let answer = self.session.ask(Action::Renew, &request).await?;
        if was_held(&answer, Action::Renew)? {
            return Ok(answer.sent_at);
        }
        Err(LockError::NotHeld { id: id.clone() })
    }

    /// Frees the lock. If the answer to the first request got lost, a lock that the second one
    /// finds not held was freed by the first, unless its lease was over by then.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        deadline: Option<Instant>,
    ) -> Result<(), LockError> {
        let key = self.schema.key(id);
        let request =
            Request { script: &self.schema.release, keys: &[&key], args: &[owner.reveal()] };
        let answer = self.session.ask(Action::Release, &request).await?;
        let freed_before = answer.repeated && deadline.is_some_and(|at| answer.sent_at < at);
        if !was_held(&answer, Action::Release)? && !freed_before {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        if let Some(sleepers) = &self.wakes {
            sleepers.wake(&key);
        }
        Ok(())
    }

    /// Who has the lock.
    pub(crate) async fn look(
        &self,
        action: Action,
        key: &str,
    ) -> Result<Option<Holder>, LockError> {
        let request = Request { script: &self.schema.inspect, keys: &[key], args: &[] };
        let answer = self.session.ask(action, &request).await?;
        schema::inspected(&answer.value).map_err(|Garbled| error::garbled(action))
    }
}

fn was_held(answer: &Answer, action: Action) -> Result<bool, LockError> {
    schema::was_held(&answer.value).map_err(|Garbled| error::garbled(action))
}

fn millis(ttl: Duration) -> String {
    ttl.as_millis().to_string()
}
