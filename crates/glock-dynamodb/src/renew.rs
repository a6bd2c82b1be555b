//! Renewing.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Action, FencingToken, Lease, LockError, LockId, OwnerToken, toolkit::CallDeadline,
};
use tokio::time::Instant;

use crate::{
    client::Client,
    commands::{KnownVersion, RenewReply, Renewal},
    error::Failure,
    schema::{Hold, Version},
};

/// A lease that has less left is over before the reply to a second attempt could come.
const REMAINING_MIN: Duration = Duration::from_millis(200);

/// Renews the lease.
pub(crate) async fn renew(
    client: &Arc<Client>,
    lease: &Lease,
    ttl: Duration,
) -> Result<Lease, LockError> {
    let call = client.call(Action::Renew);
    let mut until = call.deadline();
    if lease.remaining() > REMAINING_MIN {
        until = until.for_lease(lease);
    }
    // Dropped with this future: a renewal that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let request = RenewRequest {
        client: Arc::clone(client),
        caller: Arc::downgrade(&caller),
        id: lease.id().clone(),
        owner: lease.owner().clone(),
        fence: lease.fence(),
        until,
    };
    let work = async move { request.send(ttl).await };
    let sent_at = call.run(work).await?;
    Ok(lease.renewed(sent_at, ttl))
}

struct RenewRequest {
    client: Arc<Client>,
    caller: Weak<()>,
    id: LockId,
    owner: OwnerToken,
    fence: FencingToken,
    until: CallDeadline,
}

impl RenewRequest {
    /// Returns when the request was sent that renewed the lease.
    async fn send(&self, ttl: Duration) -> Result<Instant, LockError> {
        let Self { client, caller, id, owner, fence, until } = self;
        let key = client.key(id);
        let (known, mut lease) = self.known(&key, ttl);
        loop {
            let renewal = Renewal { key: &key, owner, fence: *fence, lease, known };
            let request = async || match caller.upgrade() {
                Some(_) => client.commands.renew(&renewal).await,
                None => Err(Failure::abandoned()),
            };
            let reply = client.repeated(Action::Renew, *until, request).await.result?;
            match reply.of {
                RenewReply::Renewed { number } => {
                    let version = Version { owner: owner.clone(), number };
                    client.observations.note_version(&key, &version, lease);
                    return Ok(reply.sent_at);
                }
                RenewReply::Refused(record) => {
                    let noted = client.noted(&key, record).map(|(record, _)| record);
                    let hold = noted.filter(|record| record.fence == *fence);
                    match hold.and_then(|record| record.hold) {
                        // Another client has renewed it for longer, which is not to be cut short.
                        Some(hold) if self.is_longer(&hold, known, lease) => lease = hold.lease,
                        _ => return Err(LockError::NotHeld { id: id.clone() }),
                    }
                }
            }
        }
    }

    /// What this client knows of the hold, and the lease to put on record: no lease that was granted for
    /// the hold before ends earlier by it.
    fn known(&self, key: &str, ttl: Duration) -> (KnownVersion, Duration) {
        match self.client.observations.known_of(key, &self.owner) {
            None => (KnownVersion::Unknown, ttl),
            Some(known) if known.is_over() => (KnownVersion::Over(known.version.number), ttl),
            Some(known) => {
                // Up to what the record counts in.
                let remaining = known.remaining + Duration::from_millis(1);
                (KnownVersion::Current(known.version.number), ttl.max(remaining))
            }
        }
    }

    fn is_longer(&self, hold: &Hold, known: KnownVersion, lease: Duration) -> bool {
        let is_over = matches!(known, KnownVersion::Over(over) if hold.version.number == over);
        hold.version.owner == self.owner && hold.lease > lease && !is_over
    }
}
