//! Places in line that are lost, by lease or by key, and watches that are cut off.

use std::{collections::HashSet, time::Duration};

use glock_core::{Lease, Lock, LockError, LockExt, LossReason, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options, etcd_client::WatchOptions};
use glock_testing::{Proxy, fresh_namespace, process::rests};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::common::{
    Bare,
    line::{SOON, TTL, id, line, lock, wait_for_x},
    url,
};

/// etcd issue 11456: a waiter whose lease is gone is not granted the lock on it. It gets in line
/// again, and what it is granted is on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_waiter_whose_lease_is_gone_gets_in_line_again() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let (ours, theirs) = (lock(&url(), &namespace), lock(&url(), &namespace));
    for by_lease in [true, false] {
        let held = theirs.acquire(&id("x"), TTL).await.unwrap();
        let waiter = wait_for_x(&ours);
        let place = line(&bare, &namespace, 2).await.swap_remove(1);
        if by_lease {
            bare.client.lease_client().revoke(place.lease).await.unwrap();
        } else {
            bare.delete(&place.key).await;
        }
        sleep(Duration::from_millis(100)).await;
        theirs.release(&held).await.unwrap();
        let lease = timeout(SOON * 3, waiter).await.expect("it was forgotten").unwrap();
        let on_record = line(&bare, &namespace, 1).await.swap_remove(0);
        assert_ne!(on_record.secret, place.secret);
        assert_eq!(u64::try_from(on_record.created).unwrap(), lease.fence().get());
        assert_ne!(on_record.lease, place.lease, "a lock is on the lease that waiters share");
        ours.release(&lease).await.unwrap();
    }
}

/// A guard hears of it when its key or its lease is taken away, long before its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_guard_is_told_at_once_that_its_hold_was_ended() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for by_lease in [true, false] {
        let guard = ours.hold("x", TTL, Retry::NEVER).await.unwrap();
        sleep(Duration::from_millis(1_500)).await;
        let hold = line(&bare, &namespace, 1).await.swap_remove(0);
        if by_lease {
            bare.client.lease_client().revoke(hold.lease).await.unwrap();
        } else {
            bare.delete(&hold.key).await;
        }
        let reason = timeout(Duration::from_secs(1), guard.lost()).await.expect("not told");
        assert_eq!(reason, LossReason::TakenAway);
    }
}

/// A spare lease that an operator has revoked costs a round trip, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_spare_lease_that_is_gone_is_replaced() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for _ in 0..3 {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let hold = line(&bare, &namespace, 1).await.swap_remove(0);
        ours.release(&lease).await.unwrap();
        bare.client.lease_client().revoke(hold.lease).await.unwrap();
    }
}

/// Leases that locks leave are as young as they are: none is kept alive before a twentieth of its
/// time is gone, however often it was used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_spare_lease_does_not_age_with_its_use() {
    const LONG: Duration = Duration::from_mins(10);
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for turn in 0..20 {
        let lease = ours.acquire(&id("x"), LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
        if turn == 0 {
            sleep(Duration::from_millis(1_200)).await;
        }
    }
    let last = ours.acquire(&id("x"), LONG).await.unwrap();
    let hold = line(&bare, &namespace, 1).await.swap_remove(0);
    let left = bare.client.lease_client().time_to_live(hold.lease, None).await.unwrap().ttl();
    assert!((570..=598).contains(&left), "{left} s left: it was kept alive");
    ours.release(&last).await.unwrap();
}

/// So is one that a longer renewal would move to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_longer_renewal_replaces_a_spare_lease_that_is_gone() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let lease = ours.acquire(&id("x"), TTL).await.unwrap();
    let hold = line(&bare, &namespace, 1).await.swap_remove(0);
    ours.release(&lease).await.unwrap();
    bare.client.lease_client().revoke(hold.lease).await.unwrap();
    let short = ours.acquire(&id("x"), Duration::from_secs(5)).await.unwrap();
    let longer = ours.renew(&short, TTL).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (TTL, short.fence()));
    ours.release(&longer).await.unwrap();
}

/// A lease that is gone is not asked for again and again: whoever renews it hears so at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_renewal_of_a_lease_that_is_gone_is_refused_at_once() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let hold = line(&bare, &namespace, 1).await.swap_remove(0);
        bare.client.lease_client().revoke(hold.lease).await.unwrap();
        let since = Instant::now();
        let renewed = ours.renew(&lease, TTL).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
        fastest = fastest.min(since.elapsed());
    }
    assert!(fastest < Duration::from_millis(150), "{fastest:?}");
}

/// Text says what it likes of the TTL; etcd's word counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_ttl_that_was_raised_on_the_way_is_not_believed() {
    let ours = lock(&url(), &fresh_namespace());
    let short = Duration::from_secs(5);
    let lease = ours.acquire(&id("x"), short).await.unwrap();
    let text = lease.to_secret_text();
    let (_, body) = text.strip_prefix("glock1:").unwrap().split_once(':').unwrap();
    let body = body.replacen(":5000:", ":3600000:", 1);
    let sum = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let raised: Lease = format!("glock1:{sum:016x}:{body}").parse().unwrap();
    assert_eq!(raised.ttl(), Duration::from_hours(1));
    let renewed = ours.renew(&raised, short).await.unwrap();
    assert!(renewed.ttl() == short && renewed.remaining() < short, "{renewed:?}");
    ours.release(&renewed).await.unwrap();
}

/// A TTL that is longer than the lease's moves the key to another lease, and the token stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_longer_ttl_moves_the_hold_to_another_lease() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let first = ours.acquire(&id("x"), Duration::from_secs(3)).await.unwrap();
    let longer = ours.renew(&first, TTL).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (TTL, first.fence()));
    let hold = line(&bare, &namespace, 1).await.swap_remove(0);
    assert!(longer.owner().reveal().starts_with(&format!("{:x}-", hold.lease)));
    // The first lease object still stands for the hold.
    let again = ours.renew(&first, Duration::from_secs(3)).await.unwrap();
    assert_eq!(again.ttl(), TTL);
    ours.release(&first).await.unwrap();
    line(&bare, &namespace, 0).await;
}

/// etcd looks at every key that ever was in a lock's range, until its history is compacted: so a
/// client has as many keys there as it has had holds and waiters at a time, and not one for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn keys_are_used_again_and_owner_tokens_are_not() {
    const ALONE: usize = 20;
    const TASKS: usize = 4;
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let options = WatchOptions::new().with_prefix();
    let mut stream =
        bare.client.watch_client().watch(format!("{namespace}/x/"), Some(options)).await.unwrap();
    let mut tokens = HashSet::new();
    for _ in 0..ALONE {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        assert!(ours.acquire(&id("x"), TTL).await.is_err());
        tokens.insert(lease.owner().reveal().to_owned());
        ours.release(&lease).await.unwrap();
    }
    let mut waiters = JoinSet::new();
    for _ in 0..TASKS {
        let ours = ours.clone();
        waiters.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..ALONE {
                // One that leaves the line, and one that does not.
                let _ = ours.hold("x", TTL, Retry::within(Duration::from_millis(1))).await;
                let lease = ours.acquire_with_retry("x", TTL, Retry::FOREVER).await.unwrap();
                tokens.push(lease.owner().reveal().to_owned());
                ours.release(&lease).await.unwrap();
            }
            tokens
        });
    }
    tokens.extend(waiters.join_all().await.into_iter().flatten());
    assert_eq!(tokens.len(), ALONE * (TASKS + 1), "a token was used twice");
    let (mut keys, mut holds) = (HashSet::new(), 0);
    while let Ok(Ok(Some(message))) = timeout(SOON / 5, stream.message()).await {
        for kv in message.events().iter().filter_map(|event| event.kv()) {
            keys.insert(kv.key().to_owned());
            holds += usize::from(kv.version() == 1);
        }
    }
    assert!(holds >= tokens.len(), "{holds} keys seen of {}", tokens.len());
    // Who leaves the line in the background has its key a little longer.
    assert!(keys.len() <= 3 * TASKS, "{} keys for {holds} holds", keys.len());
}

/// A client that calls itself something else may release a hold as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_hold_is_released_by_a_client_of_another_name() {
    let namespace = fresh_namespace();
    let named = |name: &str| {
        let config = LockConfig::default().with_namespace(&namespace).with_holder(name);
        EtcdLock::from_endpoints(url(), connect_options()).with_config(config).unwrap()
    };
    let (one, other) = (named("one"), named("another"));
    let lease = one.acquire(&id("x"), TTL).await.unwrap();
    let same: Lease = lease.to_secret_text().parse().unwrap();
    let holder = other.inspect(&id("x")).await.unwrap().unwrap();
    assert_eq!((&*holder.label, holder.fence), ("one", lease.fence()));
    other.release(&same).await.unwrap();
    assert!(matches!(one.release(&lease).await, Err(LockError::NotHeld { .. })));
    assert!(one.inspect(&id("x")).await.unwrap().is_none());
}

/// A key that may be deleted once more, by a request that comes late, is not used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn the_key_of_a_waiter_is_not_used_again_if_its_end_was_asked_for_twice() {
    const STILL: Duration = Duration::from_millis(500);
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let theirs = lock(&url(), &namespace);
    let held = theirs.acquire(&id("x"), TTL).await.unwrap();
    let server = url()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(server).await.unwrap();
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let mut seats = Vec::new();
    for cut in [false, true, false] {
        let waiter = wait_for_x(&ours);
        seats.push(line(&bare, &namespace, 2).await.swap_remove(1).seat);
        // What it asks for beside has been answered by then.
        rests("requests", STILL, SOON, || proxy.requests()).await;
        if cut {
            proxy.cut_after_request();
        }
        waiter.abort();
        line(&bare, &namespace, 1).await;
        assert!(!proxy.is_armed());
        // The place is given up in the background.
        rests("requests", STILL, SOON, || proxy.requests()).await;
    }
    assert_eq!(seats[0], seats[1], "one that is free is used again");
    assert_ne!(seats[1], seats[2]);
    theirs.release(&held).await.unwrap();
}
