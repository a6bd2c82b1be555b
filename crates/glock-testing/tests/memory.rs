//! `MemoryLock` passes the suite, and does what a test tells it to.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::time::Duration;

use glock_core::{Action, Fault, Lock, LockConfig, LockError, LockExt, LockId, LossReason, Retry};
use glock_testing::{Fixture, MemoryLock};
use tokio::time::{Instant, timeout};

struct Memory {
    lock: MemoryLock,
    config: LockConfig,
}

/// One store for all fixtures of a process, as a server would be.
fn store() -> &'static MemoryLock {
    static STORE: std::sync::OnceLock<MemoryLock> = std::sync::OnceLock::new();
    STORE.get_or_init(MemoryLock::new)
}

impl Fixture for Memory {
    type Lock = MemoryLock;

    async fn open(namespace: String) -> Self {
        let config = LockConfig::default().with_namespace(namespace);
        Self { lock: store().client().with_config(config.clone()).unwrap(), config }
    }

    fn config(&self) -> LockConfig {
        self.config.clone()
    }

    async fn client_with(&self, config: LockConfig) -> MemoryLock {
        self.lock.client().with_config(config).unwrap()
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.lock.owner(id).map(|owner| owner.reveal().to_owned())
    }

    async fn live(&self) -> usize {
        self.lock.held()
    }

    async fn evict(&self, id: &LockId) {
        self.lock.lose(id.as_str()).unwrap();
    }

    async fn forget(&self, id: &LockId) {
        self.lock.lose(id.as_str()).unwrap();
    }
}

glock_testing::contract!(Memory);
glock_testing::admin_contract!(Memory);

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn the_next_call_does_what_it_was_told() {
    let lock = MemoryLock::new();
    let id = LockId::new("x").unwrap();
    lock.refuse_next(Action::Acquire);
    assert!(matches!(lock.acquire(&id, TTL).await, Err(LockError::Held { .. })));
    lock.fail_next(Action::Acquire, Fault::Rejected);
    assert_eq!(lock.acquire(&id, TTL).await.unwrap_err().fault(), Some(Fault::Rejected));

    let lease = lock.acquire(&id, TTL).await.unwrap();
    lock.refuse_next(Action::Renew);
    assert!(matches!(lock.renew(&lease, TTL).await, Err(LockError::NotHeld { .. })));
    lock.fail_next(Action::Release, Fault::Unavailable);
    assert_eq!(lock.release(&lease).await.unwrap_err().fault(), Some(Fault::Unavailable));
    assert_eq!(lock.held(), 1, "a call that is scripted to fail does nothing");
    lock.release(&lease).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_acquire_is_given_up_and_undone() {
    let lock = MemoryLock::new();
    let id = LockId::new("x").unwrap();
    lock.hang_next(Action::Acquire);
    let since = Instant::now();
    let result = lock.acquire(&id, TTL).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
    assert_eq!(since.elapsed(), LockConfig::default().call_timeout);
    assert_eq!(lock.held(), 1, "it happened, and its caller does not know");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(lock.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_decides_when_a_lease_runs_out() {
    let lock = MemoryLock::new();
    let guard = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    lock.hang_next(Action::Renew);
    lock.fail_next(Action::Renew, Fault::Unavailable);
    assert!(timeout(Duration::from_hours(1), guard.lost()).await.is_err(), "it recovered");
    lock.lose("x").unwrap();
    assert_eq!(guard.lost().await, LossReason::TakenAway);
    assert_eq!(lock.sleepers(), 0);
}
