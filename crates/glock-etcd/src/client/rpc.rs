//! `Store`: what all clones of one lock share, and how etcd is asked.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use etcd_client::{Client, Error, KeyValue, ResponseHeader, Txn, TxnResponse};
use glock_core::{
    Action, Fault, FencingToken, Holder, LockConfig, LockError, LockId, backend,
    toolkit::{WaitQueue, Wakeups},
};
use tokio::{runtime::Handle, task::AbortHandle, time::timeout};

use crate::{
    client::hedge::hedged,
    client::source::Source,
    client::suffix_pool::Seats,
    client::watch_stream::Watcher,
    error::{failed, is_lease_gone, is_token_old},
    queue::local_waiters::Neighbours,
    queue::session::Sessions,
    schema::{Range, label},
    session::pool::Leases,
};

/// What all clones of one lock share. No lock state: only what is at hand and who waits.
pub(crate) struct Store {
    pub(crate) source: Arc<Source>,
    pub(crate) config: LockConfig,
    /// Leases that no lock uses at the moment.
    pub(crate) leases: Leases,
    /// What keys may end in that none ends in at the moment.
    pub(crate) seats: Seats,
    /// The lease that this client's waiters share.
    pub(crate) sessions: Sessions,
    pub(crate) watcher: Watcher,
    pub(crate) neighbours: Neighbours,
    /// Who of this client is in line for which lock.
    pub(crate) waiting: Wakeups,
    /// In which order they get there: one at a time, as they came.
    pub(crate) entry: WaitQueue,
    runtime: OnceLock<Handle>,
}

/// After this part of the call's time limit without an answer, another member is asked.
const ATTEMPT_PART: u32 = 8;
/// What keeps a lease alive is asked of another after this part of the TTL: it must get through in
/// the two thirds that a renewal has, even if one of three members stands still.
const LATE_PART: u32 = 24;

impl Store {
    pub(crate) fn new(source: Arc<Source>, config: LockConfig) -> Arc<Self> {
        Arc::new_cyclic(|store: &Weak<Self>| Self {
            watcher: Watcher::new(Arc::clone(&source)),
            source,
            config,
            leases: Leases::new(Weak::clone(store)),
            seats: Seats::default(),
            neighbours: Neighbours::default(),
            sessions: Sessions::new(Weak::clone(store)),
            waiting: Wakeups::new(),
            entry: WaitQueue::new(),
            runtime: OnceLock::new(),
        })
    }

    pub(crate) fn range(&self, id: &LockId) -> Range {
        Range::new(&self.config.namespace, id)
    }

    pub(crate) fn limit(&self) -> Duration {
        self.config.call_timeout
    }

    /// How long one member may take to answer.
    pub(crate) fn attempt(&self) -> Duration {
        self.limit() / ATTEMPT_PART
    }

    /// Takes note of the runtime, for what is done in the background.
    ///
    /// # Errors
    ///
    /// [`Fault::Rejected`] outside of a tokio runtime.
    pub(crate) fn enter(&self, action: Action) -> Result<(), LockError> {
        let runtime = Handle::try_current()
            .map_err(|err| LockError::backend(backend::ETCD, action, Fault::Rejected, err))?;
        let _ = self.runtime.set(runtime);
        Ok(())
    }

    /// Asks once. The caller bounds it in time.
    pub(crate) async fn ask_once<T, F>(
        &self,
        action: Action,
        ask: impl FnOnce(&Client) -> F + Send,
    ) -> Result<T, LockError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        self.enter(action)?;
        let client = self.source.client().await.map_err(|err| failed(action, err))?;
        let answer = ask(client).await;
        if answer.as_ref().is_err_and(is_token_old) {
            // The driver does so for one that has run out, and not for one from before a change of
            // the rights. A login that fails tells why when the request is repeated.
            let _ = client.refresh_token().await;
        }
        answer.map_err(|err| failed(action, err))
    }

    /// Asks, and asks again while there is no answer or it may be another one: the driver picks a
    /// member each time. For requests that are safe to repeat. Also says how often it asked: after
    /// the second time, the others may still come to pass.
    pub(crate) async fn ask<T, F>(
        &self,
        action: Action,
        ask: impl Fn(&Client) -> F + Send + Sync,
    ) -> (Result<T, LockError>, u32)
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let times = (self.late(self.attempt()), self.limit());
        hedged(action, times, || self.ask_once(action, &ask)).await
    }

    /// After how long another member is asked: never, if there is no other.
    fn late(&self, late: Duration) -> Duration {
        if self.source.has_others() { late } else { Duration::MAX }
    }

    /// Asks for what keeps a lease of this TTL alive, and does not wait long for a member.
    pub(crate) async fn ask_in_time<T, F>(
        &self,
        action: Action,
        ttl: Duration,
        ask: impl Fn(&Client) -> F + Send + Sync,
    ) -> Result<T, LockError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let late = self.late(self.attempt().min(ttl / LATE_PART));
        let times = (late, self.limit().min(ttl));
        hedged(action, times, || self.ask_once(action, &ask)).await.0
    }

    /// Runs a transaction that is safe to repeat. Also says how often it was sent.
    pub(crate) async fn txn(
        &self,
        action: Action,
        txn: &Txn,
    ) -> (Result<TxnResponse, LockError>, u32) {
        self.ask(action, |client| {
            let (mut client, txn) = (client.kv_client(), txn.clone());
            async move { client.txn(txn).await }
        })
        .await
    }

    /// Ends a lease and deletes its keys. Once this has succeeded, no late request can use it.
    /// `false` if there is no such lease; one whose grant had no answer may come yet.
    pub(crate) async fn revoke(&self, action: Action, lease: i64) -> Result<bool, LockError> {
        let (revoked, _) = self
            .ask(action, |client| {
                let mut client = client.lease_client();
                async move { client.revoke(lease).await }
            })
            .await;
        match revoked {
            Ok(_) => Ok(true),
            Err(err) if is_lease_gone(&err) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Starts the time of a lease of this TTL anew; `false` if it is gone.
    pub(crate) async fn keep_alive(
        &self,
        action: Action,
        lease: i64,
        ttl: Duration,
    ) -> Result<bool, LockError> {
        // One message on a stream of its own: the driver has no stream that leases share.
        let kept = self.ask_in_time(action, ttl, |client| {
            let mut client = client.lease_client();
            async move { client.keep_alive(lease).await.map(drop) }
        });
        match kept.await {
            Ok(()) => Ok(true),
            Err(err) if is_lease_gone(&err) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Runs `work` in the background, from wherever it is called. It ends with its runtime.
    pub(crate) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        // Where there is none now, such as in a drop, the one that was there first.
        let current = Handle::try_current().ok();
        let runtime = current.as_ref().or(self.runtime.get())?;
        Some(runtime.spawn(work).abort_handle())
    }
}

/// Leases that no lock uses go with the client that has them.
impl Drop for Store {
    fn drop(&mut self) {
        let (source, limit) = (Arc::clone(&self.source), self.limit());
        let mut spares = self.leases.take_all();
        spares.extend(self.sessions.take());
        if spares.is_empty() {
            return;
        }
        self.spawn(async move {
            let revoke = async {
                let Ok(client) = source.client().await else { return };
                for lease in spares {
                    let _ = client.lease_client().revoke(lease).await;
                }
            };
            // Those that cannot be revoked run out.
            let _ = timeout(limit, revoke).await;
        });
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("source", &self.source)
            .field("config", &self.config)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

/// At which revision an answer was given.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, ResponseHeader::revision)
}

/// The holder as the store's record of it tells.
pub(crate) fn holder(kv: &KeyValue) -> Holder {
    Holder::new(label(kv.value()), fence(kv.create_revision()))
}

/// Revisions are positive.
pub(crate) fn fence(revision: i64) -> FencingToken {
    FencingToken::new(u64::try_from(revision).unwrap_or_default())
}
