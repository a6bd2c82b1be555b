//! `Watcher`: the keys that this client's waiters watch, all on one stream.

use std::{pin::pin, sync::Arc, time::Duration};

use etcd_client::{Error, WatchRequestSender, WatchResponse, WatchResponseStream};
use glock_core::{
    Fault,
    toolkit::{BackgroundTask, Backoff, Mutex, Worker},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{
        members::Route,
        rpc::Rpc,
        watch_list::{Request, WatchEvent, WatchList},
    },
    error::fault,
};

/// One stream on which etcd notifies a client of all the keys that its waiters watch. It is opened when
/// there is a watch, and closed a while after the last one has gone.
pub(crate) struct Watcher {
    rpc: Arc<Rpc>,
    watches: Mutex<WatchList>,
    changed: Notify,
    task: BackgroundTask,
}

/// One watched key. Dropping it ends the watch.
pub(crate) struct Watch {
    id: i64,
    events: watch::Receiver<WatchEvent>,
    watcher: Arc<Watcher>,
}

/// Why a stream is not read any more.
enum Stop {
    Idle,
    /// A watch was refused.
    Refused,
    Broken,
}

/// How long a stream is kept without a watch.
const IDLE_MAX: Duration = Duration::from_secs(5);
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pauses between two attempts to open a stream.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), PAUSE_MAX);

impl Watcher {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Arc<Self> {
        let (watches, changed) = (Mutex::default(), Notify::new());
        Arc::new(Self { rpc, watches, changed, task: BackgroundTask::new() })
    }

    /// Watches `key`, which was there at revision `seen`. The first event may be
    /// [`WatchEvent::Started`].
    pub(crate) fn watch(self: &Arc<Self>, key: String, seen: i64) -> Watch {
        let (id, events) = self.watches.lock().add(key, seen);
        self.changed.notify_one();
        self.task.start(self);
        Watch { id, events, watcher: Arc::clone(self) }
    }

    /// Closes the stream without delay once there is no watch: the client is gone.
    pub(crate) fn close(&self) {
        self.watches.lock().closed = true;
        self.changed.notify_one();
    }

    /// Opens a stream and watches every key again, each from its first revision. `None` if there is no
    /// key to watch any more.
    async fn open(
        &self,
        route: &Route,
    ) -> Result<Option<(WatchRequestSender, WatchResponseStream)>, Error> {
        let mut client = route.connection.client().await?.watch_client();
        self.watches.lock().restart();
        // The first watch opens the stream.
        let Some((id, request)) = self.watches.lock().next() else { return Ok(None) };
        let Some((key, options)) = request else { return Ok(None) };
        let stream = client.watch(key, Some(options)).await?;
        self.watches.lock().sent(id);
        Ok(Some(stream.split()))
    }

    async fn serve(
        &self,
        route: &Route,
        mut sender: WatchRequestSender,
        mut stream: WatchResponseStream,
    ) -> Stop {
        let mut replaced = pin!(self.rpc.members.replaced(route));
        loop {
            let (next, idle_max) = {
                let watches = self.watches.lock();
                let idle_max = if watches.closed { Duration::ZERO } else { IDLE_MAX };
                (watches.next(), watches.by_id.is_empty().then_some(idle_max))
            };
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(message)) if is_refusal(&message) => return Stop::Refused,
                    Ok(Some(message)) => self.watches.lock().received(&message),
                    Ok(None) | Err(_) => return Stop::Broken,
                },
                sent = send(&mut sender, next.clone()), if next.is_some() => match sent {
                    Ok(id) => self.watches.lock().sent(id),
                    Err(_) => return Stop::Broken,
                },
                () = self.changed.notified() => {}
                () = &mut replaced => return Stop::Broken,
                () = sleep(idle_max.unwrap_or_default()), if idle_max.is_some() && next.is_none() => {
                    return Stop::Idle;
                }
            }
        }
    }

    /// etcd does not say which watch it refuses. Those that have not started end: their waiters send
    /// another request, which returns what is wrong. A stream keeps the access token that it was opened
    /// with, so another stream is needed.
    async fn log_in_again(&self, route: &Route) {
        self.watches.lock().by_id.retain(|_, entry| entry.started);
        let log_in = async { route.connection.client().await?.refresh_token().await };
        if !matches!(timeout(OPEN_TIMEOUT, log_in).await, Ok(Ok(()))) {
            let _ = self.rpc.members.replace(route);
        }
    }
}

/// Reads streams while there are watches.
impl Worker for Watcher {
    async fn round(&self) -> Option<Duration> {
        let (mut backoff, mut tried) = (BACKOFF, None);
        while !self.watches.lock().by_id.is_empty() {
            let since = Instant::now();
            let route = self.rpc.members.pick(tried.as_slice());
            let stop = match timeout(OPEN_TIMEOUT, self.open(&route)).await {
                Ok(Ok(Some((sender, stream)))) => self.serve(&route, sender, stream).await,
                Ok(Ok(None)) => Stop::Idle,
                Ok(Err(err)) if fault(&err) == Fault::Rejected => Stop::Refused,
                Ok(Err(_)) | Err(_) => Stop::Broken,
            };
            match stop {
                Stop::Idle => continue,
                Stop::Refused => self.log_in_again(&route).await,
                Stop::Broken => {
                    self.rpc.members.failed(&route);
                    tried = Some(route);
                    if since.elapsed() > PAUSE_MAX {
                        backoff.reset();
                    }
                }
            }
            backoff.sleep().await;
        }
        None
    }

    /// Ends all watches: their waiters wake, look and watch again.
    fn interrupted(&self) {
        self.watches.lock().by_id.clear();
    }
}

/// Sends a request. Dropped early, it has sent nothing.
async fn send(sender: &mut WatchRequestSender, request: Option<Request>) -> Result<i64, Error> {
    match request {
        Some((id, Some((key, options)))) => sender.watch(key, Some(options)).await.map(|()| id),
        Some((id, None)) => sender.cancel(id).await.map(|()| id),
        None => std::future::pending().await,
    }
}

/// Whether a watch was refused: for want of a permission or of a valid access token.
fn is_refusal(message: &WatchResponse) -> bool {
    message.created() && message.canceled()
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
        // One that is not there has had its event, and was ended then.
        if self.watcher.watches.lock().end(self.id).is_some() {
            self.watcher.changed.notify_one();
        }
    }
}
