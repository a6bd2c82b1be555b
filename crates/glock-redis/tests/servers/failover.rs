//! A primary, a replica and a sentinel.

use std::time::Duration;

use glock_redis::{
    Lock, LockExt, RedisLock, Retry, Waiting,
    redis::sentinel::{SentinelClient, SentinelServerType},
};
use glock_testing::process::eventually;
use tokio::time::timeout;

use crate::support::{LONG, SOON, cluster::OwnServer, id};

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_new_primary_is_found_after_a_failover() {
    let mut primary = OwnServer::start(&["--repl-diskless-sync-delay", "0"]).await;
    let port = primary.port.to_string();
    let replica = OwnServer::start(&["--replicaof", "127.0.0.1", &port]).await;
    let sentinel = OwnServer::sentinel(primary.port).await;
    let (old, watch) = (primary.admin().await, sentinel.admin().await);
    eventually("the sentinel knows the replica", SOON, async || {
        let replicas: Vec<glock_redis::redis::Value> = watch.ask("SENTINEL REPLICAS main").await;
        replicas.len() == 1
    })
    .await;

    let lock = || {
        let kind = SentinelServerType::Master;
        let client = SentinelClient::build(vec![sentinel.url()], "main", None, kind);
        RedisLock::sentinel(client.unwrap()).with_config(old.config()).unwrap()
    };
    let (ours, theirs) = (lock(), lock());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    eventually("asleep", SOON, async || old.channels().await == 1).await;
    let new = replica.admin().await;
    let key = old.key("x");
    eventually("replicated", SOON, async || new.ask_with::<i64>("EXISTS", &key).await == 1).await;
    primary.stop();

    let renewed = timeout(Duration::from_secs(30), async {
        loop {
            match theirs.renew(&lease, LONG).await {
                Ok(lease) => return lease,
                Err(err) => assert!(err.is_retryable(), "{err:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let lease = renewed.await.expect("the new primary was not found");
    theirs.release(&lease).await.unwrap();
    let next = timeout(SOON, waiter).await.expect("not woken");
    let next = next.unwrap().unwrap();
    assert!(next.fence() > lease.fence());
    ours.release(&next).await.unwrap();
}
