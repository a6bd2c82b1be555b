//! `Source`: where connections come from.

#[cfg(feature = "cluster")]
use std::any::TypeId;
use std::{sync::Arc, time::Duration};

use glock_core::CALL_TIMEOUT;
#[cfg(feature = "sentinel")]
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ProtocolVersion, PushInfo, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    io::tcp::socket2::TcpKeepalive,
};
#[cfg(feature = "cluster")]
use redis::{
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
};

/// What hears of messages, and of the end of its connection.
pub(crate) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// Where connections come from. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum Source {
    /// Ours, to one server.
    Client(Arc<Client>),
    /// Ours, to whichever server is the primary when the connection is made.
    #[cfg(feature = "sentinel")]
    Sentinel(Arc<tokio::sync::Mutex<SentinelClient>>),
    /// Ours, to a cluster.
    #[cfg(feature = "cluster")]
    Cluster(Arc<ClusterClient>),
    /// The application's.
    Caller(Arc<dyn CallerConnection>),
}

/// A connection.
#[derive(Clone)]
pub(crate) enum Transport {
    /// It can subscribe, and ends when its last clone is gone.
    Own(MultiplexedConnection),
    /// It looks after itself.
    Caller(Arc<dyn CallerConnection>),
}

/// Keep-alive probes find a peer that vanished while nobody asks it anything.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(3);
/// How many requests may queue up for the socket before their senders wait.
const PIPELINE: usize = 512;

impl Source {
    /// Makes a connection within `limit`, on which each answer may take `answer_max`.
    pub(crate) async fn connect(
        &self,
        limit: Duration,
        answer_max: Duration,
        on_push: OnPush,
    ) -> RedisResult<Transport> {
        let client = match self {
            Self::Client(client) => tuned(client, answer_max)?,
            #[cfg(feature = "sentinel")]
            Self::Sentinel(sentinel) => {
                tuned(&sentinel.lock().await.async_get_client().await?, answer_max)?
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(cluster) => {
                let config = ClusterConfig::new()
                    .set_connection_timeout(limit)
                    .set_response_timeout(answer_max);
                let connection = cluster.get_async_connection_with_config(config).await?;
                return Ok(Transport::Caller(Arc::new(connection)));
            }
            Self::Caller(connection) => return Ok(Transport::Caller(Arc::clone(connection))),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(answer_max))
            .set_pipeline_buffer_size(PIPELINE)
            .set_push_sender(move |push| {
                on_push(push);
                Ok::<(), redis::aio::SendError>(())
            });
        client.get_multiplexed_async_connection_with_config(&config).await.map(Transport::Own)
    }

    /// Whether its connections can subscribe.
    pub(crate) fn can_listen(&self) -> bool {
        match self {
            Self::Client(_) => true,
            #[cfg(feature = "sentinel")]
            Self::Sentinel(_) => true,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => false,
            Self::Caller(_) => false,
        }
    }
}

/// The client's own settings (address, TLS, credentials, database), and what waiting and bounded
/// calls need: RESP3, no delay of small packets, and the discovery of a peer that vanished.
fn tuned(client: &Client, answer_max: Duration) -> RedisResult<Client> {
    let info = client.get_connection_info().clone();
    let mut tcp = info.tcp_settings().clone().set_nodelay(true);
    if tcp.keepalive().is_none() {
        let probes = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_PAUSE);
        tcp = tcp.set_keepalive(probes);
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if tcp.user_timeout().is_none() {
        // Not below the default: a packet that is sent again is no reason to give up.
        tcp = tcp.set_user_timeout(answer_max.max(CALL_TIMEOUT));
    }
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

impl Transport {
    pub(crate) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Own(connection) => connection.clone().send_packed_command(cmd).await,
            Self::Caller(connection) => connection.send(cmd).await,
        };
        answer?.extract_error()
    }
}

/// A connection of the application's, whatever its type.
pub(crate) trait CallerConnection: Send + Sync {
    fn send<'a>(&'a self, cmd: &'a Cmd) -> RedisFuture<'a, Value>;

    /// Whether it asks again by itself where there was no answer, as a cluster's connection does.
    fn resends(&self) -> bool;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> CallerConnection for C {
    fn send<'a>(&'a self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut connection = self.clone();
        Box::pin(async move { connection.req_packed_command(cmd).await })
    }

    fn resends(&self) -> bool {
        #[cfg(feature = "cluster")]
        let resends = TypeId::of::<C>() == TypeId::of::<ClusterConnection>();
        #[cfg(not(feature = "cluster"))]
        let resends = false;
        resends
    }
}
