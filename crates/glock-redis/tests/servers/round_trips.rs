//! How many commands a server of its own is sent.

use std::time::Duration;

use glock_redis::{Lock, LockExt, Retry};
use glock_testing::process::eventually;
use tokio::{task::JoinSet, time::sleep};

use crate::support::{LONG, SOON, admin::Admin, cluster::OwnServer, id};

/// How often each command was called, those that scripts call included.
async fn calls(admin: &Admin, command: &str) -> u64 {
    let stats: String = admin.ask("INFO commandstats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// How many commands came in over connections.
async fn commands(admin: &Admin) -> u64 {
    let stats: String = admin.ask("INFO stats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
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
async fn idle_waiters_cause_no_commands() {
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
    eventually("asleep", SOON, async || admin.channels().await == 1).await;
    // The look of the first waiter comes after its subscription.
    let mut last = commands(&admin).await;
    eventually("all looks have come", SOON, async || {
        sleep(Duration::from_millis(200)).await;
        let commands = commands(&admin).await;
        std::mem::replace(&mut last, commands) + 1 == commands
    })
    .await;
    // Long enough for many looks of a poller, and for the sweeps of idle channels.
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(commands(&admin).await - last, 1, "the question itself");
    assert_eq!(calls(&admin, "subscribe").await, 1);
    theirs.release(&held).await.unwrap();
    waiters.join_all().await;
}
