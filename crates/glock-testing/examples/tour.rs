//! What a lock does, watched in one process and without a server: who holds it, with which token,
//! how it passes on, and what becomes of a holder that loses it.
//!
//! `cargo run -p glock-testing --example tour`
#![allow(clippy::print_stdout, reason = "it is there to be watched")]

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Lock, LockError, LockExt, LockId, Retry, toolkit::Mutex,
};
use glock_testing::MemoryLock;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const TTL: Duration = Duration::from_millis(600);
/// More than one lease has time for.
const RENEWALS_MAX: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), LockError> {
    tour().await
}

/// All of it. A test runs it too.
pub(crate) async fn tour() -> Result<(), LockError> {
    let started = Instant::now();
    let lock = MemoryLock::new();
    one_at_a_time(&lock, started).await?;
    a_vanished_holder(&lock, started).await?;
    a_lost_lock(&lock, started).await?;
    a_fenced_write(&lock, started).await?;
    println!(
        "\nThat was MemoryLock. The same calls work on every store: see the table in README.md."
    );
    Ok(())
}

fn say(started: Instant, what: &str) {
    println!("{:>5} ms  {what}", started.elapsed().as_millis());
}

/// Three workers want the same lock; it passes from one to the next as it is released.
async fn one_at_a_time(lock: &MemoryLock, started: Instant) -> Result<(), LockError> {
    println!("1. Three workers, one lock. A release wakes the waiters, in order.");
    let mut workers = JoinSet::new();
    for name in ["anna", "bert", "cleo"] {
        let lock = lock.clone();
        workers.spawn(async move {
            for _ in 0..2 {
                let guard = lock.hold("report", TTL, Retry::FOREVER).await?;
                say(started, &format!("{name} holds `report` with token {}", guard.fence()));
                sleep(Duration::from_millis(40)).await;
                guard.release().await?;
            }
            Ok::<_, LockError>(())
        });
    }
    workers.join_all().await.into_iter().collect()
}

/// A holder that never comes back: its lease runs out, and a waiter gets the lock.
async fn a_vanished_holder(lock: &MemoryLock, started: Instant) -> Result<(), LockError> {
    println!(
        "\n2. A holder vanishes (a crash, a kill -9). Its lease of {TTL:?} runs out by itself."
    );
    let lease = lock.client().acquire(&LockId::new("report")?, TTL).await?;
    say(started, &format!("dora holds with token {} and vanishes", lease.fence()));
    let held = lock.hold("report", TTL, Retry::NEVER).await;
    if let Err(refused) = held {
        say(started, &format!("emil asks once: {refused}"));
    }
    let guard = lock.hold("report", TTL, Retry::within(TTL * 2)).await?;
    say(started, &format!("emil waited and holds with token {}", guard.fence()));
    guard.release().await
}

/// A holder whose renewals fail learns of it by the deadline of its lease, so that it can stop.
async fn a_lost_lock(lock: &MemoryLock, started: Instant) -> Result<(), LockError> {
    // For this client alone, the store will not answer.
    let lock = lock.client();
    println!(
        "\n3. A guard renews its lease at a third of the TTL. Here the store stops answering."
    );
    let guard = lock.hold("report", TTL, Retry::NEVER).await?;
    say(
        started,
        &format!("finn holds with token {}, good for {:?}", guard.fence(), guard.remaining()),
    );
    lock.fail_next(Action::Renew, Fault::Unavailable);
    sleep(TTL).await;
    say(
        started,
        &format!("one renewal failed, the next went through: valid = {}", guard.is_valid()),
    );
    // A renewal without a reply is sent again while the lease lasts.
    for _ in 0..RENEWALS_MAX {
        lock.hang_next(Action::Renew);
    }
    let reason = guard.lost().await;
    say(started, &format!("finn learns that the lock is lost: {reason}"));
    match guard.release().await {
        Err(LockError::NotHeld { .. }) => Ok(()),
        other => other,
    }
}

/// A resource that remembers the highest token refuses a holder that overslept.
async fn a_fenced_write(lock: &MemoryLock, started: Instant) -> Result<(), LockError> {
    println!(
        "\n4. A process can be paused past its lease and not notice. Tokens catch its late write."
    );
    let resource = Resource::default();
    let id = LockId::new("ledger")?;
    let paused = lock.acquire(&id, TTL).await?;
    say(started, &format!("gina holds with token {} and is paused", paused.fence()));
    sleep(TTL).await;
    let guard = lock.hold(&id, TTL, Retry::FOREVER).await?;
    let written = resource.write(guard.fence());
    say(started, &format!("hugo holds with token {} and writes: {written}", guard.fence()));
    let written = resource.write(paused.fence());
    say(started, &format!("gina wakes up and writes with token {}: {written}", paused.fence()));
    guard.release().await
}

/// What a lock protects: it takes a write only with a token as high as any before.
#[derive(Clone, Default)]
struct Resource(Arc<Mutex<Option<FencingToken>>>);

impl Resource {
    fn write(&self, fence: FencingToken) -> &'static str {
        let mut highest = self.0.lock();
        if highest.is_some_and(|highest| fence < highest) {
            return "refused, the token is too old";
        }
        *highest = Some(fence);
        "accepted"
    }
}
