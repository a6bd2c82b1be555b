//! `ConsulClient`: one agent, and what every request to it carries.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{LockError, toolkit::Mutex};
use http_body_util::Full;
use hyper::{
    Method, Request,
    body::Bytes,
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use tokio::sync::Notify;

use crate::{
    client::{
        address::Address,
        connections::{Connections, Open, Reply},
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
    /// A reply had Consul's form.
    is_consul: AtomicBool,
}

impl ConsulClient {
    pub(crate) fn from_parts(
        address: Address,
        token: Option<HeaderValue>,
        scope: String,
        open: Open,
        connections: usize,
    ) -> Self {
        let shared = Shared {
            address,
            token: Mutex::new(token),
            scope,
            connections: Connections::new(Arc::clone(&open), connections),
            open,
            failed: Notify::new(),
            is_consul: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), reply_max: Duration::MAX }
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

    /// Notes a reply in Consul's form.
    pub(crate) fn replied_as_consul(&self) {
        self.shared.is_consul.store(true, Relaxed);
    }

    /// Whether there was a reply in Consul's form.
    pub(crate) fn is_consul(&self) -> bool {
        self.shared.is_consul.load(Relaxed)
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

/// A token as a header's value, which is never shown.
pub(crate) fn secret(token: String) -> Result<HeaderValue, LockError> {
    let value = HeaderValue::try_from(token);
    let mut value = value
        .map_err(|_| LockError::invalid("token", "it has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}
