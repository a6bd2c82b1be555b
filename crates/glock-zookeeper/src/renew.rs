//! Renewing a lease: a hold of this client, or of another one, which moves to this one's session.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Lease, LockError, toolkit::SessionDeadline};
use tokio::time::{self, Instant};
use zookeeper_client::Error;

use crate::{
    client::{Client, LeaseRef},
    commands::{self, RETRY_PAUSE},
    error::{error, is_unknown},
    schema::{LockPaths, OwnerNode},
    session::{Cleanup, Session},
};

/// The outcome of one try.
enum Renewed {
    Done,
    /// The hold has ended.
    Over,
    /// The owner node of this generation is gone; another one may be there.
    Gone(u32),
}

impl Client {
    pub(crate) async fn renew(&self, lease: LeaseRef, ttl: Duration) -> Result<Lease, LockError> {
        // All leases of a session ended with it, whatever the servers still have of them.
        if lease.session_deadline.as_ref().is_some_and(SessionDeadline::has_expired) {
            return Err(lease.not_held());
        }
        let session = self.sessions.get(Action::Renew).await?;
        let paths = self.paths(&lease.id);
        let mut gone = None;
        loop {
            let sent_at = Instant::now();
            let renewed = if let Some(node) = session.holds.held(&paths, &lease.owner) {
                extend(&session, &node, sent_at + ttl).await
            } else {
                // The client that it was granted to may rely on its TTL, if that is longer.
                let end = sent_at + ttl.max(lease.ttl);
                transfer(&session, &paths, &lease, end, gone).await
            };
            match renewed {
                Ok(Renewed::Done) => {
                    let LeaseRef { id, owner, fence, .. } = lease;
                    let lease = Lease::granted(id, owner, fence, sent_at, ttl);
                    return Ok(lease.bound_to(session.liveness.deadline().clone()));
                }
                Ok(Renewed::Over) => return Err(lease.not_held()),
                Ok(Renewed::Gone(generation)) => gone = Some(generation),
                Err(err) if is_unknown(&err) && !session.is_over() => {
                    time::sleep(RETRY_PAUSE).await;
                }
                Err(err) => return Err(error(Action::Renew, err)),
            }
        }
    }
}

/// Renews a hold of this session.
async fn extend(session: &Session, node: &OwnerNode, end: Instant) -> Result<Renewed, Error> {
    match commands::is_held(session, node).await {
        Ok(true) if session.holds.renew(node, end) => Ok(Renewed::Done),
        Ok(true) | Err(Error::SessionExpired) => Ok(Renewed::Over),
        Ok(false) => {
            // It has ended, or another client has moved it.
            session.holds.remove(node);
            Ok(Renewed::Gone(node.generation))
        }
        Err(err) => Err(err),
    }
}

/// Moves the hold of another client to this session. The owner node of generation `gone` is gone.
async fn transfer(
    session: &Arc<Session>,
    paths: &LockPaths,
    lease: &LeaseRef,
    end: Instant,
    gone: Option<u32>,
) -> Result<Renewed, Error> {
    let generation = match commands::find_generation(session, paths, lease.fence).await? {
        // The hold is another owner's if its owner node is still not there.
        Some(generation) if gone != Some(generation) => generation,
        _ => return Ok(Renewed::Over),
    };
    let mut from = OwnerNode::new(paths.clone(), lease.owner.clone());
    from.generation = generation;
    // It was this client's, has run out, and is about to be deleted.
    if session.holds.is_over(&from) {
        return Ok(Renewed::Over);
    }
    let to = OwnerNode { generation: generation.saturating_add(1), ..from.clone() };
    let pending = Cleanup::pending(session, to, end).lasting();
    match commands::transfer_hold(session, &from, pending.node(), lease.fence).await {
        Ok(true) => {
            pending.granted();
            Ok(Renewed::Done)
        }
        // Another client has renewed it, or it has ended.
        Ok(false) => {
            pending.absent();
            Ok(Renewed::Gone(generation))
        }
        Err(err) => {
            if !is_unknown(&err) {
                pending.absent();
            }
            Err(err)
        }
    }
}
