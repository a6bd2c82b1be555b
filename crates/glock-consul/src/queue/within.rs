//! How a lock passes on within one client: a release takes it for the next waiter.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Action, LockId,
    toolkit::{BoxFuture, Worker},
};
use tokio::task::JoinSet;

use crate::{
    client::{Client, ConsulClient},
    commands::{checks, get_tree, lock, unlock},
    error::ConsulError,
    queue::{
        grant::Grant,
        moves::last_index,
        place::{LockQueue, Place},
    },
    schema::Record,
    session::{Owner, SessionGuard},
};

impl Client {
    /// The waiter that is next, if it is this client's and can take over this session of the hold.
    pub(crate) fn next_own(
        &self,
        owner: &Owner,
        session: Option<&SessionGuard>,
        next: &[Place],
    ) -> Option<u64> {
        let session = session.filter(|it| it.session().id == owner.session && it.is_fresh())?;
        self.waiters.own_of(next.first()?, session.session().ttl)
    }

    /// Releases the lock of `owner` and takes it for the first of these places, the waiter `own` of this client,
    /// by the same session: one write. The waiter gets the session; it is left where that was refused.
    pub(crate) async fn hand_over_to_own(
        self: &Arc<Self>,
        consul: &ConsulClient,
        id: &LockId,
        (owner, session): (&Owner, &mut Option<SessionGuard>),
        (own, places): (u64, &[Place]),
    ) -> Result<bool, ConsulError> {
        let (Some((first, behind)), Some(by)) = (places.split_first(), session.as_ref()) else {
            return Ok(false);
        };
        let (key, prefix) = (self.keys.key(id), self.keys.queue(id));
        let (check, index) = checks(&key, owner);
        let record = Record::new(&self.config.holder, by.session().ttl);
        let lock = lock(&key, &owner.session, &record)?;
        let mut operations = vec![check, index, unlock(&key, &owner.session), lock];
        operations.extend(first.deleted(&prefix));
        if behind.is_empty() {
            operations.push(get_tree(&prefix));
        }
        let Ok(entries) = consul.transaction(operations).await? else { return Ok(false) };
        let mut next = behind.to_vec();
        if next.is_empty() {
            // Its place was read too, before it was deleted.
            let others = entries.iter().filter(|it| !it.key.ends_with(&first.waiter));
            let queue = LockQueue::read("", &prefix, others);
            self.unmark(id, &queue);
            next = queue.next();
        }
        if let (Some(by), Some(index)) = (session.take(), last_index(&entries, &key)) {
            self.grant(own, Grant::new(id.clone(), by, index, next)).await;
        }
        Ok(true)
    }

    /// The waiter has its lock, and is woken. If it has left, the lock passes on.
    pub(crate) async fn grant(self: &Arc<Self>, own: u64, grant: Grant) {
        match self.waiters.grant(own, grant) {
            None => {
                let worker = Arc::new(UntakenGrants(Arc::downgrade(self)));
                self.untaken.start_until_done(&worker);
            }
            // A failure ends the session, and with it the hold.
            Some(refused) => drop(self.give_up(refused).await),
        }
    }

    /// Passes a lock on that was taken for a waiter that does not come for it.
    pub(crate) fn give_up(
        self: &Arc<Self>,
        grant: Grant,
    ) -> BoxFuture<'_, Result<bool, ConsulError>> {
        let Grant { id, session, index, next, .. } = grant;
        let token = session.granted(&self.keys.key(&id), index, next);
        Box::pin(async move {
            // What has no token has no session any more either.
            let Ok(token) = token else { return Ok(false) };
            self.release_hold(&id, &token).await
        })
    }

    /// Passes on the locks that were taken for waiters that do not come for them: their programs do not poll
    /// them. A failure ends the session, and with it the hold.
    pub(crate) async fn end_untaken_grants(self: &Arc<Self>) {
        let mut ending = JoinSet::new();
        for grant in self.waiters.untaken_grants() {
            let (call, client) = (self.call(Action::Release), Arc::clone(self));
            let end = async move {
                client.give_up(grant).await.map_err(|err| err.during(Action::Release))
            };
            ending.spawn(call.run(end));
        }
        ending.join_all().await;
    }
}

/// Ends untaken grants, also while no waiter of the client needs a heartbeat.
struct UntakenGrants(Weak<Client>);

impl Worker for UntakenGrants {
    async fn round(&self) -> Option<Duration> {
        let client = self.0.upgrade()?;
        client.end_untaken_grants().await;
        client.waiters.untaken_for()
    }
}
