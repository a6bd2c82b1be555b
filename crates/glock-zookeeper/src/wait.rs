//! Waiting: until the lock may be free, and in line for it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, Lock, LockError, LockId, Retry, backend,
    toolkit::{Call, FnAttempt, QueuePermit},
};
use tokio::{
    sync,
    time::{self, Instant},
};
use zookeeper_client::{Error, EventType, OneshotWatcher};

use crate::{
    acquire::AcquireTxn,
    client::{Client, Owners},
    commands,
    error::error,
    lock::{ZooKeeperLock, undo},
    queue::leave::sweep,
    queue::local_waiters,
    queue::waiter_node::WaiterNode,
    schema::{self, LockPaths},
    session::opener::Session,
};

/// Sleeps until the lock is free and nobody is in line for it, and at most for `max`.
pub(crate) async fn until_free(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let place = client.place(id);
    let free = async {
        let session = session(client, Action::Wait).await?;
        loop {
            if let Some(lock) = watch(client, &session, place.lock()).await? {
                session.changed(lock).await;
                return Ok(());
            }
            let line = line(client, &session, place.queue()).await?;
            let Some(first) = line.first() else { return Ok(()) };
            if let Some(first) = watch(client, &session, place.waiter(first)).await? {
                session.changed(first).await;
            }
        }
    };
    time::timeout(max, free).await.unwrap_or(Ok(()))
}

/// Somebody who waits for a lock in the servers' queue.
pub(crate) struct Waiter<'a> {
    lock: &'a ZooKeeperLock,
    client: &'a Arc<Client>,
    id: &'a LockId,
    ttl: Duration,
    retry: &'a Retry,
    started: Instant,
    /// The servers' failure, if that was the last thing seen.
    failed: Option<LockError>,
    failures: u32,
    /// Kept until the servers' queue has this waiter, so that their order is that of the calls.
    turn: Option<QueuePermit>,
}

/// The first and longest pause while the servers fail.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl<'a> Waiter<'a> {
    pub(crate) fn new(
        lock: &'a ZooKeeperLock,
        client: &'a Arc<Client>,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Self {
        let started = Instant::now();
        Self { lock, client, id, ttl, retry, started, failed: None, failures: 0, turn: None }
    }

    pub(crate) async fn acquire(mut self) -> Result<Lease, LockError> {
        let deadline = self.started.checked_add(self.retry.wait_max);
        let arrive = self.client.arrivals.permit(self.id);
        let turn = match deadline {
            None => arrive.await,
            Some(at) => match time::timeout_at(at, arrive).await {
                Ok(turn) => turn,
                Err(_) => return Err(self.out_of_time()),
            },
        };
        let queued = turn.waited() || self.others_wait();
        self.turn = Some(turn);
        // A lock that is free and has no line is taken without standing in it.
        if !queued {
            match self.lock.acquire(self.id, self.ttl).await {
                Err(err) if err.is_retryable() => self.failed = Some(err),
                result => return result,
            }
        }
        loop {
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Err(self.out_of_time());
            }
            let patience = async {
                self.back_off().await;
                self.in_order().await
            };
            let result = match deadline {
                None => patience.await,
                Some(at) => match time::timeout_at(at, patience).await {
                    Ok(result) => result,
                    Err(_) => return Err(self.out_of_time()),
                },
            };
            match result {
                Err(err) if err.is_retryable() => self.failed = Some(err),
                result => return result,
            }
        }
    }

    /// Stands in line, and takes the lock when it is its turn.
    async fn in_order(&mut self) -> Result<Lease, LockError> {
        let session = session(self.client, Action::Acquire).await?;
        let place = self.client.place(self.id);
        let node = {
            let (session, place) = (Arc::clone(&session), place.clone());
            let join = async move { WaiterNode::join(&session, &place).await };
            run(self.client, Action::Acquire, join).await?
        };
        (self.failed, self.failures) = (None, 0);
        self.turn = None;
        let alone = self.come_first(&session, &place, node.name()).await?;
        loop {
            self.sleep(&session, place.lock()).await?;
            let last = alone && session.local_waiters.count(&place.queue()) <= 1;
            let took = self.take_turn(&session, place.waiter(node.name()), last);
            match took.await {
                Err(LockError::Held { .. }) => {}
                Ok(lease) => {
                    node.taken();
                    if !last && session.node_options.is_persistent() {
                        let swept = Arc::clone(&session);
                        session.runtime.spawn(async move { sweep(&swept, &place).await });
                    }
                    return Ok(lease);
                }
                Err(err) => return Err(err),
            }
        }
    }

    /// Waits until nobody is before the place of this name; whether nobody was seen behind it.
    async fn come_first(
        &self,
        session: &Arc<Session>,
        place: &LockPaths,
        node: &str,
    ) -> Result<bool, LockError> {
        let queue = place.queue();
        loop {
            let line = line(self.client, session, queue.clone()).await?;
            let Some(at) = line.iter().position(|name| name == node) else {
                return Err(error(Action::Acquire, Error::RuntimeInconsistent));
            };
            let alone = at + 1 == line.len();
            let Some(before) = at.checked_sub(1).map(|before| &line[before]) else {
                return Ok(alone);
            };
            let gone = match session.local_waiters.get(&queue, before) {
                Some(ours) => self.sleep_behind(session, ours).await,
                None => self.sleep(session, place.waiter(before)).await?,
            };
            // Who comes, comes behind.
            if gone && at == 1 {
                return Ok(alone);
            }
        }
    }

    /// Whether others of this client are in line already, so that a try would be refused.
    fn others_wait(&self) -> bool {
        let queue = self.client.place(self.id).queue();
        self.client
            .sessions
            .current()
            .is_some_and(|session| session.local_waiters.count(&queue) > 0)
    }

    async fn take_turn(
        &self,
        session: &Arc<Session>,
        node: String,
        last: bool,
    ) -> Result<Lease, LockError> {
        let (client, session, ttl) = (Arc::clone(self.client), Arc::clone(session), self.ttl);
        // Others each time: what undoes an earlier try must not meet this one's grant.
        let (id, owners) = (self.id.clone(), Owners::default());
        let undo = undo(self.client, owners.clone());
        let take = async move {
            client.take(&session, &id, &owners, ttl, AcquireTxn::Line { place: &node, last }).await
        };
        Call::new(backend::ZOOKEEPER, Action::Acquire, self.client.limit)
            .acquire(ttl, FnAttempt::new(take, undo))
            .await
    }

    /// Sleeps until a node changes, if it is there; and no longer than the pause, to be safe.
    /// Whether it surely is gone.
    async fn sleep(&self, session: &Arc<Session>, path: String) -> Result<bool, LockError> {
        let Some(node) = watch(self.client, session, path).await? else { return Ok(true) };
        let changed = time::timeout(self.retry.pause(), session.changed(node)).await;
        Ok(changed == Ok(Some(EventType::NodeDeleted)))
    }

    /// The same behind a place of this client's own, of which it hears without the servers.
    async fn sleep_behind(&self, session: &Session, ours: sync::watch::Receiver<bool>) -> bool {
        tokio::select! {
            gone = local_waiters::gone(ours) => gone,
            () = session.liveness.session_deadline().expired() => false,
            () = time::sleep(self.retry.pause()) => false,
        }
    }

    async fn back_off(&mut self) {
        if self.failed.as_ref().is_none_or(|err| err.fault().is_none()) {
            return;
        }
        self.turn = None;
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        time::sleep(pause).await;
    }

    /// A store that fails says more than the clock.
    fn out_of_time(&mut self) -> LockError {
        let store = self.failed.take().filter(|err| err.fault().is_some());
        store.unwrap_or_else(|| LockError::Timeout {
            id: self.id.clone(),
            waited: self.started.elapsed(),
        })
    }
}

async fn run<T: Send + 'static>(
    client: &Client,
    action: Action,
    work: impl Future<Output = Result<T, LockError>> + Send + 'static,
) -> Result<T, LockError> {
    Call::new(backend::ZOOKEEPER, action, client.limit).run(work).await
}

async fn session(client: &Arc<Client>, action: Action) -> Result<Arc<Session>, LockError> {
    if let Some(session) = client.sessions.current() {
        return Ok(session);
    }
    let open = Arc::clone(client);
    run(client, action, async move { open.session(action).await }).await
}

/// Watches a node; `None` if it is not there.
async fn watch(
    client: &Client,
    session: &Arc<Session>,
    path: String,
) -> Result<Option<OneshotWatcher>, LockError> {
    let session = Arc::clone(session);
    let watch = async move {
        let client = &session.client;
        match commands::retry_read(&session, || client.get_and_watch_data(&path)).await {
            Ok((_, _, watcher)) => Ok(Some(watcher)),
            Err(Error::NoNode) => Ok(None),
            Err(err) => Err(error(Action::Wait, err)),
        }
    };
    run(client, Action::Wait, watch).await
}

/// Who is in line, the first first.
async fn line(
    client: &Client,
    session: &Arc<Session>,
    queue: String,
) -> Result<Vec<String>, LockError> {
    let session = Arc::clone(session);
    let list = async move {
        match commands::retry_read(&session, || session.client.list_children(&queue)).await {
            Ok(names) => Ok(schema::in_order(names)),
            Err(Error::NoNode) => Ok(Vec::new()),
            Err(err) => Err(error(Action::Wait, err)),
        }
    };
    run(client, Action::Wait, list).await
}
