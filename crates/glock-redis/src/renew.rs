//! Renewing a lease, and many together.

use std::{iter, sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Call, CallDeadline, RenewStore},
};
use redis::Value;
use tokio::time::Instant;

use crate::{
    client::{Client, Request, Script, ScriptCall, Target},
    commands::{UnexpectedReply, millis, parsed, parts, was_held},
};

static RENEW: Script = Script::new(include_str!("../scripts/renew.lua"));
static RENEW_ALL: Script = Script::new(include_str!("../scripts/renew_all.lua"));

/// Renews the leases of a client's guards together, where one server has all locks.
#[derive(Clone)]
pub(crate) struct RedisRenewals(pub(crate) Arc<Client>);

impl RenewStore for RedisRenewals {
    fn call(&self) -> Result<Call, LockError> {
        Ok(self.0.call(Action::Renew))
    }

    async fn renew_all(
        self,
        leases: Vec<Lease>,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<(Instant, Vec<bool>), LockError> {
        self.0.renew_all(&leases, ttl, until).await
    }
}

impl Client {
    /// Renews the lease. Returns the instant just before the request was sent, or `None` if it is not held.
    pub(crate) async fn renew(
        self: Arc<Self>,
        id: LockId,
        owner: OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Option<Instant>, LockError> {
        let key = self.schema.key(&id);
        let call =
            ScriptCall { script: &RENEW, keys: &[&key], args: &[owner.reveal(), &millis(ttl)] };
        let request = Request { target: Target { action: Action::Renew, key: &key }, call };
        let reply = parsed(Action::Renew, self.route.run(&request, until).await?, was_held)?;
        Ok(reply.value.then_some(reply.sent_at))
    }

    /// Renews these leases by one script. Returns the instant just before it was sent, and of each lease whether it
    /// is held.
    async fn renew_all(
        &self,
        leases: &[Lease],
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<(Instant, Vec<bool>), LockError> {
        let keys: Vec<_> = leases.iter().map(|lease| self.schema.key(lease.id())).collect();
        let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
        let ttl = millis(ttl);
        let owners = leases.iter().map(|lease| lease.owner().reveal());
        let args: Vec<_> = iter::once(&*ttl).chain(owners).collect();
        let call = ScriptCall { script: &RENEW_ALL, keys: &keys, args: &args };
        let key = keys.first().copied().unwrap_or_default();
        let request = Request { target: Target { action: Action::Renew, key }, call };
        let reply = parsed(Action::Renew, self.route.run(&request, until).await?, are_held)?;
        Ok((reply.sent_at, reply.value))
    }
}

fn are_held(reply: &Value) -> Result<Vec<bool>, UnexpectedReply> {
    parts(reply).iter().map(was_held).collect()
}
