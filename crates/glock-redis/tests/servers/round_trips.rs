//! How many commands a server of its own is sent.

use std::time::Duration;

use glock_redis::{Lock, LockExt, RedisLock, Retry};
use glock_testing::process::eventually;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, timeout},
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
    for command in ["subscribe", "publish", "zadd"] {
        assert_eq!(calls(&admin, command).await, 0, "{command}: there was no waiter");
    }
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

/// A client vanishes with its runtime, and says nothing: its first place has a turn, which it does not use,
/// and the others have none.
#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_client_that_is_gone_holds_up_the_queue_once() {
    let server = OwnServer::start(&[]).await;
    let admin = server.admin().await;
    let (ours, theirs, gone) = (admin.lock(), admin.lock(), admin.lock());
    let held = theirs.acquire(&id("x"), LONG).await.unwrap();
    let wait = |lock: RedisLock| async move {
        let lease = lock.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
        lock.release(&lease).await.unwrap();
    };
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let vanishes = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..5 {
            runtime.spawn(wait(gone.clone()));
        }
        runtime.block_on(async {
            while ends.try_recv().is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        runtime.shutdown_background();
    });
    let queued =
        async || admin.ask_with::<usize>("ZCOUNT", (admin.queue_key("x"), 1, "+inf")).await;
    eventually("they are in the queue", SOON, async || queued().await == 5).await;
    let waiter = tokio::spawn(wait(ours));
    eventually("the last one is, too", SOON, async || queued().await == 6).await;
    end.send(()).unwrap();
    vanishes.join().unwrap();
    theirs.release(&held).await.unwrap();
    timeout(SOON, waiter).await.expect("not served").unwrap();
    assert_eq!(
        calls(&admin, "publish").await,
        2,
        "turns: one of the client that is gone, and ours"
    );
    eventually("no queue", SOON, async || queued().await == 0).await;
}
