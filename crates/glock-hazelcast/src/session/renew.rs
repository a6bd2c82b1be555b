//! How a hold of a fenced lock goes on, and how it ends.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockError,
    toolkit::{CallDeadline, SessionDeadline},
};
use tokio::{time::Instant, try_join};

use crate::{
    client::{LeaseRef, Link},
    error::{before, during, is_session_over},
    session::{
        cp_client::CpClient,
        cp_session::CpSession,
        hold_table::{Hold, Origin},
        names::CpOwner,
    },
    wire::{
        Uuid,
        cp::{self, Endpoint, GroupId, Ownership, SessionGrant},
    },
};

/// What a renewal has brought.
pub(crate) struct Renewed {
    /// From when the TTL counts.
    pub(crate) sent_at: Instant,
    pub(crate) session: SessionDeadline,
}

impl CpClient {
    /// Renews a hold: one round trip, or one more if another client was granted it and this one has not
    /// renewed it yet.
    pub(crate) async fn renew(
        &self,
        lease: &LeaseRef,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Renewed, LockError> {
        let (group, owner) = self.owner(lease, Action::Renew, until).await?;
        let sent_at = Instant::now();
        let known = self.sessions.holds.held(owner);
        let session = match &known {
            Some(session) => Arc::clone(session),
            None => self.foreign(group, owner),
        };
        if !self.confirm(lease, &session, owner, until).await? {
            return Err(lease.not_held());
        }
        let end = sent_at.checked_add(ttl).unwrap_or(sent_at);
        if known.is_none() {
            self.join(lease, &session, owner, until).await?;
            let (lock, origin) = (self.names.lock(&lease.id), Origin::Joined);
            self.sessions.holds.grant(&session, Hold { lock, owner, end, origin });
            self.sessions.start_cleanup();
            self.sessions.cleanup.wake();
        } else if !self.sessions.holds.renew(owner, end) {
            return Err(lease.not_held());
        } else {
            self.sessions.start_cleanup();
        }
        Ok(Renewed { sent_at, session: session.deadline().clone() })
    }

    /// Ends a hold.
    pub(crate) async fn release(
        &self,
        lease: &LeaseRef,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let (group, owner) = self.owner(lease, Action::Release, until).await?;
        let known = self.sessions.holds.begin_release(owner);
        let (session, hold) = known.unwrap_or_else(|| {
            let (lock, origin) = (self.names.lock(&lease.id), Origin::Joined);
            let hold = Hold { lock, owner, end: Instant::now(), origin };
            (self.foreign(group, owner), hold)
        });
        let lock = self.names.lock(&lease.id);
        if hold.lock != lock {
            // A lease of another lock, put together from parts.
            self.sessions.holds.end_later(hold);
            return Err(lease.not_held());
        }
        let mut had_it = false;
        loop {
            match self.sessions.unlock(&session, &hold, until).await {
                // Another client has renewed it, and has locked it once more for that.
                Ok(Some(true)) => had_it = true,
                Ok(still_held) => {
                    self.sessions.leave(&session, &hold, still_held);
                    let released = had_it || still_held.is_some();
                    return if released { Ok(()) } else { Err(lease.not_held()) };
                }
                Err(err) => {
                    if hold.origin == Origin::Own {
                        self.sessions.holds.end_later(hold);
                        self.sessions.start_cleanup();
                        self.sessions.cleanup.wake();
                    }
                    return Err(err);
                }
            }
        }
    }

    /// The owner in a lease, and the group that knows it.
    async fn owner(
        &self,
        lease: &LeaseRef,
        action: Action,
        until: CallDeadline,
    ) -> Result<(GroupId, CpOwner), LockError> {
        let owner = CpOwner::parse(&lease.token).ok_or_else(|| lease.not_held())?;
        let lock = self.names.lock(&lease.id);
        let client = self.sessions.client();
        let group = self.sessions.groups.of(client, (action, until), &lock).await?;
        if owner.is_of(&group) { Ok((group, owner)) } else { Err(lease.not_held()) }
    }

    /// Asks who has the lock, and sends a heartbeat of the session beside that where one is due: a heartbeat
    /// is a write to the group's log, and the question is none. Returns whether the lease's owner does.
    async fn confirm(
        &self,
        lease: &LeaseRef,
        session: &Arc<CpSession>,
        owner: CpOwner,
        until: CallDeadline,
    ) -> Result<bool, LockError> {
        let lock = &self.names.lock(&lease.id);
        let is_kept = self.sessions.holds.held(owner).is_some();
        let confirm = |link: Link| async move {
            let during = |err| during(err, Action::Renew);
            let found = link.send(session.group.get_ownership(lock));
            let found = found.map_err(|err| before(err, Action::Renew))?;
            let is_due = !is_kept || session.heartbeat_at() <= Instant::now();
            let heartbeat = async {
                if is_due { self.sessions.send_heartbeat(&link, session).await } else { Ok(true) }
            };
            let found = async { Ownership::decode(found.await?) };
            let (found, alive) = try_join!(found, heartbeat).map_err(during)?;
            let Ownership { fence, session, thread } = found;
            let is_owner = Endpoint { session, thread } == owner.endpoint;
            Ok(alive && is_owner && u64::try_from(fence) == Ok(lease.fence.get()))
        };
        let hedged = self.sessions.client().hedged((Action::Renew, until), confirm).await;
        hedged.result
    }

    /// Locks another client's hold once more. That client takes back its own lock when its lease ends, and
    /// only the last one frees the hold.
    async fn join(
        &self,
        lease: &LeaseRef,
        session: &CpSession,
        owner: CpOwner,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let (lock, invocation) = (self.names.lock(&lease.id), Uuid::random()?);
        let client = self.sessions.client();
        let try_lock =
            |link: &Link| link.send(session.group.try_lock(&lock, owner.endpoint, invocation, 0));
        let sent = client.send(until, try_lock).await;
        let (link, reply) = sent.map_err(|err| before(err, Action::Renew))?;
        match link.reply(until, async { cp::fence(reply.await?) }).await {
            Ok(Some(fence)) if fence == lease.fence.get() => Ok(()),
            Ok(Some(_)) => {
                // It was free by then: this is another hold, which no caller has.
                let hold = Hold { lock, owner, end: Instant::now(), origin: Origin::Joined };
                self.sessions.unlock(session, &hold, until).await?;
                Err(lease.not_held())
            }
            Ok(None) => Err(lease.not_held()),
            Err(err) if is_session_over(&err) => Err(lease.not_held()),
            Err(err) => Err(during(err, Action::Renew)),
        }
    }

    /// Another client's session, of which nothing is known yet but that it lived when it was granted the hold.
    fn foreign(&self, group: GroupId, owner: CpOwner) -> Arc<CpSession> {
        let ttl = self.sessions.known_ttl();
        let grant = SessionGrant { id: owner.endpoint.session, ttl, heartbeat: ttl };
        let session = CpSession::new(group, grant, Instant::now());
        Arc::new(session)
    }
}
