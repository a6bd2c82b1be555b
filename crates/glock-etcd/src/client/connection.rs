//! `Connection`: one connection to a member, made when it is first used.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, Error};
use glock_core::Fault;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};

use crate::error::{fault, is_login_refused};

/// etcd refuses clients that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a probe waits for a reply, with connecting and logging in.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The key that a probe reads. It need not exist, and the user need not be allowed to read it.
const PROBE_KEY: &str = "glock-probe";

/// The driver's settings as locks need them. All are off in the driver's own default.
///
/// - A member that has lost its leader refuses at once, and ends watches.
/// - Connecting takes at most 2 s.
/// - A peer that is silent while a request or a watch is open is noticed after 9 s.
/// - An access token that has run out is renewed.
///
/// ```
/// let options = glock_etcd::connect_options().with_user("locker", "password");
/// let lock = glock_etcd::EtcdLock::from_endpoints(["127.0.0.1:2379"], options);
/// ```
pub fn connect_options() -> ConnectOptions {
    ConnectOptions::new()
        .with_require_leader(true)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(PING_EVERY, PONG_WITHIN)
        // etcd also counts pings against a client that has nothing open.
        .with_keep_alive_while_idle(false)
        .with_auto_token_refresh(true)
}

/// Where a connection goes, and how.
pub(crate) struct Target {
    /// `None` if the application gave no endpoint, which the driver refuses.
    pub(crate) endpoint: Option<String>,
    pub(crate) options: Arc<dyn Fn() -> ConnectOptions + Send + Sync>,
}

impl Target {
    async fn connect(&self) -> Result<Client, Error> {
        Client::connect(self.endpoint.as_slice(), Some((self.options)())).await
    }
}

/// One connection to a member. The driver's task for it belongs to the runtime of the request that made
/// it: if that runtime does not run, the connection is silent, and is replaced by one on another.
pub(crate) struct Connection {
    target: Option<Arc<Target>>,
    client: OnceCell<Client>,
    /// When it was first used.
    since: OnceLock<Instant>,
    /// How many replies it has brought. A login that is refused does not count.
    replies: AtomicU64,
}

impl Connection {
    pub(crate) fn to(target: &Arc<Target>) -> Arc<Self> {
        Self::new(Some(Arc::clone(target)), OnceCell::new())
    }

    /// That of a client that the application made.
    pub(crate) fn given(client: Client) -> Arc<Self> {
        Self::new(None, OnceCell::new_with(Some(client)))
    }

    fn new(target: Option<Arc<Target>>, client: OnceCell<Client>) -> Arc<Self> {
        let (since, replies) = (OnceLock::new(), AtomicU64::new(0));
        Arc::new(Self { target, client, since, replies })
    }

    /// The driver's client. Without a user this does no I/O; with one it logs in, once.
    pub(crate) async fn client(&self) -> Result<&Client, Error> {
        self.since.get_or_init(Instant::now);
        match (self.client.get(), &self.target) {
            (Some(client), _) => Ok(client),
            // In a box: the driver's future is large, and rarely needed.
            (None, Some(target)) => {
                Box::pin(self.client.get_or_try_init(|| target.connect())).await
            }
            (None, None) => Err(Error::InvalidArgs("no client".into())),
        }
    }

    pub(crate) fn note_reply(&self) {
        self.replies.fetch_add(1, Relaxed);
    }

    pub(crate) fn replies(&self) -> u64 {
        self.replies.load(Relaxed)
    }

    /// Whether no reply can be expected of it yet: it may still be connecting, or logging in.
    pub(crate) fn is_opening(&self) -> bool {
        self.replies() == 0
            && self.since.get().is_none_or(|since| since.elapsed() < CONNECT_TIMEOUT)
    }

    /// Whether a read is replied to.
    pub(crate) async fn probe(&self) -> bool {
        let read = async { self.client().await?.kv_client().get(PROBE_KEY, None).await };
        match timeout(PROBE_TIMEOUT, Box::pin(read)).await {
            Ok(Err(err)) if is_login_refused(&err) => return true,
            Ok(Err(err)) if fault(&err) != Fault::Rejected => return false,
            Err(_) => return false,
            Ok(_) => {}
        }
        self.note_reply();
        true
    }
}
