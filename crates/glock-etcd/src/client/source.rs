//! `Source`: where the driver's client comes from.

use std::{fmt, time::Duration};

use etcd_client::{Client, ConnectOptions, Error};
use tokio::sync::OnceCell;

/// Where the driver's client comes from.
pub(crate) enum Source {
    /// The application made it.
    Given(Client),
    /// Made when it is first needed.
    Endpoints { endpoints: Vec<String>, options: Box<ConnectOptions>, made: OnceCell<Client> },
}

/// etcd refuses clients that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

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

impl Source {
    pub(crate) fn endpoints(endpoints: Vec<String>, options: ConnectOptions) -> Self {
        Self::Endpoints { endpoints, options: Box::new(options), made: OnceCell::new() }
    }

    /// Whether there may be another member to ask.
    pub(crate) fn has_others(&self) -> bool {
        match self {
            Self::Given(_) => true,
            Self::Endpoints { endpoints, .. } => endpoints.len() > 1,
        }
    }

    /// The client. Without a user this does no I/O; with one it logs in, once.
    pub(crate) async fn client(&self) -> Result<&Client, Error> {
        match self {
            Self::Given(client) => Ok(client),
            Self::Endpoints { endpoints, options, made } => {
                let make = || Client::connect(endpoints, Some((**options).clone()));
                made.get_or_try_init(make).await
            }
        }
    }
}

/// Neither the password in the options nor one in an endpoint is shown.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(..)"),
            Self::Endpoints { endpoints, .. } => write!(f, "Endpoints({}, ..)", endpoints.len()),
        }
    }
}
