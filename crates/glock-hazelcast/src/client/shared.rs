//! `MapClient`: what the clones of one map lock share.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Lease, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, Hedged, Mutex, PendingWork, WaitQueue, hedged},
};

use tokio::time::Instant;

use crate::{
    client::{
        clock::MemberClock, hazelcast_client::HazelcastClient, link::Link, session::ClientSession,
        threads::Threads,
    },
    error::before,
    queue::Parks,
    schema::MapNames,
    watch::Watch,
    wire::Connection,
};

/// What the clones of one [`HazelcastLock`](crate::HazelcastLock) share.
#[derive(Debug)]
pub(crate) struct MapClient {
    pub(crate) hazelcast: HazelcastClient,
    pub(crate) config: LockConfig,
    pub(crate) names: MapNames,
    pub(crate) threads: Threads,
    pub(crate) clock: MemberClock,
    /// The order in which this client's waiters come.
    pub(crate) arrivals: WaitQueue,
    /// The first of them is the one that a member has parked.
    pub(crate) turns: WaitQueue,
    /// The order in which this client's renewals of one lock are sent.
    pub(crate) renewals: WaitQueue,
    pub(crate) parks: Parks,
    pub(crate) watch: Watch,
    pub(crate) pending: PendingWork,
}

/// What a call needs of a lease, which stays with its holder.
pub(crate) struct LeaseRef {
    pub(crate) id: LockId,
    pub(crate) token: OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) ttl: Duration,
}

impl MapClient {
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a map name that cannot work.
    pub(crate) fn new(hazelcast: HazelcastClient, config: LockConfig) -> Result<Self, LockError> {
        Ok(Self::with_names(hazelcast, MapNames::new(&config)?, config))
    }

    pub(crate) fn with_defaults(hazelcast: HazelcastClient) -> Self {
        Self::with_names(hazelcast, MapNames::default(), LockConfig::default())
    }

    fn with_names(hazelcast: HazelcastClient, names: MapNames, config: LockConfig) -> Self {
        Self {
            names,
            threads: Threads::default(),
            clock: MemberClock::default(),
            arrivals: WaitQueue::new(),
            turns: WaitQueue::new(),
            renewals: WaitQueue::new(),
            parks: Parks::new(),
            watch: Watch::new(),
            pending: PendingWork::new(),
            hazelcast,
            config,
        }
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::HAZELCAST, action, self.config.call_timeout)
    }

    /// The connections under this client's own id.
    pub(crate) fn session(&self) -> &Arc<ClientSession> {
        self.hazelcast.sessions().own()
    }
}

impl ClientSession {
    /// Sends what is safe to repeat, over another connection each time one is silent.
    ///
    /// # Cancel safety
    ///
    /// Drops all attempts.
    pub(crate) async fn hedged<T, F>(
        &self,
        (action, until): (Action, CallDeadline),
        attempt: impl Fn(Link) -> F + Sync,
    ) -> Hedged<T>
    where
        T: Send,
        F: Future<Output = Result<T, LockError>> + Send,
    {
        let used = Mutex::new(Vec::<(u32, Connection, Instant)>::new());
        let (used, attempt) = (&used, &attempt);
        let over_a_link = |number| async move {
            let is_used = |connection: &Connection| {
                used.lock().iter().any(|(_, used, _)| used.is(connection))
            };
            let link = self.link_beside(until, is_used).await;
            let link = link.map_err(|err| before(err, action))?;
            used.lock().push((number, link.connection.clone(), Instant::now()));
            attempt(link).await
        };
        let silent = |number| {
            for (_, connection, since) in used.lock().iter().filter(|used| used.0 == number) {
                Link::gave_up(connection, since.elapsed());
            }
        };
        hedged(until, over_a_link, silent).await
    }
}

impl LeaseRef {
    pub(crate) fn of(lease: &Lease) -> Self {
        let (id, token) = (lease.id().clone(), lease.owner().clone());
        Self { id, token, fence: lease.fence(), ttl: lease.ttl() }
    }

    pub(crate) fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.id.clone() }
    }
}
