//! Logs: what is normal is `debug`, what an operator should look at is `warn`, and secrets are neither.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_core::{Action, Fault, Lock, LockExt, LockId, Retry};
use glock_telemetry::Instrumented;
use glock_testing::MemoryLock;
use tokio::time::{sleep, timeout};
use tracing::{Level, subscriber::DefaultGuard};

const TTL: Duration = Duration::from_secs(30);

/// What was logged, one line an event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects what this thread logs, down to `level`.
    fn collect(level: Level) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .without_time()
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// What was logged since the last look.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn id() -> LockId {
    LockId::new("reports/nightly").unwrap()
}

#[tokio::test(start_paused = true)]
async fn contention_pages_nobody() {
    let (lines, _collecting) = Lines::collect(Level::WARN);
    let lock = Instrumented::new(MemoryLock::new());
    let guard = lock.hold("reports/nightly", TTL, Retry::FOREVER).await.unwrap();
    lock.acquire(&id(), TTL).await.unwrap_err();
    let within = Retry::within(Duration::from_secs(1));
    lock.hold("reports/nightly", TTL, within).await.unwrap_err();
    let cut = timeout(Duration::from_secs(1), lock.hold("reports/nightly", TTL, Retry::FOREVER));
    assert!(cut.await.is_err());
    guard.release().await.unwrap();
    assert_eq!(lines.take(), "");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_said_at_debug() {
    let (lines, _collecting) = Lines::collect(Level::DEBUG);
    let lock = Instrumented::new(MemoryLock::new());
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    let logged = lines.take();
    assert!(logged.contains("DEBUG") && logged.contains("acquired the lock"), "{logged}");
    assert!(logged.contains(&format!("fence={}", lease.fence())), "{logged}");

    lock.acquire(&id(), TTL).await.unwrap_err();
    let logged = lines.take();
    assert!(logged.contains("DEBUG memory_lock.acquire{lock.id=\"reports/nightly\""), "{logged}");
    assert!(logged.contains("did not acquire the lock: lock `reports/nightly` is held by"));

    lock.get_ref().hang_next(Action::Release);
    assert!(timeout(Duration::from_secs(1), lock.release(&lease)).await.is_err());
    let logged = lines.take();
    assert!(logged.contains("dropped the call to release the lock"), "{logged}");
    assert!(logged.contains("outcome=\"cancelled\""), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_warned_of_with_its_cause() {
    let (lines, _collecting) = Lines::collect(Level::WARN);
    let lock = Instrumented::new(MemoryLock::new());
    lock.get_ref().fail_next(Action::Acquire, Fault::Rejected);
    lock.acquire(&id(), TTL).await.unwrap_err();
    let logged = lines.take();
    assert!(logged.contains("WARN glock: could not acquire the lock on memory: "), "{logged}");
    assert!(logged.contains("scripted to fail"), "{logged}");
    assert!(logged.contains("lock.id=\"reports/nightly\""), "{logged}");
    assert!(logged.contains("outcome=\"error\" reason=\"rejected\""), "{logged}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_is_warned_of_with_the_reason() {
    let (lines, _collecting) = Lines::collect(Level::WARN);
    let lock = Instrumented::new(MemoryLock::new());
    let guard = lock.hold("reports/nightly", TTL, Retry::NEVER).await.unwrap();
    lock.get_ref().lose("reports/nightly").unwrap();
    guard.lost().await;
    sleep(Duration::from_millis(1)).await;
    let logged = lines.take();
    assert_eq!(logged.lines().count(), 1, "{logged}");
    assert!(logged.contains("WARN glock: lost the lock: "), "{logged}");
    assert!(logged.contains("lock.id=\"reports/nightly\" reason=\"taken_away\" held=9.9"));
}

#[tokio::test(start_paused = true)]
async fn no_level_shows_an_owner_token() {
    let (lines, _collecting) = Lines::collect(Level::TRACE);
    let lock = Instrumented::new(MemoryLock::new());
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    let lease = lock.renew(&lease, TTL).await.unwrap();
    lock.acquire(&id(), TTL).await.unwrap_err();
    lock.get_ref().fail_next(Action::Release, Fault::Unknown);
    lock.release(&lease).await.unwrap_err();
    lock.release(&lease).await.unwrap();
    lock.release(&lease).await.unwrap_err();
    let logged = lines.take();
    assert!(logged.lines().count() > 10, "{logged}");
    assert!(!logged.contains(lease.owner().reveal()), "{logged}");
}
