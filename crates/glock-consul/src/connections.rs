//! `Connections`: a few HTTP/1.1 connections to one agent, and what becomes of a request on them.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use glock_core::BoxError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    rt,
};
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::{
    ConsulError,
    idle::{Idle, Sender},
};

type Opening = Pin<Box<dyn Future<Output = Result<Sender, BoxError>> + Send>>;
/// Opens one connection more.
pub(crate) type Open = Arc<dyn Fn() -> Opening + Send + Sync>;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Consul-Index`: the Raft index that the answer is of.
    pub(crate) index: Option<u64>,
    pub(crate) body: Bytes,
}

/// At most so many connections at a time, used again and again. Requests beyond wait in line.
///
/// Not the pooled client of hyper-util: that one opens as many connections as there are requests,
/// and does not tell whether a request that failed had left.
pub(crate) struct Connections {
    open: Open,
    permits: Semaphore,
    idle: Idle,
}

/// An answer that is longer is not a lock's.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// A connection that was idle may be found closed; so may the one after it.
const ATTEMPTS: usize = 3;

impl Connections {
    pub(crate) fn new(open: Open, max: usize) -> Self {
        Self { open, permits: Semaphore::new(max), idle: Idle::default() }
    }

    /// Sends a request and reads its answer, whatever its status.
    ///
    /// # Cancel safety
    ///
    /// A request that is dropped may have been carried out. Its connection is closed.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, ConsulError> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|err| ConsulError::NotSent(err.into()))?;
        for _ in 0..ATTEMPTS {
            let mut sender = self.sender().await?;
            if sender.ready().await.is_err() {
                self.forget_idle();
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let answer = read(response).await.map_err(ConsulError::Lost)?;
                    self.idle.put_back(sender);
                    return Ok(answer);
                }
                Err(mut err) => match err.take_message() {
                    Some(unsent) => {
                        self.forget_idle();
                        request = unsent;
                    }
                    None => return Err(ConsulError::Lost(err.into_error().into())),
                },
            }
        }
        Err(ConsulError::NotSent("every connection was closed before it could be used".into()))
    }

    /// Forgets the connections that nobody uses: one of them was broken, so others may be.
    pub(crate) fn forget_idle(&self) {
        self.idle.clear();
    }

    /// The connection that was used last, or a new one.
    async fn sender(&self) -> Result<Sender, ConsulError> {
        while let Some(sender) = self.idle.take() {
            if !sender.is_closed() {
                return Ok(sender);
            }
        }
        (self.open)().await.map_err(ConsulError::NotSent)
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, BoxError> {
    let header = response.headers().get("x-consul-index");
    let index = header.and_then(|index| index.to_str().ok()?.parse().ok());
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await?.to_bytes();
    Ok(Answer { status, index, body })
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
            // Ends with the sender, or when the agent hangs up: an idle connection that dies is
            // noticed before it is used. How it ended is told to whoever waits for an answer.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok(sender)
        })
    })
}
