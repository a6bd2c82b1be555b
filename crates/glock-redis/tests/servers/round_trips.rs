//! How many commands a server of its own is sent.

use std::time::Duration;

use glock_redis::{Lock, LockExt, Retry};
use glock_testing::process::eventually;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{LONG, SOON, admin::Admin, cluster::OwnServer, id};

/// How often each command was called, those that scripts call included.
async fn calls(admin: &Admin, command: &str) -> u64 {
    let stats: String = admin.ask("INFO commandstats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// How many scripts were run.
async fn scripts(admin: &Admin) -> u64 {
    calls(admin, "evalsha").await + calls(admin, "eval").await
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn each_call_is_one_script() {
    let server = OwnServer::start(&[]).await;
    let admin = server.admin().await;
    let (lock, name) = (admin.lock(), id("x"));
    let lease = lock.acquire(&name, LONG).await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    assert_eq!(calls(&admin, "eval").await, 3, "each text is sent once");

    let before = (calls(&admin, "evalsha").await, calls(&admin, "eval").await);
    for _ in 0..10 {
        let lease = lock.acquire(&name, LONG).await.unwrap();
        assert!(lock.acquire(&name, LONG).await.is_err());
        let lease = lock.renew(&lease, LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
    }
    let after = (calls(&admin, "evalsha").await, calls(&admin, "eval").await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (40, 0));
    assert_eq!(calls(&admin, "subscribe").await, 0, "there was no waiter");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn idle_waiters_cause_one_heartbeat_a_second() {
    let server = OwnServer::start(&[]).await;
    let admin = server.admin().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = theirs.acquire(&id("x"), LONG).await.unwrap();
    let mut waiters = JoinSet::new();
    for _ in 0..50 {
        let ours = ours.clone();
        waiters.spawn(async move {
            let lease = ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    let queued =
        async || admin.ask_with::<usize>("ZCOUNT", (admin.queue_key("x"), 1, "+inf")).await;
    eventually("all are in the queue", SOON, async || queued().await == 50).await;
    let (before, since) = (scripts(&admin).await, Instant::now());
    // Long enough for many looks of a poller.
    sleep(Duration::from_secs(3)).await;
    let sent = scripts(&admin).await - before;
    assert!(sent <= since.elapsed().as_secs() + 2, "{sent} scripts");
    assert_eq!(calls(&admin, "subscribe").await, 1);
    theirs.release(&held).await.unwrap();
    waiters.join_all().await;
}
