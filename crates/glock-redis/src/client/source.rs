//! `Source`: where a connection to one server comes from.

use std::{io, sync::Arc, time::Duration};

use glock_core::{CALL_TIMEOUT, Fault, toolkit::Notified};
#[cfg(feature = "sentinel")]
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult, io::tcp::socket2::TcpKeepalive,
};

use crate::{
    client::{
        credentials::CredentialsProvider,
        slots::NodeAddr,
        transport::{CallerConnection, Transport},
    },
    error,
    watch::{self, Subscriptions},
};

/// Where a connection to one server comes from. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Source {
    server: Server,
    /// With what to log in. `None`: with what the server's own settings say.
    credentials: Option<CredentialsProvider>,
}

/// The server.
#[derive(Clone)]
pub(crate) enum Server {
    /// The one that the driver's client names.
    Named(Arc<redis::Client>),
    /// The one that is the primary when the connection is made.
    #[cfg(feature = "sentinel")]
    Primary(Arc<tokio::sync::Mutex<SentinelClient>>),
    /// The one that the application's connection leads to.
    Caller(Arc<dyn CallerConnection>),
}

/// Keep-alive probes find a peer that vanished while no request is sent to it.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(3);
/// How many requests may queue up for the socket before their senders wait.
const PIPELINE: usize = 512;

impl Source {
    pub(crate) fn new(server: Server, credentials: Option<CredentialsProvider>) -> Self {
        Self { server, credentials }
    }

    /// Makes a connection within `connect_max`. Each of its replies may take `reply_max`. Its messages
    /// wake `notified`, and its end is reported to `on_lost`.
    pub(crate) async fn connect(
        &self,
        connect_max: Duration,
        reply_max: Duration,
        notified: Notified,
        on_lost: impl Fn() + Send + Sync + 'static,
    ) -> RedisResult<Transport> {
        let info = match &self.server {
            Server::Named(client) => client.get_connection_info().clone(),
            #[cfg(feature = "sentinel")]
            Server::Primary(sentinel) => {
                sentinel.lock().await.async_get_client().await?.get_connection_info().clone()
            }
            Server::Caller(connection) => return Ok(Transport::Caller(Arc::clone(connection))),
        };
        let client = redis::Client::open(tuned(self.with_credentials(info).await?, reply_max))?;
        let pushed = notified.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_max))
            // Each request has a limit of its own, which may be shorter.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE)
            .set_push_sender(move |push: PushInfo| {
                match push.kind {
                    PushKind::Disconnection => on_lost(),
                    _ => watch::receive(&pushed, &push),
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let subscriptions = Subscriptions::new(connection.clone(), reply_max, notified);
        Ok(Transport::Own { connection, subscriptions })
    }

    /// The settings with the credentials that the application's function returns now.
    async fn with_credentials(&self, info: ConnectionInfo) -> RedisResult<ConnectionInfo> {
        let Some(provider) = &self.credentials else { return Ok(info) };
        let credentials = provider().await.map_err(io::Error::other)?;
        let settings = info.redis_settings().clone();
        let settings = settings.set_username(credentials.user).set_password(credentials.password);
        Ok(info.set_redis_settings(settings))
    }

    /// What a failure to connect means.
    pub(crate) fn connect_fault(&self, err: &RedisError) -> Fault {
        match error::connect_fault(err) {
            // The application's function may return others the next time.
            Fault::Rejected if self.credentials.is_some() && error::is_about_credentials(err) => {
                Fault::Unavailable
            }
            fault => fault,
        }
    }

    /// Where the server listens, if the application named it.
    pub(crate) fn node(&self) -> Option<NodeAddr> {
        let Server::Named(client) = &self.server else { return None };
        node_addr(client)
    }
}

impl Server {
    /// Whether its connections can subscribe.
    pub(crate) fn can_subscribe(&self) -> bool {
        !matches!(self, Server::Caller(_))
    }
}

/// Where the server that `client` names listens. `None` for a socket of the file system.
pub(crate) fn node_addr(client: &redis::Client) -> Option<NodeAddr> {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some(NodeAddr { host: host.as_str().into(), port: *port })
        }
        _ => None,
    }
}

/// The same client, of the node at another address: with its TLS settings, credentials and database.
pub(crate) fn at(client: &redis::Client, node: &NodeAddr) -> RedisResult<redis::Client> {
    let info = client.get_connection_info().clone();
    let host = String::from(&*node.host);
    let addr = match info.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port: node.port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, node.port),
    };
    redis::Client::open(info.set_addr(addr))
}

/// The settings (address, TLS, credentials, database), and what waiting and calls with a time limit need:
/// RESP3, no delay of small packets, and the discovery of a peer that vanished.
fn tuned(info: ConnectionInfo, reply_max: Duration) -> ConnectionInfo {
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
    info.set_tcp_settings(tcp).set_redis_settings(redis)
}
