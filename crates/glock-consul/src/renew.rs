//! How a hold is extended, and moved to another session where that takes one.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, LockId, OwnerToken};
use tokio::time::Instant;

use crate::{
    ConsulError,
    entry::Record,
    hold::{Client, MOVES_MAX},
    owner::Owner,
    settle::Move,
};

impl Client {
    /// Extends a hold of which its lease is sure until `deadline`: since when its TTL counts from then
    /// on, and which that is. A session's TTL never changes, so a shorter one than it has leaves it as
    /// it is.
    pub(crate) async fn renew(
        self: Arc<Self>,
        id: LockId,
        token: OwnerToken,
        deadline: Instant,
        ttl: Duration,
    ) -> Result<(Instant, Duration), LockError> {
        let not_held = || LockError::NotHeld { id: id.clone() };
        let failed = |err: ConsulError| err.during(Action::Renew);
        let key = self.keys.key(&id);
        let granted = Owner::parse(&token).ok_or_else(not_held)?;
        let own = self.sessions.of(&token, &key).map_or(granted, |held| held.owner());
        let renewed = self.extend(&key, &token, own, deadline, ttl).await;
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
        deadline: Instant,
        ttl: Duration,
    ) -> Result<Option<(Instant, Duration)>, ConsulError> {
        for _ in 0..=MOVES_MAX {
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
                self.sessions.follow(token, key, &owner, &now);
                owner = now;
                continue;
            }
            if !lives? {
                // It was seen before its session ended: by a move of another renewal, or for good.
                continue;
            }
            let record = entry.record();
            let wanted = Record::new(&record.holder, ttl);
            // A server that is about to end a session still says that it has renewed it, and the key is
            // still there. If the reply came too late to prove that the session lived, only another
            // session is sure to live.
            let replied_at = Instant::now();
            let overdue =
                replied_at >= deadline && !self.sessions.is_fresh(token, key, &owner, replied_at);
            if record.ttl < wanted.ttl || overdue {
                let ttl = ttl.max(Duration::from_millis(record.ttl));
                let fence = Some(record.fence.unwrap_or(entry.modify_index));
                let known = Record { fence, was: Some(token.reveal().to_owned()), ..record };
                let moved = self.move_to_new_session(key, token, owner.clone(), ttl, known).await?;
                if let Some(since) = moved {
                    return Ok(Some((since, ttl)));
                }
                // Another renewal of this hold may have moved it first: look again.
                continue;
            }
            let ttl = Duration::from_millis(record.ttl);
            self.sessions.refreshed(token, key, owner, sent_at, ttl);
            return Ok(Some((sent_at, ttl)));
        }
        Err(ConsulError::NotSent("the hold is moved by others again and again".into()))
    }

    /// A hold for a longer TTL moves to another session, and keeps its owner token, which the record
    /// tells. If the answer is lost, nobody here knows which session has it, until that is settled.
    async fn move_to_new_session(
        &self,
        key: &str,
        token: &OwnerToken,
        from: Owner,
        ttl: Duration,
        stays: Record,
    ) -> Result<Option<Instant>, ConsulError> {
        let mut session = self.sessions.create(ttl).await?;
        let own = self.sessions.forget(token, key, &from);
        let (to, next) = (session.session().clone(), stays.lasting(ttl));
        let (key, token) = (key.to_owned(), token.clone());
        let moved = Move { key, token, from, to, stays, own };
        let handed = self.consul.hand_on(&moved.key, &moved.from, &moved.to.id, &next);
        // Given up half-way it may hold the lock, now or when the request arrives.
        session.settle_if_dropped(moved.clone());
        match handed.await {
            Ok(Some(index)) => {
                self.sessions.destroy(moved.from.session);
                let since = session.session().refreshed_at;
                session.hold(&moved.token, &moved.key, index);
                Ok(Some(since))
            }
            Err(err) if err.is_unknown() => Err(err),
            refused => {
                session.give_back();
                if let Some(own) = moved.own {
                    self.sessions.stays(&moved.token, &moved.key, moved.from.index, own);
                }
                refused.map(|_| None)
            }
        }
    }
}
