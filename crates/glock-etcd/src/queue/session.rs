//! `Session`: the lease that all waiters of one client share, so that a thousand of them cost one
//! keep-alive. A waiter that is granted its lock takes its key to a lease of its own.

use std::{
    fmt,
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
    client::rpc::{Store, revision},
    error::is_lease_gone,
    schema::{epoch_key, secret},
    session::lease::grant,
};

/// How long a place in line outlives a client that died; also what a client may be cut off for
/// without losing its places.
const TTL: Duration = Duration::from_secs(6);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Keep-alives without a waiter before the lease is given up.
const IDLE_MAX: u32 = 5;

/// The lease of a client's waiters, for as long as there are some.
pub(crate) struct Session {
    pub(crate) lease: i64,
    /// A key on the lease. Requests to get in line are good for one revision of it only, so that
    /// writing it shuts out those that may still be on their way.
    pub(crate) epoch_key: String,
    epoch: AtomicI64,
    ended: watch::Sender<bool>,
}

/// The session of a client, made when it is first needed.
pub(crate) struct Sessions {
    current: Mutex<Option<Arc<Session>>>,
    store: Weak<Store>,
}

impl Sessions {
    pub(crate) fn new(store: Weak<Store>) -> Self {
        Self { current: Mutex::default(), store }
    }

    /// The client's session, a new one if there is none. That one is made in a task: a waiter that
    /// gives up meanwhile leaves it to the next, and not an orphan.
    pub(crate) async fn join(&self, store: &Arc<Store>) -> Result<Arc<Session>, LockError> {
        if let Some(session) = Self::there(self.current.lock().await.as_ref()) {
            return Ok(session);
        }
        let work = Arc::clone(store);
        let made = tokio::spawn(async move { work.sessions.make(&work).await });
        made.await.unwrap_or_else(|err| {
            Err(LockError::backend(backend::ETCD, Action::Wait, Fault::Unknown, err))
        })
    }

    fn there(current: Option<&Arc<Session>>) -> Option<Arc<Session>> {
        current.filter(|session| !session.has_ended()).map(Arc::clone)
    }

    async fn make(&self, store: &Store) -> Result<Arc<Session>, LockError> {
        let mut current = self.current.lock().await;
        if let Some(session) = Self::there(current.as_ref()) {
            return Ok(session);
        }
        let session = Arc::new(Session::start(store).await?);
        *current = Some(Arc::clone(&session));
        let ends = Ends(Arc::downgrade(&session));
        store.spawn(keep(Weak::clone(&self.store), ends));
        Ok(session)
    }

    /// The lease, for the client's end.
    pub(crate) fn take(&mut self) -> Option<i64> {
        self.current.get_mut().take().map(|session| session.lease)
    }

    /// Takes the session away unless somebody uses it.
    async fn retire(&self, session: &Arc<Session>) -> bool {
        let mut current = self.current.lock().await;
        // Ours and the one in `current`: nobody can join meanwhile.
        let idle = Arc::strong_count(session) <= 2;
        if idle {
            *current = None;
        }
        idle
    }
}

impl Session {
    async fn start(store: &Store) -> Result<Self, LockError> {
        let action = Action::Wait;
        let lease = grant(store, action, TTL).await?.id;
        let key = epoch_key(&store.config.namespace, &secret()?);
        let put = TxnOp::put(key.clone(), "", Some(PutOptions::new().with_lease(lease)));
        let (answer, _) = store.txn(action, &Txn::new().and_then([put])).await;
        let answer = answer.inspect_err(|_| store.leases.end(lease))?;
        let epoch = AtomicI64::new(revision(answer.header()));
        Ok(Self { lease, epoch_key: key, epoch, ended: watch::Sender::new(false) })
    }

    /// Whether etcd has told that the lease is gone, and every place with it.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Returns once the session has ended.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // An error would mean that the sender is gone; it lives as long as `self`.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// The revision of the key that requests to get in line are good for.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What every request to get in line compares.
    pub(crate) fn in_epoch(&self, epoch: i64) -> Compare {
        Compare::mod_revision(self.epoch_key.clone(), CompareOp::Equal, epoch)
    }

    /// Takes note of the key's revision; they only grow.
    pub(crate) fn learn_epoch(&self, revision: i64) {
        self.epoch.fetch_max(revision, Ordering::AcqRel);
    }

    /// What begins a new epoch. Fails if the lease is gone, and then nothing late can use it.
    pub(crate) fn new_epoch(&self) -> TxnOp {
        TxnOp::put(self.epoch_key.clone(), "", Some(PutOptions::new().with_lease(self.lease)))
    }

    /// Shuts out every request to get in line that may still be on its way.
    pub(crate) async fn begin_epoch(&self, store: &Store) -> Result<(), LockError> {
        let txn = Txn::new().and_then([self.new_epoch()]);
        let (answer, _) = store.txn(Action::Wait, &txn).await;
        self.learn_epoch(revision(answer?.header()));
        Ok(())
    }
}

/// Keeps the lease alive while somebody waits, and revokes it once nobody has for a while.
async fn keep(store: Weak<Store>, ends: Ends) {
    let session = &ends.0;
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
        let (Some(store), Some(session)) = (store.upgrade(), session.upgrade()) else { break };
        // Ours, and the one that is there for the next waiter.
        idle = if Arc::strong_count(&session) <= 2 { idle + 1 } else { 0 };
        if idle > IDLE_MAX && store.sessions.retire(&session).await {
            break;
        }
        let kept = store.keep_alive(Action::Wait, lease, TTL).await;
        // One that failed may be followed by one that comes through.
        if matches!(kept, Ok(false)) {
            session.end();
        }
    }
    if let Some(store) = store.upgrade() {
        let _ = store.revoke(Action::Wait, lease).await;
    }
}

/// Ends a session that nobody keeps alive any more: also where its keeper goes with its runtime.
struct Ends(Weak<Session>);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(session) = self.0.upgrade() {
            session.end();
        }
    }
}

/// Ends the session if its lease turned out to be gone; whether it did.
pub(crate) fn ends<T>(session: &Session, result: &Result<T, LockError>) -> bool {
    let gone = result.as_ref().is_err_and(is_lease_gone);
    if gone {
        session.end();
    }
    gone
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("ended", &self.has_ended()).finish_non_exhaustive()
    }
}
