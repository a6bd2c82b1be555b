//! `Connections`: HTTP/1.1 connections to one agent, and what becomes of a request on them.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use glock_core::{
    BoxError,
    toolkit::{BackgroundTask, NoReply, Reusable, SpareLimits, SparePool, Worker},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    rt,
};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use tower_service::Service;

use crate::error::ConsulError;

type Opening = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;
/// Opens one more connection.
pub(crate) type Open = Arc<dyn Fn() -> Opening + Send + Sync>;

/// A reply, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `X-Consul-Index`: the Raft index that the reply is of.
    pub(crate) index: Option<u64>,
    pub(crate) body: Bytes,
}

/// A limited number of connections, which requests use one after the other. Further requests wait.
///
/// Not the pooled client of hyper-util: that one opens as many connections as there are requests, does
/// not tell whether a request that failed was sent, and closes either every idle connection or none.
pub(crate) struct Connections {
    open: Open,
    permits: Semaphore,
    idle: Arc<Idle>,
    trimming: BackgroundTask,
}

pub(crate) struct Connection(SendRequest<Full<Bytes>>);

/// The connections that no request uses.
struct Idle(SparePool<Connection>);

/// A longer reply is not about a lock.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// A connection that was idle may turn out to be closed; so may the next one.
const ATTEMPTS: usize = 3;
/// A burst of calls opens many connections. One is kept; the others are closed when they are unused.
const LIMITS: SpareLimits = SpareLimits {
    kept_max: Duration::MAX,
    surplus_max: Duration::from_secs(2),
    ttl_max: Duration::MAX,
};

impl Connections {
    pub(crate) fn new(open: Open, max: usize) -> Self {
        let idle = Arc::new(Idle(SparePool::new(LIMITS)));
        Self { open, permits: Semaphore::new(max), idle, trimming: BackgroundTask::new() }
    }

    /// Sends a request and reads its reply, whatever its status. Waits for the reply for `reply_max` from
    /// when there is a connection for it: one that is silent is no better than one that is closed.
    ///
    /// # Cancel safety
    ///
    /// The agent may have carried out a request that is dropped. Its connection is closed.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        reply_max: Duration,
    ) -> Result<Reply, ConsulError> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|err| ConsulError::NotSent(err.into()))?;
        let reply = time::timeout(reply_max, self.send_now(request)).await;
        reply.unwrap_or_else(|_| Err(ConsulError::ReplyLost(NoReply(reply_max).into())))
    }

    async fn send_now(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, ConsulError> {
        for _ in 0..ATTEMPTS {
            let mut connection = self.connection().await?;
            if connection.0.ready().await.is_err() {
                self.close_idle();
                continue;
            }
            match connection.0.try_send_request(request).await {
                Ok(response) => {
                    let reply = read(response).await.map_err(ConsulError::ReplyLost)?;
                    self.keep(connection);
                    return Ok(reply);
                }
                Err(mut err) => match err.take_message() {
                    Some(unsent) => {
                        self.close_idle();
                        request = unsent;
                    }
                    None => return Err(ConsulError::ReplyLost(err.into_error().into())),
                },
            }
        }
        Err(ConsulError::NotSent("every connection was closed before it could be used".into()))
    }

    /// Closes the connections that no request uses: one was broken, so others may be.
    pub(crate) fn close_idle(&self) {
        self.idle.0.drain();
    }

    /// The connection that was used last, or a new one.
    async fn connection(&self) -> Result<Connection, ConsulError> {
        match self.idle.0.take(Duration::MAX) {
            (Some(connection), _) => Ok(connection),
            (None, _) => (self.open)().await.map_err(ConsulError::NotSent),
        }
    }

    fn keep(&self, connection: Connection) {
        let kept = self.idle.0.put(connection);
        if kept.is_ok() && self.idle.0.len() > 1 {
            self.trimming.start(&self.idle);
        }
    }
}

impl Reusable for Connection {
    /// One serves any request.
    fn ttl(&self) -> Duration {
        Duration::MAX
    }

    fn is_usable(&self, _now: Instant) -> bool {
        !self.0.is_closed()
    }

    fn has_run_out(&self, _now: Instant) -> bool {
        self.0.is_closed()
    }
}

impl Worker for Idle {
    /// Closes what was not used lately, until one connection is left.
    async fn round(&self) -> Option<Duration> {
        self.0.sweep().next_in.filter(|_| self.0.len() > 1)
    }
}

async fn read(response: Response<Incoming>) -> Result<Reply, BoxError> {
    let header = response.headers().get("x-consul-index");
    let index = header.and_then(|index| index.to_str().ok()?.parse().ok());
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await?.to_bytes();
    Ok(Reply { status, index, body })
}

/// Opens connections to `uri` by `connector`.
pub(crate) fn opener<C>(connector: C, uri: Uri) -> Open
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: rt::Read + rt::Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    Arc::new(move || {
        let (mut connector, uri) = (connector.clone(), uri.clone());
        Box::pin(async move {
            poll_fn(|cx| connector.poll_ready(cx)).await.map_err(Into::into)?;
            let io = connector.call(uri).await.map_err(Into::into)?;
            let (sender, connection) = http1::handshake(io).await?;
            // Ends with the sender, or when the agent hangs up: so an idle connection that breaks is
            // known to be closed before it is used. A request that waits for its reply gets the error.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok(Connection(sender))
        })
    })
}
