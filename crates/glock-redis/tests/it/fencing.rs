//! What may happen to the fencing counter and to the clock.

use glock_redis::{Fault, Fencing, Lease, Lock, RedisLock, redis::Client};
use glock_testing::{fresh_namespace, url_from_env};

use crate::support::{LONG, admin::Admin, id};

async fn grant(lock: &RedisLock) -> u64 {
    let lease: Lease = lock.acquire(&id("x"), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lease.fence().get()
}

/// The server's clock, in microseconds.
async fn clock(admin: &Admin) -> u64 {
    let (seconds, micros): (u64, u64) = admin.ask("TIME").await;
    seconds * 1_000_000 + micros
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_lost_counter_starts_again_at_the_clock() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let mut last = 0;
    for _ in 0..5 {
        let before = clock(&admin).await;
        let token = grant(&lock).await;
        assert!(token > last && token >= before, "{token} after {last}");
        last = token;
        let () = admin.ask_with("DEL", admin.fence_key("x")).await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn tokens_grow_when_everything_is_flushed() {
    // A database of its own: a flush hits every lock in it.
    let mut url = url_from_env("GLOCK_REDIS_URL", "redis");
    url.push_str(if url.ends_with('/') { "13" } else { "/13" });
    let admin = Admin::at(Client::open(url).unwrap(), fresh_namespace()).await;
    let lock = admin.lock();
    let mut last = 0;
    for _ in 0..5 {
        let token = grant(&lock).await;
        assert!(token > last, "{token} after {last}");
        last = token;
        let () = admin.ask("FLUSHDB").await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_counter_ahead_of_the_clock_is_counted_on() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let ahead = clock(&admin).await + 3_600_000_000;
    let () = admin.ask_with("SET", (admin.fence_key("x"), ahead)).await;
    assert_eq!(grant(&lock).await, ahead + 1);
    assert_eq!(grant(&lock).await, ahead + 2);
    for strange in ["not a number", "nan"] {
        let () = admin.ask_with("SET", (admin.fence_key("x"), strange)).await;
        assert!(grant(&lock).await >= ahead - 3_600_000_000, "the clock takes over");
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn every_digit_of_a_large_token_counts() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    let largest = (1_u64 << 53) - 1;
    let () = admin.ask_with("SET", (admin.fence_key("x"), largest - 2)).await;
    assert_eq!(grant(&lock).await, largest - 1);
    assert_eq!(grant(&lock).await, largest);
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "never the same token twice: {err:?}");
    assert!(lock.inspect(&id("x")).await.unwrap().is_none());
    assert_eq!(lock.capabilities().fencing, Fencing::LostWritesAndClock);
}
