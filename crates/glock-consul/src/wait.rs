//! `Watch`: one blocking query a client, which tells of the end of every hold that somebody awaits.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glock_core::{
    OwnerToken,
    toolkit::{Subscription, Wakeups},
};
use tokio::{
    sync::Notify,
    task::{AbortHandle, yield_now},
    time::{self, Instant},
};

use crate::{
    ConsulClient, ConsulError, api::Seen, asking::attend, connections::Connections, entry::Entry,
    key::common_prefix, owner::Owner,
};

/// One blocking query a client, on the longest beginning that all awaited keys have in common: for
/// one key that is the key itself. A release deletes the key, and so does the end of a session, so
/// a key that is not in the answer is free.
///
/// A query for each key would wake nobody for nothing, but takes a connection each, and an agent
/// allows 200. The task that asks ends when nobody waits.
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

/// What the watch and the task that asks have in common.
pub(crate) struct Shared {
    client: ConsulClient,
    /// Not shared with other locks of the same client, whose queries would wait for this one's.
    connection: Connections,
    /// How long a query may block.
    block_max: Duration,
    /// Who waits for a key to come free.
    pub(crate) sleepers: Wakeups,
    /// Who holds a key by an owner token, as `{token} {key}`, and wants to know of its end.
    pub(crate) holds: Wakeups,
    state: Mutex<State>,
    /// A new key may not be covered by the query, or has nobody asking for it.
    pub(crate) stirred: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    /// The task that asks, and which one it is.
    pub(crate) task: Option<(u64, Option<AbortHandle>)>,
    pub(crate) tasks: u64,
    /// What the query asks for: all keys that begin with it.
    pub(crate) prefix: Option<String>,
    /// Whether it pauses for longer, because only holders listen.
    pub(crate) dozes: bool,
}

/// How much longer than it may block a query may take, beside the sixteenth that servers add to
/// spread their clients. A leader that stopped without a word is then noticed before a lease that
/// the next leader knows of can run out.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The pause after an answer for each key in it, so that a busy namespace of a thousand locks is
/// listed 50 times a second and not for each change in it. Short pauses are none.
const PAUSE_PER_KEY: Duration = Duration::from_micros(20);
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The pause where only holders listen: what they learn is rare, and a renewal tells it too.
const HOLDERS_PAUSE: Duration = Duration::from_millis(250);
/// The first and the longest pause while queries fail, and the least between two that tell nothing.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(2);
const RESTLESS_PAUSE: Duration = Duration::from_millis(100);
/// A query that is younger is not given up because of other requests' trouble.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

impl Watch {
    pub(crate) fn new(client: ConsulClient, block_max: Duration) -> Self {
        let shared = Shared {
            connection: client.one_more(),
            client,
            block_max,
            sleepers: Wakeups::new(),
            holds: Wakeups::new(),
            state: Mutex::default(),
            stirred: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Is woken when `key` is free, from now on.
    pub(crate) fn sleeper(&self, key: &str) -> Subscription {
        let subscription = self.shared.sleepers.subscribe(key);
        attend(&self.shared, key, true);
        subscription
    }

    /// Is woken when `key` is no more held by `token`, as the query sees it.
    pub(crate) fn holder(&self, key: &str, token: &OwnerToken) -> Subscription {
        let subscription = self.shared.holds.subscribe(&format!("{} {key}", token.reveal()));
        attend(&self.shared, key, false);
        subscription
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let task = self.shared.state().task.take();
        if let Some((_, Some(task))) = task {
            task.abort();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { sleepers, holds, .. } = &*self.shared;
        let (sleepers, holds) = (sleepers.len(), holds.len());
        f.debug_struct("Watch").field("sleepers", &sleepers).field("holds", &holds).finish()
    }
}

/// How a query ended.
enum End {
    Answered(Result<Seen, ConsulError>),
    /// It hangs, or might.
    Stuck,
    /// Somebody awaits a key that it does not cover.
    Narrow,
}

impl Shared {
    /// Asks until nobody waits any more.
    pub(crate) async fn run(&self) {
        let (mut index, mut quiet, mut failures) = (None, true, 0_u32);
        while let Some((prefix, moved)) = self.next_prefix(quiet) {
            index = index.filter(|_| !moved);
            let asked_at = Instant::now();
            match self.ask(&prefix, index).await {
                End::Answered(Ok(seen)) => {
                    if index.is_some() {
                        // One that does not block tells nothing of those that do.
                        failures = 0;
                    }
                    quiet = index == Some(seen.index);
                    // An index that goes back is that of a restored store: look at everything anew.
                    let back = index.is_some_and(|last| seen.index < last);
                    index = if back { None } else { Some(seen.index.max(1)) };
                    if self.wake(&prefix, &seen) {
                        // Whoever was woken asks first: the next answer is then of its grant.
                        yield_now().await;
                    }
                    self.rest(seen.entries.len(), quiet && asked_at.elapsed() < RESTLESS_PAUSE)
                        .await;
                }
                End::Answered(Err(_)) | End::Stuck => {
                    // What happens meanwhile is seen by the next query, which does not block. Until
                    // there is one, whoever waits must look for himself.
                    index = None;
                    if failures > 0 {
                        self.sleepers.wake_all();
                        let pause = FAILURE_PAUSE * (1 << failures.min(6));
                        time::sleep(pause.min(FAILURE_PAUSE_MAX)).await;
                    }
                    failures += 1;
                }
                End::Narrow => quiet = false,
            }
        }
    }

    async fn ask(&self, prefix: &str, index: Option<u64>) -> End {
        let asked_at = Instant::now();
        let limit = self.block_max + self.block_max / 16 + ANSWER_MAX;
        let changes = self.client.changes(&self.connection, prefix, index, self.block_max);
        let mut query = pin!(time::timeout(limit, changes));
        let mut trouble = pin!(async {
            self.client.trouble().await;
            time::sleep_until(asked_at + TROUBLE_AFTER).await;
        });
        loop {
            tokio::select! {
                biased;
                answer = &mut query => return answer.map_or(End::Stuck, End::Answered),
                () = &mut trouble => return End::Stuck,
                () = self.stirred.notified() => {
                    if !self.awaited().iter().all(|key| key.starts_with(prefix)) {
                        return End::Narrow;
                    }
                }
            }
        }
    }

    /// What to ask for next, and whether that is something else than before; `None` once nobody
    /// waits, and the task ends.
    ///
    /// It only narrows after a query that told nothing: giving up a query costs its connection, and
    /// the server goes on with it for a while.
    fn next_prefix(&self, quiet: bool) -> Option<(String, bool)> {
        let mut state = self.state();
        let awaited = self.awaited();
        if awaited.is_empty() {
            state.task = None;
            return None;
        }
        let before = state.prefix.as_deref().filter(|_| !quiet);
        let prefix = common_prefix(awaited.iter().map(String::as_str).chain(before)).to_owned();
        let moved = state.prefix.as_ref() != Some(&prefix);
        state.prefix = Some(prefix.clone());
        Some((prefix, moved))
    }

    /// Wakes those whose wait or hold is over; whether somebody slept.
    fn wake(&self, prefix: &str, seen: &Seen) -> bool {
        let mut woken = false;
        let entries: HashMap<&str, &Entry> =
            seen.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        for key in self.sleepers.awaited() {
            let held = entries.get(key.as_str()).is_some_and(|entry| entry.is_held());
            if !held && key.starts_with(prefix) {
                self.sleepers.wake(&key);
                woken = true;
            }
        }
        for hold in self.holds.awaited() {
            let Some((token, key)) = hold.split_once(' ') else { continue };
            let Ok(token) = OwnerToken::new(token) else { continue };
            // An answer that is older than the grant cannot know of it.
            let known = Owner::parse(&token).is_some_and(|owner| owner.index <= seen.index);
            let held = entries.get(key).is_some_and(|entry| entry.held_by(&token).is_some());
            if known && !held && key.starts_with(prefix) {
                self.holds.wake(&hold);
            }
        }
        woken
    }

    /// Pauses after an answer, unless somebody comes whom it would make wait.
    async fn rest(&self, keys: usize, restless: bool) {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        let mut pause = PAUSE_PER_KEY.saturating_mul(keys).min(FAILURE_PAUSE_MAX);
        let dozes = {
            let mut state = self.state();
            state.dozes = self.sleepers.is_empty();
            state.dozes
        };
        if dozes {
            pause = pause.max(HOLDERS_PAUSE);
        }
        if restless {
            pause = pause.max(RESTLESS_PAUSE);
        }
        if pause >= PAUSE_MIN {
            let _ = time::timeout(pause, self.stirred.notified()).await;
        }
        self.state().dozes = false;
    }

    fn awaited(&self) -> Vec<String> {
        let holds = self.holds.awaited().into_iter();
        let held = holds.filter_map(|hold| Some(hold.split_once(' ')?.1.to_owned()));
        self.sleepers.awaited().into_iter().chain(held).collect()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
