//! One server: counted, broken, restarted.

use std::time::Duration;

use glock_redis::{Fault, Lock, LockError, LockExt, RedisLock, Retry, redis};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    program::Private,
    support::{LONG, SLACK, Server, eventually, id},
};

/// How often each command was called, those that scripts call included.
async fn calls(server: &Server, command: &str) -> u64 {
    let stats: String = server.ask("INFO commandstats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
    let calls = line.and_then(|line| line.strip_prefix("calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// How many commands came in over connections.
async fn commands(server: &Server) -> u64 {
    let stats: String = server.ask("INFO stats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn each_call_is_one_script() {
    let private = Private::start(&[]).await;
    let server = Server::at(private.client()).await;
    let (lock, name) = (server.lock(), id("x"));
    let lease = lock.acquire(&name, LONG).await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    assert_eq!(calls(&server, "eval").await, 3, "each text is sent once");

    let before = (calls(&server, "evalsha").await, calls(&server, "eval").await);
    for _ in 0..10 {
        let lease = lock.acquire(&name, LONG).await.unwrap();
        assert!(lock.acquire(&name, LONG).await.is_err());
        let lease = lock.renew(&lease, LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
    }
    let after = (calls(&server, "evalsha").await, calls(&server, "eval").await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (40, 0));
    assert_eq!(calls(&server, "subscribe").await, 0, "nobody waited");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn idle_waiters_cause_no_commands() {
    let private = Private::start(&[]).await;
    let server = Server::at(private.client()).await;
    let (ours, theirs) = (server.lock(), server.lock());
    let held = theirs.acquire(&id("x"), LONG).await.unwrap();
    let mut waiters = JoinSet::new();
    for _ in 0..50 {
        let ours = ours.clone();
        waiters.spawn(async move {
            let lease = ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    eventually("asleep", async || server.channels().await == 1).await;
    sleep(Duration::from_millis(300)).await;
    let before = commands(&server).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(commands(&server).await - before, 1, "the question itself");
    assert_eq!(calls(&server, "subscribe").await, 1);
    theirs.release(&held).await.unwrap();
    waiters.join_all().await;
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn nothing_but_the_counters_is_left() {
    let private = Private::start(&[]).await;
    let server = Server::at(private.client()).await;
    let lock = server.lock();
    let mut tasks = JoinSet::new();
    for n in 0..1_000_u64 {
        let lock = lock.clone();
        tasks.spawn(async move {
            let name = format!("x{}", n % 10);
            let patience = Duration::from_micros(n * 37 % 20_000);
            let _ = timeout(patience, lock.hold(&name, LONG, Retry::FOREVER)).await;
        });
    }
    tasks.join_all().await;
    eventually("no lock", async || {
        let keys: Vec<String> = server.ask_with("KEYS", "*").await;
        keys.iter().all(|key| key.ends_with(":fence"))
    })
    .await;
    eventually("no subscription", async || server.channels().await == 0).await;
    let size: usize = server.ask("DBSIZE").await;
    assert!(size <= 10, "{size} counters of 10 locks");
    let clients: String = server.ask("CLIENT LIST").await;
    assert_eq!(clients.lines().count(), 2, "the lock's and the test's:\n{clients}");
    drop(lock);
    eventually("no connection", async || {
        let clients: String = server.ask("CLIENT LIST").await;
        clients.lines().count() == 1
    })
    .await;
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_restarted_server_is_found_again() {
    let mut private = Private::start(&[]).await;
    let namespace = glock_testing::fresh_namespace();
    let config = glock_redis::LockConfig::default().with_namespace(namespace);
    let lock = || RedisLock::new(private.client()).with_config(config.clone()).unwrap();
    let (ours, theirs) = (lock(), lock());
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    sleep(Duration::from_millis(200)).await;
    private.stop();
    // Long enough for the end of the connection to arrive.
    sleep(Duration::from_millis(100)).await;
    let down = theirs.renew(&lease, LONG).await.unwrap_err();
    assert_eq!(down.fault(), Some(Fault::Unavailable), "{down:?}");
    private.restart().await;
    // It lost everything: that is what a restart without persistence does.
    let theirs = theirs.renew(&lease, LONG).await;
    assert!(matches!(theirs, Err(LockError::NotHeld { .. })), "{theirs:?}");
    let next = timeout(Duration::from_secs(5), waiter).await.expect("not woken").unwrap().unwrap();
    assert!(next.fence() > lease.fence(), "the clock is the floor");
    ours.release(&next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_restart_between_two_calls_is_not_noticed() {
    let mut private = Private::start(&[]).await;
    let lock = RedisLock::new(private.client());
    for _ in 0..3 {
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
        private.restart().await;
    }
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_server_busy_with_a_script_is_unavailable() {
    let private = Private::start(&["--busy-reply-threshold", "50"]).await;
    let server = Server::at(private.client()).await;
    let lock = server.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let mut other = private.client().get_multiplexed_async_connection().await.unwrap();
    let busy = tokio::spawn(async move {
        let mut endless = redis::cmd("EVAL");
        endless.arg("while true do end").arg(0);
        endless.exec_async(&mut other).await
    });
    sleep(Duration::from_millis(300)).await;
    let err = lock.renew(&lease, LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    let () = server.ask("SCRIPT KILL").await;
    let _ = busy.await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_full_server_grants_nothing_but_renews_and_releases() {
    let private = Private::start(&["--maxmemory-policy", "noeviction"]).await;
    let server = Server::at(private.client()).await;
    let lock = server.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let () = server.ask("CONFIG SET maxmemory 1").await;
    let err = lock.acquire(&id("y"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    let () = server.ask("CONFIG SET maxmemory 0").await;
    assert!(lock.inspect(&id("y")).await.unwrap().is_none(), "nothing was half done");
    assert!(lock.acquire(&id("y"), LONG).await.is_ok());
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_server_with_no_connection_to_spare_is_unavailable() {
    let private = Private::start(&[]).await;
    let server = Server::at(private.client()).await;
    let () = server.ask("CONFIG SET maxclients 1").await;
    let err = server.lock().acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_server_whose_scripts_are_switched_off_shows_no_token() {
    let private = Private::start(&["--rename-command", "EVALSHA", "off"]).await;
    let err = RedisLock::new(private.client()).acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    let shown = format!("{err:?}");
    assert!(shown.contains("unknown command") && !shown.contains("args beginning"), "{shown}");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_frozen_server_costs_a_waiter_no_more_than_its_time() {
    let private = Private::start(&[]).await;
    let server = Server::at(private.client()).await;
    let lock = server.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let () = server.ask_with("CLIENT PAUSE", (2_000, "ALL")).await;
    let waiting = lock.acquire_with_retry("x", LONG, Retry::within(SLACK));
    let config = server.config().with_call_timeout(Duration::from_millis(300));
    let short = server.lock().with_config(config).unwrap();
    let err = short.acquire(&id("y"), LONG).await.unwrap_err();
    assert!(matches!(err.fault(), Some(Fault::Unknown | Fault::Unavailable)), "{err:?}");
    assert!(waiting.await.is_err());
    sleep(Duration::from_secs(2)).await;
    lock.release(&lease).await.unwrap();
}
