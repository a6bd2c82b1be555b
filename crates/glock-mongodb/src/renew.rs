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
    // At least two attempts fit into what the lease has left. One that is made from text has nothing
    // left as far as is known here.
    let left = Some(lease.remaining()).filter(|left| !left.is_zero());
    let time = left.map_or_else(|| client.time(), |left| left.min(client.time()));
    let work = {
        let client = Arc::clone(client);
        async move {
            let reply = client.commands.renew(&client.schema.key(&id), &owner, ttl, time).await;
            let reply = reply.map_err(|failure| failure.during(Action::Renew))?;
            if reply.was_held { Ok(reply.sent_at) } else { Err(LockError::NotHeld { id }) }
        }
    };
    let sent_at = client.call(Action::Renew).run(work).await?;
    Ok(lease.renewed(sent_at, ttl))
}
