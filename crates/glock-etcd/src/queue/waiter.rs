//! `Place`: a waiter's place in etcd's line. Dropping it gives it up.

use std::{mem, sync::Arc, time::Duration};

use etcd_client::Txn;
use glock_core::{Action, Fault, Lease, LockError, LockId};

use crate::{
    client::rpc::{Store, fence, revision},
    commands,
    error::{garbled, is_lease_gone},
    queue::cleanup::{Cleared, Left, Unwanted},
    queue::session::{Session, ends},
    schema::{Owner, Range, is_of, secret, value},
    session::lease::lease,
    session::pool::{Leases, Spare},
};

/// A waiter's place in line: a key on the session's lease, behind all keys of the same lock that
/// were made before it.
pub(crate) struct Place {
    store: Arc<Store>,
    session: Arc<Session>,
    id: LockId,
    ttl: Duration,
    range: Range,
    /// What the key ends in.
    seat: String,
    secret: String,
    key: String,
    /// The revision that made the key, once it is known: the fencing token to come.
    created: i64,
    /// The lease that the lock will be held on. It stays with the place, because a request that
    /// uses it may still be on its way.
    own: Option<Spare>,
    /// Whether the key may be there, or may have been.
    asked: bool,
    /// What has to be undone when the place is given up.
    left: Left,
}

/// What a waiter found out.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It has the lock.
    First(Lease),
    /// This key is before it. Whatever happens to it happens after this revision.
    Behind(String, i64),
    /// It has no place any more: its session has ended, or somebody deleted its key.
    Nowhere,
}

impl Place {
    /// A place that is not in line yet.
    pub(crate) fn new(
        store: &Arc<Store>,
        session: Arc<Session>,
        id: &LockId,
        ttl: Duration,
    ) -> Result<Self, LockError> {
        let (range, seat, secret) = (store.range(id), store.seats.take(id)?, secret()?);
        Ok(Self {
            key: range.key(&seat),
            seat,
            store: Arc::clone(store),
            session,
            id: id.clone(),
            ttl,
            range,
            secret,
            created: 0,
            own: None,
            asked: false,
            left: Left::Nothing,
        })
    }

    /// Gets in line behind everybody.
    pub(crate) async fn get_in_line(&mut self) -> Result<Standing, LockError> {
        let value = value(&self.secret, &self.store.config.holder);
        loop {
            let epoch = self.session.epoch();
            let compared = (self.session.in_epoch(epoch), &*self.session.epoch_key);
            let (range, key) = (&self.range, &*self.key);
            let txn = commands::get_in_line(range, key, &value, self.session.lease, compared);
            (self.asked, self.left) = (true, Left::Request);
            let (answer, asked) = self.store.txn(Action::Wait, &txn).await;
            if ends(&self.session, &answer) {
                self.left = Left::Nothing;
                return Ok(Standing::Nowhere);
            }
            let refused = answer.as_ref().is_err_and(|err| err.fault() == Some(Fault::Rejected));
            if refused && asked == 1 {
                // Else an earlier attempt may make the key yet.
                self.left = Left::Nothing;
            }
            let answer = answer?;
            let own = commands::kvs(&answer, 0).into_iter().next();
            if answer.succeeded() {
                let line = commands::kvs(&answer, 1);
                let [ours, before @ ..] = &*line else { return Err(garbled(Action::Wait)) };
                let before = before.first().map(|kv| text(kv.key()));
                self.joined(ours.create_revision(), asked).await?;
                let Some(before) = before else { return self.move_up().await };
                return Ok(Standing::Behind(before, revision(answer.header())));
            }
            if let Some(ours) = own {
                if !is_of(ours.value(), &self.secret) {
                    // An earlier one, which a backup has brought back. It is nobody's.
                    self.left = Left::Nothing;
                    return Ok(Standing::Nowhere);
                }
                // Made by a request whose answer was lost.
                self.joined(ours.create_revision(), asked.max(2)).await?;
                return self.move_up().await;
            }
            let told = commands::kvs(&answer, 1).first().map(etcd_client::KeyValue::mod_revision);
            // It goes back only if etcd was restored from a backup.
            let Some(told) = told.filter(|told| *told >= epoch) else {
                self.session.end();
                self.left = Left::Nothing;
                return Ok(Standing::Nowhere);
            };
            self.session.learn_epoch(told);
        }
    }

    /// The key is there. If it was asked for twice, no later request may make it again.
    async fn joined(&mut self, created: i64, asked: u32) -> Result<(), LockError> {
        self.created = created;
        self.store.neighbours.arrived(&self.key);
        if asked > 1 {
            let begun = self.session.begin_epoch(&self.store).await;
            if !ends(&self.session, &begun) {
                begun?;
            }
        }
        self.left = Left::Key;
        Ok(())
    }

    /// Looks where it stands, and takes the lock only if nobody is before it: for whoever comes
    /// without a reason to think so.
    pub(crate) async fn look(&mut self) -> Result<Standing, LockError> {
        let look = Txn::new().and_then(commands::look(&self.range, &self.key, self.created));
        let (answer, _) = self.store.txn(Action::Wait, &look).await;
        let answer = answer?;
        if commands::kvs(&answer, 0).is_empty() {
            return Ok(Standing::Nowhere);
        }
        match commands::kvs(&answer, 1).first() {
            Some(before) => Ok(Standing::Behind(text(before.key()), revision(answer.header()))),
            None => self.move_up().await,
        }
    }

    /// Looks where it stands, and takes the lock if nobody is before it: in one transaction, which
    /// sees to it that the key and the lease are there still.
    pub(crate) async fn move_up(&mut self) -> Result<Standing, LockError> {
        let action = Action::Acquire;
        let value = value(&self.secret, &self.store.config.holder);
        loop {
            let Some(own) = &mut self.own else {
                self.own = Some(lease(&self.store, action, self.ttl).await?);
                continue;
            };
            let leases = (self.session.lease, own.id);
            let txn = commands::move_up(&self.range, &self.key, &value, self.created, leases);
            let request = self.store.txn(action, &txn);
            let (answer, _) = Leases::freshened(&self.store, action, own, request, |_| true).await;
            let answer = match answer {
                Err(err) if is_lease_gone(&err) => {
                    self.own = None;
                    continue;
                }
                answer => answer?,
            };
            let ours = commands::kvs(&answer, 0).into_iter().next();
            let before = commands::kvs(&answer, 1).into_iter().next();
            // Moved by a request whose answer was lost.
            let moved = ours.as_ref().is_some_and(|kv| kv.lease() == own.id);
            if answer.succeeded() || moved && before.is_none() {
                return self.first();
            }
            return match (ours, before) {
                (Some(ours), Some(before)) if ours.create_revision() == self.created => {
                    Ok(Standing::Behind(text(before.key()), revision(answer.header())))
                }
                // The line moved between two attempts.
                (Some(ours), None)
                    if ours.create_revision() == self.created
                        && ours.lease() == self.session.lease =>
                {
                    continue;
                }
                _ => Ok(Standing::Nowhere),
            };
        }
    }

    fn first(&mut self) -> Result<Standing, LockError> {
        let Some(own) = &self.own else { return Err(garbled(Action::Acquire)) };
        let owner = Owner { lease: own.id, seat: self.seat.clone(), secret: self.secret.clone() }
            .token()?;
        let (since, ttl) = (own.since, own.ttl);
        let lease = Lease::granted(self.id.clone(), owner, fence(self.created), since, ttl);
        if lease.is_expired() {
            // It took too long to hear of it.
            return Ok(Standing::Nowhere);
        }
        self.own = None;
        self.left = Left::Nothing;
        Ok(Standing::First(lease))
    }

    /// Whether the place is lost with its session.
    pub(crate) fn has_ended(&self) -> bool {
        self.session.has_ended()
    }

    /// Returns once the place is lost with its session.
    pub(crate) async fn session_ended(&self) {
        self.session.ended().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (store, own) = (Arc::clone(&self.store), self.own.take());
        let seat = mem::take(&mut self.seat);
        if self.left == Left::Nothing {
            if let Some(own) = own {
                store.leases.give_back(own);
            }
            if !self.asked {
                store.seats.give_back(&self.id, seat);
            }
            return;
        }
        let (session, key) = (Arc::clone(&self.session), mem::take(&mut self.key));
        let mut unwanted = Unwanted::new(Arc::clone(&store), session, key, self.left);
        let id = self.id.clone();
        store.spawn(async move {
            let cleared = unwanted.clear().await;
            match own {
                // Nothing is attached to it, and no request can attach to it: the key is gone.
                Some(own) if cleared != Cleared::Never => unwanted.store.leases.give_back(own),
                // The key may be on it.
                Some(own) => unwanted.store.leases.end(own.id),
                None => {}
            }
            if cleared == Cleared::ForGood {
                unwanted.store.seats.give_back(&id, seat);
            }
        });
    }
}

/// Keys are made of text.
pub(crate) fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
