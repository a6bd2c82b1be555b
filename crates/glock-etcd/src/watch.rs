//! `Watch`: one key that somebody watches, and what there is to say of it.

use std::fmt;

use etcd_client::{WatchFilterType, WatchOptions};
use tokio::sync::{mpsc, watch};

/// One watched key. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) id: i64,
    pub(crate) told: watch::Receiver<Told>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
}

/// What a watch has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    /// It has begun, but after the revision that was seen: the key may have gone in between.
    Look,
    /// The key is gone, or the watch is.
    Gone,
}

/// What a watcher is asked for.
pub(crate) enum Order {
    Watch(i64, Entry),
    Forget(i64),
}

/// What a watcher knows of a watch.
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The first revision that counts. Asked for again after a break, so that nothing is missed.
    pub(crate) from: i64,
    /// Whether the stream tells of what happens from now on. etcd is slow to begin with history:
    /// it looks for watches that want some ten times a second.
    pub(crate) from_now: bool,
    pub(crate) begun: bool,
    pub(crate) tell: watch::Sender<Told>,
}

/// What etcd takes for the revision to come.
const NOW: i64 = 0;

impl Watch {
    /// Returns once there is something to say.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn told(&mut self) -> Told {
        match self.told.changed().await {
            Ok(()) => *self.told.borrow_and_update(),
            Err(_) => Told::Gone,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Forget(self.id));
    }
}

impl Entry {
    pub(crate) fn options(&self, id: i64) -> WatchOptions {
        WatchOptions::new()
            .with_watch_id(id)
            .with_start_revision(if self.from_now { NOW } else { self.from })
            .with_filters([WatchFilterType::NoPut])
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order(..)")
    }
}
