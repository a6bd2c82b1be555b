//! `Recording`: the history of tasks that contend for a lock.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_core::{FencingToken, Lock, LockError, LockExt, Retry};
use tokio::time::sleep;

use crate::cases::{LONG, PATIENT};
use crate::{History, history::Summary, ttl};

/// The history of the lock `x`, and its tokens.
#[derive(Clone, Default)]
pub(super) struct Recording {
    history: History,
    /// In the order of the holds, as each was noted while it held.
    tokens: Arc<Mutex<Vec<FencingToken>>>,
}

impl Recording {
    /// Takes the lock, holds it for a moment and releases it.
    ///
    /// Returns what the release returned: the history says more about a hold that was not released.
    pub(super) async fn hold_once(&self, lock: &impl Lock, who: &str) -> Result<(), LockError> {
        let attempt = self.history.acquiring(who, "x");
        let lease = lock.acquire_with_retry("x", ttl(lock, LONG), PATIENT).await.unwrap();
        let hold = attempt.granted(lease.fence().get(), lease.deadline());
        self.tokens.lock().unwrap().push(lease.fence());
        sleep(Duration::from_millis(1)).await;
        let releasing = hold.releasing();
        lock.release(&lease).await?;
        releasing.released();
        Ok(())
    }

    /// Takes the lock if that works, holds it for a moment, and releases it however often that takes.
    pub(super) async fn hold_through_faults(&self, lock: &impl Lock, who: &str) {
        let attempt = self.history.acquiring(who, "x");
        let patience = Retry::within(Duration::from_secs(2));
        let lease = match lock.acquire_with_retry("x", ttl(lock, LONG), patience).await {
            Ok(lease) => lease,
            Err(err) if err.is_retryable() => return attempt.unknown(),
            Err(err) => panic!("{who}: {err:?}"),
        };
        let hold = attempt.granted(lease.fence().get(), lease.deadline());
        self.tokens.lock().unwrap().push(lease.fence());
        sleep(Duration::from_millis(1)).await;
        let releasing = hold.releasing();
        let mut unsure = false;
        loop {
            match lock.release(&lease).await {
                Ok(()) => return releasing.released(),
                Err(LockError::NotHeld { .. }) if unsure => return,
                Err(err) if err.fault().is_some() => unsure = true,
                Err(err) => panic!("{who} lost a lock that no other could take: {err:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many grants there were so far.
    pub(super) fn grants(&self) -> usize {
        self.tokens.lock().unwrap().len()
    }

    /// Asserts that no two held at a time, and that each token is greater than the one before.
    pub(super) fn expect_sound(&self) -> Summary {
        let summary = self.history.expect_sound();
        // The history compares a token only with what was granted before it was asked for; here the
        // holds excluded each other, so their order is known.
        let tokens = self.tokens.lock().unwrap();
        let fell = tokens.windows(2).find(|pair| pair[0] >= pair[1]);
        assert!(fell.is_none(), "tokens out of order: {fell:?}");
        summary
    }
}
