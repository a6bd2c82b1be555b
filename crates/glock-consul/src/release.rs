//! How a hold ends, wherever renewals have transferred it to.

use std::sync::Arc;

use glock_core::{Action, Lease, LockError, LockId, OwnerToken};

use crate::{
    client::Client,
    error::ConsulError,
    queue::{grant::Grant, waiters::Granting},
    renew::TRANSFERS_MAX,
    schema::Entry,
    session::{Owner, Reclaimed},
};

impl Client {
    /// Releases the lock.
    pub(crate) async fn release(self: &Arc<Self>, lease: &Lease) -> Result<(), LockError> {
        let (client, id) = (Arc::clone(self), lease.id().clone());
        let token = lease.owner().clone();
        let release = async move {
            match client.release_hold(&id, &token).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(LockError::NotHeld { id }),
                Err(err) => Err(err.during(Action::Release)),
            }
        };
        self.call(Action::Release).run(release).await
    }

    /// Ends a hold. Returns `false` if there was none.
    pub(crate) async fn release_hold(
        self: &Arc<Self>,
        id: &LockId,
        token: &OwnerToken,
    ) -> Result<bool, ConsulError> {
        let Some(granted) = Owner::parse(token) else { return Ok(false) };
        let key = &*self.keys.key(id);
        // Until it is given back, every failure destroys the session, which ends the hold.
        let reclaimed = self.sessions.reclaim(token, key);
        let Reclaimed { mut owner, mut session, mut next } =
            reclaimed.unwrap_or(Reclaimed { owner: granted, session: None, next: Vec::new() });
        let (mut consul, mut reply_lost) = (self.consul.clone(), None);
        // Until the end, also of requests whose replies were lost.
        let mut granting: Option<Granting<'_>> = None;
        for _ in 0..=TRANSFERS_MAX {
            let released = if let Some(own) = self.next_own(&owner, session.as_ref(), &next) {
                granting.take();
                granting = Some(self.waiters.granting(own));
                let by = (&owner, &mut session);
                let passed = self.hand_over_to_own(&consul, id, by, (own, &next)).await;
                if let Ok(true) = passed {
                    return Ok(true);
                }
                passed
            } else if next.is_empty() {
                consul.release(key, &owner).await
            } else {
                self.hand_over(&consul, id, &owner, &next).await
            };
            match released {
                Ok(true) => {
                    // Otherwise the first waiter sees that the key is gone.
                    if next.is_empty() {
                        self.waiters.see(key, None);
                    }
                    match session.filter(|session| session.session().id == owner.session) {
                        Some(session) => session.give_back(),
                        None => self.end_session(owner.session).await,
                    }
                    return Ok(true);
                }
                Ok(false) => {}
                Err(err @ ConsulError::ReplyLost(_)) if reply_lost.is_none() => {
                    (consul, reply_lost) = (consul.patient(), Some(err));
                    continue;
                }
                Err(err) => return Err(err),
            }
            let entry = if next.is_empty() {
                self.consul.entry(key).await?
            } else {
                // The waiter that was the first may have left.
                let queue = self.look(id).await?;
                next = queue.next();
                queue.entry
            };
            let by_now = entry.as_ref().and_then(Entry::owner);
            if let Some(now) = entry.and_then(|entry| entry.held_by(token)) {
                // A renewal has transferred the hold, or writes its key to resolve a transfer.
                owner = now;
                continue;
            }
            // By the session of this hold, the request whose reply was lost has taken it for the waiter.
            if let (Some(mut by), Some(taken_for), Some(now)) = (session, &granting, by_now)
                && now.session == owner.session
                && by.session().id == owner.session
                && by.renew_if_old().await?
            {
                let grant = Grant::new(id.clone(), by, now.index, next);
                self.grant(taken_for.number, grant).await;
                return Ok(true);
            }
            // After a lost reply it is not known whether this call has released it.
            return reply_lost.map_or(Ok(false), Err);
        }
        Err(ConsulError::NotSent("the hold is transferred again and again".into()))
    }

    /// Ends the session of a hold that another client began, at once: this process may end as soon as it
    /// has released. A failure is tried again in the background.
    pub(crate) async fn end_session(&self, session: String) {
        if self.sessions.destroy(&session).await.is_err() {
            self.sessions.destroy_later(session);
        }
    }
}
