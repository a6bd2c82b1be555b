//! The clean-up: keeps sessions alive, ends holds at their TTL, and closes spares.

use std::{pin::pin, sync::Arc, time::Duration};

use glock_core::{
    Action, LockError,
    toolkit::{Backoff, CallDeadline, Worker},
};
use tokio::time::{self, Instant};

use crate::{
    client::Link,
    error::{before, during, is_not_owner, is_session_over},
    session::{
        cp_session::CpSession,
        hold_table::{Hold, Origin},
        sessions::CpSessions,
    },
    wire::{HazelcastError, Uuid, cp, map},
};

impl Worker for CpSessions {
    async fn round(&self) -> Option<Duration> {
        // First: a hold that this round does not see wakes the clean-up again.
        *self.round_due.lock() = None;
        let now = Instant::now();
        let (due, mut next) = self.holds.due(now);
        for (session, hold) in due {
            if let Some(sessions) = self.strong() {
                tokio::spawn(async move { sessions.end(session, hold).await });
            }
        }
        for session in self.holds.sessions() {
            if session.heartbeat_at() <= now {
                session.sending();
                let (sessions, session) = (self.strong()?, Arc::clone(&session));
                // One that fails is followed by the next.
                tokio::spawn(async move { sessions.heartbeat(&session).await });
            }
            let at = session.heartbeat_at();
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        let next = next.map(|next| next.saturating_duration_since(now));
        let sweep = self.sweep();
        let rest = match (next, sweep) {
            (Some(next), Some(sweep)) => Some(next.min(sweep)),
            (next, sweep) => next.or(sweep),
        };
        *self.round_due.lock() = rest.and_then(|rest| now.checked_add(rest));
        rest
    }
}

impl CpSessions {
    /// Sends a heartbeat. Where its connection is silent, the next one goes over another; so members that
    /// stand still are sent no more heartbeats than others. A reply that comes late is as good a proof.
    async fn heartbeat(&self, session: &CpSession) -> Result<bool, HazelcastError> {
        let interval = session.heartbeat_interval();
        let until = CallDeadline::after(interval);
        let link = self.client().link(until).await?;
        let mut heartbeat = pin!(self.send_heartbeat(&link, session));
        match until.reply(&mut heartbeat).await {
            Ok(alive) => alive,
            Err(no_reply) => {
                Link::gave_up(&link.connection, no_reply.0);
                let late = time::timeout(interval * 2, heartbeat).await;
                late.map_err(|_| HazelcastError::ReplyLost(no_reply.into()))?
            }
        }
    }

    /// Sends a heartbeat over this connection. Returns whether the session lives.
    pub(crate) async fn send_heartbeat(
        &self,
        link: &Link,
        session: &CpSession,
    ) -> Result<bool, HazelcastError> {
        let sent_at = session.sending();
        let reply = link.send(session.group.heartbeat(session.id))?.await;
        match reply.and_then(|reply| map::done(reply, cp::HEARTBEAT)) {
            Ok(()) => {
                session.confirmed(sent_at);
                Ok(true)
            }
            Err(err) if is_session_over(&err) => {
                session.deadline().expire();
                self.holds.remove(session);
                Ok(false)
            }
            Err(err) => Err(err),
        }
    }

    /// Ends a hold at its TTL, until that is confirmed or its session has run out.
    async fn end(&self, session: Arc<CpSession>, hold: Hold) {
        let pending = self.pending.begin();
        let (mut pauses, until) = (Backoff::STORE_FAILURE, session.deadline().clone());
        while Instant::now() < until.deadline() {
            let call = self.call(Action::Release).deadline();
            match self.unlock(&session, &hold, call).await {
                Ok(still_held) => {
                    self.leave(&session, &hold, still_held);
                    break;
                }
                Err(_) => pauses.sleep().await,
            }
        }
        self.holds.remove(&session);
        drop(pending);
    }

    /// Takes one lock back. Returns whether the owner still has the lock, because another client has
    /// renewed it; `None`: it did not have it.
    pub(crate) async fn unlock(
        &self,
        session: &CpSession,
        hold: &Hold,
        until: CallDeadline,
    ) -> Result<Option<bool>, LockError> {
        let invocation = Uuid::random()?;
        let unlock = |link: Link| async move {
            let request = session.group.unlock(&hold.lock, hold.owner.endpoint, invocation);
            let reply = link.send(request).map_err(|err| before(err, Action::Release))?.await;
            match reply.and_then(cp::still_held) {
                Ok(still_held) => Ok(Some(still_held)),
                Err(err) if is_not_owner(&err) => Ok(None),
                Err(err) if is_session_over(&err) => {
                    session.deadline().expire();
                    Ok(None)
                }
                Err(err) => Err(during(err, Action::Release)),
            }
        };
        self.client().hedged((Action::Release, until), unlock).await.result
    }

    /// What becomes of a session whose hold has ended for this client.
    pub(crate) fn leave(&self, session: &Arc<CpSession>, hold: &Hold, still_held: Option<bool>) {
        let is_own = hold.origin == Origin::Own;
        if is_own && still_held != Some(true) && !session.deadline().has_expired() {
            self.give_back(session);
        } else {
            // Another client keeps it alive from now on, or none does.
            self.holds.remove(session);
        }
    }
}
