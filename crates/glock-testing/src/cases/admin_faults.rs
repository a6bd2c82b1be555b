//! What an operator learns when the store fails.

use std::time::Duration;

use glock_core::{Fault, FencingToken, LockAdmin, LockAdminExt, LockError};

use crate::cases::{faults::closed_port, id};
use crate::{CANARY, Networked};

const LIMIT: Duration = Duration::from_secs(2);

/// The failures of all three calls.
async fn failures(lock: &impl LockAdmin) -> [LockError; 3] {
    let mut listing = lock.list("").unwrap();
    let listed = listing.next().await.expect("an error").unwrap_err();
    assert!(listing.next().await.is_none(), "a listing ends with its first error");
    let ended = lock.force_release(&id("x"), FencingToken::new(7)).await.unwrap_err();
    let checked = lock.preflight().await.expect_err("a preflight of no server");
    [listed, ended, checked]
}

/// No server listens: each call says so, and a listing does not look empty.
pub async fn an_operator_learns_that_the_store_is_gone<F: Networked<Lock: LockAdmin>>(fixture: &F) {
    let config = fixture.config().with_call_timeout(LIMIT);
    let lock = fixture.client_at(closed_port().await, config).await;
    for err in failures(&lock).await {
        assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    }
}

/// A password that the store refuses is not shown.
pub async fn an_operator_with_a_wrong_password_is_refused<F: Networked<Lock: LockAdmin>>(
    fixture: &F,
) {
    let lock = fixture.stranger_at(fixture.upstream()).await;
    for err in failures(&lock).await {
        assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
        assert!(!format!("{err} {err:?} {lock:?}").contains(CANARY), "the password is shown");
    }
}
