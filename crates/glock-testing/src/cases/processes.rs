//! What happens to the lock of a process that is killed.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use tokio::time::{sleep, timeout};

use crate::cases::{PATIENT, SHORT, WATCHED, assert_held, id, soon, within};
use crate::{
    Fixture,
    process::{Child, role, tell},
    ttl,
};

const HOLDER_ROLE: &str = "holder";
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

/// A process that holds the lock, and its token.
async fn holder<F: Fixture>(fixture: &F) -> (Child, u64) {
    let namespace = fixture.config().namespace;
    let variables = [(NAMESPACE, namespace.as_str())];
    let mut child = Child::start(F::HOLDER_TEST, HOLDER_ROLE, &variables).unwrap();
    let sent = soon("the other process sends its token", PATIENT.wait_max, child.line()).await;
    let token = sent.unwrap().expect("the other process ended").parse().unwrap();
    (child, token)
}

/// What the other process does: holds the lock, sends its token, and renews until it is killed; if
/// the lock is lost, it drops the guard and sends that.
pub fn hold_until_killed<F: Fixture>() {
    if role().as_deref() != Some(HOLDER_ROLE) {
        return;
    }
    // It also ends with the process that started it, however that ends.
    std::thread::spawn(|| {
        let _end_of_input = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let namespace = std::env::var(NAMESPACE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lock = F::open(namespace).await.client().await;
        let guard = lock.hold("x", ttl(&lock, 3 * SHORT), Retry::NEVER).await.unwrap();
        tell(&guard.fence().to_string()).unwrap();
        let _ = timeout(PATIENT.wait_max, guard.lost()).await;
        drop(guard);
        tell(LOST).unwrap();
        sleep(PATIENT.wait_max).await;
    });
}
