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
    let (key, owner) = (client.schema.key(lease.id()), lease.owner().clone());
    let (call, client) = (client.call(Action::Renew)?, Arc::clone(client));
    let renewed = |until| async move {
        let reply = client.commands.renew(&key, &owner, ttl, until).await?;
        Ok(reply.was_held.then_some(reply.sent_at))
    };
    call.renew(lease, ttl, renewed).await
}
