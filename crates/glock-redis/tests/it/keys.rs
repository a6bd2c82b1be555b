//! What is left in the store, and for how long.

use std::time::Duration;

use glock_redis::{Lock, LockExt, Retry};

use crate::support::{LONG, Server, eventually, id};

const DAY: i64 = 86_400_000;

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn keys_expire_by_themselves_and_the_counter_a_day_later() {
    let server = Server::open().await;
    let (lock, key, fence_key) = (server.lock(), server.key("x"), server.fence_key("x"));
    let lease = lock.acquire(&id("x"), Duration::from_secs(30)).await.unwrap();
    let left: i64 = server.ask_with("PTTL", &key).await;
    assert!((29_000..=30_000).contains(&left), "{left}");
    let left: i64 = server.ask_with("PTTL", &fence_key).await;
    assert!((DAY + 29_000..=DAY + 30_000).contains(&left), "{left}");
    let token: u64 = server.ask_with("GET", &fence_key).await;
    assert_eq!(token, lease.fence().get());

    let lease = lock.renew(&lease, LONG).await.unwrap();
    let left: i64 = server.ask_with("PTTL", &key).await;
    assert!((59_000..=60_000).contains(&left), "{left}");
    lock.release(&lease).await.unwrap();
    let left: Vec<i64> =
        vec![server.ask_with("EXISTS", &key).await, server.ask_with("EXISTS", &fence_key).await];
    assert_eq!(left, [0, 1], "the counter stays");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn the_longest_ttl_is_kept_to_the_millisecond() {
    let server = Server::open().await;
    let lock = server.lock();
    let longest = lock.capabilities().ttl_max;
    let lease = lock.acquire(&id("x"), longest).await.unwrap();
    let left: i64 = server.ask_with("PTTL", server.key("x")).await;
    let year = i64::try_from(longest.as_millis()).unwrap();
    assert!((year - 5_000..=year).contains(&left), "{left}");
    let left: i64 = server.ask_with("PTTL", server.fence_key("x")).await;
    assert!(left > year, "{left}");
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn an_answer_may_be_asked_for_twice() {
    let server = Server::open().await;
    let lock = server.lock();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    // What a second request with the same token finds.
    let script = include_str!("../../src/scripts/acquire.lua");
    let keys = (server.key("x"), server.fence_key("x"));
    let args = (lease.owner().reveal(), 60_000, "other label");
    let (won, token): (i64, u64) = server.ask_with("EVAL", (script, 2, keys, args)).await;
    assert_eq!((won, token), (1, lease.fence().get()), "the same grant");
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_channel_is_given_up_when_nobody_sleeps_on_it() {
    let server = Server::open().await;
    let (ours, theirs) = (server.lock(), server.lock());
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(server.channels().await, 0, "nobody waits");
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await }
    });
    eventually("a subscription", async || server.channels().await == 1).await;
    theirs.release(&lease).await.unwrap();
    let lease = waiter.await.unwrap().unwrap();
    eventually("no subscription", async || server.channels().await == 0).await;
    ours.release(&lease).await.unwrap();

    for n in 0..200 {
        let _ = ours.wait(&id(&format!("x{n}")), Duration::from_millis(1)).await;
    }
    eventually("no subscription", async || server.channels().await == 0).await;
}
