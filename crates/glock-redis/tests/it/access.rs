//! The least that a user must be allowed, as the README gives it.

use glock_redis::{Fault, Lock, LockExt, Retry};
use glock_testing::process::eventually;
use tokio::time::timeout;

use crate::support::{LONG, SOON, admin::Admin, id};

/// The README's recipe.
const COMMANDS: &str = "-@all +eval +evalsha +get +mget +set +time +pexpire +pttl +del +publish \
                        +zadd +zrem +zcount +zrange +zrangebyscore +zremrangebyscore +zscore \
                        +zmscore +subscribe +unsubscribe";

/// The recipe for the namespace of `admin`.
fn recipe(admin: &Admin) -> String {
    format!("~{0}:* &{0}:* {COMMANDS}", admin.namespace)
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
    let admin = Admin::open().await;
    let client = admin.user(&recipe(&admin)).await;
    let (ours, theirs) = (admin.lock_of(client.clone()), admin.lock_of(client.clone()));

    let () = admin.ask("SCRIPT FLUSH").await;
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let lease = theirs.renew(&lease, LONG).await.unwrap();
    assert!(ours.inspect(&id("x")).await.unwrap().is_some());
    let waiter = tokio::spawn(async move {
        let lease = ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
        ours.release(&lease).await.unwrap();
    });
    eventually("a subscription", SOON, async || admin.channels().await == 1).await;
    theirs.release(&lease).await.unwrap();
    timeout(SOON, waiter).await.expect("woken by a message").unwrap();

    let elsewhere = admin.config().with_namespace(format!("{}x", admin.namespace));
    let lock = admin.lock_of(client).with_config(elsewhere).unwrap();
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "another namespace: {err:?}");
    admin.delete_user().await;
}

/// Redis keeps what a script had written before it was refused.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_user_who_lacks_a_command_leaves_no_lock_behind() {
    let admin = Admin::open().await;
    for lacking in ["get", "set", "time"] {
        let client = admin.user(&format!("{} -{lacking}", recipe(&admin))).await;
        let err = admin.lock_of(client).acquire(&id(lacking), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{lacking}: {err:?}");
        let theirs = admin.lock();
        let lease = theirs.acquire(&id(lacking), LONG).await;
        theirs.release(&lease.expect(lacking)).await.unwrap();
    }
    admin.delete_user().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_user_who_may_not_subscribe_still_gets_the_lock() {
    let admin = Admin::open().await;
    let client = admin.user(&format!("~{}:* resetchannels +@all", admin.namespace)).await;
    let (ours, theirs) = (admin.lock_of(client), admin.lock());
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(ours.wait(&id("x"), LONG).await.unwrap_err().fault(), Some(Fault::Rejected));
    let waiter = tokio::spawn(async move {
        let lease = ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await?;
        // It may not publish either, and has released all the same.
        ours.release(&lease).await
    });
    theirs.release(&lease).await.unwrap();
    timeout(SOON, waiter).await.expect("it tries again").unwrap().unwrap();
    admin.delete_user().await;
}
