//! `Client`: what a lock and its clones share.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockConfig, Waiting, backend,
    toolkit::{Call, Notified, PendingWork},
};

use crate::{
    client::{
        cluster::Cluster,
        credentials::CredentialsProvider,
        nodes::Node,
        route::Route,
        shared_connection::SharedConnection,
        source::{Server, Source},
    },
    schema::Schema,
};

/// What a client is made from.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: LockConfig,
    pub(crate) origin: Origin,
    /// Where messages come from, if not from the same connections as replies.
    pub(crate) subscriber: Option<Arc<redis::Client>>,
    /// With what glock's own connections log in, if not with what the driver's clients say.
    pub(crate) credentials: Option<CredentialsProvider>,
}

/// What the application passed.
#[derive(Clone)]
pub(crate) enum Origin {
    Server(Server),
    /// Some nodes of a cluster.
    Cluster(Vec<Arc<redis::Client>>),
}

/// What a lock and its clones share: settings, connections and waiters, never lock state.
pub(crate) struct Client {
    pub(crate) settings: Settings,
    pub(crate) schema: Schema,
    /// Sends the commands.
    pub(crate) route: Route,
    /// Receives the messages: the same connections or another one. `None` where waiters poll.
    pub(crate) subscriber: Option<Route>,
    pub(crate) notified: Notified,
    /// What the names of all clients' channels begin with.
    pub(crate) channel_prefix: String,
    pub(crate) pending: PendingWork,
}

impl Client {
    /// No I/O.
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let schema = Schema::new(&settings.config.namespace);
        let channel_prefix = schema.channel_prefix();
        let notified = Notified::new(&channel_prefix);
        let reply_max = settings.config.call_timeout;
        let one = |server| {
            let source = Source::new(server, settings.credentials.clone());
            Route::One(SharedConnection::new(source, reply_max, notified.clone()))
        };
        let (route, can_subscribe) = match &settings.origin {
            Origin::Server(server) => (one(server.clone()), server.can_subscribe()),
            Origin::Cluster(seeds) => {
                let (seeds, credentials) = (seeds.clone(), settings.credentials.clone());
                let cluster = Cluster::new(seeds, credentials, reply_max, notified.clone());
                (Route::Cluster(cluster), true)
            }
        };
        let subscriber = match &settings.subscriber {
            Some(client) => Some(one(Server::Named(Arc::clone(client)))),
            None => can_subscribe.then(|| route.clone()),
        };
        let pending = PendingWork::new();
        Arc::new(Self { settings, schema, route, subscriber, notified, channel_prefix, pending })
    }

    pub(crate) fn config(&self) -> &LockConfig {
        &self.settings.config
    }

    /// A call with this client's time limit.
    pub(crate) fn call(&self, action: Action) -> Call {
        self.call_within(action, self.config().call_timeout)
    }

    /// A call with another time limit.
    pub(crate) fn call_within(&self, action: Action, limit: Duration) -> Call {
        Call::new(&self.pending, backend::REDIS, action, limit)
    }

    /// The server at the end of a connection that the application made, if that is how this client is built.
    pub(crate) fn caller_s_server(&self) -> Option<Node> {
        match &self.settings.origin {
            Origin::Server(server) if !server.can_subscribe() => Some(Node::only()),
            _ => None,
        }
    }

    pub(crate) fn waiting(&self) -> Waiting {
        if self.subscriber.is_some() { Waiting::Pushed } else { Waiting::Polled }
    }
}
