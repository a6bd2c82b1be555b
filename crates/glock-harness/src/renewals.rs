//! What the renewals of many guards cost, and how each learns of its own loss.

use std::time::Duration;

use glock_core::{Guard, LockExt, LockId, LossReason, Retry};
use glock_testing::{
    Networked, Proxy,
    process::{eventually, resident_bytes},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const PATIENCE: Duration = Duration::from_mins(1);
/// How many locks are taken at once: few enough for the connections of any client.
const AT_ONCE: u32 = 16;
/// How many guards there are when the connections go silent.
const FEW: u32 = 50;

/// Holds so many locks of a store that renews them together, and watches for one TTL. Each guard is renewed
/// three times in that; the client sends at most a quarter of as many requests, and no more than `most` a second. Then an
/// operator ends one of the holds: its guard alone learns that it is lost.
///
/// # Panics
///
/// If that does not hold.
pub async fn many_guards_are_renewed_together<F: Networked>(
    fixture: &F,
    guards: u32,
    ttl: Duration,
    most: f64,
) {
    let proxy = Proxy::start_framed(fixture.upstream(), F::FRAMING).await.expect("a port");
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    let (before_bytes, mut holding) = (resident_bytes(), JoinSet::new());
    for first in 0..AT_ONCE {
        let lock = lock.clone();
        holding.spawn(async move {
            let mut held = Vec::new();
            for n in (first..guards).step_by(AT_ONCE as usize) {
                let guard = lock.hold(format!("x{n}"), ttl, Retry::NEVER).await;
                held.push(guard.expect("a free lock"));
            }
            held
        });
    }
    let mut held: Vec<Guard> = holding.join_all().await.into_iter().flatten().collect();
    let bytes = resident_bytes().saturating_sub(before_bytes) / u64::from(guards);
    // Until each of them was renewed with those that it is due with from then on.
    sleep(ttl / 2).await;
    let (before, since) = (proxy.counts().asked, Instant::now());
    sleep(ttl).await;
    let (sent, took) = (proxy.counts().asked - before, since.elapsed().as_secs_f64());
    let lost = held.iter().filter(|guard| !guard.is_valid()).count();
    assert_eq!(lost, 0, "{lost} of {guards} are lost");
    let sent = f64::from(u32::try_from(sent).expect("few requests"));
    let alone = f64::from(guards) * 3.0 * took / ttl.as_secs_f64();
    eprintln!(
        "{guards} guards of {ttl:?}: {bytes} bytes each, {:.1} requests a second; alone {:.0}",
        sent / took,
        alone / took
    );
    assert!(sent >= 1.0 && sent <= alone / 4.0, "{sent} requests; alone {alone}");
    assert!(sent / took <= most, "{} requests a second", sent / took);

    let taken = held.swap_remove(held.len() / 2);
    let id: LockId = taken.id().clone();
    fixture.evict(&id).await;
    let reason = timeout(PATIENCE, taken.lost()).await.expect("the loss was not told");
    assert_eq!(reason, LossReason::TakenAway, "{id:?}");
    // Without a renewal, the others would be lost by then.
    sleep(ttl).await;
    assert!(held.iter().all(Guard::is_valid), "others are lost with it");
    drop(held);
    assert_eq!(lock.drain(PATIENCE).await, 0);
    eventually("all are released", PATIENCE, async || fixture.live().await == 0).await;
}

/// The open connections go silent: the request for all guards gets no reply, and each is renewed alone, over
/// another connection.
///
/// # Panics
///
/// If a guard is lost.
pub async fn guards_outlive_a_batch_without_reply<F: Networked>(fixture: &F, ttl: Duration) {
    let proxy = Proxy::start(fixture.upstream()).await.expect("a port");
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    let mut held = Vec::new();
    for n in 0..FEW {
        held.push(lock.hold(format!("x{n}"), ttl, Retry::NEVER).await.expect("a free lock"));
    }
    // Until they are renewed together.
    sleep(ttl).await;
    proxy.mute();
    sleep(ttl).await;
    assert!(held.iter().all(Guard::is_valid), "guards are lost with a silent connection");
}
