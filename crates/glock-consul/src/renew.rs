//! How a hold is renewed, and transferred to another session where that takes one.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Lease, LockError, OwnerToken};
use tokio::time::Instant;

use crate::{
    client::{Client, ConsulClient},
    error::ConsulError,
    schema::{Entry, Record},
    session::Owner,
    session::{Hold, Session, Transfer},
};

/// How many transfers by other renewals one renewal or release follows.
pub(crate) const TRANSFERS_MAX: usize = 4;

/// A renewal of the hold on `key` that was granted under `token`.
struct Renewal {
    client: Arc<Client>,
    /// For requests that share what the lease has left.
    consul: ConsulClient,
    key: String,
    token: OwnerToken,
    /// When the lease that is renewed ends.
    deadline: Instant,
    ttl: Duration,
}

/// When the new TTL starts, and its length.
type Renewed = (Instant, Duration);

impl Client {
    /// Renews the hold. A session's TTL never changes, so a TTL that is shorter than the session's leaves
    /// the session's.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let (client, token) = (Arc::clone(self), lease.owner().clone());
        let (key, deadline) = (self.keys.key(lease.id()), lease.deadline());
        let call = self.call(Action::Renew);
        let consul =
            self.consul.clone().with_reply_max(call.deadline().for_lease(lease).attempt_max());
        let renewal = Renewal { client, consul, key, token, deadline, ttl };
        let work = async move { renewal.run().await.map_err(|err| err.during(Action::Renew)) };
        let renewed = call.run(work).await?;
        let (since, ttl) = renewed.ok_or_else(|| LockError::NotHeld { id: lease.id().clone() })?;
        Ok(lease.renewed(since, ttl))
    }
}

impl Renewal {
    /// Renews the session and reads the key, in one round trip: a session that lives proves no hold,
    /// because an operator may have released it, or another program that knows the token. Returns `None`
    /// if the hold is over.
    async fn run(&self) -> Result<Option<Renewed>, ConsulError> {
        let Self { client, consul, key, token, .. } = self;
        let Some(granted) = Owner::parse(token) else { return Ok(None) };
        let sessions = &client.sessions;
        let mut owner = sessions.holds().get(token, key).map_or(granted, |hold| hold.owner());
        for _ in 0..=TRANSFERS_MAX {
            let sent_at = Instant::now();
            let (lives, entry) =
                tokio::join!(consul.renew_session(&owner.session), consul.entry(key));
            let entry = entry?;
            let now = entry.as_ref().and_then(|entry| entry.held_by(token));
            let (Some(entry), Some(now)) = (entry, now) else {
                // Its session, if this client created it, holds nothing any more.
                drop(sessions.reclaim(token, key));
                return Ok(None);
            };
            if now != owner {
                if let Some(left) = sessions.holds().follow(token, key, &owner, &now) {
                    sessions.destroy_later(left.id);
                }
                owner = now;
                continue;
            }
            if !lives? {
                // Its key goes with it, unless it was transferred just then: read it again.
                continue;
            }
            let record = entry.record();
            if self.needs_another_session(&owner, &record) {
                // `None`: another renewal of this hold may have transferred it first. Read it again.
                if let Some(renewed) = self.transfer(owner.clone(), &entry, record).await? {
                    return Ok(Some(renewed));
                }
                continue;
            }
            let ttl = Duration::from_millis(record.ttl);
            let session = Session { id: owner.session.clone(), ttl, renewed_at: sent_at };
            sessions.holds().renewed(token, key, &owner, session);
            return Ok(Some((sent_at, ttl)));
        }
        Err(ConsulError::NotSent("the hold is transferred again and again".into()))
    }

    /// Whether the session's TTL is too short, or the reply came too late to prove that it lives: a
    /// server that is about to end a session still replies that it has renewed it, and the key is still
    /// there.
    fn needs_another_session(&self, owner: &Owner, record: &Record) -> bool {
        let replied_at = Instant::now();
        let is_proven = || {
            let hold = self.client.sessions.holds().get(&self.token, &self.key);
            hold.is_some_and(|hold| hold.owner() == *owner && !hold.session.may_be_over(replied_at))
        };
        let is_short = record.ttl < record.with_ttl(self.ttl).ttl;
        is_short || replied_at >= self.deadline && !is_proven()
    }

    /// Transfers the hold to a new session. It keeps its owner token, which the key's value names. If the
    /// reply is lost, clean-up resolves which session has it.
    async fn transfer(
        &self,
        from: Owner,
        entry: &Entry,
        record: Record,
    ) -> Result<Option<Renewed>, ConsulError> {
        let Self { client, key, token, .. } = self;
        let ttl = self.ttl.max(Duration::from_millis(record.ttl));
        let fence = Some(record.fence.unwrap_or(entry.modify_index));
        let record = Record { fence, token: Some(token.reveal().to_owned()), ..record };
        let mut session = client.sessions.create(ttl).await?;
        let own = client.sessions.holds().take_from(token, key, &from);
        let (to, next) = (session.session().clone(), record.with_ttl(ttl));
        let transfer = Transfer {
            key: key.clone(),
            token: token.clone(),
            from: from.clone(),
            to: to.clone(),
            record,
            own: own.clone(),
        };
        // Dropped half-way, it may have the lock, now or when the request arrives.
        session.resolve_on_drop(transfer);
        match self.consul.transfer(key, &from, &to.id, &next).await {
            Ok(Some(index)) => {
                client.sessions.destroy_later(from.session);
                session.holds(token, key, index);
                Ok(Some((to.renewed_at, ttl)))
            }
            Err(err) if err.is_unknown() => Err(err),
            refused => {
                session.give_back();
                if let Some(own) = own {
                    let (key, index) = (key.clone(), from.index);
                    let hold = Hold { key, index, session: own, is_own: true, next: Vec::new() };
                    client.sessions.holds().confirm(token, &hold);
                }
                refused.map(|_| None)
            }
        }
    }
}
