//! `Subscriptions`: which channels a connection is subscribed to; and how long a sleeper sleeps.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glock_core::{Holder, Retry, toolkit::Wakeups};
use redis::{ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

/// How long a channel nobody sleeps on stays subscribed, so that a lock that changes hands often
/// does not cause a subscription each time. Twice that at most.
const LINGER: Duration = Duration::from_millis(500);
/// How many requests are answered by one `SUBSCRIBE`.
const BATCH: usize = 64;
/// What is added to the holder's remaining time, so that the lock is gone when a sleeper is back.
const EXPIRY_SLACK: Duration = Duration::from_millis(2);
/// The longest pause between two looks where nobody is woken; a fifth of it is the shortest.
const POLL_MAX: Duration = Duration::from_millis(250);
const POLL_JITTER_PERCENT: u8 = 80;

/// How long to sleep at most before the lock is worth a try, given who has it now.
pub(crate) fn until_expiry(holder: &Holder) -> Duration {
    holder.remaining.map_or(Duration::MAX, |left| left.saturating_add(EXPIRY_SLACK))
}

/// How long to sleep between two looks, given who has the lock now.
pub(crate) fn until_next_look(holder: &Holder) -> Duration {
    let poll = Retry::FOREVER.with_pause_max(POLL_MAX).with_jitter_percent(POLL_JITTER_PERCENT);
    poll.pause().min(until_expiry(holder))
}

/// The subscriptions of one connection. Its task alone sends `SUBSCRIBE` and `UNSUBSCRIBE`, so
/// that they cannot overtake each other; it ends when the subscriptions is dropped.
pub(crate) struct Subscriptions {
    channels: Arc<Channels>,
    requests: mpsc::UnboundedSender<Request>,
}

/// The channels whose subscription the server has confirmed.
#[derive(Default)]
struct Channels(Mutex<HashSet<String>>);

struct Request {
    channel: String,
    done: oneshot::Sender<RedisResult<()>>,
}

impl Subscriptions {
    /// Starts the task. Messages are the connection's to deliver.
    pub(crate) fn start(connection: MultiplexedConnection, wakeups: Wakeups) -> Self {
        let channels = Arc::new(Channels::default());
        let (requests, incoming) = mpsc::unbounded_channel();
        tokio::spawn(run_subscriptions(connection, Arc::clone(&channels), wakeups, incoming));
        Self { channels, requests }
    }

    /// Returns once `channel` is subscribed to. The caller sleeps on it in [`Wakeups`] already, so
    /// it stays subscribed from then on.
    pub(crate) async fn listen(&self, channel: &str) -> RedisResult<()> {
        if self.channels.lock().contains(channel) {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let request = Request { channel: channel.into(), done };
        self.requests.send(request).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> RedisError {
    RedisError::from((ErrorKind::Io, "the subscription's task has ended"))
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what nobody sleeps on. Whoever subscribes sleeps first and looks here second, so
    /// it either counts as a sleeper now or will not find its channel here.
    fn take_idle(&self, idle_before: &mut HashSet<String>, wakeups: &Wakeups) -> Vec<String> {
        let mut channels = self.lock();
        let idle: HashSet<String> =
            channels.iter().filter(|channel| !wakeups.is_awaited(channel)).cloned().collect();
        let over: Vec<String> = idle_before.intersection(&idle).cloned().collect();
        for channel in &over {
            channels.remove(channel);
        }
        *idle_before = idle;
        over
    }
}

/// Subscribes as asked, and unsubscribes from what nobody has slept on for two looks in a row.
async fn run_subscriptions(
    mut connection: MultiplexedConnection,
    channels: Arc<Channels>,
    wakeups: Wakeups,
    mut incoming: mpsc::UnboundedReceiver<Request>,
) {
    let mut batch = Vec::new();
    let mut idle = HashSet::new();
    let mut sweep_at = Instant::now() + LINGER;
    loop {
        let received = if channels.lock().is_empty() {
            sweep_at = Instant::now() + LINGER;
            Some(incoming.recv_many(&mut batch, BATCH).await)
        } else {
            time::timeout_at(sweep_at, incoming.recv_many(&mut batch, BATCH)).await.ok()
        };
        match received {
            Some(0) => return,
            Some(_) => subscribe(&mut connection, &channels, &mut batch).await,
            None => {
                sweep_at = Instant::now() + LINGER;
                let over = channels.take_idle(&mut idle, &wakeups);
                // A connection that is lost has no subscriptions; its end is told elsewhere.
                if !over.is_empty() && connection.unsubscribe(over).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Answers a batch of requests with one command.
async fn subscribe(
    connection: &mut MultiplexedConnection,
    channels: &Channels,
    batch: &mut Vec<Request>,
) {
    let mut missing: HashMap<String, Vec<oneshot::Sender<RedisResult<()>>>> = HashMap::new();
    for Request { channel, done } in batch.drain(..) {
        if channels.lock().contains(&channel) {
            // Whoever asked may be gone; the channel is then swept.
            let _ = done.send(Ok(()));
        } else {
            missing.entry(channel).or_default().push(done);
        }
    }
    if missing.is_empty() {
        return;
    }
    let names: Vec<&str> = missing.keys().map(String::as_str).collect();
    let answer = connection.subscribe(names).await;
    if answer.is_ok() {
        channels.lock().extend(missing.keys().cloned());
    }
    for done in missing.into_values().flatten() {
        let _ = done.send(answer.clone());
    }
}
