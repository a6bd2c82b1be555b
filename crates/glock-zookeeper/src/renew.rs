//! Renewing a lease: of this client, or of another one, whose hold moves to this one's session.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Lease, LockError, toolkit::SessionDeadline};
use tokio::time::{self, Instant};
use zookeeper_client::Error;

use crate::{
    client::{Client, LeaseRef},
    commands::{self, FLAP_PAUSE},
    error::{error, is_unknown},
    schema::LockPaths,
    session::hold_table::OwnerNode,
    session::opener::Session,
};

/// What became of one try.
enum Renewed {
    Done,
    /// The hold has ended.
    Over,
    /// The proof of this generation is gone; another one may be there.
    Gone(u32),
}

impl Client {
    pub(crate) async fn renew(&self, lease: LeaseRef, ttl: Duration) -> Result<Lease, LockError> {
        // All leases of a session ended with it, whatever the servers still have of them.
        if lease.session_deadline.as_ref().is_some_and(SessionDeadline::has_expired) {
            return Err(lease.not_held());
        }
        let session = self.session(Action::Renew).await?;
        let place = self.place(&lease.id);
        let mut gone = None;
        loop {
            let sent_at = Instant::now();
            let renewed = if let Some(owner_node) = session.holds.held(&place, &lease.owner) {
                extend(&session, &owner_node, sent_at + ttl).await
            } else {
                // For as long as the client that it was granted to may count on it, if that is more.
                let end = sent_at + ttl.max(lease.ttl);
                adopt(&session, &place, &lease, end, gone).await
            };
            match renewed {
                Ok(Renewed::Done) => return Ok(renewed_lease(&session, lease, sent_at, ttl)),
                Ok(Renewed::Over) => return Err(lease.not_held()),
                Ok(Renewed::Gone(generation)) => gone = Some(generation),
                Err(err) if is_unknown(&err) && !session.is_over() => {
                    time::sleep(FLAP_PAUSE).await;
                }
                Err(err) => return Err(error(Action::Renew, err)),
            }
        }
    }
}

/// Renews a hold of this session.
async fn extend(session: &Session, owner_node: &OwnerNode, end: Instant) -> Result<Renewed, Error> {
    match commands::is_there(session, owner_node).await {
        Ok(true) if session.holds.renew(owner_node, end) => Ok(Renewed::Done),
        Ok(true) | Err(Error::SessionExpired) => Ok(Renewed::Over),
        Ok(false) => {
            // Gone, or moved away by a renewal elsewhere.
            session.holds.remove(owner_node);
            Ok(Renewed::Gone(owner_node.generation))
        }
        Err(err) => Err(err),
    }
}

/// Moves the hold of another client to this session. The proof of generation `gone` was not there.
async fn adopt(
    session: &Arc<Session>,
    place: &LockPaths,
    lease: &LeaseRef,
    end: Instant,
    gone: Option<u32>,
) -> Result<Renewed, Error> {
    let generation = match commands::find(session, place, lease.fence).await? {
        // The hold is another owner's if its proof is still not there.
        Some(generation) if gone != Some(generation) => generation,
        _ => return Ok(Renewed::Over),
    };
    let from = OwnerNode { place: place.clone(), generation, owner: lease.owner.clone() };
    // It ran out here, and is about to be deleted.
    if session.holds.is_over(&from) {
        return Ok(Renewed::Over);
    }
    let to = OwnerNode { generation: generation.saturating_add(1), ..from.clone() };
    let pending = session.holds.pending(session, to, end).lasting();
    match commands::adopt(session, &from, pending.owner_node(), lease.fence).await {
        Ok(true) => {
            pending.granted();
            Ok(Renewed::Done)
        }
        // It was renewed by somebody else, or has ended.
        Ok(false) => {
            pending.refused();
            Ok(Renewed::Gone(generation))
        }
        Err(err) => {
            if !is_unknown(&err) {
                pending.refused();
            }
            Err(err)
        }
    }
}

fn renewed_lease(session: &Session, lease: LeaseRef, sent_at: Instant, ttl: Duration) -> Lease {
    let LeaseRef { id, owner, fence, .. } = lease;
    Lease::granted(id, owner, fence, sent_at, ttl)
        .bound_to(session.liveness.session_deadline().clone())
}
