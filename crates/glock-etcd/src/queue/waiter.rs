//! `WaiterKey`: a waiter's key in etcd's queue. Dropping it leaves the queue.

use std::{mem, sync::Arc, time::Duration};

use etcd_client::{Txn, TxnOp, TxnResponse};
use glock_core::{
    Action, Fault, Lease, LockError, LockId,
    toolkit::{LocalWaiter, Reusable},
};
use tokio::time::Instant;

use crate::{
    client::Client,
    commands::{self, JoinReply, PositionReply, Predecessor, fence, revision},
    error::{is_lease_gone, unexpected_reply},
    queue::{
        cleanup::{Residue, WaiterCleanup},
        position::QueuePosition,
        session::QueueSession,
    },
    schema::{Owner, Range, secret},
    session::lease::SpareLease,
};

/// A waiter's key on the session's lease, behind all keys of the same lock that were created before it.
pub(crate) struct WaiterKey {
    client: Arc<Client>,
    session: Arc<QueueSession>,
    id: LockId,
    ttl: Duration,
    range: Range,
    suffix: String,
    secret: String,
    key: String,
    /// The revision that created the key, once it is known: the fencing token to come.
    created: i64,
    /// The lease that the hold will be on, for as long as a request that uses it may be in flight.
    own: Option<SpareLease>,
    /// Whether the key may be there, or may have been.
    sent: bool,
    /// What has to be undone when the waiter is gone.
    residue: Residue,
    local: Option<LocalWaiter>,
}

impl WaiterKey {
    /// A waiter that is not in the queue yet.
    pub(crate) fn new(
        client: &Arc<Client>,
        session: Arc<QueueSession>,
        id: &LockId,
        ttl: Duration,
    ) -> Result<Self, LockError> {
        let (range, suffix, secret) = (client.range(id), client.suffixes.take(id)?, secret()?);
        Ok(Self {
            key: range.key(&suffix),
            suffix,
            client: Arc::clone(client),
            session,
            id: id.clone(),
            ttl,
            range,
            secret,
            created: 0,
            own: None,
            sent: false,
            residue: Residue::None,
            local: None,
        })
    }

    /// Joins the queue behind all others; or takes the lock in the same request if it is free and the
    /// client has a spare lease for it.
    pub(crate) async fn join(&mut self) -> Result<QueuePosition, LockError> {
        let (client, action) = (Arc::clone(&self.client), Action::Wait);
        let value = client.value(&self.secret);
        self.own = client.leases.spare(self.ttl);
        loop {
            let own = self.own.as_ref().map(|own| own.id);
            let epoch = self.session.epoch();
            let compared = (self.session.in_epoch(epoch), &*self.session.epoch_key);
            let leases = (self.session.lease, own);
            let txn = commands::join(&self.range, (&self.key, &value), leases, compared);
            (self.sent, self.residue) = (true, Residue::Request);
            let request = client.rpc.txn(action, &txn);
            let granted = |(reply, _): &(Result<TxnResponse, _>, _)| {
                reply.as_ref().is_ok_and(TxnResponse::succeeded)
            };
            let (reply, sent) = match &mut self.own {
                Some(own) => own.send(&client.rpc, action, request, granted).await,
                None => request.await,
            };
            if reply.as_ref().is_err_and(is_lease_gone)
                && let Some(own) = self.own.take()
            {
                // Perhaps the session's, perhaps its own. No request in flight can use its own then.
                client.leases.end(own.id);
                continue;
            }
            if self.session.ends_with(&reply) {
                return Ok(self.lost());
            }
            let refused = reply.as_ref().is_err_and(|err| err.fault() == Some(Fault::Rejected));
            if refused && sent == 1 {
                // Else an earlier attempt may still create the key.
                self.residue = Residue::None;
            }
            match JoinReply::of(&reply?, own, &self.secret) {
                JoinReply::Granted(created) => {
                    self.joined(created, sent).await?;
                    return self.first().await;
                }
                JoinReply::Joined(created, predecessor) => {
                    self.joined(created, sent).await?;
                    self.give_back_lease();
                    return match predecessor {
                        Some(predecessor) => Ok(QueuePosition::Behind(predecessor)),
                        None => self.promote().await,
                    };
                }
                JoinReply::JoinedBefore(created) => {
                    self.joined(created, sent.max(2)).await?;
                    return self.promote().await;
                }
                JoinReply::Foreign => return Ok(self.lost()),
                // It goes back only if etcd was restored from a backup.
                JoinReply::OtherEpoch(Some(now)) if now >= epoch => self.session.note_epoch(now),
                JoinReply::OtherEpoch(_) => {
                    self.session.end();
                    return Ok(self.lost());
                }
                JoinReply::Malformed => return Err(unexpected_reply(action)),
            }
        }
    }

    /// No request in flight may use the lease.
    fn give_back_lease(&mut self) {
        if let Some(own) = self.own.take() {
            self.client.leases.put(own);
        }
    }

    fn lost(&mut self) -> QueuePosition {
        self.residue = Residue::None;
        QueuePosition::Lost
    }

    /// The key is there. If it was requested twice, no request in flight may create it again.
    async fn joined(&mut self, created: i64, sent: u32) -> Result<(), LockError> {
        self.created = created;
        self.local = Some(self.client.local.enter(&self.range.start, &self.key));
        if sent > 1 {
            let begun = self.session.begin_epoch(&self.client.rpc).await;
            if !self.session.ends_with(&begun) {
                begun?;
            }
        }
        self.residue = Residue::Key;
        Ok(())
    }

    /// Finds out whether the predecessor is still there, by its name: to read the position, etcd looks at
    /// all keys of the queue.
    pub(crate) async fn look(&mut self, before: &Predecessor) -> Result<QueuePosition, LockError> {
        let reads = [TxnOp::get(&*self.key, None), TxnOp::get(&*before.key, None)];
        let reply = self.client.rpc.txn(Action::Wait, &Txn::new().and_then(reads)).await.0?;
        if !commands::kvs(&reply, 0).iter().any(|own| own.create_revision() == self.created) {
            return Ok(QueuePosition::Lost);
        }
        match commands::kvs(&reply, 1).first() {
            // Not a later key of the same name.
            Some(kv) if kv.create_revision() <= before.seen => {
                let seen = revision(reply.header());
                Ok(QueuePosition::Behind(Predecessor { key: before.key.clone(), seen }))
            }
            _ => self.promote().await,
        }
    }

    /// Takes the lock if no key is before this one, or else reads the position: in one transaction, which
    /// also compares that the key and its lease are still there.
    pub(crate) async fn promote(&mut self) -> Result<QueuePosition, LockError> {
        let action = Action::Acquire;
        let value = self.client.value(&self.secret);
        loop {
            let client = Arc::clone(&self.client);
            let own = self.usable_lease().await?;
            let (session, lease) = (self.session.lease, own.id);
            // The waiter's before the request is sent: the future may be dropped.
            let own = self.own.insert(own);
            let leases = (session, lease);
            let txn = commands::promote(&self.range, &self.key, &value, self.created, leases);
            let request = client.rpc.txn(action, &txn);
            let (reply, sent) = own.send(&client.rpc, action, request, |_| true).await;
            let reply = match reply {
                Err(err) if is_lease_gone(&err) => {
                    self.own = None;
                    continue;
                }
                reply => PositionReply::of(&reply?, self.created),
            };
            let on = reply.own.map(|own| own.lease());
            // An earlier request may have taken the lock, and lost its reply.
            if reply.promoted || reply.predecessor.is_none() && on == Some(lease) {
                return self.first().await;
            }
            if sent == 1 && on != Some(lease) {
                // By the time that this waiter is the first, the lease would have run out.
                self.give_back_lease();
            }
            return match reply.predecessor {
                Some(predecessor) if on.is_some() => Ok(QueuePosition::Behind(predecessor)),
                // The queue moved between two attempts.
                None if on == Some(session) => continue,
                _ => Ok(QueuePosition::Lost),
            };
        }
    }

    /// The lease that the hold will be on. One that an earlier request may put the key on is kept alive;
    /// another may be taken only if that lease is gone.
    async fn usable_lease(&mut self) -> Result<SpareLease, LockError> {
        if let Some(mut own) = self.own.clone()
            && (own.is_usable(Instant::now())
                || own.keep_alive(&self.client.rpc, Action::Acquire).await?)
        {
            return Ok(own);
        }
        self.client.leases.take(Action::Acquire, self.ttl).await
    }

    async fn first(&mut self) -> Result<QueuePosition, LockError> {
        let Some(own) = &mut self.own else { return Err(unexpected_reply(Action::Acquire)) };
        let (suffix, secret) = (self.suffix.clone(), self.secret.clone());
        let owner = Owner { lease: own.id, suffix, secret }.token()?;
        let granted = |own: &SpareLease| {
            let (id, fence) = (self.id.clone(), fence(self.created));
            Lease::granted(id, owner.clone(), fence, own.since, own.ttl)
        };
        let mut lease = granted(own);
        if lease.is_expired() {
            // The reply took long. The hold goes on if its lease does.
            if !own.keep_alive(&self.client.rpc, Action::Acquire).await? {
                return Ok(QueuePosition::Lost);
            }
            lease = granted(own);
        }
        self.own = None;
        self.residue = Residue::None;
        if let Some(local) = self.local.take() {
            local.became_hold();
        }
        Ok(QueuePosition::First(lease))
    }

    /// Whether the session, and this key with it, has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.session.has_ended()
    }

    /// Returns once the session has ended.
    pub(crate) async fn session_ended(&self) {
        self.session.ended().await;
    }
}

impl Drop for WaiterKey {
    fn drop(&mut self) {
        let client = Arc::clone(&self.client);
        let suffix = mem::take(&mut self.suffix);
        if self.residue == Residue::None {
            self.give_back_lease();
            if !self.sent {
                client.suffixes.give_back(&self.id, suffix);
            }
            return;
        }
        let cleanup = WaiterCleanup {
            client: Arc::clone(&client),
            session: Arc::clone(&self.session),
            id: self.id.clone(),
            range: self.range.clone(),
            key: mem::take(&mut self.key),
            suffix,
            residue: self.residue,
            local: self.local.take(),
            own: self.own.take(),
            _pending: client.pending.begin(),
        };
        client.rpc.spawn(cleanup.run());
    }
}
