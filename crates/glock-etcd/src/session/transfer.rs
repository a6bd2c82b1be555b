//! `Move`: a hold on its way to another lease, of which it is not known yet whether it got there.

use std::sync::Arc;

use etcd_client::KeyValue;
use glock_core::Action;
use tokio::time::{Instant, sleep};

use crate::{client::rpc::Store, commands, session::pool::Spare};

/// A move that was asked for. One that is given up before the answer came is settled in the
/// background.
pub(crate) struct Move {
    pub(crate) store: Arc<Store>,
    pub(crate) key: String,
    /// The key as it was before.
    pub(crate) old: KeyValue,
    pub(crate) next: Spare,
    /// Whether the answer is not known.
    pub(crate) open: bool,
}

impl Drop for Move {
    fn drop(&mut self) {
        if self.open {
            let (store, key) = (Arc::clone(&self.store), std::mem::take(&mut self.key));
            self.store.spawn(settle(store, key, self.old.clone(), self.next.clone()));
        }
    }
}

/// Sees to it that a move has happened or never will, and keeps its lease alive meanwhile.
///
/// A renewal or release of the same hold may find the key on the next lease before this does, and
/// then that lease is theirs: so it is left to run out wherever they may have.
async fn settle(store: Arc<Store>, key: String, old: KeyValue, next: Spare) {
    let again = commands::move_lease(&key, old.value(), old.mod_revision(), old.lease());
    let began = Instant::now();
    let (mut kept_at, settled_by) = (began, next.ttl.max(store.limit() * 2));
    while kept_at.elapsed() < next.ttl && began.elapsed() < settled_by {
        let now = Instant::now();
        if matches!(store.keep_alive(Action::Renew, next.id, next.ttl).await, Ok(true)) {
            kept_at = now;
        }
        // Written once more, or gone: either way the revision that the move compares is history.
        if let Ok(answer) = store.txn(Action::Renew, &again).await.0 {
            let there = commands::kvs(&answer, 0).into_iter().next();
            let same = there.filter(|kv| kv.create_revision() == old.create_revision());
            if answer.succeeded() {
                // It has not happened, so nobody has seen that lease.
                store.leases.give_back(next);
            } else if same.is_some_and(|kv| kv.lease() == next.id) {
                // It has, and nobody else knows that the old lease is not needed any more.
                store.leases.end(old.lease());
            }
            return;
        }
        sleep(next.ttl / 4).await;
    }
}
