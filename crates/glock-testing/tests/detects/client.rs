//! `Client`: the requests of the toy's lock, and what its store's answers mean.

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use glock_core::{
    Action, Fault, FencingToken, Holder, Lease, LockConfig, LockError, LockId, OwnerToken,
    toolkit::{Mutex, PendingWork, WaitQueue},
};
use tokio::time::{Instant, sleep};

use crate::{
    flaw::Flaw,
    keys::{hex, key, prefix, unhex},
    leftover::Left,
    subscriber::Subscriber,
    transport::{BACKEND, Endpoint, Failure, Reply, Transport},
};

/// How often a flawed release ends whatever hold there is.
const FORCED: u32 = 10;

/// What the clones of a lock share.
#[derive(Debug)]
pub(crate) struct Client {
    pub config: LockConfig,
    pub transport: Transport,
    /// Only the flawed ask on two connections.
    beside: Transport,
    pub subscriber: Subscriber,
    pub queue: WaitQueue,
    pub pending: PendingWork,
    pub flaw: Flaw,
    pub left: Left,
    /// The owner tokens of what was granted: only the flawed look at them.
    granted: Mutex<HashSet<String>>,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, config: LockConfig) -> Self {
        let flaw = endpoint.flaw;
        let subscriber = Subscriber::new(endpoint.clone(), prefix(flaw, &config.namespace));
        let (transport, beside) = {
            let transport = |endpoint| Transport::new(endpoint, config.call_timeout);
            (transport(endpoint.clone()), transport(endpoint))
        };
        let (queue, pending) = (WaitQueue::new(), PendingWork::new());
        let (left, granted) = (Left::default(), Mutex::default());
        Self { config, transport, beside, subscriber, queue, pending, flaw, left, granted }
    }

    pub(crate) fn key(&self, id: &LockId) -> String {
        key(self.flaw, &self.config.namespace, id)
    }

    /// Takes the lock as `owner`, if it is free.
    pub(crate) async fn acquire(
        self: Arc<Self>,
        id: LockId,
        owner: OwnerToken,
        ttl: Duration,
        sent_at: Instant,
    ) -> Result<Lease, LockError> {
        if self.flaw == Flaw::LooksBeforeAcquiring
            && let Some(holder) = self.look(&id, Action::Acquire).await?
        {
            return Err(LockError::Held { id, holder: Some(Box::new(holder)) });
        }
        let (mut owner, mut request) = (owner.clone(), self.acquire_request(&id, &owner, ttl));
        let mut reply = match self.flaw {
            Flaw::SameTokenOnRetry | Flaw::CutIsUnavailable => {
                self.transport.ask(&request).await.map(|reply| reply.text)
            }
            Flaw::LooksPipelined => {
                let both = format!("LOOK {}\n{request}", self.key(&id));
                self.transport.ask_once(&both).await
            }
            Flaw::LooksBesideAcquiring => {
                let look = format!("LOOK {}", self.key(&id));
                tokio::join!(self.transport.ask_once(&request), self.beside.ask_once(&look)).0
            }
            _ => self.transport.ask_once(&request).await,
        };
        if reply.is_err() && self.flaw == Flaw::NewTokenOnRetry {
            owner = OwnerToken::random()?;
            request = self.acquire_request(&id, &owner, ttl);
            reply = self.transport.ask_once(&request).await;
        }
        if reply.is_err() && self.flaw == Flaw::RetriesInBackground {
            tokio::spawn(async move {
                sleep(Duration::from_millis(100)).await;
                let _ = self.transport.ask(&request).await;
            });
            return Err(LockError::backend(BACKEND, Action::Acquire, Fault::Unavailable, "cut"));
        }
        let reply = reply.map_err(|failure| failure.during(self.flaw, Action::Acquire))?;
        let sent_at = if self.flaw == Flaw::DeadlineFromReply { Instant::now() } else { sent_at };
        self.granted_or_held(&reply, id, owner, ttl, sent_at)
    }

    pub(crate) fn acquire_request(&self, id: &LockId, owner: &OwnerToken, ttl: Duration) -> String {
        let label = match self.flaw {
            Flaw::OwnerInLabel => format!("{} {}", self.config.holder, owner.reveal()),
            Flaw::LabelInAscii => self.config.holder.replace(|c: char| !c.is_ascii(), ""),
            _ => self.config.holder.clone(),
        };
        let (key, owner, millis) = (self.key(id), owner.reveal(), self.millis(ttl));
        format!("ACQUIRE {key} {owner} {millis} {}", hex(&label))
    }

    pub(crate) fn granted_or_held(
        &self,
        reply: &str,
        id: LockId,
        owner: OwnerToken,
        ttl: Duration,
        sent_at: Instant,
    ) -> Result<Lease, LockError> {
        if let Some(fence) = reply.strip_prefix("GRANTED ").and_then(|fence| fence.parse().ok()) {
            self.granted().insert(owner.reveal().to_owned());
            return Ok(Lease::granted(id, owner, FencingToken::new(fence), sent_at, ttl));
        }
        let holder = holder(reply).ok_or_else(|| garbled(Action::Acquire, reply))?;
        Err(LockError::Held { id, holder: Some(Box::new(holder)) })
    }

    /// Extends what `owner` holds.
    pub(crate) async fn renew(
        self: Arc<Self>,
        id: LockId,
        owner: OwnerToken,
        ttl: Duration,
    ) -> Result<(), LockError> {
        self.check_owner(&id, &owner, Action::Renew)?;
        if self.flaw == Flaw::LooksBeforeRenewing {
            self.look(&id, Action::Renew).await?;
        }
        if self.flaw == Flaw::RenewsByAcquiring {
            Arc::clone(&self).release(id.clone(), owner.clone()).await?;
            return self.acquire(id, owner, ttl, Instant::now()).await.map(drop);
        }
        let request = format!("RENEW {} {} {}", self.key(&id), owner.reveal(), self.millis(ttl));
        if self.flaw == Flaw::RenewsBlindly {
            tokio::spawn(async move { self.transport.ask(&request).await.map(drop) });
            return Ok(());
        }
        if self.flaw == Flaw::CutRenewalIsNotHeld {
            let reply = self.transport.ask_once(&request).await;
            return done(&reply.unwrap_or_default(), id, Action::Renew);
        }
        let reply = self.transport.ask(&request).await;
        done(
            &reply.map_err(|failure| failure.during(self.flaw, Action::Renew))?.text,
            id,
            Action::Renew,
        )
    }

    /// Ends what `owner` holds.
    pub(crate) async fn release(
        self: Arc<Self>,
        id: LockId,
        owner: OwnerToken,
    ) -> Result<(), LockError> {
        self.check_owner(&id, &owner, Action::Release)?;
        if self.flaw == Flaw::LooksBeforeReleasing {
            self.look(&id, Action::Release).await?;
        }
        let request = format!("RELEASE {} {}", self.key(&id), owner.reveal());
        let reply = match self.flaw {
            Flaw::CutReleaseIsOk | Flaw::CutReleaseIsForced => {
                self.release_roughly(&id, &request).await
            }
            _ => self.transport.ask(&request).await,
        };
        let Reply { text, again } =
            reply.map_err(|failure| failure.during(self.flaw, Action::Release))?;
        self.granted().remove(owner.reveal());
        if text == "LOST" && again && self.flaw != Flaw::CutReleaseIsNotHeld {
            // Ended by the request that was not answered, or over before: which, is unknown.
            let why = "no answer came, and then there was nothing to release";
            return Err(LockError::backend(BACKEND, Action::Release, Fault::Unknown, why));
        }
        done(&text, id, Action::Release)
    }

    /// Takes a cut for a release, or makes it one.
    async fn release_roughly(&self, id: &LockId, request: &str) -> Result<Reply, Failure> {
        match self.transport.ask_once(request).await {
            Err(_) if self.flaw == Flaw::CutReleaseIsForced => {
                // More than once, so that another owner's hold is surely met.
                for _ in 0..FORCED {
                    sleep(Duration::from_millis(3)).await;
                    self.transport.ask(&format!("EVICT {}", self.key(id))).await?;
                }
                Ok(Reply { text: "OK".into(), again: false })
            }
            reply => Ok(Reply { text: reply.unwrap_or_else(|_| "OK".into()), again: false }),
        }
    }

    /// Who has the lock.
    pub(crate) async fn look(
        &self,
        id: &LockId,
        action: Action,
    ) -> Result<Option<Holder>, LockError> {
        let reply = self.transport.ask(&format!("LOOK {}", self.key(id))).await;
        let reply = reply.map_err(|failure| failure.during(self.flaw, action))?.text;
        if reply == "FREE" {
            return Ok(None);
        }
        holder(&reply).map(Some).ok_or_else(|| garbled(action, &reply))
    }

    fn check_owner(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        action: Action,
    ) -> Result<(), LockError> {
        let owner = owner.reveal();
        if self.flaw == Flaw::OnlyOwnLeases && !self.granted().contains(owner) {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        let odd = owner.len() != 32 || owner.contains(|c: char| !c.is_ascii_hexdigit());
        if self.flaw == Flaw::ForeignTokenIsRejected && odd {
            return Err(LockError::backend(BACKEND, action, Fault::Rejected, "no owner token"));
        }
        Ok(())
    }

    fn millis(&self, ttl: Duration) -> u64 {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        if self.flaw == Flaw::TtlCutOff { millis & u64::from(u32::MAX) } else { millis }
    }

    pub(crate) fn granted(&self) -> MutexGuard<'_, HashSet<String>> {
        self.granted.lock()
    }
}

fn holder(reply: &str) -> Option<Holder> {
    let mut words = reply.strip_prefix("HELD ")?.split(' ');
    let fence = FencingToken::new(words.next()?.parse().ok()?);
    let left = Duration::from_millis(words.next()?.parse().ok()?);
    Some(Holder::new(unhex(words.next()?)?, fence).with_remaining(Some(left)))
}

pub(crate) fn done(reply: &str, id: LockId, action: Action) -> Result<(), LockError> {
    match reply {
        "OK" => Ok(()),
        "LOST" | "" => Err(LockError::NotHeld { id }),
        _ => Err(garbled(action, reply)),
    }
}

pub(crate) fn garbled(action: Action, reply: &str) -> LockError {
    LockError::backend(BACKEND, action, Fault::Unknown, format!("not an answer: {reply:?}"))
}
