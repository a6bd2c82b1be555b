//! `Client`: what the clones of one lock share, and the calls that take no lock.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Holder, Lease, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, SessionDeadline, WaitQueue},
};
use tokio::time;
use zookeeper_client::Error;

use crate::{
    commands::{self, RETRY_PAUSE},
    error::{error, is_unknown},
    schema::{self, LockPaths, OwnerNode},
    session::{PendingHold, Session, Sessions},
};

/// What the clones of one lock share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) sessions: Sessions,
    namespace: String,
    call_timeout: Duration,
    /// The order in which this client's waiters join the servers' queue.
    pub(crate) arrivals: WaitQueue,
}

/// What a call needs of a lease, which stays with its holder.
pub(crate) struct LeaseRef {
    pub(crate) id: LockId,
    pub(crate) owner: OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) ttl: Duration,
    pub(crate) session_deadline: Option<SessionDeadline>,
}

impl LeaseRef {
    pub(crate) fn of(lease: &Lease) -> Self {
        Self {
            id: lease.id().clone(),
            owner: lease.owner().clone(),
            fence: lease.fence(),
            ttl: lease.ttl(),
            session_deadline: lease.session().cloned(),
        }
    }

    pub(crate) fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.id.clone() }
    }
}

impl Client {
    pub(crate) fn new(sessions: Sessions, config: &LockConfig) -> Self {
        let namespace = config.namespace.clone();
        let call_timeout = config.call_timeout;
        Self { sessions, namespace, call_timeout, arrivals: WaitQueue::new() }
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(backend::ZOOKEEPER, action, self.call_timeout)
    }

    pub(crate) fn paths(&self, id: &LockId) -> LockPaths {
        LockPaths::new(&self.namespace, id)
    }

    /// The session, opened if need be.
    pub(crate) async fn session(&self, action: Action) -> Result<Arc<Session>, LockError> {
        self.sessions.get(action).await
    }

    /// The session, if it is open.
    pub(crate) fn open_session(&self) -> Option<Arc<Session>> {
        self.sessions.current()
    }

    pub(crate) async fn release(&self, lease: LeaseRef) -> Result<(), LockError> {
        let session = self.session(Action::Release).await?;
        let paths = self.paths(&lease.id);
        let released = match PendingHold::released(&session.holds, &paths, &lease.owner) {
            Some(pending) => match release_own(&session, pending).await {
                // Another client may have moved the hold to its own session.
                Ok(false) => release_any(&session, paths, &lease).await,
                released => released,
            },
            None => release_any(&session, paths, &lease).await,
        };
        match released {
            Ok(true) => Ok(()),
            // All holds have ended with their session.
            Ok(false) | Err(Error::SessionExpired) => Err(lease.not_held()),
            Err(err) => Err(error(Action::Release, err)),
        }
    }

    pub(crate) async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let session = self.session(Action::Inspect).await?;
        let (session, paths) = (&*session, self.paths(id));
        let path = paths.lock();
        let read = || commands::synced_read(session, &path, || session.client.get_data(&path));
        let found = match commands::retry_read(session, read).await {
            Ok((data, stat)) => return Ok(Some(schema::holder(&data, &stat))),
            // The servers say so to every client. May this one read the lock if it is there?
            Err(Error::NoNode) => {
                let namespace = || session.client.get_data(paths.namespace());
                commands::retry_read(session, namespace).await
            }
            Err(err) => Err(err),
        };
        match found {
            Ok(_) | Err(Error::NoNode) => Ok(None),
            Err(err) => Err(error(Action::Inspect, err)),
        }
    }
}

/// Releases a hold of this client; false if it is gone.
async fn release_own(session: &Session, pending: PendingHold) -> Result<bool, Error> {
    let mut in_doubt = false;
    loop {
        match commands::delete_hold(session, pending.node()).await {
            Ok(deleted) => {
                pending.absent();
                // If it is gone after a lost reply, that request has deleted it.
                return Ok(deleted || in_doubt);
            }
            Err(err) if is_unknown(&err) && !session.is_over() => in_doubt = true,
            Err(err) => return Err(err),
        }
        time::sleep(RETRY_PAUSE).await;
    }
}

/// Releases a hold that this client does not have: another client's, or one that has ended.
async fn release_any(session: &Session, paths: LockPaths, lease: &LeaseRef) -> Result<bool, Error> {
    let mut node = OwnerNode::new(paths, lease.owner.clone());
    let mut in_doubt = false;
    loop {
        match commands::delete_hold(session, &node).await {
            Ok(true) => return Ok(true),
            Ok(false) => {
                match commands::find_generation(session, &node.paths, lease.fence).await? {
                    Some(found) if found != node.generation => node.generation = found,
                    // It is gone, or another owner's.
                    _ => return Ok(in_doubt),
                }
            }
            Err(err) if is_unknown(&err) && !session.is_over() => {
                in_doubt = true;
                time::sleep(RETRY_PAUSE).await;
            }
            Err(err) => return Err(err),
        }
    }
}
