//! `WaiterCleanup`: deletes the key of a waiter that is gone, until etcd has confirmed it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockId,
    toolkit::{Backoff, LocalWaiter, PendingEntry},
};
use tokio::time::Instant;

use crate::{
    client::Client,
    commands::{self, revision},
    queue::session::QueueSession,
    schema::Range,
    session::lease::SpareLease,
};

/// What has to be undone when a waiter is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residue {
    /// Nothing: no request was sent, or the key became a hold.
    None,
    /// A key.
    Key,
    /// Perhaps a key, perhaps only a request in flight that will create one.
    Request,
}

/// Deletes the key of a waiter that is gone. If the runtime stops before the key is deleted, the session
/// is ended, which deletes all its keys.
pub(crate) struct WaiterCleanup {
    pub(crate) client: Arc<Client>,
    pub(crate) session: Arc<QueueSession>,
    pub(crate) id: LockId,
    pub(crate) range: Range,
    pub(crate) key: String,
    pub(crate) suffix: String,
    pub(crate) residue: Residue,
    pub(crate) local: Option<LocalWaiter>,
    /// The lease that the waiter's hold was to be on.
    pub(crate) own: Option<SpareLease>,
    pub(crate) _pending: PendingEntry,
}

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
/// A cluster that has not deleted a key for that long will not: the session is ended then.
const CLEAN_UP_MAX: Duration = Duration::from_mins(1);

/// What became of a key that was to be deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deleted {
    /// It is gone. A later key of that name would stay.
    Once,
    /// It is gone, and another request to delete it may be in flight.
    Repeatedly,
    /// etcd has not confirmed it.
    Unconfirmed,
}

impl WaiterCleanup {
    /// Deletes the key, and gives back what the waiter had.
    pub(crate) async fn run(mut self) {
        let deleted = self.delete().await;
        match self.own.take() {
            // No key is on it, and no request in flight can put one on it: the key is gone.
            Some(own) if deleted != Deleted::Unconfirmed => self.client.leases.put(own),
            // The key may be on it.
            Some(own) => self.client.leases.end(own.id),
            None => {}
        }
        if deleted == Deleted::Once {
            self.client.suffixes.give_back(&self.id, std::mem::take(&mut self.suffix));
        }
    }

    /// Deletes the key, and tries again until etcd has confirmed it: the waiters behind it must not wait
    /// for one that is gone.
    async fn delete(&mut self) -> Deleted {
        let (since, mut backoff, mut sent) = (Instant::now(), BACKOFF, 0);
        loop {
            let in_flight = self.residue == Residue::Request;
            let new_epoch = in_flight.then(|| self.session.new_epoch());
            let txn = commands::leave_queue(&self.range, &self.key, new_epoch);
            let (reply, times) = self.client.rpc.txn(Action::Wait, &txn).await;
            sent += times;
            if in_flight && self.session.ends_with(&reply) {
                // No request in flight can create a key on a lease that is gone.
                self.residue = Residue::Key;
                continue;
            }
            if let Ok(reply) = reply {
                if in_flight {
                    self.session.note_epoch(revision(reply.header()));
                }
                if let Some(local) = self.local.take() {
                    local.left();
                }
                self.residue = Residue::None;
                return if sent == 1 { Deleted::Once } else { Deleted::Repeatedly };
            }
            if since.elapsed() > CLEAN_UP_MAX {
                return Deleted::Unconfirmed;
            }
            backoff.sleep().await;
        }
    }
}

impl Drop for WaiterCleanup {
    fn drop(&mut self) {
        if self.residue != Residue::None {
            self.session.end();
        }
    }
}
