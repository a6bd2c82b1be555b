//! The server ends a connection: the next call makes another, and no sleeper is forgotten.

use std::time::Duration;

use glock_redis::{
    Lock, LockExt, RedisLock, Retry,
    redis::{Client, IntoConnectionInfo},
};
use glock_testing::url_from_env;
use tokio::time::{sleep, timeout};

use crate::support::{LONG, SLACK, Server, eventually, id};

/// A client whose connections the server can tell apart by their user.
async fn lock_of_its_own(server: &Server) -> RedisLock {
    let user = &server.namespace;
    let () = server.ask(&format!("ACL SETUSER {user} on nopass allkeys allchannels +@all")).await;
    let info = url_from_env("GLOCK_REDIS_URL", "redis").into_connection_info().unwrap();
    let settings = info.redis_settings().clone().set_username(user).set_password("x");
    let client = Client::open(info.set_redis_settings(settings)).unwrap();
    RedisLock::new(client).with_config(server.config()).unwrap()
}

/// Kills the connections of [`lock_of_its_own`]; how many there were.
async fn kill(server: &Server) -> usize {
    server.ask_with("CLIENT KILL USER", &server.namespace).await
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_client_has_one_connection_and_outlives_its_death() {
    let server = Server::open().await;
    let lock = lock_of_its_own(&server).await;
    assert_eq!(kill(&server).await, 0, "no connection before the first use");
    for pause in [0, 50] {
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        let _ = lock.wait(&id("x"), Duration::from_millis(10)).await;
        assert_eq!(kill(&server).await, 1);
        sleep(Duration::from_millis(pause)).await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        assert_eq!(kill(&server).await, 1);
        sleep(Duration::from_millis(pause)).await;
        lock.release(&lease).await.unwrap();
    }
    drop(lock);
    eventually("no connection", async || kill(&server).await == 0).await;
    let () = server.ask_with("ACL DELUSER", &server.namespace).await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_sleeper_whose_connection_is_killed_is_woken_by_the_release() {
    let server = Server::open().await;
    let (ours, theirs) = (lock_of_its_own(&server).await, server.lock());
    for _ in 0..3 {
        let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await }
        });
        eventually("asleep", async || server.channels().await == 1).await;
        assert_eq!(kill(&server).await, 1);
        eventually("asleep again", async || server.channels().await == 1).await;
        theirs.release(&lease).await.unwrap();
        let lease = timeout(SLACK, waiter).await.expect("not woken").unwrap().unwrap();
        ours.release(&lease).await.unwrap();
    }
    let () = server.ask_with("ACL DELUSER", &server.namespace).await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_release_that_nobody_could_hear_is_not_missed() {
    let server = Server::open().await;
    let (ours, theirs) = (lock_of_its_own(&server).await, server.lock());
    for _ in 0..10 {
        let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
        let sleeper = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await }
        });
        eventually("asleep", async || server.channels().await == 1).await;
        let (_, released) = tokio::join!(kill(&server), theirs.release(&lease));
        released.unwrap();
        let lease = timeout(SLACK * 3, sleeper).await.expect("not woken").unwrap().unwrap();
        ours.release(&lease).await.unwrap();
    }
    let () = server.ask_with("ACL DELUSER", &server.namespace).await;
}
