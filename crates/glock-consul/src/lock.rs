//! `ConsulLock`: the [`Lock`] on Consul.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Capabilities, Clock, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, Waiting, async_trait, backend,
    toolkit::{Call, FnAttempt, LockHooks, WaitQueue},
};
use tokio::time;

use crate::{
    ConsulClient,
    entry::Entry,
    hold::{Asked, Client},
};

/// Locks on Consul. Clones share connections, spare sessions and the line of waiters.
///
/// See the [crate's documentation](crate) for what it promises and what breaks it.
#[derive(Debug, Clone)]
pub struct ConsulLock {
    client: Arc<Client>,
}

/// Consul's limits of a session's TTL, unless `session_ttl_min` of the servers says otherwise.
const TTL_MIN: Duration = Duration::from_secs(10);
const TTL_MAX: Duration = Duration::from_hours(24);
/// How long to wait before looking again at a hold that seemed to be over, when looking failed.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

impl ConsulLock {
    /// A lock with the default settings. Nothing is sent.
    pub fn new(client: ConsulClient) -> Self {
        Self::from_parts(client, LockConfig::default(), TTL_MIN)
    }

    fn from_parts(client: ConsulClient, config: LockConfig, ttl_min: Duration) -> Self {
        Self { client: Arc::new(Client::new(client, config, ttl_min)) }
    }

    /// Takes over the namespace, call time limit and holder label.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self::from_parts(self.client.consul.clone(), config, self.client.ttl_min))
    }

    /// Says that the servers' `session_ttl_min` is not the default of 10 s, so that shorter TTLs are
    /// offered. A server that was not told so will refuse them.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if it is zero or more than the longest TTL, which is a day.
    pub fn with_session_ttl_min(self, ttl_min: Duration) -> Result<Self, LockError> {
        if ttl_min < Duration::from_millis(1) || ttl_min > TTL_MAX {
            return Err(LockError::invalid("session_ttl_min", "give 1 ms to 24 h"));
        }
        let Client { consul, config, .. } = &*self.client;
        Ok(Self::from_parts(consul.clone(), config.clone(), ttl_min))
    }

    fn call(&self, action: Action) -> Call {
        Call::new(backend::CONSUL, action, self.client.config.call_timeout)
    }
}

#[async_trait]
impl Lock for ConsulLock {
    fn backend(&self) -> &'static str {
        backend::CONSUL
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(self.client.ttl_min);
        capabilities.ttl_max = TTL_MAX;
        // A server ends a session between once and twice its TTL after the last renewal.
        capabilities.expiry_lag_percent = 100;
        capabilities.clock = Clock::Store;
        capabilities.waiting = Waiting::Pushed;
        capabilities.fairness = Fairness::Client;
        capabilities.fencing = Fencing::Restore;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let asked = Asked::default();
        let undo = {
            let (client, id, asked) = (Arc::clone(&self.client), id.clone(), asked.clone());
            move || Arc::clone(&client).undo(id.clone(), asked.clone())
        };
        let work = Arc::clone(&self.client).acquire(id.clone(), ttl, asked);
        self.call(Action::Acquire).acquire(ttl, FnAttempt::new(work, undo)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (id, token) = (lease.id().clone(), lease.owner().clone());
        let work = Arc::clone(&self.client).renew(id, token, lease.deadline(), ttl);
        let (since, ttl) = self.call(Action::Renew).run(work).await?;
        Ok(lease.renewed(since, ttl))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (id, token) = (lease.id().clone(), lease.owner().clone());
        let work = Arc::clone(&self.client).release(id, token);
        self.call(Action::Release).run(work).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let key = self.client.keys.key(id);
        let mut sleeper = self.client.watch.sleeper(&key);
        let asleep = async {
            // Also where it is woken meanwhile, perhaps because the query may not look or cannot.
            let looked = self.look(Action::Wait, key).await?;
            if looked.is_some_and(|entry| entry.is_held()) {
                sleeper.woken().await;
            }
            Ok(())
        };
        time::timeout(max, asleep).await.unwrap_or(Ok(()))
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let entry = self.look(Action::Inspect, self.client.keys.key(id)).await?;
        Ok(entry.and_then(|entry| entry.holder()))
    }
}

#[async_trait]
impl LockHooks for ConsulLock {
    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.client.queue)
    }

    async fn ended(&self, lease: &Lease) {
        let key = self.client.keys.key(lease.id());
        loop {
            // Anew each time, because what watches may have ended with its runtime.
            self.client.watch.holder(&key, lease.owner()).woken().await;
            // What the query saw may be older than the last renewal.
            loop {
                match self.look(Action::Inspect, key.clone()).await {
                    Ok(Some(entry)) if entry.held_by(lease.owner()).is_some() => break,
                    Ok(_) => {
                        // Nobody releases what was taken away.
                        drop(self.client.sessions.reclaim(lease.owner(), &key));
                        return;
                    }
                    Err(_) => time::sleep(LOOK_PAUSE).await,
                }
            }
        }
    }
}

impl ConsulLock {
    async fn look(&self, action: Action, key: String) -> Result<Option<Entry>, LockError> {
        let consul = self.client.consul.clone();
        let look = async move { consul.entry(&key).await.map_err(|err| err.during(action)) };
        self.call(action).run(look).await
    }
}
