//! How a client is notified: its channel, its subscriptions, their messages.

use std::{
    io, mem,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use glock_core::toolkit::{BackgroundTask, Listening, Mutex, Notified, Worker};
use redis::{
    ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

/// How long a client without waiters stays subscribed, so that a lock that changes hands often does not
/// cause a subscription each time.
const LINGER: Duration = Duration::from_secs(1);

/// Notifies the one that `push` is for.
pub(crate) fn receive(notified: &Notified, push: &PushInfo) {
    let (PushKind::Message, [Value::BulkString(channel), Value::BulkString(message)]) =
        (&push.kind, &push.data[..])
    else {
        return;
    };
    if channel == notified.channel().as_bytes()
        && let Ok(message) = str::from_utf8(message)
    {
        notified.receive(message);
    }
}

/// The subscription of one connection to the client's channel. Its task alone sends `SUBSCRIBE` and
/// `UNSUBSCRIBE`, so that they cannot overtake each other.
pub(crate) struct Subscriptions {
    connection: MultiplexedConnection,
    /// How long a reply may take.
    reply_max: Duration,
    notified: Notified,
    channel: Mutex<Channel>,
    task: BackgroundTask,
}

/// Reports to a caller that the channel is subscribed to.
type Confirm = oneshot::Sender<RedisResult<()>>;

#[derive(Default)]
struct Channel {
    /// When the client was last seen to have waiters, if the server has confirmed a subscription.
    awaited_at: Option<Instant>,
    /// The callers that wait for it.
    requested: Vec<Confirm>,
}

impl Subscriptions {
    /// None at first. Messages do not arrive here: the code that makes `connection` passes them to
    /// `notified`.
    pub(crate) fn new(
        connection: MultiplexedConnection,
        reply_max: Duration,
        notified: Notified,
    ) -> Arc<Self> {
        let (channel, task) = (Mutex::default(), BackgroundTask::new());
        Arc::new(Self { connection, reply_max, notified, channel, task })
    }

    /// Returns once the channel is subscribed to, and whether it was before. The caller must be among
    /// those that are notified before; the channel then stays subscribed for as long as it is.
    pub(crate) async fn subscribe(self: &Arc<Self>) -> RedisResult<Listening> {
        let confirmed = {
            let mut channel = self.channel();
            if channel.awaited_at.is_some() {
                None
            } else {
                let (confirm, confirmed) = oneshot::channel();
                channel.requested.push(confirm);
                Some(confirmed)
            }
        };
        // After the request, so that the task cannot end without it. Also without one: the task that is to
        // unsubscribe may have ended with its runtime.
        self.task.start(self);
        let Some(confirmed) = confirmed else { return Ok(Listening::Already) };
        self.task.wake();
        let ended = || RedisError::from((ErrorKind::Io, "the task of the subscription has ended"));
        confirmed.await.unwrap_or_else(|_| Err(ended())).map(|()| Listening::Began)
    }

    /// So that a silent connection does not keep the task, which keeps the connection.
    async fn in_time(&self, reply: impl Future<Output = RedisResult<()>>) -> RedisResult<()> {
        let silent = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        time::timeout(self.reply_max, reply).await.unwrap_or_else(silent)
    }

    async fn subscribe_requested(&self) {
        let requested = mem::take(&mut self.channel().requested);
        if requested.is_empty() {
            return;
        }
        let channel = self.notified.channel();
        let reply = self.in_time(self.connection.clone().subscribe(channel)).await;
        if reply.is_ok() {
            self.channel().awaited_at = Some(Instant::now());
        }
        for confirm in requested {
            // A caller that is gone needs no reply: the channel is found to be unused later.
            let _ = confirm.send(reply.clone());
        }
    }

    /// Whether the channel is not needed any more: it had no waiters for [`LINGER`]. A caller of
    /// `subscribe` waits first and looks here second, so it either counts as a waiter or does not find
    /// the subscription.
    fn take_unused(&self) -> bool {
        let mut channel = self.channel();
        let Some(awaited_at) = &mut channel.awaited_at else { return false };
        if !self.notified.is_empty() {
            *awaited_at = Instant::now();
        }
        let is_unused = awaited_at.elapsed() >= LINGER;
        if is_unused {
            channel.awaited_at = None;
        }
        is_unused
    }

    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock()
    }
}

impl Worker for Subscriptions {
    async fn round(&self) -> Option<Duration> {
        self.subscribe_requested().await;
        if self.take_unused() {
            let channel = self.notified.channel();
            // If it fails, messages without waiters arrive until the connection closes.
            let _ = self.in_time(self.connection.clone().unsubscribe(channel)).await;
        }
        self.channel().awaited_at.is_some().then_some(LINGER / 2)
    }
}
