//! How a request is sent, and sent again elsewhere when no reply comes.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use glock_core::{
    Action, Fault, LockError, backend,
    toolkit::{CallDeadline, Hedged, Listening, Mutex, hedged},
};
use redis::{RedisError, Value};
use tokio::time::{self, Instant};

use crate::{
    client::{
        route::Route,
        script::ScriptCall,
        shared_connection::Link,
        transport::{Asking, Transport},
    },
    error,
};

/// A script to run.
pub(crate) struct Request<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) call: ScriptCall<'a>,
}

/// What a request is for.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) action: Action,
    /// The lock.
    pub(crate) key: &'a str,
}

/// What the server replied.
pub(crate) struct Reply<T> {
    pub(crate) value: T,
    /// Just before the request was sent that this replies to.
    pub(crate) sent_at: Instant,
    /// Whether the same request was sent before and may have had its effect.
    pub(crate) repeated: bool,
}

/// How often the nodes of a cluster may refer one request to another node.
const REDIRECTS_MAX: u32 = 5;

/// What the attempts of one call share.
#[derive(Default)]
struct Attempts {
    /// Over which connections each one went, in this order.
    links: Mutex<Vec<(u32, Link)>>,
    /// How many requests were sent that may have had their effect, though no reply says so.
    unconfirmed: AtomicU32,
}

impl Route {
    /// Sends a request that is safe to repeat. What is silent costs one attempt.
    pub(crate) async fn run(
        &self,
        request: &Request<'_>,
        until: CallDeadline,
    ) -> Result<Reply<Value>, LockError> {
        let attempts = &Attempts::default();
        let attempt = |number| async move {
            let link = self.connect(request.target, until, number, attempts).await?;
            self.send(request, link, number, attempts).await
        };
        hedged(until, attempt, |number| self.silent_attempt(number, attempts)).await.result
    }

    /// Sends a request that must not arrive twice: once, over a connection that is made. One that surely
    /// had no effect is sent once more if another server has become the primary.
    pub(crate) async fn run_once(
        &self,
        request: &Request<'_>,
        until: CallDeadline,
    ) -> Result<Reply<Value>, LockError> {
        let (link, sent) = self.send_once(request, until).await?;
        let had_no_effect = matches!(&sent, Err(err) if err.fault() == Some(Fault::Unavailable));
        if !had_no_effect {
            return sent;
        }
        match self.link(request.target.key, until).await {
            Ok(next) if !next.is_same(&link) => self.send_once(request, until).await?.1,
            _ => sent,
        }
    }

    /// Sends a request once. Returns over which connection, and its reply.
    async fn send_once(
        &self,
        request: &Request<'_>,
        until: CallDeadline,
    ) -> Result<(Link, Result<Reply<Value>, LockError>), LockError> {
        let link = self.connected(request.target, until).await?;
        let attempts = &Attempts::default();
        attempts.links.lock().push((0, link.clone()));
        let sent = until.reply(self.send(request, link.clone(), 0, attempts)).await;
        let sent = sent.unwrap_or_else(|silent| {
            self.silent_attempt(0, attempts);
            Err(LockError::backend(backend::REDIS, request.target.action, Fault::Unknown, silent))
        });
        Ok((link, sent))
    }

    /// Subscribes to the client's channel on the server of the lock, unless it is subscribed to. The caller
    /// must be among those that are notified before: they are woken when the subscription is lost.
    pub(crate) async fn subscribe(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Listening, LockError> {
        let target = Target { action: Action::Wait, key };
        let attempts = &Attempts::default();
        let attempt = |number| async move {
            let link = self.connect(target, until, number, attempts).await?;
            let transport = self.transport(target, &link).await?;
            let subscribed = transport.subscribe().await;
            subscribed.map_err(|err| self.failed_on(target, &link, &transport, err))
        };
        hedged(until, attempt, |number| self.silent_attempt(number, attempts)).await.result
    }

    /// The connection for the request, made.
    async fn connected(&self, target: Target<'_>, until: CallDeadline) -> Result<Link, LockError> {
        match self.link(target.key, until).await {
            Ok(link) if link.is_made() => Ok(link),
            // In a box: it is large, and rarely needed.
            _ => Box::pin(self.make_connection(target, until)).await,
        }
    }

    /// The connection for the request, once it is made. One that is silent costs one attempt.
    async fn make_connection(
        &self,
        target: Target<'_>,
        until: CallDeadline,
    ) -> Result<Link, LockError> {
        let attempts = &Attempts::default();
        let attempt = |number| async move {
            let link = self.connect(target, until, number, attempts).await?;
            self.transport(target, &link).await.map(|_| link)
        };
        // Before the call ends, which could not tell that nothing was sent.
        let connect_max = until.left() / 5 * 4;
        let connected = hedged(until, attempt, |number| self.silent_attempt(number, attempts));
        match time::timeout(connect_max, connected).await {
            Ok(Hedged {
                result: Err(LockError::Backend { backend, action, fault, source }),
                ..
            }) => {
                // A connection that was silent was sent nothing either.
                let fault = if fault == Fault::Unknown { Fault::Unavailable } else { fault };
                Err(LockError::Backend { backend, action, fault, source })
            }
            Ok(Hedged { result, .. }) => result,
            Err(_) => {
                let why = format!("not connected within {connect_max:?}");
                Err(LockError::backend(backend::REDIS, target.action, Fault::Unavailable, why))
            }
        }
    }

    /// Chooses the connection of an attempt.
    async fn connect(
        &self,
        target: Target<'_>,
        until: CallDeadline,
        number: u32,
        attempts: &Attempts,
    ) -> Result<Link, LockError> {
        let link = self
            .link(target.key, until)
            .await
            .map_err(|err| error::backend_error(target.action, error::connect_fault(&err), err))?;
        attempts.links.lock().push((number, link.clone()));
        Ok(link)
    }

    /// The connection, once it is made.
    pub(super) async fn transport(
        &self,
        target: Target<'_>,
        link: &Link,
    ) -> Result<Arc<Transport>, LockError> {
        link.transport().await.map_err(|err| {
            self.suspect(link);
            let fault = link.source().connect_fault(&err);
            error::backend_error(target.action, fault, err)
        })
    }

    /// Sends the request over `link`, and on to the nodes to which it is referred.
    async fn send(
        &self,
        request: &Request<'_>,
        mut link: Link,
        number: u32,
        attempts: &Attempts,
    ) -> Result<Reply<Value>, LockError> {
        let mut asking = Asking::No;
        for _ in 0..=REDIRECTS_MAX {
            let transport = self.transport(request.target, &link).await?;
            let repeated = attempts.unconfirmed.fetch_add(1, Relaxed) > 0;
            let sent_at = Instant::now();
            let err = match transport.run(&request.call, asking).await {
                Ok(value) => return Ok(Reply { value, sent_at, repeated }),
                Err(err) => err,
            };
            if transport.fault(request.target.action, &err) != Fault::Unknown {
                attempts.unconfirmed.fetch_sub(1, Relaxed);
            }
            let Some(next) = self.redirect(&err, &link) else {
                return Err(self.failed_on(request.target, &link, &transport, err));
            };
            (link, asking) = next;
            attempts.links.lock().push((number, link.clone()));
        }
        let why = "the nodes of the cluster refer the request to each other";
        Err(LockError::backend(backend::REDIS, request.target.action, Fault::Unavailable, why))
    }

    /// Notes what a request received instead of a reply.
    pub(super) fn failed_on(
        &self,
        target: Target<'_>,
        link: &Link,
        transport: &Transport,
        err: RedisError,
    ) -> LockError {
        if transport.is_lost(&err) {
            link.retire();
        }
        if error::is_broken(&err) || error::is_out_of_service(&err) {
            self.suspect(link);
        }
        error::backend_error(target.action, transport.fault(target.action, &err), err)
    }

    /// The time of an attempt has passed without a reply: the next one goes over another connection.
    fn silent_attempt(&self, number: u32, attempts: &Attempts) {
        let links = attempts.links.lock();
        if let Some((_, link)) = links.iter().rev().find(|(of, _)| *of == number) {
            link.retire();
            self.suspect(link);
        }
    }
}
