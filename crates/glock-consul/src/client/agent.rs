//! `ConsulClient`: one agent, and what every request to it carries.

use std::{fmt, sync::Arc, time::Duration};

use glock_core::{BoxError, LockError, toolkit::Mutex};
use http_body_util::Full;
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HOST, HeaderValue},
    rt,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Notify;
use tower_service::Service;

use crate::{
    client::{
        address::Address,
        connections::{Connections, Open, Reply, opener},
        connector,
    },
    error::ConsulError,
};

/// A client of one Consul agent. Clones share its connections.
///
/// ```
/// use glock_consul::ConsulClient;
///
/// let client = ConsulClient::builder("http://127.0.0.1:8500").token("a secret").build()?;
/// # Ok::<(), glock_consul::LockError>(())
/// ```
#[derive(Clone)]
pub struct ConsulClient {
    shared: Arc<Shared>,
    /// How long a request waits for its reply before it is sent again, by another connection.
    reply_max: Duration,
}

struct Shared {
    address: Address,
    token: Mutex<Option<HeaderValue>>,
    /// `dc=..&ns=..&partition=..`, as far as they are set.
    scope: String,
    open: Open,
    connections: Connections,
    /// A request failed.
    failed: Notify,
}

/// The settings of a [`ConsulClient`].
#[must_use = "call `build`"]
pub struct ConsulClientBuilder {
    url: String,
    token: Option<String>,
    scope: Vec<(&'static str, String)>,
    connections: usize,
}

/// A server commits requests that arrive at the same time together, so more connections are more
/// throughput: with a disk, 64 tasks get twice as much done on 64 connections as on 8.
const CONNECTIONS: usize = 64;

impl ConsulClient {
    /// A client of the agent at `url`, such as `http://127.0.0.1:8500`. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if `url` is not the URL of an agent.
    pub fn new(url: impl Into<String>) -> Result<Self, LockError> {
        Self::builder(url).build()
    }

    /// Begins a client with a token, a data center and so on.
    pub fn builder(url: impl Into<String>) -> ConsulClientBuilder {
        let scope = Vec::new();
        ConsulClientBuilder { url: url.into(), token: None, scope, connections: CONNECTIONS }
    }

    /// Changes the ACL token, for this client and its clones: each request from now on carries it.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if it has characters that no header may have.
    pub fn set_token(&self, token: impl Into<String>) -> Result<(), LockError> {
        *self.shared.token.lock() = Some(secret(token.into())?);
        Ok(())
    }

    /// The same client, for requests that wait so long for their reply.
    pub(crate) fn with_reply_max(self, reply_max: Duration) -> Self {
        Self { reply_max, ..self }
    }

    /// The same client, for requests that wait for the rest of the call.
    pub(crate) fn patient(&self) -> Self {
        self.clone().with_reply_max(Duration::MAX)
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: impl Into<Bytes>,
    ) -> Result<Request<Full<Bytes>>, ConsulError> {
        let Shared { address, token, scope, .. } = &*self.shared;
        let both = if query.is_empty() || scope.is_empty() { "" } else { "&" };
        let any = if query.is_empty() && scope.is_empty() { "" } else { "?" };
        let target = format!("{}/v1/{path}{any}{query}{both}{scope}", address.path);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, &address.host)
            .header(CONTENT_TYPE, "application/json");
        let request = match token.lock().clone() {
            Some(token) => request.header("x-consul-token", token),
            None => request,
        };
        request.body(Full::new(body.into())).map_err(|err| ConsulError::NotSent(err.into()))
    }

    /// Sends a request that may be carried out twice without harm: once more, by another connection, if
    /// there was no reply. Then the store may be slow, so the second one waits for the rest of the call.
    pub(crate) async fn send_idempotent(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Reply, ConsulError> {
        match self.send(request.clone()).await {
            Err(ConsulError::ReplyLost(_)) => self.patient().send(request).await,
            sent => sent,
        }
    }

    /// Sends a request once.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, ConsulError> {
        let sent = self.shared.connections.send(request, self.reply_max).await;
        if let Err(ConsulError::ReplyLost(_) | ConsulError::NotSent(_)) = &sent {
            self.shared.connections.close_idle();
        }
        if sent.as_ref().map_or(true, |reply| reply.status >= 500) {
            self.shared.failed.notify_waiters();
        }
        sent
    }

    /// One more connection, for the blocking queries of one lock: each uses it for as long as it blocks.
    pub(crate) fn connection_for_queries(&self) -> Connections {
        Connections::new(Arc::clone(&self.shared.open), 1)
    }

    /// Returns once a request has failed from now on: a blocking query may then hang as well.
    pub(crate) async fn request_failed(&self) {
        self.shared.failed.notified().await;
    }
}

impl fmt::Debug for ConsulClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulClient")
            .field("url", &format_args!("{}{}", self.shared.address.uri, self.shared.address.path))
            .field("token", &self.shared.token.lock().as_ref().map(|_| ".."))
            .field("scope", &self.shared.scope)
            .finish_non_exhaustive()
    }
}

impl ConsulClientBuilder {
    /// The ACL token. It goes into a header and is never shown.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The data center whose servers decide. Default: the agent's.
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.scope.push(("dc", datacenter.into()));
        self
    }

    /// The namespace, of Consul Enterprise. Not the namespace of `LockConfig`, which is the first
    /// part of every key.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.scope.push(("ns", namespace.into()));
        self
    }

    /// The admin partition, of Consul Enterprise.
    pub fn partition(mut self, partition: impl Into<String>) -> Self {
        self.scope.push(("partition", partition.into()));
        self
    }

    /// The most connections for commands; each lock has one more, to wait for changes. Default: 64.
    /// They are opened when they are needed, and closed when they are not. An agent allows 200 from one
    /// address by default.
    pub fn connections(mut self, max: usize) -> Self {
        self.connections = max;
        self
    }

    /// The client. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work, and for `https` without the feature `tls`.
    pub fn build(self) -> Result<ConsulClient, LockError> {
        if self.url.starts_with("https:") {
            return self.build_with(connector::tls()?);
        }
        self.build_with(connector::tcp())
    }

    /// The client, on connections that `connector` opens: any connector of hyper 1, such as one with
    /// your own certificate authority and client certificate. Turn `TCP_NODELAY` on in it.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn build_with<C>(self, connector: C) -> Result<ConsulClient, LockError>
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: rt::Read + rt::Write + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<BoxError>,
    {
        let address = Address::parse(&self.url)?;
        if !(1..=1_000).contains(&self.connections) {
            return Err(LockError::invalid("connections", "give 1 to 1000"));
        }
        let token = Mutex::new(self.token.map(secret).transpose()?);
        let scope = self.scope.iter().map(|(name, value)| {
            format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
        });
        let open: Open = opener(connector, address.uri.clone());
        let shared = Shared {
            address,
            token,
            scope: scope.collect::<Vec<_>>().join("&"),
            connections: Connections::new(Arc::clone(&open), self.connections),
            open,
            failed: Notify::new(),
        };
        Ok(ConsulClient { shared: Arc::new(shared), reply_max: Duration::MAX })
    }
}

impl fmt::Debug for ConsulClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulClientBuilder").field("scope", &self.scope).finish_non_exhaustive()
    }
}

fn secret(token: String) -> Result<HeaderValue, LockError> {
    let value = HeaderValue::try_from(token);
    let mut value = value
        .map_err(|_| LockError::invalid("token", "it has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_refused_without_being_shown() {
        assert!(ConsulClient::builder("http://h").connections(0).build().is_err());
        let err = ConsulClient::builder("http://h").token("CANARY\n").build().unwrap_err();
        assert!(!format!("{err} {err:?}").contains("CANARY"));
    }

    #[test]
    fn a_request_carries_scope_and_token_and_debug_shows_no_token() {
        let client = ConsulClient::builder("http://host:1/consul/")
            .token("CANARY")
            .datacenter("dc1")
            .namespace("team a&x=1")
            .partition("p")
            .build()
            .unwrap();
        let request = client.request(Method::GET, "kv/a", "consistent", "").unwrap();
        assert_eq!(
            request.uri(),
            "/consul/v1/kv/a?consistent&dc=dc1&ns=team%20a%26x%3D1&partition=p"
        );
        assert_eq!(request.headers()["x-consul-token"], "CANARY");
        assert_eq!(request.headers()["host"], "host:1");
        assert!(!format!("{client:?} {client:#?} {request:?}").contains("CANARY"));
        let plain = ConsulClient::new("http://host").unwrap();
        let request = plain.request(Method::PUT, "txn", "", "[]").unwrap();
        assert_eq!(request.uri(), "/v1/txn");
        assert!(request.headers().get("x-consul-token").is_none());
        client.clone().set_token("CHANGED").unwrap();
        let request = client.request(Method::GET, "kv/a", "consistent", "").unwrap();
        assert_eq!(request.headers()["x-consul-token"], "CHANGED");
        assert!(!format!("{client:?} {request:?}").contains("CHANGED"));
    }
}
