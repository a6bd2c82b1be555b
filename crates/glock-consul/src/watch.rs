//! `Watch`: one blocking query a client, which sees releases and the end of holds.

use std::{fmt, sync::Arc, time::Duration};

use glock_core::{
    OwnerToken,
    toolkit::{BackgroundTask, Subscription},
};
use tokio::time;

use crate::{
    blocking_query::BlockingQuery,
    client::ConsulClient,
    queue::{place::Place, waiters::QueuedWaiters},
};

/// One blocking query a client, on the longest common prefix of all awaited keys: for one key that is
/// the key itself. A release deletes the key, and so does the end of a session, so a key that is not in
/// the reply is free.
///
/// A query for each key would take a connection each, and an agent allows 200. The task that sends the
/// queries ends when nothing is awaited.
pub(crate) struct Watch {
    query: Arc<BlockingQuery>,
    task: BackgroundTask,
}

impl Watch {
    pub(crate) fn new(client: ConsulClient, ttl_min: Duration, queued: Arc<QueuedWaiters>) -> Self {
        let query = Arc::new(BlockingQuery::new(client, ttl_min, queued));
        Self { query, task: BackgroundTask::new() }
    }

    /// Is woken when `key` is free, from now on.
    pub(crate) fn on_release(&self, key: &str) -> Subscription {
        let subscription = self.query.waiters.subscribe(key);
        self.cover(key);
        self.query.hurry();
        subscription
    }

    /// Has the waiter with this place woken when the hold at `key` ends: it is the first in the queue.
    pub(crate) fn is_first(&self, key: &str, place: &Place) {
        self.query.queued.is_first(key, place);
        self.cover(key);
        self.query.hurry();
    }

    /// Makes sure that a query runs, also if its task is on a runtime that does not get to it, where a
    /// waiter is the first in its queue.
    pub(crate) fn keep(&self) {
        if self.query.queued.has_first() {
            if self.query.is_overdue() {
                self.task.restart(&self.query);
            } else {
                self.task.start(&self.query);
            }
        }
    }

    /// Is woken when `key` is no longer held under `token`, as the query sees it.
    pub(crate) fn on_end(&self, key: &str, token: &OwnerToken) -> Subscription {
        let subscription = self.query.holders.subscribe(&format!("{} {key}", token.reveal()));
        self.cover(key);
        subscription
    }

    /// Returns once the subscription is woken. Where the task's runtime computes, or has ended before the
    /// task began, the task goes on on this one.
    pub(crate) async fn woken(&self, subscription: &mut Subscription) {
        loop {
            let look_at = self.query.due();
            if time::timeout_at(look_at, subscription.woken()).await.is_ok() {
                return;
            }
            if self.query.is_overdue() {
                self.task.restart(&self.query);
            }
        }
    }

    /// Makes sure that a query runs, and that the next one covers `key`.
    fn cover(&self, key: &str) {
        self.task.start(&self.query);
        self.query.cover(key);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.query.close();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiters, holders) = (self.query.waiters.len(), self.query.holders.len());
        let mut watch = f.debug_struct("Watch");
        watch.field("waiters", &waiters).field("holders", &holders);
        watch.field("has_begun", &self.query.has_begun()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::{runtime::Runtime, task::yield_now};

    use super::*;

    fn watch(server: &str) -> Watch {
        let client = ConsulClient::new(server).unwrap();
        Watch::new(client, Duration::from_secs(10), Arc::new(QueuedWaiters::new()))
    }

    /// Otherwise each heartbeat would start the task again.
    #[tokio::test]
    async fn a_query_that_another_one_has_replaced_does_not_make_that_one_late() {
        // It takes requests, and replies to none.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let watch = watch(&format!("http://{}", server.local_addr().unwrap()));
        let _subscription = watch.on_release("x");
        while !watch.query.has_begun() {
            time::sleep(Duration::from_millis(50)).await;
        }
        watch.task.restart(&watch.query);
        for _ in 0..10 {
            yield_now().await;
            assert!(watch.query.has_begun());
        }
    }

    #[test]
    fn a_runtime_that_is_shut_down_does_not_block_a_subscription() {
        let watch = watch("http://127.0.0.1:1");
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        // Each starts a task, which is dropped at once.
        for _ in 0..3 {
            drop(watch.on_release("x"));
        }
    }
}
