//! `Client`: what the clones of one lock share, and the calls that take no lock.

use std::time::Duration;

use glock_core::{
    Action, FencingToken, Holder, Lease, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, PendingWork, SessionDeadline, WaitQueue},
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
    pub(crate) pending: PendingWork,
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
    pub(crate) fn new(sessions: Sessions, config: &LockConfig, pending: PendingWork) -> Self {
        let namespace = config.namespace.clone();
        let call_timeout = config.call_timeout;
        Self { sessions, namespace, call_timeout, arrivals: WaitQueue::new(), pending }
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::ZOOKEEPER, action, self.call_timeout)
    }

    /// Runs a read for a waiter.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, LockError> {
        let read = async move { read.await.map_err(|err| error(Action::Wait, err)) };
        self.call(Action::Wait).run(read).await
    }

    pub(crate) fn paths(&self, id: &LockId) -> LockPaths {
        LockPaths::new(&self.namespace, id)
    }

    /// The node below which all locks are.
    pub(crate) fn namespace(&self) -> String {
        schema::root(&self.namespace)
    }

    pub(crate) async fn release(&self, lease: LeaseRef) -> Result<(), LockError> {
        let session = self.sessions.get(Action::Release).await?;
        let paths = self.paths(&lease.id);
        let pending = PendingHold::released(&session.holds, &paths, &lease.owner);
        let node = match &pending {
            Some(pending) => pending.node().clone(),
            // Another client's hold, or one that has ended.
            None => OwnerNode::new(paths, lease.owner.clone()),
        };
        let released = release(&session, node, lease.fence).await;
        if let (Some(pending), Ok(_)) = (pending, &released) {
            pending.absent();
        }
        match released {
            Ok(true) => Ok(()),
            // All holds have ended with their session.
            Ok(false) | Err(Error::SessionExpired) => Err(lease.not_held()),
            Err(err) => Err(error(Action::Release, err)),
        }
    }

    pub(crate) async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let session = self.sessions.get(Action::Inspect).await?;
        let (session, paths) = (&*session, self.paths(id));
        let found = match commands::read_lock(session, &paths).await {
            Ok(Some((data, stat))) => return Ok(Some(schema::holder(&data, &stat))),
            // The servers say so to every client. May this one read the lock if it is there?
            Ok(None) => {
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

/// Deletes a hold, or what it has become if another client has moved it. Returns whether it was
/// there.
async fn release(
    session: &Session,
    mut node: OwnerNode,
    fence: FencingToken,
) -> Result<bool, Error> {
    let mut ambiguous = false;
    loop {
        match commands::delete_hold(session, &node).await {
            Ok(true) => return Ok(true),
            Ok(false) => match commands::find_generation(session, &node.paths, fence).await? {
                Some(found) if found != node.generation => node.generation = found,
                // It is another owner's, or gone: after a lost reply, that request has deleted it.
                _ => return Ok(ambiguous),
            },
            Err(err) if is_unknown(&err) && !session.is_over() => {
                ambiguous = true;
                time::sleep(RETRY_PAUSE).await;
            }
            Err(err) => return Err(err),
        }
    }
}
