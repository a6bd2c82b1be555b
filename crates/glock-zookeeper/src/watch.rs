//! `Watch`: how a waiter learns of a release, by a watch on one node.

use std::sync::Arc;

use tokio::task::JoinSet;
use zookeeper_client::{Error, EventType, OneshotWatcher};

use crate::{commands::retry_read, session::Session};

/// A watch on one node, which fires once.
pub(crate) struct Watch {
    session: Arc<Session>,
    watcher: OneshotWatcher,
}

impl Watch {
    /// Watches a node; `None` if it is not there.
    pub(crate) async fn on(session: Arc<Session>, path: String) -> Result<Option<Self>, Error> {
        match retry_read(&session, || session.client.get_and_watch_data(&path)).await {
            Ok((_, _, watcher)) => Ok(Some(Self { session, watcher })),
            Err(Error::NoNode) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Waits until the node changes or the session ends. Returns whether the node was deleted.
    pub(crate) async fn fired(self) -> bool {
        // On the driver's runtime: a watch whose driver is shut down panics where it is polled.
        let mut task = JoinSet::new();
        task.spawn_on(self.watcher.changed(), &self.session.runtime);
        let event = task.join_next().await.and_then(Result::ok);
        if event.is_none() {
            self.session.note(&Error::ClientClosed);
        }
        event.is_some_and(|event| event.event_type == EventType::NodeDeleted)
    }
}
