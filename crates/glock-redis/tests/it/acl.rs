//! The least that a user must be allowed, as the README gives it.

use std::time::Duration;

use glock_redis::{
    Fault, Lock, LockExt, RedisLock, Retry,
    redis::{Client, IntoConnectionInfo},
};
use glock_testing::url_from_env;
use tokio::time::{sleep, timeout};

use crate::support::{LONG, SLACK, Server, id};

/// The README's recipe.
const COMMANDS: &str = "-@all +eval +evalsha +hmget +hget +hset +get +set +time +pexpire +pttl \
                        +del +publish +subscribe +unsubscribe";

fn client(user: &str) -> Client {
    let info = url_from_env("GLOCK_REDIS_URL", "redis").into_connection_info().unwrap();
    let settings = info.redis_settings().clone().set_username(user).set_password("secret");
    Client::open(info.set_redis_settings(settings)).unwrap()
}

#[test]
fn the_recipe_is_the_readme_s() {
    let readme = include_str!("../../README.md").replace("\\\n", " ");
    let words: Vec<&str> = readme.split_whitespace().collect();
    assert!(words.join(" ").contains(COMMANDS), "the README's recipe is another one");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn the_recipe_is_enough_for_everything() {
    let server = Server::open().await;
    let user = server.namespace.clone();
    let rules = format!("reset on >secret ~{user}:* &{user}:* {COMMANDS}");
    let () = server.ask(&format!("ACL SETUSER {user} {rules}")).await;
    let lock = || RedisLock::new(client(&user)).with_config(server.config()).unwrap();
    let (ours, theirs) = (lock(), lock());

    let () = server.ask("SCRIPT FLUSH").await;
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let lease = theirs.renew(&lease, LONG).await.unwrap();
    assert!(ours.inspect(&id("x")).await.unwrap().is_some());
    let waiter = tokio::spawn(async move {
        let lease = ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
        ours.release(&lease).await.unwrap();
    });
    sleep(Duration::from_millis(200)).await;
    theirs.release(&lease).await.unwrap();
    timeout(SLACK, waiter).await.expect("woken by a message").unwrap();

    let elsewhere = server.config().with_namespace(format!("{user}x"));
    let lock = RedisLock::new(client(&user)).with_config(elsewhere).unwrap();
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "another namespace: {err:?}");
    let () = server.ask_with("ACL DELUSER", &user).await;
}

/// Redis keeps what a script had written before it was refused.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn who_lacks_a_command_leaves_no_lock_behind() {
    let server = Server::open().await;
    let user = server.namespace.clone();
    for lacking in ["hmget", "get", "set", "hset", "time", "pexpire"] {
        let rules = format!("reset on >secret ~{user}:* &{user}:* {COMMANDS} -{lacking}");
        let () = server.ask(&format!("ACL SETUSER {user} {rules}")).await;
        let lock = RedisLock::new(client(&user)).with_config(server.config()).unwrap();
        let err = lock.acquire(&id(lacking), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{lacking}: {err:?}");
        let theirs = server.lock();
        let lease = theirs.acquire(&id(lacking), LONG).await;
        theirs.release(&lease.expect(lacking)).await.unwrap();
    }
    let () = server.ask_with("ACL DELUSER", &user).await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn who_may_not_subscribe_still_gets_the_lock() {
    let server = Server::open().await;
    let user = server.namespace.clone();
    let rules = format!("reset on >secret ~{user}:* resetchannels +@all");
    let () = server.ask(&format!("ACL SETUSER {user} {rules}")).await;
    let ours = RedisLock::new(client(&user)).with_config(server.config()).unwrap();
    let theirs = server.lock();
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(ours.wait(&id("x"), LONG).await.unwrap_err().fault(), Some(Fault::Rejected));
    let waiter = tokio::spawn(async move {
        let lease = ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await?;
        // It may not publish either, and has released all the same.
        ours.release(&lease).await
    });
    sleep(Duration::from_millis(200)).await;
    theirs.release(&lease).await.unwrap();
    timeout(Duration::from_secs(5), waiter).await.expect("it asks").unwrap().unwrap();
    let () = server.ask_with("ACL DELUSER", &user).await;
}
