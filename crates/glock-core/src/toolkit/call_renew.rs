//! `Call::renew`: one renewal of a lease.

use std::time::Duration;

use tokio::time::Instant;

use super::{call::Call, call_deadline::CallDeadline};
use crate::{Lease, LockError};

impl Call {
    /// Renews `lease` for `ttl`. `renew` gets until when the call lasts, as a renewal of that lease, and
    /// returns when the request was sent that renewed it; `None` if the owner has not got the lock.
    ///
    /// # Errors
    ///
    /// [`LockError::NotHeld`] for that `None`; else as [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`run`](Self::run) is.
    pub async fn renew<W>(
        self,
        lease: &Lease,
        ttl: Duration,
        renew: impl FnOnce(CallDeadline) -> W,
    ) -> Result<Lease, LockError>
    where
        W: Future<Output = Result<Option<Instant>, LockError>> + Send + 'static,
    {
        let work = renew(self.deadline().for_lease(lease));
        match self.run(work).await? {
            Some(sent_at) => Ok(lease.renewed(sent_at, ttl)),
            None => Err(LockError::NotHeld { id: lease.id().clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::{Action, FencingToken, LockId, OwnerToken, backend, toolkit::PendingWork};

    const TTL: Duration = Duration::from_secs(3);
    const LIMIT: Duration = Duration::from_secs(5);

    fn call() -> Call {
        Call::new(&PendingWork::new(), backend::MEMORY, Action::Renew, LIMIT)
    }

    fn lease() -> Lease {
        let (id, owner) = (LockId::new("x").unwrap(), OwnerToken::random().unwrap());
        Lease::granted(id, owner, FencingToken::new(7), Instant::now(), TTL)
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_lease_counts_from_before_its_request() {
        let lease = lease();
        advance(TTL / 3).await;
        let sent_at = Instant::now();
        let renewed = call().renew(&lease, TTL * 2, |until| async move {
            // Its attempts share what the lease has left, and not what the call has.
            assert!(until.attempt_max() < TTL / 3 && until.left() == LIMIT);
            sleep(TTL / 3).await;
            Ok(Some(sent_at))
        });
        let renewed = renewed.await.unwrap();
        assert_eq!((renewed.owner(), renewed.fence()), (lease.owner(), lease.fence()));
        assert_eq!(renewed.deadline(), lease.renewed(sent_at, TTL * 2).deadline());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_the_owner_has_not_got_is_not_held() {
        let lost = call().renew(&lease(), TTL, |_| ready(Ok(None))).await;
        assert!(matches!(lost, Err(LockError::NotHeld { id }) if id.as_str() == "x"));
    }
}
