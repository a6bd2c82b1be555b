//! `WatchTask`: reads the stream on which etcd notifies a client of the keys that it watches.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use etcd_client::{
    Error, WatchFilterType, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream,
};
use glock_core::{Fault, toolkit::Backoff};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{client::rpc::Rpc, commands::revision, error::fault};

/// What a watch reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// Nothing yet.
    None,
    /// It has started, but after the revision that the waiter saw: the key may have gone in between.
    Started,
    /// The key is gone, or the watch is.
    Gone,
}

/// What a task is told to do.
pub(crate) enum WatchCommand {
    Watch(i64, Entry),
    Forget(i64),
}

/// A watched key.
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The first revision that counts. The watch starts from it after an interruption, so that no event
    /// is missed.
    pub(crate) from: i64,
    /// Whether the stream sends only what happens from now on. etcd is slow to start with history: it
    /// looks for such watches some ten times a second.
    pub(crate) from_now: bool,
    pub(crate) begun: bool,
    pub(crate) events: watch::Sender<WatchEvent>,
}

/// The revision that etcd takes for the next one.
const NOW: i64 = 0;

impl Entry {
    fn options(&self, id: i64) -> WatchOptions {
        WatchOptions::new()
            .with_watch_id(id)
            .with_start_revision(if self.from_now { NOW } else { self.from })
            .with_filters([WatchFilterType::NoPut])
    }
}

impl fmt::Debug for WatchCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchCommand(..)")
    }
}

/// How long a stream is kept without a watch.
const IDLE_MAX: Duration = Duration::from_secs(5);
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pauses between two attempts to open a stream.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), PAUSE_MAX);

/// Reads the stream while there are watches.
pub(crate) struct WatchTask {
    rpc: Arc<Rpc>,
    commands: mpsc::UnboundedReceiver<WatchCommand>,
    watched: HashMap<i64, Entry>,
    /// Requests that were not sent yet.
    unsent: VecDeque<Request>,
}

#[derive(Clone, Copy)]
enum Request {
    Watch(i64),
    Cancel(i64),
}

/// Why the task stopped reading a stream.
enum Stop {
    /// The client is gone.
    Over,
    /// There was no watch for a while.
    Idle,
    /// A watch was refused.
    Refused,
    Broken,
}

impl WatchTask {
    pub(crate) fn new(rpc: Arc<Rpc>, commands: mpsc::UnboundedReceiver<WatchCommand>) -> Self {
        Self { rpc, commands, watched: HashMap::new(), unsent: VecDeque::new() }
    }

    pub(crate) async fn run(mut self) {
        let mut backoff = BACKOFF;
        let mut member = self.rpc.members.pick(&[]);
        loop {
            while self.watched.is_empty() {
                let Some(command) = self.commands.recv().await else { return };
                self.take(command);
            }
            let since = Instant::now();
            let stop = match timeout(OPEN_TIMEOUT, self.open(member)).await {
                Ok(Ok(Some((sender, stream)))) => self.serve(member, sender, stream).await,
                Ok(Ok(None)) => Stop::Idle,
                Ok(Err(err)) if fault(&err) == Fault::Rejected => Stop::Refused,
                Ok(Err(_)) | Err(_) => Stop::Broken,
            };
            match stop {
                Stop::Over => return,
                Stop::Idle => continue,
                Stop::Refused => self.log_in_again(member).await,
                Stop::Broken => {
                    self.rpc.members.silent(member);
                    member = self.rpc.members.pick(&[member]);
                    if since.elapsed() > PAUSE_MAX {
                        backoff.reset();
                    }
                }
            }
            if self.rest(backoff.next_pause()).await.is_none() {
                return;
            }
        }
    }

    /// Opens a stream and watches every key again, each from its first revision. `None` if there is no
    /// key to watch any more.
    async fn open(
        &mut self,
        member: usize,
    ) -> Result<Option<(WatchRequestSender, WatchResponseStream)>, Error> {
        self.unsent = self.watched.keys().copied().map(Request::Watch).collect();
        for entry in self.watched.values_mut().filter(|entry| entry.begun) {
            // What has happened since is history.
            entry.from_now = false;
        }
        let mut client = self.rpc.members.client(member).await?.watch_client();
        // The first watch opens the stream.
        while let Some(Request::Watch(id)) = self.unsent.pop_front() {
            if let Some(entry) = self.watched.get(&id) {
                let stream = client.watch(entry.key.clone(), Some(entry.options(id))).await?;
                return Ok(Some(stream.split()));
            }
        }
        Ok(None)
    }

    async fn serve(
        &mut self,
        member: usize,
        mut sender: WatchRequestSender,
        mut stream: WatchResponseStream,
    ) -> Stop {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return Stop::Over,
                },
                message = stream.message() => match message {
                    Ok(Some(message)) if is_refusal(&message) => return Stop::Refused,
                    Ok(Some(message)) => self.received(&message),
                    Ok(None) | Err(_) => return Stop::Broken,
                },
                sent = send(&mut sender, &self.watched, self.unsent.front()), if !self.unsent.is_empty() => {
                    if sent.is_err() {
                        return Stop::Broken;
                    }
                    self.unsent.pop_front();
                }
                () = self.rpc.members.fell_silent(member) => return Stop::Broken,
                () = sleep(IDLE_MAX), if self.watched.is_empty() => return Stop::Idle,
            }
        }
    }

    fn take(&mut self, command: WatchCommand) {
        match command {
            WatchCommand::Watch(id, entry) => {
                self.watched.insert(id, entry);
                self.unsent.push_back(Request::Watch(id));
            }
            // One that is not there has had its event, and was cancelled then.
            WatchCommand::Forget(id) => self.forget(id),
        }
    }

    /// etcd does not say which watch it refuses. Those that have not begun end: their waiters send
    /// another request, which returns what is wrong. A stream keeps the access token that it was opened
    /// with, so another stream is needed.
    async fn log_in_again(&mut self, member: usize) {
        self.watched.retain(|_, entry| entry.begun);
        if let Ok(Ok(client)) = timeout(OPEN_TIMEOUT, self.rpc.members.client(member)).await {
            let _ = timeout(OPEN_TIMEOUT, client.refresh_token()).await;
        }
    }

    fn received(&mut self, message: &WatchResponse) {
        let id = message.watch_id();
        // A watch is over with its first event. If it was cancelled, by compaction or for want of a
        // permission, an event may have been missed: the waiter wakes and looks.
        if message.canceled() {
            self.watched.remove(&id);
        } else if !message.events().is_empty() {
            if let Some(entry) = self.watched.remove(&id) {
                entry.events.send_replace(WatchEvent::Gone);
                self.unsent.push_back(Request::Cancel(id));
            }
        } else if message.created()
            && let Some(entry) = self.watched.get_mut(&id)
        {
            entry.begun = true;
            if entry.from_now && revision(message.header()) >= entry.from {
                entry.events.send_replace(WatchEvent::Started);
            }
        }
    }

    fn forget(&mut self, id: i64) {
        if self.watched.remove(&id).is_some() {
            self.unsent.push_back(Request::Cancel(id));
        }
    }

    /// Takes commands for a while; `None` once the client is gone.
    async fn rest(&mut self, pause: Duration) -> Option<()> {
        let commands = async {
            loop {
                match self.commands.recv().await {
                    Some(command) => self.take(command),
                    None => return,
                }
            }
        };
        timeout(pause, commands).await.is_err().then_some(())
    }
}

/// Whether a watch was refused: for want of a permission or of a valid access token.
fn is_refusal(message: &WatchResponse) -> bool {
    message.created() && message.canceled()
}

/// Sends a request. Dropped early, it has sent nothing.
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
