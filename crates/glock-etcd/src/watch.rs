//! `Watcher`: the keys that this client's waiters watch, all on one stream.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use glock_core::toolkit::Mutex;
use tokio::sync::{mpsc, watch};

use crate::client::{
    rpc::Rpc,
    watch_stream::{Entry, WatchCommand, WatchEvent, WatchTask},
};

/// One stream on which etcd notifies a client of all the keys that its waiters watch. It is opened when
/// there is a waiter, and closed a while after the last one has gone.
pub(crate) struct Watcher {
    rpc: Arc<Rpc>,
    /// To the task that reads the stream, while there is one.
    commands: Mutex<Option<mpsc::UnboundedSender<WatchCommand>>>,
    last_id: AtomicI64,
}

/// One watched key. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watch {
    id: i64,
    events: watch::Receiver<WatchEvent>,
    commands: mpsc::UnboundedSender<WatchCommand>,
}

impl Watcher {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Self {
        Self { rpc, commands: Mutex::default(), last_id: AtomicI64::new(0) }
    }

    /// Watches `key`, which was there at revision `seen`. The first event may be
    /// [`WatchEvent::Started`].
    pub(crate) fn watch(&self, key: String, seen: i64) -> Watch {
        let commands = self.task();
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (events, receiver) = watch::channel(WatchEvent::None);
        let entry = Entry { key, from: seen + 1, from_now: true, begun: false, events };
        // If the task has ended with its runtime, the waiter is woken and looks.
        let _ = commands.send(WatchCommand::Watch(id, entry));
        Watch { id, events: receiver, commands }
    }

    fn task(&self) -> mpsc::UnboundedSender<WatchCommand> {
        let mut commands = self.commands.lock();
        if let Some(commands) = commands.as_ref().filter(|commands| !commands.is_closed()) {
            return commands.clone();
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(WatchTask::new(Arc::clone(&self.rpc), receiver).run());
        commands.insert(sender).clone()
    }
}

impl Watch {
    /// Returns the next event.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn event(&mut self) -> WatchEvent {
        match self.events.changed().await {
            Ok(()) => *self.events.borrow_and_update(),
            Err(_) => WatchEvent::Gone,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.commands.send(WatchCommand::Forget(self.id));
    }
}
