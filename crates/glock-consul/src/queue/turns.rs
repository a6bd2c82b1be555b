//! `Turns`: the blocking query by which a client learns that it is the turn of one of its waiters.

use std::{fmt, sync::Arc, time::Duration};

use glock_core::toolkit::{BackgroundTask, Backoff, Mutex, Worker};
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::{
    client::{Connections, ConsulClient},
    commands::delete_cas,
    queue::{claim::Claim, keys::ROOT, place::Turn, waiters::QueuedWaiters},
    schema::Entry,
};

/// Learns that it is the turn of one of a client's waiters. Those that are the first in their queues are
/// woken by the end of the hold as well: a client that has no others needs no such query.
pub(crate) struct Turns {
    query: Arc<TurnsQuery>,
    task: BackgroundTask,
}

/// Sends one blocking query after the other, while there are waiters.
struct TurnsQuery {
    client: ConsulClient,
    connection: Connections,
    prefix: String,
    waiters: Arc<QueuedWaiters>,
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Default)]
struct State {
    /// The Raft index of the last turn that a waiter was woken for.
    seen: u64,
    /// When a waiter was last said to be not the first in its queue.
    wanted: Option<Instant>,
    /// When the next query begins at the latest, if the task's runtime gets to it.
    due: Option<Instant>,
    closed: bool,
}

/// A heartbeat finds a turn that a silent connection does not bring.
const BLOCK_MAX: Duration = Duration::from_secs(20);
/// How much longer a query may take than it may block, with the sixteenth that servers add.
const REPLY_MAX: Duration = Duration::from_secs(3);
/// Longer than between two heartbeats, on a busy machine too.
const UNUSED_MAX: Duration = Duration::from_secs(5);
const UNUSED_PAUSE: Duration = Duration::from_secs(1);
/// So many turns that are over are left, until the client's session for places ends.
const OVER_MAX: usize = 32;
/// How many are deleted at once; Consul allows 64 operations.
const DELETED_MAX: usize = 60;

impl Turns {
    pub(crate) fn new(client: ConsulClient, prefix: String, waiters: Arc<QueuedWaiters>) -> Self {
        let (connection, state) = (client.connection_for_queries(), Mutex::default());
        let query =
            TurnsQuery { client, connection, prefix, waiters, state, closed: Notify::new() };
        Self { query: Arc::new(query), task: BackgroundTask::new() }
    }

    /// Makes sure that a query is sent: a waiter is not the first in its queue. Each heartbeat says so again.
    pub(crate) fn keep(&self) {
        let (now, mut state) = (Instant::now(), self.query.state.lock());
        state.wanted = Some(now);
        let is_late = state.due.is_some_and(|due| due <= now);
        drop(state);
        if is_late { self.task.restart(&self.query) } else { self.task.start(&self.query) }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.query.state.lock().closed = true;
        self.query.closed.notify_one();
    }
}

impl Worker for TurnsQuery {
    async fn round(&self) -> Option<Duration> {
        let (mut index, mut failing) = (None, Backoff::STORE_FAILURE);
        while self.goes_on() {
            let query =
                self.client.blocking_query(&self.connection, &self.prefix, index, BLOCK_MAX);
            let reply = tokio::select! {
                reply = time::timeout(BLOCK_MAX + REPLY_MAX, query) => reply,
                () = self.closed.notified() => break,
                () = self.unused() => break,
            };
            if let Ok(Ok(snapshot)) = reply {
                failing.reset();
                let last = index;
                index = snapshot.next_index(last);
                let went_back = last.is_some() && index.is_none();
                self.receive(&snapshot.entries, went_back).await;
            } else {
                index = None;
                self.waiters.registry.missed();
                failing.sleep().await;
            }
        }
        // Nothing is awaited over it any more.
        self.connection.close_idle();
        self.state.lock().due = None;
        None
    }
}

impl TurnsQuery {
    fn goes_on(&self) -> bool {
        let is_wanted = self.is_wanted();
        let mut state = self.state.lock();
        let goes_on = !state.closed && is_wanted;
        state.due = goes_on.then(|| Instant::now() + BLOCK_MAX + REPLY_MAX * 2);
        goes_on
    }

    /// Whether there are waiters that are not the first in their queues, as far as is known.
    fn is_wanted(&self) -> bool {
        let wanted = self.state.lock().wanted;
        let is_recent = wanted.is_some_and(|at| at.elapsed() < UNUSED_MAX);
        is_recent && !self.waiters.registry.is_empty()
    }

    /// Returns once there have been no such waiters for a while.
    async fn unused(&self) {
        let mut was_wanted = true;
        loop {
            time::sleep(UNUSED_PAUSE).await;
            let is_wanted = self.is_wanted();
            if !is_wanted && !was_wanted {
                return;
            }
            was_wanted = is_wanted;
        }
    }

    /// Wakes those whose turn it is.
    async fn receive(&self, turns: &[Entry], went_back: bool) {
        let seen = if went_back { 0 } else { self.state.lock().seen };
        let is_turn = |entry: &&Entry| {
            let below = entry.key.strip_prefix(&*self.prefix);
            below.is_some_and(|key| !key.starts_with(ROOT))
        };
        let (new, mut over): (Vec<_>, Vec<_>) =
            turns.iter().filter(is_turn).partition(|turn| turn.modify_index > seen);
        for entry in &new {
            // The lock was reserved by the same write.
            let turn = entry.parsed::<Turn>().zip(entry.owner());
            let is_woken = turn.is_some_and(|(Turn { waiter, next, .. }, by)| {
                let own = self.waiters.own(&waiter);
                own.is_some_and(|own| self.waiters.turn(own, Claim::Reserved { by, next }))
            });
            if !is_woken {
                // A waiter has become the first, or it has left.
                self.waiters.registry.missed();
            }
        }
        let newest = new.iter().map(|entry| entry.modify_index).max().unwrap_or(seen);
        self.state.lock().seen = newest.max(seen);
        if over.len() > OVER_MAX {
            over.truncate(DELETED_MAX);
            let over = over.iter().map(|entry| delete_cas(&entry.key, entry.modify_index));
            // Those that are left are deleted the next time.
            let _ = self.client.transaction(over.collect()).await;
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.query.state.lock().due.is_some();
        f.debug_struct("Turns").field("runs", &runs).finish_non_exhaustive()
    }
}
