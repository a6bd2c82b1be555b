//! Waiting: until the lock may be free, and in the servers' queue for it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, Retry,
    toolkit::{QueueStep, ServerQueue, acquire_queued},
};
use tokio::time;
use zookeeper_client::Error;

use crate::{
    acquire::{AcquireAttempt, FirstInQueue},
    client::Client,
    commands::retry_read,
    error::error,
    queue::WaiterNode,
    schema::in_order,
    session::Session,
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
        let session = session(client, Action::Wait).await?;
        loop {
            if let Some(lock) = watch(client, &session, paths.lock()).await? {
                lock.fired().await;
                return Ok(());
            }
            let queue = waiters(client, &session, paths.queue()).await?;
            let Some(first) = queue.first() else { return Ok(()) };
            if let Some(first) = watch(client, &session, paths.waiter(first)).await? {
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
        self.client.open_session().is_some_and(|session| session.waiters.count(&queue) > 0)
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        self.acquire(AcquireAttempt::new(self.client, self.id, self.ttl)).await
    }

    async fn join(&self) -> Result<Option<Entry>, LockError> {
        let session = session(self.client, Action::Acquire).await?;
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
        match self.acquire_first(&waiting.node, is_last).await {
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

    async fn acquire_first(&self, node: &WaiterNode, is_last: bool) -> Result<Lease, LockError> {
        let first = FirstInQueue { session: Arc::clone(&node.session), path: node.path(), is_last };
        // A new attempt each time: the undo of an earlier one must not meet this one's grant.
        self.acquire(AcquireAttempt::new(self.client, self.id, self.ttl).first(first)).await
    }

    /// Looks at the queue and sleeps until the predecessor is gone. Returns whether the waiter is the
    /// first.
    async fn moves_up(&self, Entry { node, is_last, .. }: &mut Entry) -> Result<bool, LockError> {
        let queue = waiters(self.client, &node.session, node.paths.queue()).await?;
        let Some(at) = queue.iter().position(|name| name == node.name()) else {
            return Err(error(Action::Acquire, Error::RuntimeInconsistent));
        };
        *is_last = at + 1 == queue.len();
        let Some(predecessor) = at.checked_sub(1).map(|before| &queue[before]) else {
            return Ok(true);
        };
        let gone = match node.local_predecessor(predecessor) {
            Some(mut local) => tokio::select! {
                gone = local.gone() => gone,
                () = node.session.liveness.deadline().expired() => false,
                () = time::sleep(self.retry.pause()) => false,
            },
            None => self.sleep(node, node.paths.waiter(predecessor)).await?,
        };
        // New waiters come behind.
        Ok(gone && at == 1)
    }

    /// Sleeps until a node changes, if it is there, and at most for the retry's pause. Returns whether
    /// it surely is gone.
    async fn sleep(&self, node: &WaiterNode, path: String) -> Result<bool, LockError> {
        match watch(self.client, &node.session, path).await? {
            Some(watch) => {
                let fired = time::timeout(self.retry.pause(), watch.fired()).await;
                Ok(fired.unwrap_or(false))
            }
            None => Ok(true),
        }
    }
}

async fn session(client: &Arc<Client>, action: Action) -> Result<Arc<Session>, LockError> {
    if let Some(session) = client.open_session() {
        return Ok(session);
    }
    let open = Arc::clone(client);
    client.call(action).run(async move { open.session(action).await }).await
}

async fn watch(
    client: &Client,
    session: &Arc<Session>,
    path: String,
) -> Result<Option<Watch>, LockError> {
    let session = Arc::clone(session);
    let watch =
        async move { Watch::on(&session, &path).await.map_err(|err| error(Action::Wait, err)) };
    client.call(Action::Wait).run(watch).await
}

/// The names of the waiters in a queue, in its order.
async fn waiters(
    client: &Client,
    session: &Arc<Session>,
    queue: String,
) -> Result<Vec<String>, LockError> {
    let session = Arc::clone(session);
    let list = async move {
        match retry_read(&session, || session.client.list_children(&queue)).await {
            Ok(names) => Ok(in_order(names)),
            Err(Error::NoNode) => Ok(Vec::new()),
            Err(err) => Err(error(Action::Wait, err)),
        }
    };
    client.call(Action::Wait).run(list).await
}
