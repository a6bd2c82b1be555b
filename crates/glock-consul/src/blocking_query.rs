//! `BlockingQuery`: the task that sends a client's blocking queries, and wakes who sleeps on their keys.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use glock_core::{
    OwnerToken,
    toolkit::{Backoff, Mutex, Wakeups, Worker},
};
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{self, Instant},
};

use crate::{
    client::{Connections, ConsulClient},
    commands::{Snapshot, common_prefix},
    queue::waiters::QueuedWaiters,
    session::Owner,
};

/// Sends one blocking query after the other, while any key is awaited.
pub(crate) struct BlockingQuery {
    client: ConsulClient,
    /// Not shared with other locks of the same client, whose queries would wait for this one's.
    connection: Connections,
    block_max: Duration,
    pub(crate) waiters: Wakeups,
    /// Waiters that are the first in the queues of their locks.
    pub(crate) queued: Arc<QueuedWaiters>,
    /// Holders that await the end of their hold, as `{token} {key}`.
    pub(crate) holders: Wakeups,
    state: Mutex<State>,
    /// Wakes the task: the query may not cover a new key, or its pause is too long for a new waiter.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// The query is for all keys that begin with it.
    prefix: Option<String>,
    /// It pauses for longer, because only holders are subscribed.
    holders_only: bool,
    /// When the next query begins at the latest, if the task's runtime gets to it.
    due: Option<Instant>,
    closed: bool,
}

/// A query blocks for half the shortest TTL, within these limits.
const BLOCK_MIN: Duration = Duration::from_secs(2);
const BLOCK_MAX: Duration = Duration::from_secs(5);
/// How much longer a query may take than it may block, beside the sixteenth that servers add. A leader
/// that stopped silently is then noticed before a lease that the next leader knows of can run out.
const REPLY_MAX: Duration = Duration::from_secs(2);
/// The pause after a reply for each key in it: a busy namespace of a thousand locks is listed 50 times a
/// second, not for each change.
const PAUSE_PER_KEY: Duration = Duration::from_micros(20);
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The pause where only holders are subscribed: losses are rare, and a renewal finds them too.
const HOLDERS_PAUSE: Duration = Duration::from_millis(250);
/// The pause after a query that returned early and without a change.
const SPURIOUS_PAUSE: Duration = Duration::from_millis(100);
/// What a query may begin late by on a busy machine, beside the longest pause.
const LATE_MAX: Duration = Duration::from_secs(1);
/// A younger query is not given up because other requests failed.
const FAILURE_AFTER: Duration = Duration::from_secs(1);

enum End {
    Reply(Snapshot),
    /// It failed, or hangs, or might.
    Failed,
    /// It does not cover every awaited key.
    TooNarrow,
}

impl Worker for BlockingQuery {
    /// Sends queries until nothing is awaited.
    async fn round(&self) -> Option<Duration> {
        let (mut index, mut is_quiet, mut failing) = (None, true, None::<Backoff>);
        while let Some((prefix, is_new)) = self.next_prefix(is_quiet) {
            index = index.filter(|_| !is_new);
            let sent_at = Instant::now();
            match self.ask(&prefix, index).await {
                End::Reply(snapshot) => {
                    if index.is_some() {
                        // A query that does not block proves nothing about those that do.
                        failing = None;
                    }
                    is_quiet = index == Some(snapshot.index);
                    index = snapshot.next_index(index);
                    if self.wake(&prefix, &snapshot) {
                        // Those that were woken send first: the next reply then shows their grant.
                        yield_now().await;
                    }
                    let is_spurious = is_quiet && sent_at.elapsed() < SPURIOUS_PAUSE;
                    let least = if is_spurious { SPURIOUS_PAUSE } else { Duration::ZERO };
                    self.pause(snapshot.entries.len(), least).await;
                }
                End::Failed => {
                    // The next query does not block. If it fails too, waiters look for themselves.
                    index = None;
                    match &mut failing {
                        None => failing = Some(Backoff::STORE_FAILURE),
                        Some(backoff) => {
                            self.waiters.wake_all();
                            backoff.sleep().await;
                        }
                    }
                }
                End::TooNarrow => is_quiet = false,
            }
        }
        // Nothing is awaited over it any more.
        self.connection.close_idle();
        self.stopped();
        None
    }

    fn interrupted(&self) {
        self.stopped();
    }
}

impl BlockingQuery {
    /// No query is sent any more. Those who wait look for themselves, and start the task again on their runtime.
    fn stopped(&self) {
        let mut state = self.state.lock();
        (state.prefix, state.holders_only, state.due) = (None, false, None);
        drop(state);
        self.waiters.wake_all();
        self.holders.wake_all();
    }

    /// A query that blocks for as long as it may, where no TTL is shorter than `ttl_min`.
    pub(crate) fn new(client: ConsulClient, ttl_min: Duration, queued: Arc<QueuedWaiters>) -> Self {
        Self {
            connection: client.connection_for_queries(),
            client,
            block_max: (ttl_min / 2).clamp(BLOCK_MIN, BLOCK_MAX),
            waiters: Wakeups::new(),
            queued,
            holders: Wakeups::new(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Makes sure that the next query covers `key`.
    pub(crate) fn cover(&self, key: &str) {
        let prefix = &self.state.lock().prefix;
        if prefix.as_ref().is_some_and(|prefix| !key.starts_with(&**prefix)) {
            self.changed.notify_one();
        }
    }

    /// There is a waiter, for whom a pause may be too long.
    pub(crate) fn hurry(&self) {
        if self.state.lock().holders_only {
            self.changed.notify_one();
        }
    }

    /// Ends the queries for good.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// When the next query begins at the latest, if the task's runtime gets to it.
    pub(crate) fn due(&self) -> Instant {
        *self.state.lock().due.get_or_insert_with(|| Instant::now() + LATE_MAX)
    }

    /// Whether a query should have begun by now. True for one of several waiters at a time, which
    /// starts the task again.
    pub(crate) fn is_overdue(&self) -> bool {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let is_overdue = *state.due.get_or_insert(now + LATE_MAX) <= now;
        if is_overdue {
            state.due = Some(now + LATE_MAX);
        }
        is_overdue
    }

    /// Whether the task has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.lock().prefix.is_some()
    }

    /// How long a query may take.
    fn limit(&self) -> Duration {
        self.block_max + self.block_max / 16 + REPLY_MAX
    }

    async fn ask(&self, prefix: &str, index: Option<u64>) -> End {
        let (sent_at, limit) = (Instant::now(), self.limit());
        let query = self.client.blocking_query(&self.connection, prefix, index, self.block_max);
        let mut query = pin!(time::timeout(limit, query));
        let mut failure = pin!(async {
            self.client.request_failed().await;
            time::sleep_until(sent_at + FAILURE_AFTER).await;
        });
        loop {
            tokio::select! {
                biased;
                reply = &mut query => {
                    return reply.ok().and_then(Result::ok).map_or(End::Failed, End::Reply);
                }
                () = &mut failure => return End::Failed,
                () = self.changed.notified() => {
                    let covers = |key: &String| key.starts_with(prefix);
                    if self.state.lock().closed || !self.awaited().iter().all(covers) {
                        return End::TooNarrow;
                    }
                }
            }
        }
    }

    /// The prefix of the next query, and whether it is another one; `None` once nothing is awaited.
    ///
    /// The prefix becomes longer only after a query that showed no change: giving up a query costs its
    /// connection, and the server goes on with it for a while.
    fn next_prefix(&self, is_quiet: bool) -> Option<(String, bool)> {
        let mut state = self.state.lock();
        let awaited = self.awaited();
        if awaited.is_empty() || state.closed {
            return None;
        }
        let before = state.prefix.as_deref().filter(|_| !is_quiet);
        let prefix = common_prefix(awaited.iter().map(String::as_str).chain(before)).to_owned();
        let is_new = state.prefix.as_ref() != Some(&prefix);
        state.prefix = Some(prefix.clone());
        state.due = Some(Instant::now() + self.limit() + PAUSE_MAX + LATE_MAX);
        Some((prefix, is_new))
    }

    /// Wakes those whose wait or hold is over. Returns whether any of them was a waiter.
    fn wake(&self, prefix: &str, snapshot: &Snapshot) -> bool {
        let entries = snapshot.entries.iter().map(|entry| (&*entry.key, entry));
        let (entries, mut woken) = (entries.collect::<HashMap<_, _>>(), false);
        for key in self.waiters.awaited() {
            let held = entries.get(&*key).is_some_and(|entry| entry.is_locked());
            if !held && key.starts_with(prefix) {
                self.waiters.wake(&key);
                woken = true;
            }
        }
        for key in self.queued.awaited() {
            if key.starts_with(prefix) {
                woken |= self.queued.see(&key, entries.get(&*key).copied());
            }
        }
        for hold in self.holders.awaited() {
            let Some((token, key)) = hold.split_once(' ') else { continue };
            let Ok(token) = OwnerToken::new(token) else { continue };
            // A snapshot that is older than the grant does not show it.
            let known = Owner::parse(&token).is_some_and(|owner| owner.index <= snapshot.index);
            let held = entries.get(key).and_then(|entry| entry.held_by(&token)).is_some();
            if known && !held && key.starts_with(prefix) {
                self.holders.wake(&hold);
            }
        }
        woken
    }

    /// Pauses after a reply with so many keys, for at least `least`. A new waiter ends it.
    async fn pause(&self, keys: usize, least: Duration) {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        let mut pause = PAUSE_PER_KEY.saturating_mul(keys).min(PAUSE_MAX).max(least);
        let holders_only = self.waiters.is_empty() && !self.queued.has_first();
        self.state.lock().holders_only = holders_only;
        if holders_only {
            pause = pause.max(HOLDERS_PAUSE);
        }
        if pause >= PAUSE_MIN {
            let _ = time::timeout(pause, self.changed.notified()).await;
        }
        self.state.lock().holders_only = false;
    }

    fn awaited(&self) -> Vec<String> {
        let holds = self.holders.awaited();
        let held = holds.iter().filter_map(|hold| Some(hold.split_once(' ')?.1.to_owned()));
        self.waiters.awaited().into_iter().chain(self.queued.awaited()).chain(held).collect()
    }
}
