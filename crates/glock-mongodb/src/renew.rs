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
    let (id, owner) = (lease.id().clone(), lease.owner().clone());
    let call = client.call(Action::Renew)?;
    let until = call.deadline().for_lease(lease);
    let work = {
        let client = Arc::clone(client);
        async move {
            let reply = client.commands.renew(&client.schema.key(&id), &owner, ttl, until).await?;
            if reply.was_held { Ok(reply.sent_at) } else { Err(LockError::NotHeld { id }) }
        }
    };
    let sent_at = call.run(work).await?;
    Ok(lease.renewed(sent_at, ttl))
}
