//! Waiting: until the lock may be free, and in the servers' queue for it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, Retry,
    toolkit::{LocalPredecessor, QueueStep, ServerQueue, acquire_queued},
};
use tokio::time;
use zookeeper_client::Error;

use crate::{
    acquire::{AcquireAttempt, AcquireTxn},
    client::Client,
    error::error,
    queue::{WaiterNode, waiters},
    watch::Watch,
};

/// Waits until the lock is free and has no waiters in the queue, and at most for `max`.
pub(crate) async fn until_free(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let paths = client.paths(id);
    let free = async {
        let session = client.sessions.get(Action::Wait).await?;
        loop {
            if let Some(lock) = client.read(Watch::on(Arc::clone(&session), paths.lock())).await? {
                lock.fired().await;
                return Ok(());
            }
            let queue = client.read(waiters(Arc::clone(&session), paths.queue())).await?;
            let Some(first) = queue.first() else { return Ok(()) };
            if let Some(first) =
                client.read(Watch::on(Arc::clone(&session), paths.waiter(first))).await?
            {
                first.fired().await;
            }
        }
    };
    time::timeout(max, free).await.unwrap_or(Ok(()))
}

/// Waits in the servers' queue until the lock is granted or `retry` says to stop.
pub(crate) async fn in_queue(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    retry: &Retry,
) -> Result<Lease, LockError> {
    let queue = Queue { client, id, ttl, retry };
    acquire_queued(&queue, &client.arrivals, id, retry).await
}

/// The servers' queue for one lock, as one waiter sees it.
struct Queue<'a> {
    client: &'a Arc<Client>,
    id: &'a LockId,
    ttl: Duration,
    retry: &'a Retry,
}

/// A waiter in the queue.
struct Entry {
    node: WaiterNode,
    /// Whether no waiter is before it.
    is_first: bool,
    /// Whether no waiter was seen behind it.
    is_last: bool,
}

impl ServerQueue for Queue<'_> {
    /// `None` once the waiter has left the queue because a request failed.
    type Entry = Option<Entry>;

    fn has_local_waiters(&self) -> bool {
        let queue = self.client.paths(self.id).queue();
        self.client.sessions.current().is_some_and(|session| session.waiters.count(&queue) > 0)
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        self.acquire(AcquireAttempt::new(self.client, self.id, self.ttl)).await
    }

    async fn join(&self) -> Result<Option<Entry>, LockError> {
        let session = self.client.sessions.get(Action::Acquire).await?;
        let paths = self.client.paths(self.id);
        let join = async move { WaiterNode::join(&session, &paths).await };
        let node = self.client.call(Action::Acquire).run(join).await?;
        Ok(Some(Entry { node, is_first: false, is_last: false }))
    }

    async fn next(&self, entry: &mut Option<Entry>) -> Result<QueueStep, LockError> {
        // A waiter whose request failed leaves the queue: its node may be in the way of others, and a
        // late request could still take the lock with it.
        let Some(mut waiting) = entry.take() else { return Ok(QueueStep::Lost) };
        if !waiting.is_first && !self.moves_up(&mut waiting).await? {
            *entry = Some(waiting);
            return Ok(QueueStep::Waiting);
        }
        waiting.is_first = true;
        self.sleep(&waiting.node, waiting.node.paths.lock()).await?;
        let is_last = waiting.is_last && waiting.node.is_only_local();
        waiting.node.takes_its_turn();
        // A new attempt each time: the undo of an earlier one must not meet this one's grant.
        let attempt = AcquireAttempt::new(self.client, self.id, self.ttl);
        let txn = AcquireTxn::First { path: waiting.node.path(), is_last };
        match self.acquire(attempt.in_session(&waiting.node.session, txn)).await {
            Ok(lease) => {
                if !is_last {
                    waiting.node.delete_empty_queue();
                }
                waiting.node.became_hold();
                Ok(QueueStep::Granted(lease))
            }
            Err(LockError::Held { .. }) => {
                *entry = Some(waiting);
                Ok(QueueStep::Waiting)
            }
            Err(err) => Err(err),
        }
    }
}

impl Queue<'_> {
    async fn acquire(&self, attempt: AcquireAttempt) -> Result<Lease, LockError> {
        self.client.call(Action::Acquire).acquire(self.ttl, attempt).await
    }

    /// Sleeps until the predecessor is gone. Returns whether the waiter is the first.
    ///
    /// It looks at the whole queue, unless it knows its predecessor as this client's, which joined right before it:
    /// so many waiters of one client cost the same each.
    async fn moves_up(&self, Entry { node, is_last, .. }: &mut Entry) -> Result<bool, LockError> {
        if let Some(mut before) = node.joined_behind.take()
            && self.is_gone(node, &mut before).await
            && before.was_served()
        {
            // As far as is known. The transaction that takes the lock proves it, or is sent again.
            *is_last = true;
            return Ok(true);
        }
        let queue =
            self.client.read(waiters(Arc::clone(&node.session), node.paths.queue())).await?;
        let Some(at) = queue.iter().position(|name| name == node.name()) else {
            return Err(error(Action::Acquire, Error::RuntimeInconsistent));
        };
        *is_last = at + 1 == queue.len();
        let Some(predecessor) = at.checked_sub(1).map(|before| &queue[before]) else {
            return Ok(true);
        };
        let gone = match node.local_predecessor(predecessor) {
            Some(mut before) => self.is_gone(node, &mut before).await,
            None => self.sleep(node, node.paths.waiter(predecessor)).await?,
        };
        // New waiters come behind.
        Ok(gone && at == 1)
    }

    /// Sleeps until another waiter of this client is gone, and at most for the retry's pause.
    async fn is_gone(&self, node: &WaiterNode, before: &mut LocalPredecessor) -> bool {
        tokio::select! {
            gone = before.gone() => gone,
            () = node.session.liveness.deadline().expired() => false,
            () = time::sleep(self.retry.pause()) => false,
        }
    }

    /// Sleeps until a node changes, if it is there, and at most for the retry's pause. Returns whether
    /// it surely is gone.
    async fn sleep(&self, node: &WaiterNode, path: String) -> Result<bool, LockError> {
        match self.client.read(Watch::on(Arc::clone(&node.session), path)).await? {
            Some(watch) => {
                let fired = time::timeout(self.retry.pause(), watch.fired()).await;
                Ok(fired.unwrap_or(false))
            }
            None => Ok(true),
        }
    }
}
