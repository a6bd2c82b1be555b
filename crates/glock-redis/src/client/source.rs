//! `Source`: where connections come from.

use std::{sync::Arc, time::Duration};

use glock_core::{CALL_TIMEOUT, toolkit::Wakeups};
#[cfg(feature = "cluster")]
use redis::cluster::{ClusterClient, ClusterConfig};
#[cfg(feature = "sentinel")]
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisResult,
    io::tcp::socket2::TcpKeepalive,
};

use crate::{
    client::transport::{CallerConnection, Transport},
    watch::{self, Subscriptions},
};

/// Where connections come from. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum Source {
    /// Connections of glock's own to one server.
    Server(Arc<redis::Client>),
    /// Connections of glock's own to the server that is the primary when the connection is made.
    #[cfg(feature = "sentinel")]
    Sentinel(Arc<tokio::sync::Mutex<SentinelClient>>),
    /// Connections of glock's own to a cluster.
    #[cfg(feature = "cluster")]
    Cluster(Arc<ClusterClient>),
    /// The application's connection.
    Caller(Arc<dyn CallerConnection>),
}

/// Keep-alive probes find a peer that vanished while no request is sent to it.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(3);
/// How many requests may queue up for the socket before their senders wait.
const PIPELINE: usize = 512;

impl Source {
    /// Makes a connection within `connect_max`. Each of its replies may take `reply_max`. Its messages
    /// wake `wakeups`, and its end is reported to `on_lost`.
    pub(crate) async fn connect(
        &self,
        connect_max: Duration,
        reply_max: Duration,
        wakeups: Wakeups,
        on_lost: impl Fn() + Send + Sync + 'static,
    ) -> RedisResult<Transport> {
        let client = match self {
            Self::Server(client) => tuned(client, reply_max)?,
            #[cfg(feature = "sentinel")]
            Self::Sentinel(sentinel) => {
                tuned(&sentinel.lock().await.async_get_client().await?, reply_max)?
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => {
                let config = ClusterConfig::new()
                    .set_connection_timeout(connect_max)
                    .set_response_timeout(reply_max);
                let connection = cluster.get_async_connection_with_config(config).await?;
                return Ok(Transport::Caller(Arc::new(connection)));
            }
            Self::Caller(connection) => return Ok(Transport::Caller(Arc::clone(connection))),
        };
        let pushed = wakeups.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_max))
            .set_response_timeout(Some(reply_max))
            .set_pipeline_buffer_size(PIPELINE)
            .set_push_sender(move |push: PushInfo| {
                match push.kind {
                    PushKind::Disconnection => on_lost(),
                    _ => watch::wake(&pushed, &push),
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let subscriptions = Subscriptions::new(connection.clone(), wakeups);
        Ok(Transport::Own { connection, subscriptions })
    }

    /// Whether its connections can subscribe.
    pub(crate) fn can_subscribe(&self) -> bool {
        match self {
            Self::Server(_) => true,
            #[cfg(feature = "sentinel")]
            Self::Sentinel(_) => true,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => false,
            Self::Caller(_) => false,
        }
    }
}

/// The client's own settings (address, TLS, credentials, database), and what waiting and calls with a
/// time limit need: RESP3, no delay of small packets, and the discovery of a peer that vanished.
fn tuned(client: &redis::Client, reply_max: Duration) -> RedisResult<redis::Client> {
    let info = client.get_connection_info().clone();
    let mut tcp = info.tcp_settings().clone().set_nodelay(true);
    if tcp.keepalive().is_none() {
        let probes = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_PAUSE);
        tcp = tcp.set_keepalive(probes);
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if tcp.user_timeout().is_none() {
        // Not below the default: a packet that is sent again is no reason to give up.
        tcp = tcp.set_user_timeout(reply_max.max(CALL_TIMEOUT));
    }
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    redis::Client::open(info.set_tcp_settings(tcp).set_redis_settings(redis))
}
