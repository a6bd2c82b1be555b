//! `Watch`: how a waiter learns of a release, by a watch on one node.

use std::sync::Arc;

use zookeeper_client::{Error, EventType, OneshotWatcher};

use crate::{commands::retry_read, session::Session};

/// A watch on one node, which fires once.
pub(crate) struct Watch(OneshotWatcher);

impl Watch {
    /// Watches a node; `None` if it is not there.
    pub(crate) async fn on(session: Arc<Session>, path: String) -> Result<Option<Self>, Error> {
        match retry_read(&session, || session.client.get_and_watch_data(&path)).await {
            Ok((_, _, watcher)) => Ok(Some(Self(watcher))),
            Err(Error::NoNode) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Waits until the node changes or the session ends. Returns whether the node was deleted.
    pub(crate) async fn fired(self) -> bool {
        self.0.changed().await.event_type == EventType::NodeDeleted
    }
}
