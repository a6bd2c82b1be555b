//! `Client`: what a lock and its clones share.

use std::sync::Arc;

use glock_core::{
    Action, LockConfig, Waiting, backend,
    toolkit::{Call, PendingWork, WaitQueue, Wakeups},
};

use crate::{
    client::{shared_connection::SharedConnection, source::Source},
    schema::Schema,
};

/// What a lock and its clones share: settings, connections and waiters, never lock state.
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) schema: Schema,
    /// Sends the commands.
    pub(crate) connection: Arc<SharedConnection>,
    /// Receives the messages: the same connection or another one. `None` where waiters poll.
    pub(crate) subscriber: Option<Arc<SharedConnection>>,
    pub(crate) wakeups: Wakeups,
    pub(crate) queue: WaitQueue,
    pub(crate) pending: PendingWork,
}

impl Client {
    /// No I/O. Messages come from `subscriber`, or else from `source` if that can subscribe.
    pub(crate) fn new(config: LockConfig, source: Source, subscriber: Option<Source>) -> Arc<Self> {
        let wakeups = Wakeups::new();
        let shared = |source| SharedConnection::new(source, config.call_timeout, wakeups.clone());
        let can_subscribe = source.can_subscribe();
        let connection = shared(source);
        let subscriber = match subscriber {
            Some(subscriber) => Some(shared(subscriber)),
            None => can_subscribe.then(|| Arc::clone(&connection)),
        };
        let schema = Schema::new(&config.namespace);
        let (queue, pending) = (WaitQueue::new(), PendingWork::new());
        Arc::new(Self { config, schema, connection, subscriber, wakeups, queue, pending })
    }

    /// Another client, from the same sources.
    pub(crate) fn with_config(&self, config: LockConfig) -> Arc<Self> {
        let of_its_own = |subscriber: &&_| !Arc::ptr_eq(subscriber, &self.connection);
        let subscriber = self.subscriber.as_ref().filter(of_its_own);
        let subscriber = subscriber.map(|subscriber| subscriber.source().clone());
        Self::new(config, self.connection.source().clone(), subscriber)
    }

    /// Another client, with messages from `subscriber`.
    pub(crate) fn with_subscriber(&self, subscriber: Source) -> Arc<Self> {
        Self::new(self.config.clone(), self.connection.source().clone(), Some(subscriber))
    }

    /// A call with this client's time limit.
    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::REDIS, action, self.config.call_timeout)
    }

    pub(crate) fn waiting(&self) -> Waiting {
        if self.subscriber.is_some() { Waiting::Pushed } else { Waiting::Polled }
    }
}
