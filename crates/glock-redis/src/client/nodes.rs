//! `Node`: one of the servers that have locks, and plain commands to it.

use glock_core::{
    Action, LockError,
    toolkit::{CallDeadline, Mutex, hedged},
};
use redis::{Cmd, RedisResult, Value};

use crate::{
    client::{
        requests::Target, route::Route, shared_connection::Link, slots::NodeAddr, transport::Asking,
    },
    error,
};

/// One of the servers that have locks: the only one, or a node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node(Option<NodeAddr>);

impl Node {
    /// The only server.
    pub(crate) fn only() -> Self {
        Self(None)
    }

    /// The address of a node of a cluster; empty for the only server.
    pub(crate) fn name(&self) -> String {
        self.0.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

impl Route {
    /// The servers that have locks.
    pub(crate) async fn nodes(
        &self,
        action: Action,
        until: CallDeadline,
    ) -> Result<Vec<Node>, LockError> {
        match self {
            Self::One(_) => Ok(vec![Node::only()]),
            Self::Cluster(cluster) => {
                let nodes = cluster.serving(until).await;
                let nodes = nodes.map_err(|err| not_connected(action, err))?;
                Ok(nodes.into_iter().map(|node| Node(Some(node))).collect())
            }
        }
    }

    /// Sends a command that changes nothing to `node`. What is silent costs one attempt.
    pub(crate) async fn ask(
        &self,
        action: Action,
        node: &Node,
        cmd: &Cmd,
        until: CallDeadline,
    ) -> Result<Value, LockError> {
        let links = &Mutex::new(Vec::<Link>::new());
        let attempt = |_| async move {
            let target = Target { action, key: "" };
            let link = self.link_to(node).map_err(|err| not_connected(action, err))?;
            links.lock().push(link.clone());
            let transport = self.transport(target, &link).await?;
            let reply = transport.send(cmd, Asking::No).await;
            reply.map_err(|err| self.failed_on(target, &link, &transport, err))
        };
        let silent = |_| {
            if let Some(link) = links.lock().last() {
                link.retire();
                self.suspect(link);
            }
        };
        hedged(until, attempt, silent).await.result
    }

    fn link_to(&self, node: &Node) -> RedisResult<Link> {
        match (self, &node.0) {
            (Self::Cluster(cluster), Some(node)) => cluster.connection(node),
            (Self::One(connection), _) => Ok(connection.link()),
            (Self::Cluster(_), None) => Err(no_server()),
        }
    }
}

fn no_server() -> redis::RedisError {
    (redis::ErrorKind::ClusterConnectionNotFound, "a cluster has no server without an address")
        .into()
}

fn not_connected(action: Action, err: redis::RedisError) -> LockError {
    error::backend_error(action, error::connect_fault(&err), err)
}
