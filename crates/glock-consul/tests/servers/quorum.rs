//! Three servers of its own: two of them are lost.

use std::time::Duration;

use glock_consul::{Fault, Lock, LockError, LockExt, Retry};
use tokio::time::Instant;

use crate::support::{
    Store,
    cluster::{Cluster, ONE_CLUSTER},
    id,
};

const TTL: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_mins(1);
/// How late a call that ends in its time may be seen to end on a machine that is busy with the servers'
/// elections. Without a limit none would end at all.
const LATE_MAX: Duration = Duration::from_secs(20);

async fn fails_in<T: std::fmt::Debug>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, LockError>>,
) {
    let since = Instant::now();
    let err = call.await.unwrap_err();
    let took = since.elapsed();
    assert!(took < limit + LATE_MAX, "{what} took {took:?}");
    let fault = err.fault();
    assert!(matches!(fault, Some(Fault::Unavailable | Fault::Unknown)), "{what}: {err:?}");
}

/// Two of three are gone: an error within the call's time limit; and all works once they are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn without_a_quorum_calls_fail_in_time() {
    let _one = ONE_CLUSTER.lock().await;
    let mut cluster = Cluster::start().await;
    let store = Store::at(&cluster.url(0)).await;
    let limit = Duration::from_secs(2);
    let client = store.admin.client(store.admin.addr);
    let lock = store.admin.lock(client, store.config().with_call_timeout(limit));
    let lease = lock.acquire(&id("x"), Duration::from_mins(10)).await.unwrap();
    let other = lock.acquire(&id("z"), Duration::from_mins(10)).await.unwrap();
    cluster.agents[1].kill();
    cluster.agents[2].kill();
    let (x, y) = (id("x"), id("y"));
    for round in 0..3 {
        fails_in(limit, "acquire", lock.acquire(&y, TTL)).await;
        fails_in(limit, "renew", lock.renew(&lease, lease.ttl())).await;
        fails_in(limit, "inspect", lock.inspect(&x)).await;
        fails_in(limit, "wait", lock.wait(&x, LONG)).await;
        let patience = Retry::within(limit);
        fails_in(limit * 2, "a waiter", lock.acquire_with_retry("y", TTL, patience)).await;
        println!("round {round}: all failed in time");
    }
    fails_in(limit, "release", lock.release(&other)).await;
    cluster.agents[1].start();
    cluster.agents[2].start();
    cluster.agents[1].ready().await;
    let again = lock.acquire_with_retry("y", TTL, Retry::within(Duration::from_secs(30))).await;
    lock.release(&again.unwrap()).await.unwrap();
    let lease = lock.renew(&lease, lease.ttl()).await.expect("its session lives in the log");
    lock.release(&lease).await.unwrap();
}
