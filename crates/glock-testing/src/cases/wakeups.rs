//! Whom a release wakes: counted at a proxy in front of each client.

use std::time::Duration;

use glock_core::Lock;
use tokio::time::{Instant, sleep};

use crate::cases::{
    SHORT, id,
    queue::{Waiter, is_kept},
    take,
};
use crate::{Networked, Proxy, process::eventually};

/// How many clients wait behind each other.
const CLIENTS: usize = 8;
/// Long enough for a request of a waiter that was woken.
const REACTION: Duration = Duration::from_millis(50);
/// Fewer than the hand-overs, so that a client that is woken by each of them is found.
const TOGETHER: u64 = 3;
/// After a hand-over that takes longer, on a busy machine, other clients have reason to look whether the
/// first in line lives.
const SLOW: Duration = Duration::from_millis(500);

/// The lock passes from waiter to waiter: clients whose turn it is not, and who have another waiter before
/// theirs, send nothing meanwhile but what idle waiters send.
pub async fn no_waiter_is_woken_without_a_reason<F: Networked>(fixture: &F) {
    let theirs = fixture.client().await;
    if !is_kept(&theirs) || !F::WAKES {
        return;
    }
    let (mut proxies, mut waiters) = (Vec::new(), Vec::new());
    let lease = take(&theirs, &id("x")).await;
    for _ in 0..CLIENTS {
        let proxy = Proxy::start(fixture.upstream()).await.unwrap();
        let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
        waiters.push(Waiter::start(fixture, &lock).await);
        proxies.push(proxy);
    }
    // What it took to join is over.
    let quiet = async || {
        let before: u64 = proxies.iter().map(Proxy::requests).sum();
        sleep(SHORT).await;
        proxies.iter().map(Proxy::requests).sum::<u64>() <= before + idle::<F>(SHORT)
    };
    eventually("the waiters sleep", fixture.patience() * 2, quiet).await;
    let sent_by_all = || proxies.iter().map(Proxy::requests).collect::<Vec<_>>();
    let (mut before, mut since, mut handed_over) = (sent_by_all(), Instant::now(), 0);
    let mut judged = 0;
    let mut holder = None::<Waiter>;
    for (n, mut waiter) in waiters.into_iter().enumerate() {
        // All hand-overs so far were to others, and another waiter is before it.
        if let (Some(proxy), Some(before)) = (proxies.get(n + 1), before.get(n + 1)) {
            let (sent, allowed) = (proxy.requests() - before, idle::<F>(since.elapsed()));
            assert!(
                sent <= allowed,
                "a client sent {sent} requests in {handed_over} hand-overs to others, when it was not its turn"
            );
            judged += u32::from(handed_over > 0);
        }
        let released_at = Instant::now();
        match holder.take() {
            Some(holder) => holder.end_hold().await,
            None => theirs.release(&lease).await.unwrap(),
        }
        waiter.is_served(fixture).await;
        sleep(REACTION).await;
        handed_over += 1;
        if released_at.elapsed() > SLOW {
            (before, since, handed_over) = (sent_by_all(), Instant::now(), 0);
        }
        holder = Some(waiter);
    }
    assert!(judged > 0, "every hand-over was slow");
    holder.unwrap().end_hold().await;
}

/// How many requests the idle waiters of a client may send in that time: a heartbeat, a renewal and the next
/// query may fall together.
fn idle<F: Networked>(time: Duration) -> u64 {
    let together = if F::IDLE_REQUESTS_MAX > 0 { TOGETHER } else { 0 };
    F::IDLE_REQUESTS_MAX * (time.as_secs() + 1) / 60 + together
}
