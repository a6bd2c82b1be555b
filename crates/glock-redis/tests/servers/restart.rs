//! A server that is restarted.

use glock_redis::{Fault, Lock, LockError, LockExt, RedisLock, Retry};
use glock_testing::{fresh_namespace, process::eventually};
use tokio::time::timeout;

use crate::support::{LONG, SOON, cluster::OwnServer, id};

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_restarted_server_is_found_again() {
    let mut server = OwnServer::start(&[]).await;
    let config = glock_redis::LockConfig::default().with_namespace(fresh_namespace());
    let lock = || RedisLock::new(server.client()).with_config(config.clone()).unwrap();
    let (ours, theirs) = (lock(), lock());
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    let admin = server.admin().await;
    let asleep = async || admin.ask_with::<Vec<String>>("PUBSUB CHANNELS", "*").await.len() == 1;
    eventually("asleep", SOON, asleep).await;
    server.stop();
    // The first requests may still find a connection whose end has not arrived.
    eventually("known to be down", SOON, async || {
        let down = theirs.renew(&lease, LONG).await.unwrap_err();
        down.fault() == Some(Fault::Unavailable)
    })
    .await;
    server.restart().await;
    // It lost everything: that is what a restart without persistence does.
    let theirs = theirs.renew(&lease, LONG).await;
    assert!(matches!(theirs, Err(LockError::NotHeld { .. })), "{theirs:?}");
    let next = timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
    assert!(next.fence() > lease.fence(), "the clock is the floor");
    ours.release(&next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_restart_between_two_calls_is_not_noticed() {
    let mut server = OwnServer::start(&[]).await;
    let lock = RedisLock::new(server.client());
    for _ in 0..3 {
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
        server.restart().await;
    }
}
