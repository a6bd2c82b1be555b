//! A cluster that has lost its majority.

use std::{pin::pin, time::Duration};

use glock_core::{Fault, Lock, LockError, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options};
use glock_testing::fresh_namespace;
use tokio::time::{Instant, sleep};

use crate::support::{cluster::Cluster, id};

const TTL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(3);

/// Every call ends in time with an error that says that it may have happened, or did not; once the
/// majority is back, so is the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn without_a_majority_calls_fail_in_time() {
    let mut cluster = Cluster::start().await;
    let config = LockConfig::default().with_namespace(fresh_namespace()).with_call_timeout(LIMIT);
    let lock = EtcdLock::from_endpoints(cluster.endpoints(), connect_options());
    let lock = lock.with_config(config).unwrap();
    let held = lock.acquire(&id("held"), TTL).await.unwrap();
    let leader = cluster.leader().await;
    let lost = [leader, (leader + 1) % 3];
    for member in lost {
        cluster.kill(member);
    }
    for round in 0..2 {
        let calls = [
            timed(async { lock.acquire(&id("x"), TTL).await.map(drop) }).await,
            timed(async { lock.renew(&held, TTL).await.map(drop) }).await,
            timed(async { lock.inspect(&id("held")).await.map(drop) }).await,
            timed(async { lock.release(&held).await }).await,
            timed(async { lock.wait(&id("held"), LIMIT).await }).await,
        ];
        for (n, call) in calls.into_iter().enumerate() {
            let Err(err) = call else {
                assert_eq!(n, 4, "only a wait may simply end");
                continue;
            };
            let fault = err.fault();
            let known = matches!(fault, Some(Fault::Unknown | Fault::Unavailable));
            assert!(known, "call {n} of round {round}: {fault:?}");
        }
    }
    // The last try may begin right before the time is up.
    let retry = Retry::within(LIMIT);
    let waited = in_time(LIMIT * 2, lock.acquire_with_retry("x", TTL, retry)).await.unwrap_err();
    assert!(waited.fault().is_some(), "{waited:?}");
    for member in lost {
        cluster.restart(member);
    }
    let retry = Retry::within(Duration::from_secs(30));
    let lease = lock.acquire_with_retry("x", TTL, retry).await.unwrap();
    lock.release(&lease).await.unwrap();
    // What was undone in the background may take a moment.
    let since = Instant::now();
    while lock.inspect(&id("x")).await.unwrap().is_some() {
        assert!(since.elapsed() < LIMIT, "a try that failed has the lock");
        sleep(Duration::from_millis(20)).await;
    }
    match lock.release(&held).await {
        Ok(()) | Err(LockError::NotHeld { .. }) => {}
        Err(err) => panic!("{err:?}"),
    }
}

async fn timed<T>(call: impl Future<Output = T>) -> T {
    in_time(LIMIT, call).await
}

/// Runs a call that must end within `limit`, and may be late by as much as a timer was that ran beside it:
/// a busy machine delays both.
async fn in_time<T>(limit: Duration, call: impl Future<Output = T>) -> T {
    const TICK: Duration = Duration::from_millis(10);
    let (since, mut late, mut call) = (Instant::now(), Duration::ZERO, pin!(call));
    let output = loop {
        let tick = Instant::now();
        tokio::select! {
            output = &mut call => break output,
            () = sleep(TICK) => {
                late += tick.elapsed().saturating_sub(TICK);
                assert!(since.elapsed() < limit * 10, "the call has no end");
            }
        }
    };
    let took = since.elapsed();
    assert!(took <= limit + limit / 10 + late, "{took:?} of {limit:?}, timers were {late:?} late");
    output
}
