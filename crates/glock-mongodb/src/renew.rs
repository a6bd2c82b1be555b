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
    let (key, owner) = (client.schema.key(lease.id()), lease.owner().clone());
    let (call, client) = (client.call(Action::Renew)?, Arc::clone(client));
    let renewed = |until| async move {
        let reply = client.commands.renew(&key, &owner, ttl, until).await?;
        Ok(reply.was_held.then_some(reply.sent_at))
    };
    call.renew(lease, ttl, renewed).await
}

/// Renews the leases of a client's guards together.
#[derive(Clone)]
pub(crate) struct MongoRenewals(pub(crate) Arc<Client>);

impl RenewStore for MongoRenewals {
    fn call(&self) -> Result<Call, LockError> {
        self.0.call(Action::Renew)
    }

    /// The server says how many are held, and not which: where one is not, each is renewed alone.
    async fn renew_all(
        self,
        leases: Vec<Lease>,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<(Instant, Vec<bool>), LockError> {
        let hold = |lease: &Lease| (self.0.schema.key(lease.id()), lease.owner().clone());
        let holds: Vec<_> = leases.iter().map(hold).collect();
        let renewed = self.0.commands.renew_all(&holds, ttl, until).await?;
        let sent_at = renewed.unwrap_or_else(Instant::now);
        Ok((sent_at, vec![renewed.is_some(); leases.len()]))
    }
}
