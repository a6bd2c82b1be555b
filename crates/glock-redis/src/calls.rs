//! `Calls`: what acquire, renew, release and a look send, and how the answers read.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Holder, Lease, LockError, LockId, OwnerToken, toolkit::Wakeups};
use tokio::time::Instant;

use crate::{
    error,
    schema::{self, AcquireReply, UnexpectedReply, Schema},
    session::{Reply, ScriptCall, SharedConnection},
};

/// One client's requests.
pub(crate) struct Calls {
    pub(crate) schema: Schema,
    pub(crate) session: Arc<SharedConnection>,
    /// The label that a grant carries.
    pub(crate) holder: String,
    /// Whom to wake after a release, where the server does not.
    pub(crate) wakes: Option<Wakeups>,
}

/// One try to acquire, sent once under an owner token of its own (but by a cluster's connection: see
/// the README): a copy of it that arrived after the release would take the lock again. It may be
/// undone several times.
pub(crate) struct AcquireAttempt {
    pub(crate) calls: Arc<Calls>,
    pub(crate) id: LockId,
    pub(crate) owner: OwnerToken,
    pub(crate) ttl: Duration,
}

impl AcquireAttempt {
    pub(crate) async fn make(&self) -> Result<Lease, LockError> {
        let schema = &self.calls.schema;
        let key = schema.key(&self.id);
        let request = ScriptCall {
            script: &schema.acquire,
            keys: &[&key, &Schema::fence_key(&key)],
            args: &[self.owner.reveal(), &millis(self.ttl), &self.calls.holder],
        };
        let reply = self.calls.session.run(Action::Acquire, &request).await?;
        match schema::acquired(&reply.value).map_err(|UnexpectedReply| error::unexpected_reply(Action::Acquire))? {
            AcquireReply::Granted(fence) => {
                let (id, owner) = (self.id.clone(), self.owner.clone());
                Ok(Lease::granted(id, owner, fence, reply.sent_at, self.ttl))
            }
            AcquireReply::Held(holder) => {
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
        let request = ScriptCall {
            script: &self.schema.renew,
            keys: &[&self.schema.key(id)],
            args: &[owner.reveal(), &millis(ttl)],
        };
        let reply = self.session.run(Action::Renew, &request).await?;
        if was_held(&reply, Action::Renew)? {
            return Ok(reply.sent_at);
        }
        Err(LockError::NotHeld { id: id.clone() })
    }

    /// Frees the lock. If the reply to the first request got lost, a lock that the second one
    /// finds not held was freed by the first, unless its lease was over by then.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        deadline: Option<Instant>,
    ) -> Result<(), LockError> {
        let key = self.schema.key(id);
        let request =
            ScriptCall { script: &self.schema.release, keys: &[&key], args: &[owner.reveal()] };
        let reply = self.session.run(Action::Release, &request).await?;
        let freed_before = reply.repeated && deadline.is_some_and(|at| reply.sent_at < at);
        if !was_held(&reply, Action::Release)? && !freed_before {
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
        let request = ScriptCall { script: &self.schema.inspect, keys: &[key], args: &[] };
        let reply = self.session.run(action, &request).await?;
        schema::inspected(&reply.value).map_err(|UnexpectedReply| error::unexpected_reply(action))
    }
}

fn was_held(reply: &Reply, action: Action) -> Result<bool, LockError> {
    schema::was_held(&reply.value).map_err(|UnexpectedReply| error::unexpected_reply(action))
}

fn millis(ttl: Duration) -> String {
    ttl.as_millis().to_string()
}
