//! `HazelcastFencedLock`: the [`Lock`] on the CP Subsystem's fenced locks.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Clock, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, Retry, Waiting, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork},
};

use crate::{
    client::{HazelcastClient, LeaseRef},
    session::{self, CpClient, CpSettings},
};

/// Fenced locks of a Hazelcast cluster's CP Subsystem, which are linearizable: on the free edition up to
/// Hazelcast 5.4, and on the Enterprise edition. Cloning is cheap.
///
/// See the [crate's front page](crate) for what it promises and what it leaves behind.
#[derive(Debug, Clone)]
pub struct HazelcastFencedLock {
    pub(crate) client: Arc<CpClient>,
}

/// The shortest TTL: five times the least margin that a lease's deadline keeps.
const TTL_MIN: Duration = Duration::from_millis(10);
const SESSION_TTL_MIN: Duration = Duration::from_secs(1);
const SESSION_TTL_MAX: Duration = Duration::from_hours(24);
/// The leader looks for sessions that are over once a second.
const SCAN: Duration = Duration::from_secs(2);
const GROUP_MAX: usize = 64;

impl HazelcastFencedLock {
    /// Locks on the cluster of `client`. No I/O: it connects on first use, and then refuses a cluster without
    /// the CP Subsystem, or with one in unsafe mode.
    pub fn new(client: HazelcastClient) -> Self {
        Self::build(CpSettings::new(client)).unwrap_or_else(|_| unreachable!("the defaults work"))
    }

    /// Uses other settings: the namespace, the time limit of calls, the holder's label. Clones made before
    /// keep theirs.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Self::build(CpSettings { config, ..self.client.settings.clone() })
    }

    /// Uses another CP group than the default one. It is made on first use; each group has its own leader.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] unless its name is 1 to 64 letters, digits, `-`, `_` or `.`.
    pub fn with_group(self, group: impl Into<String>) -> Result<Self, LockError> {
        let group = group.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=GROUP_MAX).contains(&group.len()) || !group.bytes().all(plain) {
            let reason = "it must be 1 to 64 letters, digits, '-', '_' or '.'";
            return Err(LockError::invalid("group", reason));
        }
        Self::build(CpSettings { group: Some(group), ..self.client.settings.clone() })
    }

    /// States for how long the cluster's CP sessions live: `session-time-to-live-seconds` in its
    /// configuration. Default: 300 s, as Hazelcast's own. So long the locks of a client stay after it has
    /// died. A cluster whose sessions live longer is refused, because the lock would promise too much.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] unless it is between a second and a day.
    pub fn with_session_ttl(self, session_ttl: Duration) -> Result<Self, LockError> {
        if !(SESSION_TTL_MIN..=SESSION_TTL_MAX).contains(&session_ttl) {
            return Err(LockError::invalid("session_ttl", "give between a second and a day"));
        }
        Self::build(CpSettings { session_ttl, ..self.client.settings.clone() })
    }

    /// Accepts a CP Subsystem in unsafe mode, which keeps locks as maps do: a crash or a partition may lose
    /// one or let two hold it. For development and tests.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`], as when the lock was built.
    pub fn with_unsafe_mode(self) -> Result<Self, LockError> {
        Self::build(self.client.settings.clone().accept_unsafe_mode())
    }

    fn build(settings: CpSettings) -> Result<Self, LockError> {
        Ok(Self { client: Arc::new(CpClient::new(settings)?) })
    }
}

#[async_trait]
impl Lock for HazelcastFencedLock {
    fn backend(&self) -> &'static str {
        backend::HAZELCAST
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        // After a change of the leader, sessions live for up to one heartbeat longer.
        capabilities.expiry_lag = self.client.settings.session_ttl * 5 / 4 + SCAN;
        capabilities.clock = Clock::Session;
        capabilities.ends_with_client = true;
        // A caller that is to be granted the lock. One that waits by itself looks from time to time.
        capabilities.waiting = Waiting::Pushed;
        // Members keep one place for each client, so that clients take turns.
        capabilities.fairness = Fairness::Client;
        capabilities.fencing = Fencing::LostWrites;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.client.acquire(id, self.capabilities().ttl(ttl)?).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let call = self.client.call(Action::Renew);
        let until = call.deadline().for_lease(lease);
        let (client, renewed) = (Arc::clone(&self.client), LeaseRef::of(lease));
        let renewed = call.run(async move { client.renew(&renewed, ttl, until).await }).await?;
        Ok(lease.renewed(renewed.sent_at, ttl).bound_to(renewed.session))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let call = self.client.call(Action::Release);
        let (client, lease, until) =
            (Arc::clone(&self.client), LeaseRef::of(lease), call.deadline());
        call.run(async move { client.release(&lease, until).await }).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        session::until_free(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        session::look(&self.client, id).await
    }
}

#[async_trait]
impl LockHooks for HazelcastFencedLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(session::parked(&self.client, id, ttl, retry)))
    }

    fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(lease.session()?.expired()))
    }
}
