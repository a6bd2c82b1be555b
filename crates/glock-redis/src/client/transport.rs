//! `Transport`: one connection that was made, glock's own or the application's.

use std::sync::Arc;

use glock_core::{Action, Fault, toolkit::Listening};
use redis::{
    Cmd, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};

use crate::{client::script::ScriptCall, error, watch::Subscriptions};

/// One connection that was made.
pub(crate) enum Transport {
    /// A connection that glock made. It can subscribe, and closes with its last clone.
    Own { connection: MultiplexedConnection, subscriptions: Arc<Subscriptions> },
    /// A connection that reconnects by itself, or not at all, and may repeat requests by itself.
    Caller(Arc<dyn CallerConnection>),
}

/// Whether to send `ASKING` first: another node of the cluster has redirected the request to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    No,
    Yes,
}

impl Transport {
    /// Runs a script by its hash. A server that does not know the hash is sent the text.
    pub(crate) async fn run(&self, call: &ScriptCall<'_>, asking: Asking) -> RedisResult<Value> {
        match self.send(&call.by_hash(), asking).await {
            Err(err) if err.kind() == ServerErrorKind::NoScript.into() => {
                self.send(&call.by_text(), asking).await
            }
            reply => reply,
        }
    }

    /// Sends a command.
    pub(crate) async fn send(&self, cmd: &Cmd, asking: Asking) -> RedisResult<Value> {
        let reply = match self {
            Self::Own { connection, .. } if asking == Asking::Yes => {
                // Together: the server takes it to be about the next command of the connection.
                let mut both = redis::pipe();
                both.cmd("ASKING").add_command(cmd.clone());
                let replies = connection.clone().send_packed_commands(&both, 1, 1).await?;
                replies.into_iter().next().unwrap_or(Value::Nil)
            }
            Self::Own { connection, .. } => connection.clone().send_packed_command(cmd).await?,
            Self::Caller(connection) => connection.send(cmd).await?,
        };
        reply.extract_error()
    }

    /// Subscribes to the client's channel, unless it is subscribed to or the connection cannot.
    pub(crate) async fn subscribe(&self) -> RedisResult<Listening> {
        match self {
            Self::Own { subscriptions, .. } => subscriptions.subscribe().await,
            Self::Caller(_) => Ok(Listening::Already),
        }
    }

    /// What an error means that came instead of a reply.
    pub(crate) fn fault(&self, action: Action, err: &RedisError) -> Fault {
        match self {
            // An earlier copy may have taken the lock, which then has to be undone.
            Self::Caller(_) if action == Action::Acquire => error::repeated_fault(err),
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
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> CallerConnection for C {
    fn send<'a>(&'a self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let mut connection = self.clone();
        Box::pin(async move { connection.req_packed_command(cmd).await })
    }
}
