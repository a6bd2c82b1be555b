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
    let (key, owner) = (client.key(lease.id()), lease.owner().clone());
    let (call, client) = (client.call(Action::Renew), Arc::clone(client));
    let renewed = |until| async move {
        let sent_at = client.commands.renew(&key, &owner, ttl, until).await;
        sent_at.map_err(|failure| failure.during(Action::Renew))
    };
    call.renew(lease, ttl, renewed).await
}
