//! `QueueSession`: the lease that all waiters of one client share, so that a thousand of them cost one
//! keep-alive. A waiter that is granted its lock moves its key to a lease of its own.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use glock_core::{Action, Fault, LockError, backend};
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};

use crate::{
    client::rpc::Rpc,
    commands::revision,
    error::is_lease_gone,
    schema::{epoch_key, secret},
    session::lease::grant,
};

/// How long a waiter's key outlives a client that died; also for how long a client may be cut off
/// without losing its position in queues.
const TTL: Duration = Duration::from_secs(6);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Keep-alives without a waiter before the lease is revoked.
const IDLE_MAX: u32 = 5;

/// The lease of a client's waiters, for as long as there are some.
pub(crate) struct QueueSession {
    pub(crate) lease: i64,
    /// A key on the lease. A request to join a queue is valid for one revision of it only, so writing
    /// it shuts out the requests that are in flight.
    pub(crate) epoch_key: String,
    epoch: AtomicI64,
    ended: watch::Sender<bool>,
}

/// The session of a client, opened when it is first needed. Dropped, it is revoked.
pub(crate) struct QueueSessions {
    rpc: Arc<Rpc>,
    namespace: String,
    current: Mutex<Option<Arc<QueueSession>>>,
}

impl QueueSessions {
    pub(crate) fn new(rpc: Arc<Rpc>, namespace: &str) -> Arc<Self> {
        Arc::new(Self { rpc, namespace: namespace.into(), current: Mutex::default() })
    }

    /// The client's session, a new one if there is none. That is opened in a task: a waiter that gives
    /// up meanwhile leaves it to the next one, and no orphan.
    pub(crate) async fn join(self: &Arc<Self>) -> Result<Arc<QueueSession>, LockError> {
        if let Some(session) = alive(self.current.lock().await.as_ref()) {
            return Ok(session);
        }
        let sessions = Arc::clone(self);
        let opened = tokio::spawn(async move { sessions.open().await });
        opened.await.unwrap_or_else(|err| {
            Err(LockError::backend(backend::ETCD, Action::Wait, Fault::Unknown, err))
        })
    }

    /// Whether there is a session, so that to join a queue takes one request.
    pub(crate) fn is_open(&self) -> bool {
        self.current.try_lock().is_ok_and(|current| alive(current.as_ref()).is_some())
    }

    async fn open(self: Arc<Self>) -> Result<Arc<QueueSession>, LockError> {
        let mut current = self.current.lock().await;
        if let Some(session) = alive(current.as_ref()) {
            return Ok(session);
        }
        let session = Arc::new(QueueSession::open(&self.rpc, &self.namespace).await?);
        *current = Some(Arc::clone(&session));
        let end = EndOnDrop(Arc::downgrade(&session));
        self.rpc.spawn(keep(Arc::downgrade(&self), end));
        Ok(session)
    }

    /// Takes the session away unless a waiter uses it.
    async fn retire(&self, session: &Arc<QueueSession>) -> bool {
        let mut current = self.current.lock().await;
        // The caller's and the one in `current`; no waiter can join meanwhile.
        let idle = Arc::strong_count(session) <= 2;
        if idle {
            *current = None;
        }
        idle
    }
}

impl Drop for QueueSessions {
    fn drop(&mut self) {
        let session = self.current.get_mut().take();
        self.rpc.revoke_later(session.iter().map(|session| session.lease).collect());
    }
}

fn alive(current: Option<&Arc<QueueSession>>) -> Option<Arc<QueueSession>> {
    current.filter(|session| !session.has_ended()).map(Arc::clone)
}

impl QueueSession {
    async fn open(rpc: &Arc<Rpc>, namespace: &str) -> Result<Self, LockError> {
        let lease = grant(rpc, Action::Wait, TTL).await?.id;
        let epoch_key = epoch_key(namespace, &secret()?);
        let (epoch, ended) = (AtomicI64::new(0), watch::Sender::new(false));
        let session = Self { lease, epoch_key, epoch, ended };
        session.begin_epoch(rpc).await.inspect_err(|_| rpc.revoke_later(vec![lease]))?;
        Ok(session)
    }

    /// Whether the lease is known to be gone, and every waiter's key with it.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Ends the session if a request on its lease failed because the lease is gone. Returns whether it
    /// did.
    pub(crate) fn ends_with<T>(&self, result: &Result<T, LockError>) -> bool {
        let gone = result.as_ref().is_err_and(is_lease_gone);
        if gone {
            self.end();
        }
        gone
    }

    /// Returns once the session has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // An error would mean that the sender is gone; it lives as long as `self`.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// The revision of the epoch's key for which a request to join a queue is valid.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What every request to join a queue compares.
    pub(crate) fn in_epoch(&self, epoch: i64) -> Compare {
        Compare::mod_revision(self.epoch_key.clone(), CompareOp::Equal, epoch)
    }

    /// Notes the revision of the epoch's key. Revisions only grow.
    pub(crate) fn note_epoch(&self, revision: i64) {
        self.epoch.fetch_max(revision, Ordering::AcqRel);
    }

    /// The operation that begins a new epoch. It fails if the lease is gone; then no request in flight
    /// can use the lease either.
    pub(crate) fn new_epoch(&self) -> TxnOp {
        TxnOp::put(self.epoch_key.clone(), "", Some(PutOptions::new().with_lease(self.lease)))
    }

    /// Shuts out every request to join a queue that is in flight.
    pub(crate) async fn begin_epoch(&self, rpc: &Rpc) -> Result<(), LockError> {
        let txn = Txn::new().and_then([self.new_epoch()]);
        let (reply, _) = rpc.txn(Action::Wait, &txn).await;
        self.note_epoch(revision(reply?.header()));
        Ok(())
    }
}

/// Keeps the lease alive while there are waiters, and revokes it after a while without one.
async fn keep(sessions: Weak<QueueSessions>, end: EndOnDrop) {
    let session = &end.0;
    let Some((lease, mut ended)) =
        session.upgrade().map(|session| (session.lease, session.ended.subscribe()))
    else {
        return;
    };
    let mut idle = 0;
    loop {
        tokio::select! {
            // The client is gone, or the lease is.
            _ = ended.changed() => break,
            () = sleep(KEEP_ALIVE_EVERY) => {}
        }
        let (Some(sessions), Some(session)) = (sessions.upgrade(), session.upgrade()) else {
            break;
        };
        // This task's, and the one that is kept for the next waiter.
        idle = if Arc::strong_count(&session) <= 2 { idle + 1 } else { 0 };
        if idle > IDLE_MAX && sessions.retire(&session).await {
            break;
        }
        let kept = sessions.rpc.keep_alive(Action::Wait, lease, TTL).await;
        // After one that failed, the next one may succeed.
        if matches!(kept, Ok(false)) {
            session.end();
        }
    }
    if let Some(sessions) = sessions.upgrade() {
        let _ = sessions.rpc.revoke(Action::Wait, lease).await;
    }
}

/// Ends a session that is not kept alive any more, also when the task goes with its runtime. (A task
/// that starts again elsewhere would do so too late: the waiters do not know that the first is gone.)
struct EndOnDrop(Weak<QueueSession>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(session) = self.0.upgrade() {
            session.end();
        }
    }
}
