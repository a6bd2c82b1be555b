//! A server that cannot do now what it is sent.

use std::time::Duration;

use glock_redis::{Fault, Lock, LockExt, RedisLock, Retry, redis};
use glock_testing::process::eventually;

use crate::support::{LONG, SOON, cluster::OwnServer, id};

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_server_busy_with_a_script_is_unavailable() {
    let server = OwnServer::start(&["--busy-reply-threshold", "50"]).await;
    let admin = server.admin().await;
    let lock = admin.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let mut other = server.client().get_multiplexed_async_connection().await.unwrap();
    let busy = tokio::spawn(async move {
        let mut endless = redis::cmd("EVAL");
        endless.arg("while true do end").arg(0);
        endless.exec_async(&mut other).await
    });
    // Until the script has run for a while, the server is not busy.
    eventually("busy", SOON, async || {
        let renewed = lock.renew(&lease, LONG).await;
        renewed.is_err_and(|err| {
            assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
            true
        })
    })
    .await;
    let () = admin.ask("SCRIPT KILL").await;
    let _ = busy.await.unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_full_server_grants_nothing_but_renews_and_releases() {
    let server = OwnServer::start(&["--maxmemory-policy", "noeviction"]).await;
    let admin = server.admin().await;
    let lock = admin.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let () = admin.ask("CONFIG SET maxmemory 1").await;
    let err = lock.acquire(&id("y"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    let () = admin.ask("CONFIG SET maxmemory 0").await;
    assert!(lock.inspect(&id("y")).await.unwrap().is_none(), "nothing was half done");
    assert!(lock.acquire(&id("y"), LONG).await.is_ok());
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_server_with_no_connection_to_spare_is_unavailable() {
    let server = OwnServer::start(&[]).await;
    let admin = server.admin().await;
    let () = admin.ask("CONFIG SET maxclients 1").await;
    let err = admin.lock().acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_server_whose_scripts_are_switched_off_shows_no_token() {
    let server = OwnServer::start(&["--rename-command", "EVALSHA", "off"]).await;
    let err = RedisLock::new(server.client()).acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    let shown = format!("{err:?}");
    assert!(shown.contains("unknown command") && !shown.contains("args beginning"), "{shown}");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_frozen_server_costs_a_waiter_no_more_than_its_time() {
    let server = OwnServer::start(&[]).await;
    let admin = server.admin().await;
    let lock = admin.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let () = admin.ask_with("CLIENT PAUSE", (2_000, "ALL")).await;
    let waiting = lock.acquire_with_retry("x", LONG, Retry::within(Duration::from_millis(600)));
    let config = admin.config().with_call_timeout(Duration::from_millis(300));
    let short = admin.lock().with_config(config).unwrap();
    let err = short.acquire(&id("y"), LONG).await.unwrap_err();
    assert!(matches!(err.fault(), Some(Fault::Unknown | Fault::Unavailable)), "{err:?}");
    assert!(waiting.await.is_err());
    // It arrives when the server goes on.
    lock.release(&lease).await.unwrap();
}
