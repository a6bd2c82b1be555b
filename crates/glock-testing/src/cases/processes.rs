//! What happens to the lock, and to the place in the queue, of a process that is killed or frozen.

use std::time::Duration;

use glock_core::{Lease, Lock, LockExt, Retry};
use tokio::time::{sleep, timeout};

use crate::cases::{
    PATIENT, SHORT, WATCHED, assert_held, id,
    queue::{self, Waiter},
    soon, take, within,
};
use crate::{
    Fixture,
    process::{Child, role, tell},
    ttl,
};

const HOLDER_ROLE: &str = "holder";
const WAITER_ROLE: &str = "waiter";
const LOST: &str = "lost";
const NAMESPACE: &str = "GLOCK_TESTING_NAMESPACE";

/// A holder is killed with SIGKILL; the next waiter holds within the TTL, the store's lag and
/// 0.6 s, with a greater token.
pub async fn a_killed_holder_s_lock_passes_on<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    let (mut child, token) = holder::<F>(fixture).await;
    let ttl = ttl(&ours, 3 * SHORT);
    // It renews, so it outlives its first TTL.
    sleep(ttl + ttl / 2).await;
    assert_held(&ours, &id("x")).await;

    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.hold("x", ttl, PATIENT).await }
    });
    sleep(Duration::from_millis(50)).await;
    child.kill_9().await.unwrap();
    let latest = ours.capabilities().expiry_latest(ttl);
    let passed_on = within(&ours, "the lock passes on", latest, waiter).await;
    let guard = passed_on.unwrap().unwrap();
    assert!(guard.fence().get() > token);
    guard.release().await.unwrap();
}

/// A holder is stopped for longer than its lease, as a paused machine is, and goes on when another
/// owner has the lock: its guard reports the loss, and it does not disturb its successor.
pub async fn a_paused_holder_does_not_disturb_its_successor<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    let (mut child, token) = holder::<F>(fixture).await;
    let ttl = ttl(&ours, 3 * SHORT);
    child.pause().await.unwrap();
    let waiting = ours.acquire_with_retry("x", ttl * 20, PATIENT);
    let latest = ours.capabilities().expiry_latest(ttl);
    let lease = within(&ours, "the lock passes on", latest, waiting).await.unwrap();
    assert!(lease.fence().get() > token);
    child.resume().await.unwrap();
    let sent = soon("the loss is reported", fixture.patience(), child.line()).await.unwrap();
    assert_eq!(sent.as_deref(), Some(LOST));
    // It has let go of its guard by now.
    sleep(WATCHED).await;
    assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(lease.owner().reveal()));
    ours.release(&lease).await.unwrap();
}

/// The first waiter is killed with SIGKILL before its turn: the second is served.
pub async fn a_killed_waiter_is_passed_over<F: Fixture>(fixture: &F) {
    let Some(TwoWaiters { theirs, lease, mut child, second }) = TwoWaiters::start(fixture).await
    else {
        return;
    };
    child.kill_9().await.unwrap();
    second.served_after::<F>(&theirs, &lease).await.end_hold().await;
}

/// The first waiter is frozen at its turn, as a paused machine is: the second is served. The first is not
/// told, and is served when it goes on.
pub async fn a_frozen_waiter_is_passed_over_and_joins_again<F: Fixture>(fixture: &F) {
    let Some(TwoWaiters { theirs, lease, mut child, second }) = TwoWaiters::start(fixture).await
    else {
        return;
    };
    child.pause().await.unwrap();
    let second = second.served_after::<F>(&theirs, &lease).await;
    child.resume().await.unwrap();
    second.end_hold().await;
    let sent = soon("the frozen waiter is served", fixture.patience() * 2, child.line()).await;
    assert!(sent.unwrap().is_some_and(|token| token.parse::<u64>().is_ok()));
}

/// A lock that is held, and those who wait for it, the process first.
struct TwoWaiters<L> {
    theirs: L,
    lease: Lease,
    child: Child,
    second: Waiter,
}

impl<L: Lock + Clone> TwoWaiters<L> {
    /// `None` where the store keeps no queue.
    async fn start<F: Fixture<Lock = L>>(fixture: &F) -> Option<Self> {
        let (ours, theirs) = (fixture.client().await, fixture.client().await);
        if !queue::is_kept(&ours) {
            return None;
        }
        let lease = take(&theirs, &id("x")).await;
        let child = waiter::<F>(fixture).await;
        let second = Waiter::start(fixture, &ours).await;
        Some(Self { theirs, lease, child, second })
    }
}

/// A process that waits for the lock, as the first in the queue.
async fn waiter<F: Fixture>(fixture: &F) -> Child {
    let mut child = start::<F>(fixture, WAITER_ROLE);
    soon("the other process waits", PATIENT.wait_max, child.line()).await.unwrap();
    queue::joined(fixture, 1).await;
    child
}

fn start<F: Fixture>(fixture: &F, role: &str) -> Child {
    let namespace = fixture.config().namespace;
    Child::start(F::HOLDER_TEST, role, &[(NAMESPACE, namespace.as_str())]).unwrap()
}

/// A process that holds the lock, and its token.
async fn holder<F: Fixture>(fixture: &F) -> (Child, u64) {
    let mut child = start::<F>(fixture, HOLDER_ROLE);
    let sent = soon("the other process sends its token", PATIENT.wait_max, child.line()).await;
    let token = sent.unwrap().expect("the other process ended").parse().unwrap();
    (child, token)
}

/// What the other process does: holds the lock, sends its token, and renews until it is killed; if
/// the lock is lost, it drops the guard and sends that. As a waiter, it says so, and waits for the lock.
pub fn hold_until_killed<F: Fixture>() {
    let Some(role) = role() else { return };
    let patience = if role == WAITER_ROLE { PATIENT } else { Retry::NEVER };
    // It also ends with the process that started it, however that ends.
    std::thread::spawn(|| {
        let _end_of_input = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let namespace = std::env::var(NAMESPACE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lock = F::open(namespace).await.client().await;
        if role == WAITER_ROLE {
            tell(WAITER_ROLE).unwrap();
        }
        let guard = lock.hold("x", ttl(&lock, 3 * SHORT), patience).await.unwrap();
        tell(&guard.fence().to_string()).unwrap();
        let _ = timeout(PATIENT.wait_max, guard.lost()).await;
        drop(guard);
        tell(LOST).unwrap();
        sleep(PATIENT.wait_max).await;
    });
}
