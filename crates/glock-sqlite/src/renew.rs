//! Renewing a lease.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Lease, LockError};

use crate::client::Client;

/// Renews the lease for `ttl` from now.
pub(crate) async fn renew(
    client: &Arc<Client>,
    lease: &Lease,
    ttl: Duration,
) -> Result<Lease, LockError> {
    let client = Arc::clone(client);
    let (id, owner, fence) = (lease.id().clone(), lease.owner().clone(), lease.fence());
    let call = client.call(Action::Renew);
    let until = call.deadline().for_lease(lease);
    let work = async move {
        let reply = client.commands.renew(&client.key(&id), &owner, ttl, until).await;
        match reply.map_err(|failure| failure.during(Action::Renew))? {
            Some(sent_at) => Ok(Lease::granted(id, owner, fence, sent_at, ttl)),
            None => Err(LockError::NotHeld { id }),
        }
    };
    call.run(work).await
}
