//! `Rpc`: sends requests to etcd, and again where no reply comes.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use etcd_client::{
    Client, Error, GetOptions, GetResponse, LeaseTimeToLiveResponse, Txn, TxnResponse,
};
use glock_core::{
    Action, Fault, LockError, backend,
    toolkit::{CallDeadline, Hedged, Mutex, hedged},
};
use tokio::{runtime::Handle, task::AbortHandle, time::timeout};

use crate::{
    client::members::{Members, Route},
    error::{
        failed, fault, is_gone, is_lease_gone, is_login_refused, is_token_old, login_refused,
        silent,
    },
};

/// Sends requests to etcd. It knows nothing of locks.
pub(crate) struct Rpc {
    pub(crate) members: Arc<Members>,
    limit: Duration,
    runtime: OnceLock<Handle>,
}

/// After this part of the call's time limit without a reply, the request is sent to another member, or
/// to the only one on another connection.
const ATTEMPT_PART: u32 = 8;
const LONE_ATTEMPT_PART: u32 = 3;
/// A request that keeps a lease alive is sent elsewhere after this part of the TTL: it must succeed
/// within the two thirds of the TTL that a renewal has, even if one of three members is silent.
const KEEP_ALIVE_PART: u32 = 24;
const LONE_KEEP_ALIVE_PART: u32 = 6;

impl Rpc {
    pub(crate) fn new(members: Arc<Members>, limit: Duration) -> Arc<Self> {
        Arc::new(Self { members, limit, runtime: OnceLock::new() })
    }

    /// How long a call may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// How long one attempt waits for a reply: one that keeps a lease of `ttl` alive, not for long.
    pub(crate) fn attempt_max(&self, ttl: Option<Duration>) -> Duration {
        let (of_limit, of_ttl) = if self.members.has_others() {
            (ATTEMPT_PART, KEEP_ALIVE_PART)
        } else {
            (LONE_ATTEMPT_PART, LONE_KEEP_ALIVE_PART)
        };
        (self.limit / of_limit).min(ttl.map_or(Duration::MAX, |ttl| ttl / of_ttl))
    }

    /// Notes the runtime, for work in the background.
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

    /// Sends a request once, to a member that is not silent, and waits for `patience`. The only member may
    /// be slow: it has longer, for as long as it does not reply on another connection either. The caller
    /// bounds it in time.
    pub(crate) async fn send_once<T, F>(
        &self,
        action: Action,
        patience: Duration,
        request: impl FnOnce(&Client) -> F + Send,
    ) -> Result<T, LockError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let route = self.members.pick(&[]);
        let mut sent = pin!(self.send_by(&route, action, request));
        if let Ok(reply) = timeout(patience, &mut sent).await {
            return reply;
        }
        if self.members.has_others() {
            self.members.silent(&route);
            return Err(silent(action));
        }
        tokio::select! {
            reply = sent => reply,
            () = self.members.mute(&route) => Err(silent(action)),
        }
    }

    async fn send_by<T, F>(
        &self,
        route: &Route,
        action: Action,
        request: impl FnOnce(&Client) -> F + Send,
    ) -> Result<T, LockError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        self.enter(action)?;
        let reply = match route.connection.client().await {
            Ok(client) => {
                let reply = request(client).await;
                if reply.as_ref().is_err_and(is_token_old) {
                    // The driver logs in again when a token has run out, and not when the users'
                    // rights have changed since. If this fails, the next attempt returns why.
                    let _ = client.refresh_token().await;
                }
                reply
            }
            Err(err) => Err(err),
        };
        let Err(err) = reply else {
            self.members.replied(route);
            return reply.map_err(|err| failed(action, err));
        };
        if is_login_refused(&err) && self.members.login_refused(route, self.limit) {
            return Err(login_refused(action, err));
        }
        match fault(&err) {
            _ if is_token_old(&err) || is_login_refused(&err) => {}
            // It cannot be reached, or knows of no leader.
            Fault::Unavailable | Fault::Unknown if !is_gone(&err) => self.members.failed(route),
            _ => self.members.replied(route),
        }
        Err(failed(action, err))
    }

    /// Sends a request that is safe to repeat, and sends it again while no reply comes or the next one
    /// may differ. Does not wait long for a reply if the request keeps a lease of `ttl` alive. Also
    /// returns how often it was sent: after the second time, the others may still take effect.
    pub(crate) async fn send<T, F>(
        &self,
        action: Action,
        ttl: Option<Duration>,
        request: impl Fn(&Client) -> F + Send + Sync,
    ) -> (Result<T, LockError>, u32)
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let (routes, request) = (Mutex::new(Vec::<Route>::new()), &request);
        let attempt = |_| {
            let mut routes = routes.lock();
            let route = self.members.pick(&routes);
            routes.push(route.clone());
            async move {
                match self.send_by(&route, action, request).await {
                    // It will not be there the next time.
                    Err(err) if is_lease_gone(&err) => Ok(Err(err)),
                    result => result.map(Ok),
                }
            }
        };
        let silent_one = |attempt: u32| {
            if let Some(route) = routes.lock().get(attempt as usize) {
                self.members.silent(route);
            }
        };
        // Its first attempt takes two fifths of it.
        let until = CallDeadline::after(self.attempt_max(ttl) * 5 / 2);
        let limit = self.limit.min(ttl.unwrap_or(Duration::MAX));
        match timeout(limit, hedged(until, attempt, silent_one)).await {
            Ok(Hedged { result, attempts }) => (result.flatten(), attempts),
            Err(_) => (Err(silent(action)), u32::try_from(routes.lock().len()).unwrap_or(u32::MAX)),
        }
    }

    /// Sends a transaction that is safe to repeat. Also returns how often it was sent.
    pub(crate) async fn txn(
        &self,
        action: Action,
        txn: &Txn,
    ) -> (Result<TxnResponse, LockError>, u32) {
        self.send(action, None, |client| {
            let (mut client, txn) = (client.kv_client(), txn.clone());
            async move { client.txn(txn).await }
        })
        .await
    }

    /// Reads a key, or a range of keys.
    pub(crate) async fn get(
        &self,
        action: Action,
        key: &str,
        options: &GetOptions,
    ) -> Result<GetResponse, LockError> {
        let request = |client: &Client| {
            let (mut client, key, options) = (client.kv_client(), key.to_owned(), options.clone());
            async move { client.get(key, Some(options)).await }
        };
        self.send(action, None, request).await.0
    }

    /// Reads how long a lease was granted for, and what is left of it.
    pub(crate) async fn time_to_live(
        &self,
        action: Action,
        lease: i64,
    ) -> Result<LeaseTimeToLiveResponse, LockError> {
        let request = |client: &Client| {
            let mut client = client.lease_client();
            async move { client.time_to_live(lease, None).await }
        };
        self.send(action, None, request).await.0
    }

    /// Ends a lease and deletes its keys. Once this has succeeded, no request in flight can use the
    /// lease. `false` if there is no such lease; one whose grant had no reply may still arrive.
    pub(crate) async fn revoke(&self, action: Action, lease: i64) -> Result<bool, LockError> {
        let request = |client: &Client| {
            let mut client = client.lease_client();
            async move { client.revoke(lease).await.map(drop) }
        };
        was_there(self.send(action, None, request).await.0)
    }

    /// Restarts the time of a lease of this TTL; `false` if the lease is gone.
    pub(crate) async fn keep_alive(
        &self,
        action: Action,
        lease: i64,
        ttl: Duration,
    ) -> Result<bool, LockError> {
        // One message on a stream of its own: the driver has no stream that leases share.
        let request = |client: &Client| {
            let mut client = client.lease_client();
            async move { client.keep_alive(lease).await.map(drop) }
        };
        was_there(self.send(action, Some(ttl), request).await.0)
    }

    /// Runs `work` in the background, from inside or outside of a runtime. It ends with its runtime.
    pub(crate) fn spawn(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        // Outside of a runtime, such as in a drop: the first one that was used.
        let current = Handle::try_current().ok();
        let runtime = current.as_ref().or(self.runtime.get())?;
        Some(runtime.spawn(work).abort_handle())
    }

    /// Revokes leases in the background. Those that cannot be revoked run out.
    pub(crate) fn revoke_later(self: &Arc<Self>, leases: Vec<i64>) {
        if leases.is_empty() {
            return;
        }
        let rpc = Arc::clone(self);
        self.spawn(async move {
            let revoke = async {
                for lease in leases {
                    let _ = rpc.revoke(Action::Release, lease).await;
                }
            };
            let _ = timeout(rpc.limit, revoke).await;
        });
    }
}

/// Whether the lease of a request was there.
fn was_there(reply: Result<(), LockError>) -> Result<bool, LockError> {
    match reply {
        Ok(()) => Ok(true),
        Err(err) if is_lease_gone(&err) => Ok(false),
        Err(err) => Err(err),
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("members", &self.members).finish_non_exhaustive()
    }
}
