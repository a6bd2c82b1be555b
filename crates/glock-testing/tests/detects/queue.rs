//! `Queues`: the queues that the toy store keeps beside its locks, for the locks that have one.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::flaw::Flaw;

/// For how long a free lock is reserved for the first waiter.
pub(crate) const RESERVED: Duration = glock_core::toolkit::RESERVED_FOR;
/// For how long a client counts as alive after a request.
const ALIVE: Duration = Duration::from_secs(5);

/// Whether the store keeps the queue.
pub(crate) fn keeps_queue(flaw: Flaw) -> bool {
    matches!(
        flaw,
        Flaw::SoundQueue
            | Flaw::TryBarges
            | Flaw::ServesLastFirst
            | Flaw::NeverPassesOn
            | Flaw::KeepsCancelledPlaces
            | Flaw::LostPlaceStaysLost
            | Flaw::WakesAllWaiters
    )
}

#[derive(Debug, Default)]
pub(crate) struct Queues {
    by_key: HashMap<String, Queue>,
    /// When a request of each client came, or less than that, once it had a turn.
    seen: HashMap<String, Instant>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<String>,
    reserved: Option<(String, Instant)>,
}

/// What a heartbeat finds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub turn: Option<String>,
    pub is_first: Option<String>,
    pub lost: Vec<String>,
}

fn client_of(waiter: &str) -> &str {
    waiter.split(':').next().unwrap_or_default()
}

impl Queues {
    pub(crate) fn see(&mut self, waiter: &str) {
        self.seen.insert(client_of(waiter).into(), Instant::now());
    }

    /// Whom a free lock is reserved for, and those to notify of it.
    pub(crate) fn first(&mut self, flaw: Flaw, key: &str) -> Option<(String, Vec<String>)> {
        let queue = self.by_key.get_mut(key)?;
        let lasts = matches!(flaw, Flaw::NeverPassesOn | Flaw::KeepsCancelledPlaces);
        if let Some((waiter, until)) = &queue.reserved
            && (lasts || Instant::now() < *until)
        {
            return Some((waiter.clone(), Vec::new()));
        }
        queue.reserved = None;
        loop {
            let waiter = match flaw {
                Flaw::ServesLastFirst => queue.waiters.pop_back(),
                _ => queue.waiters.pop_front(),
            };
            let Some(waiter) = waiter else {
                self.by_key.remove(key);
                return None;
            };
            let seen = self.seen.get(client_of(&waiter)).copied();
            if lasts || seen.is_some_and(|at| at.elapsed() < ALIVE) {
                queue.reserved = Some((waiter.clone(), Instant::now() + RESERVED));
                // No longer alive when that is over, unless it sends a request.
                let less = Instant::now() + RESERVED;
                let less = less.checked_sub(ALIVE).unwrap_or_else(Instant::now);
                self.seen.insert(client_of(&waiter).into(), less);
                let mut notified = vec![waiter.clone()];
                if flaw == Flaw::WakesAllWaiters {
                    notified.extend(queue.waiters.iter().cloned());
                }
                return Some((waiter, notified));
            }
        }
    }

    /// Whom the lock is reserved for, while that lasts.
    pub(crate) fn claimed(&mut self, key: &str, waiter: &str) {
        let Some(queue) = self.by_key.get_mut(key) else { return };
        queue.reserved = None;
        queue.waiters.retain(|other| other != waiter);
        if queue.waiters.is_empty() {
            self.by_key.remove(key);
        }
    }

    pub(crate) fn waiters(&self, key: &str) -> usize {
        self.by_key.get(key).map_or(0, |queue| queue.waiters.len())
    }

    /// Whether the waiter is the first.
    pub(crate) fn join(&mut self, key: &str, waiter: &str) -> bool {
        self.see(waiter);
        let queue = self.by_key.entry(key.into()).or_default();
        if !queue.waiters.iter().any(|other| other == waiter) {
            queue.waiters.push_back(waiter.into());
        }
        queue.waiters.front().is_some_and(|first| first == waiter)
    }

    /// Whether the lock was reserved for it.
    pub(crate) fn leave(&mut self, flaw: Flaw, key: &str, waiter: &str) -> bool {
        let Some(queue) = self.by_key.get_mut(key) else { return false };
        if flaw == Flaw::KeepsCancelledPlaces {
            return false;
        }
        queue.waiters.retain(|other| other != waiter);
        let had_turn = queue.reserved.take_if(|(reserved, _)| reserved == waiter).is_some();
        if queue.waiters.is_empty() && queue.reserved.is_none() {
            self.by_key.remove(key);
        }
        had_turn
    }

    pub(crate) fn on_heartbeat(&mut self, flaw: Flaw, key: &str, waiters: &[String]) -> Found {
        if let Some(waiter) = waiters.first() {
            self.see(waiter);
        }
        let empty = Queue::default();
        let queue = self.by_key.get(key).unwrap_or(&empty);
        let turn = queue.reserved.as_ref().map(|(waiter, _)| waiter);
        let is_there = |waiter: &&String| queue.waiters.contains(*waiter) || turn == Some(*waiter);
        let lost = waiters.iter().filter(|waiter| !is_there(waiter)).cloned();
        let lost = lost.filter(|_| flaw != Flaw::LostPlaceStaysLost).collect();
        let ours = |waiter: &&String| waiters.contains(waiter);
        let is_first = queue.waiters.front().filter(ours).cloned();
        Found { turn: turn.filter(ours).cloned(), is_first, lost }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    /// How many waiters there are under keys that begin so.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let queues = self.by_key.iter().filter(|(key, _)| key.starts_with(prefix));
        queues.map(|(_, queue)| queue.waiters.len() + usize::from(queue.reserved.is_some())).sum()
    }
}
