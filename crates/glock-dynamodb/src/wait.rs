//! Waiting: reading the record now and then, until the lock is free or its lease has run out.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, LockId, Retry, toolkit::Subscription};
use tokio::time::{self, Instant};

use crate::client::{Client, Known};

/// The shortest pause between two reads.
pub(crate) const POLL_MIN: Duration = Duration::from_millis(4);
/// The longest one, unless the lock has another.
pub(crate) const POLL_MAX: Duration = Duration::from_secs(1);
/// A pause is this part of how long the holder has had the lock: the longer it was held, the longer it
/// will be.
const POLL_PART: u32 = 8;
/// A pause is at least so many times as long as a reply takes.
const POLL_LATENCIES: u32 = 2;
const POLL_JITTER_PERCENT: u8 = 40;

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let key = client.key(id);
    let mut subscription = client.wakeups.subscribe(&key);
    time::timeout(max, until_free(client, key, &mut subscription)).await.unwrap_or(Ok(()))
}

async fn until_free(
    client: &Arc<Client>,
    key: String,
    subscription: &mut Subscription,
) -> Result<(), LockError> {
    // A refused acquire has just looked.
    let mut known = client.observations.known(&key);
    loop {
        if let Some(known) = known {
            let next = next_look(&known, client.requests.latency(), client.poll_max);
            if time::timeout_at(next, subscription.woken()).await.is_ok() {
                return Ok(());
            }
            if client.observations.over(&key).is_some() {
                return Ok(());
            }
        }
        let look = {
            let (client, key) = (Arc::clone(client), key.clone());
            async move { client.look(&key, Action::Wait).await }
        };
        match client.call(Action::Wait).run(look).await? {
            Some((_, now)) if !now.is_over() => known = Some(now),
            _ => return Ok(()),
        }
    }
}

/// When to read next: after a pause from the last look, and not after the end of the lease. Where many
/// wait, replies take longer, and so do the pauses: waiters alone do not overload the service.
fn next_look(known: &Known, latency: Duration, poll_max: Duration) -> Instant {
    let pause = (known.held / POLL_PART).max(POLL_MIN).max(latency * POLL_LATENCIES).min(poll_max);
    let pause = Retry::FOREVER.with_pause_max(pause).with_jitter_percent(POLL_JITTER_PERCENT);
    (known.last_seen + pause.pause()).min(Instant::now() + known.remaining)
}

#[cfg(test)]
mod tests {
    use glock_core::OwnerToken;

    use super::*;
    use crate::schema::Version;

    fn known(held: Duration, remaining: Duration) -> Known {
        let owner = OwnerToken::new("0123456789abcdef").unwrap();
        let version = Version { owner, number: 1 };
        Known { version, remaining, held, last_seen: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_the_hold_and_are_bounded() {
        let minute = Duration::from_mins(1);
        let millis = Duration::from_millis;
        for (held, latency, longest) in [
            (Duration::ZERO, millis(1), POLL_MIN),
            (Duration::ZERO, millis(50), millis(100)),
            (millis(800), millis(1), millis(100)),
            (minute, millis(1), POLL_MAX),
            (minute, minute, POLL_MAX),
        ] {
            for _ in 0..100 {
                let pause = next_look(&known(held, minute), latency, POLL_MAX) - Instant::now();
                assert!(pause <= longest && pause >= longest / 2, "{pause:?} after {held:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_outlasts_the_lease() {
        let left = Duration::from_millis(300);
        let next = next_look(&known(Duration::from_mins(1), left), Duration::ZERO, POLL_MAX);
        assert_eq!(next - Instant::now(), left);
    }
}
