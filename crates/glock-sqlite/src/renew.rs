//! Renewing a lease, and many together.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError,
    toolkit::{Call, CallDeadline, RenewStore},
};
use tokio::time::Instant;

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

/// Renews the leases of a client's guards together.
#[derive(Clone)]
pub(crate) struct SqliteRenewals(pub(crate) Arc<Client>);

impl RenewStore for SqliteRenewals {
    fn call(&self) -> Result<Call, LockError> {
        Ok(self.0.call(Action::Renew))
    }

    async fn renew_all(
        self,
        leases: Vec<Lease>,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<(Instant, Vec<bool>), LockError> {
        let due = leases.iter().map(|lease| (self.0.key(lease.id()), lease.owner().clone()));
        let renewed = self.0.commands.renew_all(&due.collect::<Vec<_>>(), ttl, until).await;
        let (sent_at, owners) = renewed.map_err(|failure| failure.during(Action::Renew))?;
        let is_renewed = |lease: &Lease| owners.contains(lease.owner().reveal());
        Ok((sent_at, leases.iter().map(is_renewed).collect()))
    }
}
