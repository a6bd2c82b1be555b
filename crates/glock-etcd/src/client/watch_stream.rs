//! `Watcher`: one stream on which etcd tells a client of all the keys that its waiters watch.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use etcd_client::{Error, WatchRequestSender, WatchResponse, WatchResponseStream};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    client::rpc::revision,
    client::source::Source,
    watch::{Entry, Order, Told, Watch},
};

/// One stream on which etcd tells a client of all the keys that its waiters watch. It is opened
/// when somebody waits, and closed a while after nobody does.
pub(crate) struct Watcher {
    source: Arc<Source>,
    /// To the task that reads the stream, while there is one.
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
    last_id: AtomicI64,
}

/// How long a stream is kept that nobody needs.
const IDLE_MAX: Duration = Duration::from_secs(5);
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// The first and the longest pause between two tries to open a stream.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl Watcher {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self { source, orders: Mutex::default(), last_id: AtomicI64::new(0) }
    }

    /// Watches `key`, which was there at revision `seen`. It may say [`Told::Look`] first.
    pub(crate) fn watch(&self, key: String, seen: i64) -> Watch {
        let orders = self.task();
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (tell, told) = watch::channel(Told::Nothing);
        let entry = Entry { key, from: seen + 1, from_now: true, begun: false, tell };
        // Should the task have ended with its runtime, whoever waits is woken, and looks.
        let _ = orders.send(Order::Watch(id, entry));
        Watch { id, told, orders }
    }

    fn task(&self) -> mpsc::UnboundedSender<Order> {
        // No code that could panic runs under this lock, so what it holds is whole.
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_ref().filter(|orders| !orders.is_closed()) {
            return orders.clone();
        }
        let (sent, received) = mpsc::unbounded_channel();
        tokio::spawn(Task::new(Arc::clone(&self.source), received).run());
        orders.insert(sent).clone()
    }
}

struct Task {
    source: Arc<Source>,
    orders: mpsc::UnboundedReceiver<Order>,
    watched: HashMap<i64, Entry>,
    /// What the stream has not been told yet.
    unsent: VecDeque<Request>,
}

#[derive(Clone, Copy)]
enum Request {
    Watch(i64),
    Cancel(i64),
}

/// Why the task stopped reading a stream.
enum Stop {
    /// Nobody will watch any more.
    Over,
    /// Nobody has watched for a while.
    Idle,
    Broken,
}

impl Task {
    fn new(source: Arc<Source>, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self { source, orders, watched: HashMap::new(), unsent: VecDeque::new() }
    }

    async fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            while self.watched.is_empty() {
                let Some(order) = self.orders.recv().await else { return };
                self.take(order);
            }
            let opened = timeout(OPEN_TIMEOUT, self.open()).await;
            if let Ok(Ok((sender, stream))) = opened {
                let since = Instant::now();
                match self.serve(sender, stream).await {
                    Stop::Over => return,
                    Stop::Idle => continue,
                    Stop::Broken if since.elapsed() > PAUSE_MAX => pause = PAUSE,
                    Stop::Broken => {}
                }
            }
            if self.rest(pause).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Opens a stream and has everything watched again, each from the revision where it began.
    async fn open(&mut self) -> Result<(WatchRequestSender, WatchResponseStream), Error> {
        self.unsent = self.watched.keys().copied().map(Request::Watch).collect();
        for entry in self.watched.values_mut().filter(|entry| entry.begun) {
            // What happened since is history now.
            entry.from_now = false;
        }
        let mut client = self.source.client().await?.watch_client();
        // The first watch opens the stream.
        while let Some(Request::Watch(id)) = self.unsent.pop_front() {
            if let Some(entry) = self.watched.get(&id) {
                let stream = client.watch(entry.key.clone(), Some(entry.options(id))).await?;
                return Ok(stream.split());
            }
        }
        Err(Error::WatchError("nothing to watch".into()))
    }

    async fn serve(
        &mut self,
        mut sender: WatchRequestSender,
        mut stream: WatchResponseStream,
    ) -> Stop {
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.take(order),
                    None => return Stop::Over,
                },
                told = stream.message() => match told {
                    Ok(Some(told)) if is_refusal(&told) => {
                        self.refused();
                        return Stop::Broken;
                    }
                    Ok(Some(told)) => self.told(&told),
                    Ok(None) | Err(_) => return Stop::Broken,
                },
                sent = send(&mut sender, &self.watched, self.unsent.front()), if !self.unsent.is_empty() => {
                    if sent.is_err() {
                        return Stop::Broken;
                    }
                    self.unsent.pop_front();
                }
                () = sleep(IDLE_MAX), if self.watched.is_empty() => return Stop::Idle,
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Watch(id, entry) => {
                self.watched.insert(id, entry);
                self.unsent.push_back(Request::Watch(id));
            }
            // One that is not there was woken, and cancelled then.
            Order::Forget(id) => self.forget(id),
        }
    }

    /// etcd does not say which watch it refuses. Those that have not begun end: whoever wakes asks
    /// etcd for something else, which logs in again or tells what is wrong. A stream keeps the
    /// access token that it was opened with, so another is needed.
    fn refused(&mut self) {
        self.watched.retain(|_, entry| entry.begun);
    }

    fn told(&mut self, told: &WatchResponse) {
        let id = told.watch_id();
        // A watch is over once it has told of something. Where it was cancelled, by compaction or
        // for want of a permission, something may have been missed: whoever wakes looks.
        if told.canceled() {
            self.watched.remove(&id);
        } else if !told.events().is_empty() {
            if let Some(entry) = self.watched.remove(&id) {
                entry.tell.send_replace(Told::Gone);
                self.unsent.push_back(Request::Cancel(id));
            }
        } else if told.created()
            && let Some(entry) = self.watched.get_mut(&id)
        {
            entry.begun = true;
            if entry.from_now && revision(told.header()) >= entry.from {
                entry.tell.send_replace(Told::Look);
            }
        }
    }

    fn forget(&mut self, id: i64) {
        if self.watched.remove(&id).is_some() {
            self.unsent.push_back(Request::Cancel(id));
        }
    }

    /// Takes orders for a while; `None` once nobody will watch any more.
    async fn rest(&mut self, pause: Duration) -> Option<()> {
        let orders = async {
            loop {
                match self.orders.recv().await {
                    Some(order) => self.take(order),
                    None => return,
                }
            }
        };
        timeout(pause, orders).await.is_err().then_some(())
    }
}

/// Whether a watch was not begun: for want of a permission or of an access token that is good.
fn is_refusal(told: &WatchResponse) -> bool {
    told.created() && told.canceled()
}

/// Sends a request. Dropped before its end, it has sent nothing.
async fn send(
    sender: &mut WatchRequestSender,
    watched: &HashMap<i64, Entry>,
    request: Option<&Request>,
) -> Result<(), Error> {
    match request {
        Some(Request::Watch(id)) => match watched.get(id) {
            Some(entry) => sender.watch(entry.key.clone(), Some(entry.options(*id))).await,
            // Forgotten before it was sent.
            None => Ok(()),
        },
        Some(Request::Cancel(id)) => sender.cancel(*id).await,
        None => Ok(()),
    }
}
