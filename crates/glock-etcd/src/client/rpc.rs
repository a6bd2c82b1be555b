//! `Rpc`: sends requests to etcd, and again where no reply comes.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use etcd_client::{
    Client, Error, GetOptions, GetResponse, LeaseTimeToLiveResponse, Txn, TxnResponse,
};
use glock_core::{Action, Fault, LockError, backend};
use tokio::{runtime::Handle, task::AbortHandle, time::timeout};

use crate::{
    client::{hedge::hedged, members::Members},
    error::{failed, fault, is_lease_gone, is_token_old, silent},
};

/// Sends requests to etcd. It knows nothing of locks.
pub(crate) struct Rpc {
    pub(crate) members: Arc<Members>,
    limit: Duration,
    runtime: OnceLock<Handle>,
}

/// After this part of the call's time limit without a reply, the request is sent to another member.
const ATTEMPT_PART: u32 = 8;
/// A request that keeps a lease alive is sent to another member after this part of the TTL: it must
/// succeed within the two thirds of the TTL that a renewal has, even if one of three members is silent.
const KEEP_ALIVE_PART: u32 = 24;

impl Rpc {
    pub(crate) fn new(members: Arc<Members>, limit: Duration) -> Arc<Self> {
        Arc::new(Self { members, limit, runtime: OnceLock::new() })
    }

    /// How long a call may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// How long one member may take to reply.
    pub(crate) fn attempt_max(&self) -> Duration {
        self.limit / ATTEMPT_PART
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

    /// Sends a request once, to a member that is not silent, and waits for `patience` if there are
    /// others. If there are none, the caller bounds it in time.
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
        let member = self.members.pick(&[]);
        let sent = self.send_to(member, action, request);
        if !self.members.has_others() {
            return sent.await;
        }
        timeout(patience, sent).await.unwrap_or_else(|_| {
            self.members.silent(member);
            Err(silent(action))
        })
    }

    async fn send_to<T, F>(
        &self,
        member: usize,
        action: Action,
        request: impl FnOnce(&Client) -> F + Send,
    ) -> Result<T, LockError>
    where
        T: Send,
        F: Future<Output = Result<T, Error>> + Send,
    {
        self.enter(action)?;
        let reply = match self.members.client(member).await {
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
        match &reply {
            Err(err) if is_token_old(err) => {}
            // It cannot be reached, or knows of no leader.
            Err(err) if fault(err) != Fault::Rejected => self.members.silent(member),
            _ => self.members.replied(member),
        }
        reply.map_err(|err| failed(action, err))
    }

    /// Sends a request that is safe to repeat, and sends it again while no reply comes or the next one
    /// may differ. Does not wait long for a member if the request keeps a lease of `ttl` alive. Also
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
        let keep_alive_max = ttl.map_or(Duration::MAX, |ttl| ttl / KEEP_ALIVE_PART);
        let patience = self.attempt_max().min(keep_alive_max);
        // Without end, if there is no other member.
        let patience = if self.members.has_others() { patience } else { Duration::MAX };
        let times = (patience, self.limit.min(ttl.unwrap_or(Duration::MAX)));
        let send = |member| self.send_to(member, action, &request);
        hedged(&self.members, action, times, send).await
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
