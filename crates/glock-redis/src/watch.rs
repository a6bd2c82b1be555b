//! How a client learns of a release: a connection's subscriptions, and their messages.

use std::{collections::HashMap, io, mem, sync::Arc, time::Duration};

use glock_core::toolkit::{BackgroundTask, Mutex, Wakeups, Worker};
use redis::{
    ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use crate::error;

/// How long a channel without sleepers stays subscribed, so that a lock that changes hands often does
/// not cause a subscription each time.
const LINGER: Duration = Duration::from_secs(1);

/// How often a connection on which waiters sleep is asked for a reply. One that is silent brings no
/// messages either.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(3);

/// Wakes the sleepers on the channel that `push` is a message of.
pub(crate) fn wake(wakeups: &Wakeups, push: &PushInfo) {
    if let (PushKind::Message, [Value::BulkString(channel), _]) = (&push.kind, &push.data[..])
        && let Ok(channel) = str::from_utf8(channel)
    {
        wakeups.wake(channel);
    }
}

/// The subscriptions of one connection. Its task alone sends `SUBSCRIBE` and `UNSUBSCRIBE`, so that
/// they cannot overtake each other.
pub(crate) struct Subscriptions {
    connection: MultiplexedConnection,
    /// How long a reply may take.
    reply_max: Duration,
    wakeups: Wakeups,
    channels: Mutex<Channels>,
    /// When the last heartbeat was sent.
    heartbeat_at: Mutex<Instant>,
    task: BackgroundTask,
}

/// Reports to a caller that its channel is subscribed to.
type Confirm = oneshot::Sender<RedisResult<()>>;

#[derive(Default)]
struct Channels {
    /// Those whose subscription the server has confirmed, and when a sleeper was last seen on each.
    confirmed: HashMap<String, Instant>,
    /// Those to subscribe to, with the callers that wait for it.
    requested: HashMap<String, Vec<Confirm>>,
}

impl Subscriptions {
    /// None at first. Messages do not arrive here: the code that makes `connection` passes them to
    /// [`wake`].
    pub(crate) fn new(
        connection: MultiplexedConnection,
        reply_max: Duration,
        wakeups: Wakeups,
    ) -> Arc<Self> {
        let (channels, heartbeat_at) = (Mutex::default(), Mutex::new(Instant::now()));
        let task = BackgroundTask::new();
        Arc::new(Self { connection, reply_max, wakeups, channels, heartbeat_at, task })
    }

    /// Returns once `channel` is subscribed to. The caller must sleep on it in the wakeups before; it
    /// then stays subscribed for as long as the caller sleeps.
    pub(crate) async fn subscribe(self: &Arc<Self>, channel: &str) -> RedisResult<()> {
        let requested = self.channels.lock().request(channel);
        // After the request, so that the task cannot end without it.
        self.task.start(self);
        let Some(confirmed) = requested else { return Ok(()) };
        self.task.wake();
        let ended = || RedisError::from((ErrorKind::Io, "the task of the subscriptions has ended"));
        confirmed.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Sends a heartbeat, unless another waiter has just done so. Any reply is one.
    pub(crate) async fn heartbeat(&self) -> RedisResult<()> {
        let now = Instant::now();
        {
            let mut heartbeat_at = self.heartbeat_at.lock();
            if now.duration_since(*heartbeat_at) < HEARTBEAT {
                return Ok(());
            }
            *heartbeat_at = now;
        }
        // A command that the scripts use, so that every user of locks may send it.
        match self.connection.clone().send_packed_command(&redis::cmd("TIME")).await {
            Err(err) if error::is_broken(&err) => Err(err),
            _ => Ok(()),
        }
    }

    /// So that a silent connection does not keep the task, which keeps the connection.
    async fn in_time(&self, reply: impl Future<Output = RedisResult<()>>) -> RedisResult<()> {
        let silent = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        time::timeout(self.reply_max, reply).await.unwrap_or_else(silent)
    }

    /// Subscribes to all requested channels with one command.
    async fn subscribe_requested(&self) {
        let requested = mem::take(&mut self.channels.lock().requested);
        if requested.is_empty() {
            return;
        }
        let names: Vec<&str> = requested.keys().map(String::as_str).collect();
        let reply = self.in_time(self.connection.clone().subscribe(names)).await;
        if reply.is_ok() {
            let now = Instant::now();
            let confirmed = requested.keys().map(|channel| (channel.clone(), now));
            self.channels.lock().confirmed.extend(confirmed);
        }
        for confirm in requested.into_values().flatten() {
            // A caller that is gone needs no reply: its channel is found to be unused later.
            let _ = confirm.send(reply.clone());
        }
    }
}

impl Worker for Subscriptions {
    async fn round(&self) -> Option<Duration> {
        self.subscribe_requested().await;
        let unused = self.channels.lock().take_unused(&self.wakeups);
        if !unused.is_empty() {
            // If it fails, messages without sleepers arrive until the connection closes.
            let _ = self.in_time(self.connection.clone().unsubscribe(unused)).await;
        }
        let has_channels = !self.channels.lock().confirmed.is_empty();
        has_channels.then_some(LINGER / 2)
    }
}

impl Channels {
    /// Requests a subscription. What is returned reports its confirmation; `None` if the server has
    /// confirmed it before.
    fn request(&mut self, channel: &str) -> Option<oneshot::Receiver<RedisResult<()>>> {
        if self.confirmed.contains_key(channel) {
            return None;
        }
        let (confirm, confirmed) = oneshot::channel();
        self.requested.entry(channel.into()).or_default().push(confirm);
        Some(confirmed)
    }

    /// Takes out the channels that have had no sleeper for [`LINGER`]. A caller of `subscribe` sleeps
    /// first and looks here second, so it either counts as a sleeper or does not find its channel.
    fn take_unused(&mut self, wakeups: &Wakeups) -> Vec<String> {
        let now = Instant::now();
        let is_unused = |channel: &String, awaited_at: &mut Instant| {
            if wakeups.is_awaited(channel) {
                *awaited_at = now;
            }
            now.duration_since(*awaited_at) >= LINGER
        };
        self.confirmed.extract_if(is_unused).map(|(channel, _)| channel).collect()
    }
}
