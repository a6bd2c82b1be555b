//! `Transport`: one connection that was made, glock's own or the application's.

#[cfg(feature = "cluster")]
use std::any::TypeId;
use std::sync::Arc;

use glock_core::{Action, Fault};
#[cfg(feature = "cluster")]
use redis::cluster_async::ClusterConnection;
use redis::{
    Cmd, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};

use crate::{client::script::ScriptCall, error, watch::Subscriptions};

/// One connection that was made.
pub(crate) enum Transport {
    /// A connection that glock made. It can subscribe, and closes with its last clone.
    Own { connection: MultiplexedConnection, subscriptions: Arc<Subscriptions> },
    /// A connection that reconnects by itself, or not at all.
    Caller(Arc<dyn CallerConnection>),
}

impl Transport {
    /// Runs a script by its hash. A server that does not know the hash is sent the text.
    pub(crate) async fn run(&self, call: &ScriptCall<'_>) -> RedisResult<Value> {
        match self.send(&call.by_hash()).await {
            Err(err) if err.kind() == ServerErrorKind::NoScript.into() => {
                self.send(&call.by_text()).await
            }
            reply => reply,
        }
    }

    async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        let reply = match self {
            Self::Own { connection, .. } => connection.clone().send_packed_command(cmd).await,
            Self::Caller(connection) => connection.send(cmd).await,
        };
        reply?.extract_error()
    }

    /// What an error means that came instead of a reply.
    pub(crate) fn fault(&self, action: Action, err: &RedisError) -> Fault {
        match self {
            // An earlier copy may have taken the lock, which then has to be undone.
            Self::Caller(connection) if connection.repeats() && action == Action::Acquire => {
                error::repeated_fault(err)
            }
            _ => error::request_fault(err),
        }
    }

    /// Whether another connection is needed after `err`. One that reconnects by itself is replaced
    /// only if the driver's task for it has ended.
    pub(crate) fn is_lost(&self, err: &RedisError) -> bool {
        match self {
            Self::Own { .. } => error::is_broken(err),
            Self::Caller(_) => err.is_connection_dropped(),
        }
    }
}

/// A connection of any of the driver's types.
pub(crate) trait CallerConnection: Send + Sync {
    fn send<'a>(&'a self, cmd: &'a Cmd) -> RedisFuture<'a, Value>;

    /// Whether it repeats a request by itself if no reply came, as a cluster's connection does.
    fn repeats(&self) -> bool;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> CallerConnection for C {
    fn send<'a>(&'a self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut connection = self.clone();
        Box::pin(async move { connection.req_packed_command(cmd).await })
    }

    fn repeats(&self) -> bool {
        #[cfg(feature = "cluster")]
        let repeats = TypeId::of::<C>() == TypeId::of::<ClusterConnection>();
        #[cfg(not(feature = "cluster"))]
        let repeats = false;
        repeats
    }
}
