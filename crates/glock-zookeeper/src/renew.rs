//! Renewing a lease: of this client, or of another one, whose hold moves to this one's session.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Lease, LockError, toolkit::SessionDeadline};
use tokio::time::{self, Instant};
use zookeeper_client::Error;

use crate::{
    calls::{Calls, Subject},
    error::{error, is_unknown},
    ledger::Proof,
    nodes::{self, FLAP_PAUSE},
    schema::Place,
    session::Session,
};

/// What became of one try.
enum Renewed {
    Done,
    /// The hold has ended.
    Over,
    /// The proof of this generation is gone; another one may be there.
    Gone(u32),
}

impl Calls {
    pub(crate) async fn renew(&self, subject: Subject, ttl: Duration) -> Result<Lease, LockError> {
        // All leases of a session ended with it, whatever the servers still have of them.
        if subject.session_deadline.as_ref().is_some_and(SessionDeadline::has_expired) {
            return Err(subject.not_held());
        }
        let session = self.session(Action::Renew).await?;
        let place = self.place(&subject.id);
        let mut gone = None;
        loop {
            let sent_at = Instant::now();
            let renewed = if let Some(proof) = session.ledger.held(&place, &subject.owner) {
                extend(&session, &proof, sent_at + ttl).await
            } else {
                // For as long as the client that it was granted to may count on it, if that is more.
                let end = sent_at + ttl.max(subject.ttl);
                adopt(&session, &place, &subject, end, gone).await
            };
            match renewed {
                Ok(Renewed::Done) => return Ok(lease(&session, subject, sent_at, ttl)),
                Ok(Renewed::Over) => return Err(subject.not_held()),
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
async fn extend(session: &Session, proof: &Proof, end: Instant) -> Result<Renewed, Error> {
    match nodes::is_there(session, proof).await {
        Ok(true) if session.ledger.renew(proof, end) => Ok(Renewed::Done),
        Ok(true) | Err(Error::SessionExpired) => Ok(Renewed::Over),
        Ok(false) => {
            // Gone, or moved away by a renewal elsewhere.
            session.ledger.remove(proof);
            Ok(Renewed::Gone(proof.generation))
        }
        Err(err) => Err(err),
    }
}

/// Moves the hold of another client to this session. The proof of generation `gone` was not there.
async fn adopt(
    session: &Arc<Session>,
    place: &Place,
    subject: &Subject,
    end: Instant,
    gone: Option<u32>,
) -> Result<Renewed, Error> {
    let generation = match nodes::find(session, place, subject.fence).await? {
        // The hold is another owner's if its proof is still not there.
        Some(generation) if gone != Some(generation) => generation,
        _ => return Ok(Renewed::Over),
    };
    let from = Proof { place: place.clone(), generation, owner: subject.owner.clone() };
    // It ran out here, and is about to be deleted.
    if session.ledger.is_over(&from) {
        return Ok(Renewed::Over);
    }
    let to = Proof { generation: generation.saturating_add(1), ..from.clone() };
    let claim = session.ledger.claim(session, to, end).lasting();
    match nodes::adopt(session, &from, claim.proof(), subject.fence).await {
        Ok(true) => {
            claim.granted();
            Ok(Renewed::Done)
        }
        // It was renewed by somebody else, or has ended.
        Ok(false) => {
            claim.refused();
            Ok(Renewed::Gone(generation))
        }
        Err(err) => {
            if !is_unknown(&err) {
                claim.refused();
            }
            Err(err)
        }
    }
}

fn lease(session: &Session, subject: Subject, sent_at: Instant, ttl: Duration) -> Lease {
    let Subject { id, owner, fence, .. } = subject;
    Lease::granted(id, owner, fence, sent_at, ttl)
        .bound_to(session.pulse.session_deadline().clone())
}
